from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from configs import shipped_configs
from ntm.errors import UsageError
from ntm.kernels.threads import threads
from ntm.memory.ntm import NTMCell
from ntm.runs.models import load_model, new_model
from ntm.runs.start import continue_run
from ntm.training.load import load_config
from tests.small import Watch, edit_manifest, new_run, small_config, train
from tests.tasks import grammar
from tests.training.common import CPU, OPTIMIZERS, RIDGE, stop_after, without_seconds


def test_a_run_learns(tmp_path: Path) -> None:
    config = small_config(
        task={"length": [1, 1]}, train={"sequences": 3000, "batch": 4, "solved_bits": 0.3}
    )
    progress = train(new_run(tmp_path / "run", config), config, CPU, Watch())
    assert progress.status == "solved"
    assert progress.sequences < 3000
    assert progress.best_bits is not None
    assert progress.best_bits < 0.3


TEXTS = ("charlm/", "autocomplete/")


@pytest.mark.parametrize("name", shipped_configs())
def test_every_shipped_config_trains_two_steps(name: str, tmp_path: Path) -> None:
    # At full size of the model; one validation episode; n-grams and texts cut short.
    shipped = load_config(name).train
    two = 2 * shipped.batch
    settings = [f"train.sequences={two}", "validation.episodes=1", "train.report_every=1"]
    settings += ["task.length=20"] if name.startswith(("ngram/", *TEXTS)) else []
    settings += [f"task.path={grammar.shared_file()}"] if name.startswith(TEXTS) else []
    config = load_config(name, settings)
    watch = Watch()
    progress = train(new_run(tmp_path / "run", config), config, CPU, watch)
    assert progress.sequences == two
    assert all(math.isfinite(row["bits"]) for row in watch.reports + watch.validations)
    assert len(watch.reports) == 2


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: str(o["kind"]))
@pytest.mark.parametrize(("stops", "slots"), [((1,), None), ((5, 3), [6, 20]), ((7, 7, 4), None)])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    optimizer: dict[str, Any], stops: tuple[int, ...], slots: list[int] | None, tmp_path: Path
) -> None:
    schedule = {"kind": "cosine", "warmup": 20}
    config = small_config(train={"optimizer": optimizer, "schedule": schedule, "slots": slots})
    whole = new_run(tmp_path / "whole", config)
    assert train(whole, config, CPU, Watch()).status == "budget"

    parts = new_run(tmp_path / "parts", config)
    for i, steps in enumerate(stops):
        stopped = train(parts, config, CPU, Watch(), resume=i > 0, should_stop=stop_after(steps))
        assert stopped.status == "interrupted"
        assert stopped.sequences == 3 * sum(stops[: i + 1])
    assert train(parts, config, CPU, Watch(), resume=True).status == "budget"

    a, b = whole.load_checkpoint(), parts.load_checkpoint()
    for one, other in ((a.weights, b.weights), (a.optimizer, b.optimizer)):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert a.state["generator"] == b.state["generator"]
    for file in ("metrics_file", "validation_file"):
        rows, again = whole.rows(getattr(whole, file)), parts.rows(getattr(parts, file))
        assert without_seconds(rows) == without_seconds(again)
        assert len(rows) > 3
    assert torch.equal(
        whole.load_best().weights["readout.bias"], parts.load_best().weights["readout.bias"]
    )


@pytest.mark.parametrize("engine", ["reference", "fused"])
def test_every_batch_has_slots_of_its_own(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As often from 5 to 20 as from 20 to 80; validation has those of the model."""
    if engine == "fused":
        pytest.importorskip("numba")
    train_ = {"slots": [5, 80], "batch": 1, "sequences": 300}
    config = small_config(train=train_, validation={"every": 150}, engine=engine)
    run = new_run(tmp_path / "run", config)
    had: list[tuple[int, bool]] = []

    def listen(kind: Any, method: str, place: int) -> None:
        """Keeps the slots, the argument at that place, of every call."""
        whole = getattr(kind, method)

        def heard(self: Any, *given: Any, **named: Any) -> Any:
            had.append((given[place], torch.is_grad_enabled()))
            return whole(self, *given, **named)

        monkeypatch.setattr(kind, method, heard)

    if engine == "fused":
        from ntm.kernels.numba.rollout import Rollout

        listen(Rollout, "__init__", 3)
    else:
        listen(NTMCell, "initial_memory", 1)
    train(run, config, CPU, Watch())
    slots = [n for n, training in had if training]
    assert len(slots) == 300
    assert min(slots) < 7
    assert 60 < max(slots) <= 80
    assert min(slots) >= 5
    assert 0.4 < sum(n < 20 for n in slots) / len(slots) < 0.6
    assert {n for n, training in had if not training} == {9}


@pytest.mark.parametrize("train_", [RIDGE, {}], ids=["ridge", "gradient"])
def test_a_resumed_reservoir_counts_nothing_twice(train_: dict[str, Any], tmp_path: Path) -> None:
    config = small_config(
        model={"controller": {"kind": "echo_state", "size": 11}, "memory": None}, train=train_
    )
    whole, parts = new_run(tmp_path / "whole", config), new_run(tmp_path / "parts", config)
    train(whole, config, CPU, Watch())
    for i, steps in enumerate((4, 1, 7)):
        train(parts, config, CPU, Watch(), resume=i > 0, should_stop=stop_after(steps))
    train(parts, config, CPU, Watch(), resume=True)
    a, b = whole.load_checkpoint(), parts.load_checkpoint()
    for one, other in ((a.weights, b.weights), (a.optimizer, b.optimizer)):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    if train_ == RIDGE:
        assert {t.dtype for t in a.optimizer.values()} == {torch.float64}


def test_ridge_regression_learns_what_a_line_can(tmp_path: Path) -> None:
    """To repeat one vector at once: as good as a readout can be after a few sequences."""
    config = small_config(
        task={"length": 1},
        model={"controller": {"kind": "echo_state", "size": 40, "scaling": 0.1}, "memory": None},
        train={"optimizer": {"kind": "ridge"}, "clip": None, "sequences": 60},
    )
    run = new_run(tmp_path / "run", config)
    train(run, config, CPU, Watch())
    last = run.rows(run.validation_file)[-1]
    assert last["bit_errors"] == 0


def test_a_killed_run_resumes_from_its_last_checkpoint(tmp_path: Path) -> None:
    config = small_config()
    whole = new_run(tmp_path / "whole", config)
    train(whole, config, CPU, Watch())

    class Killed(BaseException):
        pass

    def kill_at_step_11() -> bool:
        calls.append(None)
        if len(calls) == 11:
            raise Killed
        return False

    calls: list[None] = []
    killed = new_run(tmp_path / "killed", config)
    with pytest.raises(Killed):
        train(killed, config, CPU, Watch(), should_stop=kill_at_step_11)
    assert killed.load_checkpoint().state["progress"]["sequences"] == 21  # saved at 20, in threes
    assert killed.rows(killed.metrics_file)[-1]["sequences"] > 21
    train(killed, config, CPU, Watch(), resume=True)
    assert without_seconds(killed.rows(killed.metrics_file)) == without_seconds(
        whole.rows(whole.metrics_file)
    )
    final, expected = killed.load_checkpoint().weights, whole.load_checkpoint().weights
    assert all(torch.equal(final[name], expected[name]) for name in expected)


def test_the_best_weights_are_kept_when_training_spoils_them(tmp_path: Path) -> None:
    config = small_config(
        task={"length": [1, 1]},
        train={"sequences": 400, "batch": 4, "solved_bits": 0,
               "optimizer": {"kind": "adam", "lr": 0.5}},
        validation={"every": 20, "episodes": 20},
    )  # fmt: skip
    run, watch = new_run(tmp_path / "run", config), Watch()
    progress = train(run, config, CPU, watch)
    bits = [row["bits"] for row in watch.validations]
    assert progress.best_bits == min(bits) < bits[-1]
    best = run.load_best()
    assert best.state["best_bits"] == min(bits)
    assert best.state["sequences"] == watch.validations[bits.index(min(bits))]["sequences"]
    model, _ = load_model(run)
    assert torch.equal(model.readout.bias, best.weights["readout.bias"])


def test_snapshots_are_few_and_evenly_spaced_however_long_the_run(tmp_path: Path) -> None:
    config = small_config(
        train={"batch": 4, "sequences": 96, "snapshots": 5}, validation={"every": 6, "episodes": 2}
    )
    run = new_run(tmp_path / "run", config)
    progress = train(run, config, CPU, Watch(), should_stop=stop_after(10))
    assert progress.sequences == 40
    # Validated after 8, 12, 20, 24, 32, 36 sequences: numbers 1, 2, 3, 4, 5, 6; every second stays.
    assert run.snapshots() == [0, 12, 24, 36]
    train(run, config, CPU, Watch(), resume=True)
    assert run.snapshots() == [0, 24, 48, 72, 96]
    # The first is the untrained model; the last one the model as it is now.
    first, _ = load_model(run, snapshot=0)
    untrained = new_model(config).state_dict()
    assert all(torch.equal(v, untrained[k]) for k, v in first.state_dict().items())
    last, now = run.load_snapshot(96).weights, run.load_checkpoint().weights
    assert all(torch.equal(v, now[k]) for k, v in last.items())


def test_a_solved_run_stays_as_it_is_until_more_is_asked_of_it(tmp_path: Path) -> None:
    config = small_config(train={"solved_bits": 100.0})
    run = new_run(tmp_path / "run", config)
    assert train(run, config, CPU, Watch()).status == "solved"
    before = run.last_file.read_bytes()
    assert train(run, config, CPU, Watch(), resume=True).status == "solved"
    assert run.last_file.read_bytes() == before
    settings = ["train.solved_bits=0", "train.sequences=90"]
    run, config, notes, _ = continue_run(run.path, settings, config, CPU, "ntm train --resume")
    assert notes == [
        "the run keeps its own settings, in which train.sequences, train.solved_bits differ"
    ]
    assert train(run, config, CPU, Watch(), resume=True).sequences == 90
    assert run.config().train.sequences == 90


@pytest.mark.parametrize("steps", [0, 4, 99])
def test_a_lower_bar_solves_a_run_whatever_its_status(steps: int, tmp_path: Path) -> None:
    config = small_config()
    run = new_run(tmp_path / "run", config)
    stop = stop_after(steps) if steps < 99 else lambda: False
    before = train(run, config, CPU, Watch(), should_stop=stop)
    run, config, _, _ = continue_run(run.path, ["train.solved_bits=1000"], config, CPU, "")
    after = train(run, config, CPU, Watch(), resume=True)
    assert after.status == "solved"
    assert after.sequences == max(before.sequences, 15)  # validated every 15


def test_a_resumed_run_keeps_its_settings(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", small_config())
    with pytest.raises(UsageError, match=r"train\.batch is 3 there and 4 here; only train"):
        continue_run(run.path, ["train.batch=4"], small_config(), CPU, "")
    with pytest.raises(UsageError, match="no run here"):
        continue_run(tmp_path / "nothing", [], small_config(), CPU, "")


def test_another_learning_rate_on_resume_is_recorded(tmp_path: Path) -> None:
    config = small_config()
    run = new_run(tmp_path / "run", config)
    train(run, config, CPU, Watch(), should_stop=stop_after(10))
    settings = ["train.optimizer.lr=0.5", "train.sequences=99"]
    run, config, _, _ = continue_run(run.path, settings, config, CPU, "")
    (entry,) = run.manifest()["resumed"]
    changed = {"train.optimizer.lr": [0.001, 0.5], "train.sequences": [60, 99]}
    assert (entry["after"], entry["changed"]) == (30, changed)
    watch = Watch()
    train(run, config, CPU, watch, resume=True)
    assert {row["lr"] for row in watch.reports} == {0.5}
    continue_run(run.path, [], config, CPU, "")
    assert "changed" not in run.manifest()["resumed"][1]


def test_a_run_resumed_under_other_circumstances_says_so(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", small_config())
    edit_manifest(run, threads=97, versions={"python": "2.7"})
    _, _, notes, _ = continue_run(run.path, [], small_config(), CPU, "ntm train --resume")
    assert notes[0].endswith(f"threads was 97, is {threads()}")
    assert "versions was {'python': '2.7'}" in notes[1]
    assert len(notes) == 2
    assert run.manifest()["threads"] == threads()
    assert run.manifest()["resumed"][0]["command"] == "ntm train --resume"


def test_a_run_killed_before_its_first_checkpoint_starts_again(tmp_path: Path) -> None:
    config = small_config()
    run = new_run(tmp_path / "run", config)
    assert not run.last_file.exists()
    assert train(run, config, CPU, Watch(), resume=True).sequences == 60


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    runs = []
    for name, seed in (("a", 4), ("b", 4), ("c", 5)):
        config = small_config(seed=seed)
        run = new_run(tmp_path / name, config)
        train(run, config, CPU, Watch())
        runs.append(run.load_checkpoint().weights["readout.weight"])
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize(
    ("batch", "expected"), [(1, [10, 20, 30, 35]), (4, [12, 20, 32, 36]), (25, [25, 50])]
)
def test_intervals_are_counted_in_sequences_whatever_the_batch(
    batch: int, expected: list[int], tmp_path: Path
) -> None:
    config = small_config(
        train={"batch": batch, "sequences": 35, "report_every": 10, "solved_bits": 0},
        validation={"every": 10, "episodes": 2},
    )
    watch = Watch()
    train(new_run(tmp_path / "run", config), config, CPU, watch)
    assert [row["sequences"] for row in watch.validations] == expected
    assert [row["sequences"] for row in watch.reports] == [
        n for n in expected if n != 35 and n != 36
    ]


def test_a_reported_row_is_the_mean_of_its_interval(tmp_path: Path) -> None:
    rows = {}
    for every in (3, 12):
        config = small_config(train={"sequences": 24, "report_every": every})
        watch = Watch()
        train(new_run(tmp_path / str(every), config), config, CPU, watch)
        rows[every] = watch.reports
    for name in ("bits", "bit_errors", "grad_norm"):
        fine = [row[name] for row in rows[3]]
        means = [sum(fine[i : i + 4]) / 4 for i in (0, 4)]
        assert [row[name] for row in rows[12]] == pytest.approx(means)


def test_rows_of_a_long_run_become_fewer_and_leave_out_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ntm.training.schedule.ROWS", 10)
    config = small_config(train={"batch": 1, "sequences": 90, "report_every": 1})
    run = new_run(tmp_path / "run", config)
    train(run, config, CPU, Watch())
    at = [row["sequences"] for row in run.rows(run.metrics_file)]
    assert at == [*range(1, 11), *range(12, 21, 2), *range(24, 41, 4), *range(48, 81, 8)]
    dense = new_run(tmp_path / "dense", config)
    monkeypatch.setattr("ntm.training.schedule.ROWS", 1000)
    train(dense, config, CPU, Watch())
    bits = [row["bits"] for row in dense.rows(dense.metrics_file)]
    thin = {row["sequences"]: row["bits"] for row in run.rows(run.metrics_file)}
    assert thin[48] == pytest.approx(sum(bits[40:48]) / 8)


@pytest.mark.parametrize("changes", [{}, {"engine": "reference"}, {"model": {"memory": None}}])
def test_what_is_recomputed_trains_the_same(tmp_path: Path, changes: dict[str, Any]) -> None:
    rows = []
    for every in (None, 3):
        config = small_config(train={"recompute_every": every}, **changes)
        run = new_run(tmp_path / str(every), config)
        train(run, config, CPU, Watch())
        rows.append([row["bits"] for row in run.rows(run.metrics_file)])
    assert rows[0] == pytest.approx(rows[1], rel=1e-5)


def test_either_engine_trains_the_same_until_rounding_parts_them(tmp_path: Path) -> None:
    curves = []
    for engine in ("reference", "fused"):
        config = small_config(engine=engine, train={"sequences": 240, "report_every": 15})
        run = new_run(tmp_path / engine, config)
        train(run, config, CPU, Watch())
        curves.append([row["bits"] for row in run.rows(run.metrics_file)])
    assert len(curves[0]) == 16
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)
