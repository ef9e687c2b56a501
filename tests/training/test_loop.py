from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from configs import shipped_configs
from ntm.analysis.evaluate import evaluate
from ntm.errors import NTMError, UsageError
from ntm.kernels.threads import threads
from ntm.memory.ntm import NTMCell
from ntm.model import Model
from ntm.runs.folder import Checkpoint, RunDir
from ntm.runs.models import load_model, load_weights, new_model
from ntm.runs.start import continue_run
from ntm.training import loop
from ntm.training.load import load_config
from ntm.training.optim import flatten
from ntm.training.schedule import Progress, learning_rate
from ntm.training.schema import Config
from ntm.training.step import build_optimizer, clip
from tests.small import SMALL, Watch, edit_manifest, new_run, small_config, small_config_of, train
from tests.tasks import grammar

CPU = torch.device("cpu")

RIDGE: dict[str, Any] = {"optimizer": {"kind": "ridge", "penalty": 0.1}, "clip": None}
OPTIMIZERS: list[dict[str, Any]] = [
    {"kind": "graves_rmsprop", "lr": 1e-3},
    {"kind": "rmsprop", "lr": 1e-3, "centered": True},
    {"kind": "adam", "lr": 1e-3},
    {"kind": "adamw", "lr": 1e-3, "weight_decay": 0.1},
]


def stop_after(steps: int) -> Callable[[], bool]:
    left = iter([False] * steps + [True])
    return lambda: next(left)


def without_seconds(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


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
    with pytest.raises(UsageError, match=r"train\.optimizer\.lr is 0\.001 there and 0\.5 here"):
        continue_run(run.path, ["train.optimizer.lr=0.5"], small_config(), CPU, "")
    with pytest.raises(UsageError, match="no run here"):
        continue_run(tmp_path / "nothing", [], small_config(), CPU, "")


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


# Numbers that stop being finite


def broken(config: Config, tmp_path: Path, poison: Callable[[RunDir], None]) -> str:
    run = new_run(tmp_path / "run", config)
    train(run, config, CPU, Watch(), should_stop=stop_after(4))
    poison(run)
    before = run.last_file.read_bytes()
    with pytest.raises(NTMError) as caught:
        train(run, config, CPU, Watch(), resume=True)
    assert run.last_file.read_bytes() == before
    return str(caught.value)


def poison_weight(name: str, value: float) -> Callable[[RunDir], None]:
    def poison(run: RunDir) -> None:
        weights, optimizer, state = run.load_checkpoint()
        weights[name].view(-1)[0] = value
        run.save_checkpoint(Checkpoint(weights, optimizer, state))

    return poison


def test_a_loss_that_is_not_finite_says_where_it_arose(tmp_path: Path) -> None:
    poison = poison_weight("core.interface.bias", math.nan)  # the first number of a key
    message = broken(small_config(), tmp_path, poison)
    assert "is not finite; it arose in key at time step 0" in message
    assert "the checkpoint of 12 sequences is kept" in message
    assert "train.optimizer.lr" in message


def test_a_loss_of_a_baseline_that_is_not_finite(tmp_path: Path) -> None:
    message = broken(
        small_config(model={"memory": None}), tmp_path, poison_weight("readout.bias", math.nan)
    )
    assert "the loss is not finite; it arose in outputs at time step 0" in message


def test_the_checkpoint_that_is_kept_is_good_when_training_diverges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ntm.training import loop as module

    monkeypatch.setattr(module, "learning_rate", lambda _, p: 1e-3 if p.sequences < 18 else 3e37)
    config = small_config(
        train={"checkpoint_every": 1}, validation={"every": 1, "episodes": 2}, engine="reference"
    )
    run = new_run(tmp_path / "run", config)
    with pytest.raises(NTMError, match="is not finite; it arose in"):
        train(run, config, CPU, Watch())
    kept = run.load_checkpoint()
    assert kept.state["progress"]["sequences"] == 18
    model = new_model(config)
    load_weights(model, kept, run.last_file)
    assert math.isfinite(evaluate(model, config.task, 5).summary()["bits"])
    assert all(math.isfinite(row["bits"]) for row in run.rows(run.validation_file))
    assert all(tensor.isfinite().all() for tensor in run.load_best().weights.values())


def overflowing(config: Config, times: float) -> Model:
    """A model whose gradient overflows in its first so many steps."""
    model, left = new_model(config), itertools.count(times, -1)
    model.readout.bias.register_hook(lambda grad: grad * math.inf if next(left) > 0 else grad)
    return model


def test_a_gradient_that_is_never_finite_names_the_parameters(tmp_path: Path) -> None:
    config = small_config(engine="reference")  # autograd calls the hook
    run = new_run(tmp_path / "run", config)
    with pytest.raises(NTMError, match=r"the gradient is not finite; it arose in readout\.bias"):
        loop.train(run, config, overflowing(config, math.inf), Watch())
    assert run.load_checkpoint().state["progress"]["sequences"] == 0


def test_a_gradient_that_overflows_once_is_left_out(tmp_path: Path) -> None:
    config = small_config(engine="reference", train={"report_every": 6})  # two steps of 3
    run = new_run(tmp_path / "run", config)
    loop.train(run, config, overflowing(config, 1), Watch())
    rows = run.rows(run.metrics_file)
    assert [row["skipped"] for row in rows] == [3] + [0] * 9
    assert all(math.isfinite(row["grad_norm"]) and row["grad_norm"] > 0 for row in rows)


# Parts


@pytest.mark.parametrize(
    ("kind", "half"),
    [("constant", 1.0), ("linear", 0.55), ("cosine", 0.55), ("exponential", 0.1**0.5)],
)
def test_the_learning_rate_warms_up_and_decays(kind: str, half: float) -> None:
    config = small_config(
        train={
            "sequences": 1000,
            "batch": 10,
            "optimizer": {"kind": "adam", "lr": 0.5},
            "schedule": {"kind": kind, "warmup": 100, "final": 0.1},
        }
    )
    warmup = [learning_rate(config, Progress(n)) for n in range(0, 100, 10)]
    assert warmup == pytest.approx([0.05 * k for k in range(1, 11)])
    assert learning_rate(config, Progress(100)) == pytest.approx(0.5)
    assert learning_rate(config, Progress(550)) == pytest.approx(0.5 * half)
    after = [learning_rate(config, Progress(n)) for n in range(100, 1000, 10)]
    assert all(a >= b for a, b in itertools.pairwise(after))
    assert min(after) >= 0.05


class Scripted:
    """Stands in for the scores of validation."""

    def __init__(self, bits: Iterator[float]) -> None:
        self.bits = bits

    def summary(self) -> dict[str, float]:
        return {"bits": next(self.bits), "floor": 0.0, "bit_errors": 0.0, "sequence_accuracy": 0.0}


def cooled_run(path: Path, monkeypatch: pytest.MonkeyPatch, bits: list[float]) -> RunDir:
    """A run whose validations come out as told, 10 sequences apart; a cooldown takes 20."""
    from ntm.training import loop as module

    config = small_config(
        train={
            "sequences": 100,
            "batch": 5,
            "report_every": 5,
            "solved_bits": 0.5,
            "optimizer": {"kind": "adam", "lr": 0.25},
            "schedule": {"kind": "cooldown", "trigger_bits": 2.0, "decay_sequences": 20},
        },
        validation={"every": 10, "episodes": 1},
    )
    scripted = Scripted(iter(bits))
    monkeypatch.setattr(module, "evaluate", lambda *_: scripted)
    run = new_run(path, config)
    train(run, config, CPU, Watch())
    return run


def test_the_learning_rate_falls_once_the_task_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dip below solved_bits does not end a run: it ends when it has cooled down."""
    run = cooled_run(tmp_path / "run", monkeypatch, [9, 1.5, 0.4, 0.7])
    lr = [row["lr"] for row in run.rows(run.metrics_file)]
    assert lr == pytest.approx([0.25] * 5 + [0.1875, 0.125, 0.0625])
    assert run.load_checkpoint().state["progress"]["status"] == "solved"
    assert run.load_best().state["sequences"] == 30


def test_a_cooldown_that_does_not_solve_restores_the_learning_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = cooled_run(tmp_path / "run", monkeypatch, [1.9, 3, 1.5, 1.5, 8, 1, 0.1, 0.2, 0.3])
    lr = [row["lr"] for row in run.rows(run.metrics_file)]
    falls = [0.25, 0.1875, 0.125, 0.0625]
    assert lr == pytest.approx(3 * [0.25, 0.25, *falls])
    assert run.load_best().state["sequences"] == 70


def test_a_cooldown_that_has_ended_is_over_when_the_run_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Solved, but not by what solved means now: the step size comes back at once."""
    run = cooled_run(tmp_path / "run", monkeypatch, [9, 1.5, 0.4, 0.7])
    run, config, _, _ = continue_run(
        run.path, ["train.solved_bits=0.01"], run.config(), CPU, "ntm train --resume"
    )
    monkeypatch.setattr("ntm.training.loop.evaluate", lambda *_: Scripted(iter([9] * 9)))
    train(run, config, CPU, Watch(), resume=True)
    lr = [row["lr"] for row in run.rows(run.metrics_file)][8:]
    assert lr[:2] == [0.25, 0.25]


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (
            {"kind": "cooldown", "decay_sequences": 5, "trigger_bits": 0.01},
            "should be at least train.solved_bits",
        ),
        (
            {"kind": "cooldown", "decay_sequences": 5},
            "schedule.trigger_bits: is missing for the kind cooldown",
        ),
        (
            {"kind": "cooldown", "trigger_bits": 5},
            "schedule.decay_sequences: is missing for the kind cooldown",
        ),
        (
            {"kind": "linear", "decay_sequences": 5},
            "schedule.decay_sequences: belongs to the kind cooldown",
        ),
        ({"kind": "exponential"}, "schedule.final: an exponential never comes to 0"),
    ],
)
def test_a_schedule_says_what_is_missing(schedule: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        small_config(train={"schedule": schedule})


def test_the_warm_up_never_goes_beyond_the_learning_rate() -> None:
    schedule = {"kind": "constant", "warmup": 10}
    config = small_config(train={"batch": 64, "schedule": schedule})
    assert learning_rate(config, Progress(0)) == config.train.optimizer.lr


def test_solved_is_counted_from_the_floor_and_validation_is_the_same_for_all(
    tmp_path: Path,
) -> None:
    rows = []
    for seed in (1, 2):
        task = {"kind": "ngram", "order": 2, "length": 12}
        config = small_config_of(task, train={**SMALL["train"], "solved_bits": 4.0}, seed=seed)
        run = new_run(tmp_path / str(seed), config)
        progress = train(run, config, CPU, Watch())
        assert progress.status == "solved"
        rows.append(run.rows(run.validation_file))
        last = rows[-1][-1]
        assert last["floor"] > 4.0
        assert progress.best_bits == pytest.approx(last["bits"] - last["floor"])
    assert rows[0][0]["floor"] == rows[1][0]["floor"]


def test_gradients_are_clipped_elementwise_or_by_norm() -> None:
    config = small_config()
    cases: list[tuple[dict[str, float], Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]] = [
        ({"value": 2.0}, lambda g, norm: g.clamp(-2, 2)),
        ({"norm": 3.0}, lambda g, norm: g * 3.0 / norm),
        ({"norm": 1e6}, lambda g, norm: g),
    ]
    for setting, expected in cases:
        parameters = flatten(new_model(config))
        before = torch.randn(parameters.shape, generator=torch.Generator().manual_seed(8)) * 4
        parameters.grad = before.clone()
        clip(parameters, small_config(train={"clip": setting}).train.clip, before.norm())
        torch.testing.assert_close(
            parameters.grad, expected(before, before.norm()), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: str(o["kind"]))
def test_the_optimizer_gets_its_settings(optimizer: dict[str, Any]) -> None:
    config = small_config(train={"optimizer": optimizer})
    built = build_optimizer(config, flatten(new_model(config)))
    settings = built.param_groups[0]
    for name, value in optimizer.items():
        if name != "kind":
            assert settings[name] == value
    assert type(built).__name__.lower() == optimizer["kind"].replace("_", "")


def test_weights_of_another_model_are_refused_by_name() -> None:
    given, own = new_model(small_config()), new_model(small_config(model={"memory": None}))
    checkpoint = Checkpoint(given.state_dict(), {}, {})
    with pytest.raises(NTMError, match=r"core\.interface\.weight has no place in this model"):
        load_weights(own, checkpoint, Path("x"))
    wide = new_model(small_config(model={"controller": {"kind": "lstm", "size": 12}}))
    with pytest.raises(
        NTMError, match=r"core\.r0|core\.controller\.h0 is \[11\], should be \[12\]"
    ):
        load_weights(wide, checkpoint, Path("x"))


def test_slots_mean_nothing_to_a_baseline(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", small_config(model={"memory": None}))
    with pytest.raises(UsageError, match="a baseline has no memory"):
        load_model(run, slots=40)
