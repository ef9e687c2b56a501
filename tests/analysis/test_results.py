from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ntm.analysis.results import (
    compare,
    effort,
    find_runs,
    group,
    median_interval,
    model_name,
    read_results,
    spread,
    trace_of,
    unlike,
)
from ntm.errors import UsageError
from ntm.runs.folder import RunDir
from tests.small import edit_manifest, new_run, small_config


def made(path: Path, seed: int, bits: Sequence[float], status: str = "budget") -> RunDir:
    """A run that ended with these validations, 100 sequences and 3 seconds apart."""
    config = small_config(seed=seed, train={"solved_bits": 0.5})
    run = new_run(path, config)
    for i, value in enumerate(bits, 1):
        row = {"sequences": 100 * i, "seconds": 3 * i, "bits": value + 2, "floor": 2.0}
        run.append(run.validation_file, {**row, "bit_errors": 0, "sequence_accuracy": 0.25})
    edit_manifest(run, status=status)
    return run


def test_a_run_is_read_from_its_folder(tmp_path: Path) -> None:
    made(tmp_path / "a", 3, [4, 0.4, 0.1, 0.7])
    (result,), troubles = read_results([tmp_path / "a"])
    assert not troubles
    assert result.curve == pytest.approx([4, 0.4, 0.1, 0.7])
    assert result.solved is not None
    assert result.solved["sequences"] == 200  # the first below solved_bits
    assert result.best["sequences"] == 300  # the weights that are kept
    assert effort(result, "seconds") == 6
    assert effort(read_results([made(tmp_path / "b", 4, [3]).path])[0][0]) == math.inf


def test_broken_and_unfinished_runs_are_named_and_spoil_nothing(tmp_path: Path) -> None:
    made(tmp_path / "good", 1, [1, 0.2])
    made(tmp_path / "running", 2, [1], status="running")
    empty = made(tmp_path / "empty", 3, [1])
    empty.validation_file.write_text("")
    cut = made(tmp_path / "cut", 4, [1, 0.3])
    cut.validation_file.write_text(cut.validation_file.read_text()[:-12])  # within the last row
    infinite = made(tmp_path / "infinite", 5, [1, math.nan])
    config = made(tmp_path / "config", 6, [1])
    config.config_file.write_text("task: {kind: copi}")
    manifest = made(tmp_path / "manifest", 7, [1])
    manifest.manifest_file.write_text("{")
    foreign = made(tmp_path / "foreign", 8, [1])
    foreign.validation_file.write_text("sequences,bits\n1,2\n")

    results, troubles = read_results(find_runs([tmp_path]))
    assert [r.run.path.name for r in results] == ["cut", "good"]
    assert results[0].curve == pytest.approx([1])  # the whole rows
    problems = {t.path.name: t.problem for t in troubles}
    assert problems.keys() == {
        "running", "empty", "infinite", "config", "manifest", "foreign"
    }  # fmt: skip
    assert problems["running"] == "has not ended: its status is running"
    assert "no whole row" in problems["empty"]
    assert "not finite" in problems["infinite"]
    assert "did you mean copy" in problems["config"]
    assert "manifest.json" in problems["manifest"]
    assert "no whole row" in problems["foreign"]
    assert all("\n" not in problem for problem in problems.values())
    assert infinite.path.exists()


def test_evaluations_of_other_weights_are_left_out(tmp_path: Path) -> None:
    run = made(tmp_path / "a", 1, [4, 0.4, 0.7])
    entry = {
        "task": {"length": 9}, "slots": 9, "episodes": 5, "seed": 0, "bits": 1.0, "floor": 0.0,
        "bit_errors": 0.5, "sequence_accuracy": 0.5, "conditions": [],
    }  # fmt: skip
    entries = [{**entry, "sequences": 200}, {**entry, "seed": 1, "sequences": 100}]
    run.evaluations_file.write_text(json.dumps(entries))
    (result,), _ = read_results([run.path])
    assert [e.sequences for e in result.evaluations] == [200]


def test_a_folder_without_runs_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run here or below"):
        find_runs([tmp_path])
    with pytest.raises(UsageError, match="no such folder"):
        find_runs([tmp_path / "nowhere"])


def test_runs_are_grouped_by_all_but_their_seed(tmp_path: Path) -> None:
    made(tmp_path / "b", 2, [1])
    made(tmp_path / "a", 1, [1, 0.1])
    other = small_config(seed=1, train={"solved_bits": 0.5, "batch": 2})
    solved = {"solved_bits": 0.5}
    layers = {"kind": "gru", "size": 6, "layers": 2}
    gru = small_config(model={"controller": layers}, train=solved)
    alone = small_config(model={"memory": None}, train=solved)
    for name, config in (("c", other), ("d", gru), ("e", alone)):
        run = new_run(tmp_path / name, config)
        shutil.copy(tmp_path / "a" / "eval.csv", run.validation_file)
        edit_manifest(run, status="budget")
    results, _ = read_results(find_runs([tmp_path]))
    groups = group(results)["copy"]
    assert {g.name: [r.config.seed for r in g.results] for g in groups} == {
        "LSTM 11": [1],
        "NTM with GRU 2\N{MULTIPLICATION SIGN}6": [1],
        "NTM with LSTM 11 [1]": [1, 2],
        "NTM with LSTM 11 [2]": [1],
    }
    assert [g.details for g in groups] == ["", "", "train.batch=3", "train.batch=2"]
    assert unlike(groups) == {}
    slower = small_config(train={"solved_bits": 0.1}, validation={"every": 30, "episodes": 4})
    run = new_run(tmp_path / "f", slower)
    shutil.copy(tmp_path / "a" / "eval.csv", run.validation_file)
    edit_manifest(run, status="failed")
    results, _ = read_results(find_runs([tmp_path]))
    terms = unlike(group(results)["copy"])
    assert {key: set(values) for key, values in terms.items()} == {
        "train.solved_bits": {0.5, 0.1}, "validation.every": {15, 30},
    }  # fmt: skip
    heads = small_config(model={"memory": {"slots": 5, "width": 3, "write_heads": 2}})
    assert model_name(heads) == "NTM with LSTM 11, 1+2 heads"
    for settings, name in (
        ({"shared": True, "read": "before"}, "NTM with LSTM 11, 1 shared head, reading first"),
        ({"shared": True, "read_heads": 2, "write_heads": 2}, "NTM with LSTM 11, 2 shared heads"),
        ({"read": "before"}, "NTM with LSTM 11, reading first"),
    ):
        config = small_config(model={"memory": {"slots": 5, "width": 3, **settings}})
        assert model_name(config) == name


@pytest.mark.parametrize(
    ("controller", "name"),
    [
        ({"kind": "gru", "size": 7}, "GRU 7"),
        ({"kind": "rnn", "size": 7, "nonlinearity": "relu"}, "RNN 7 (nonlinearity relu)"),
        ({"kind": "nested_lstm", "size": 7, "depth": 3}, "nested LSTM 7 (depth 3)"),
        ({"kind": "nested_lstm", "size": 7, "depth": 2}, "nested LSTM 7"),
        ({"kind": "lstm", "layers": 3, "skip": True}, "LSTM 3\N{MULTIPLICATION SIGN}100 (skip)"),
        (
            {"kind": "leaky", "size": 7, "leak": 0.25, "learned": True},
            "leaky RNN 7 (leak 0.25, learned)",
        ),
    ],
)
def test_a_model_is_named_by_what_is_unusual_in_it(controller: dict[str, Any], name: str) -> None:
    raw = {"controller": controller, "memory": None}
    assert model_name(small_config(model=raw)) == name


def test_the_median_seed_counts_the_unsolved_as_last(tmp_path: Path) -> None:
    curves: list[list[float]] = [[3, 2], [0.1], [1, 0.2], [4, 3], [1, 1, 0.3]]
    for seed, bits in enumerate(curves):
        made(tmp_path / str(seed), seed, bits)
    (found,) = group(read_results(find_runs([tmp_path]))[0])["copy"]
    assert found.median.config.seed == 4  # after 100, 200, 300 sequences; then 2 and 3 bits
    assert found.final_bits == pytest.approx([2, 0.1, 0.2, 3, 0.3])


def test_a_trace_is_of_the_validation_size(tmp_path: Path) -> None:
    config = small_config(validation={"every": 15, "episodes": 4, "task": {"length": 3}})
    run = new_run(tmp_path / "a", config)
    from ntm.runs.models import new_model

    run.save_best(new_model(config).state_dict(), {"sequences": 15})
    row = {
        "sequences": 15,
        "seconds": 1,
        "bits": 1,
        "floor": 0,
        "bit_errors": 1,
        "sequence_accuracy": 0,
    }
    run.append(run.validation_file, row)
    edit_manifest(run, status="budget")
    (result,), _ = read_results([run.path])
    assert trace_of(result).inputs.shape == (7, 4)


# Statistics


def test_quartiles() -> None:
    assert spread([4, 1, 3, 2, 5]) == (3, 2, 4)
    assert spread([7]) == (7, 7, 7)
    assert spread([]) is None


def test_the_interval_of_a_median_covers_it_as_often_as_it_says() -> None:
    """Over 60 samples of 15 from a normal distribution; and it is no wider than need be."""
    import numpy as np

    rng = np.random.default_rng(1)
    intervals = [median_interval(rng.normal(size=15).tolist()) for _ in range(60)]
    covered = sum(i is not None and i[0] <= 0 <= i[1] for i in intervals)
    assert 50 <= covered <= 60
    widths = [i[1] - i[0] for i in intervals if i is not None]
    assert 0.8 < sum(widths) / 60 < 1.6  # the median's deviation is 1.25 / sqrt(15), four of them
    assert median_interval([1, 2, 3, 4, 5]) is None
    assert median_interval([2] * 6) == (2, 2)


@pytest.mark.parametrize(
    ("a", "b"),
    [([1, 2, 3, 9], [2, 4, 5]), ([5, 5, 1], [5, 5, 5]), ([1, math.inf, 4], [math.inf] * 4)],
)
def test_the_probability_of_improvement_counts_pairs(a: list[float], b: list[float]) -> None:
    pairs = list(itertools.product(a, b))
    expected = sum((x < y) + (x == y) / 2 for x, y in pairs) / len(pairs)
    found = compare(a, b)
    assert found is not None
    assert found.better == pytest.approx(expected)
    assert found.interval is None  # of so few seeds there is none
    turned = compare(b, a)
    assert turned is not None
    assert turned.better == pytest.approx(1 - expected)
    assert turned.p_value == pytest.approx(found.p_value)


def test_what_is_always_better_has_a_small_p_and_too_few_seeds_have_none() -> None:
    found = compare([1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11])
    assert found is not None
    assert (found.better, found.interval) == (1, None)
    assert found.p_value == pytest.approx(2 / math.comb(11, 5))  # exact
    assert compare([1, 2], [3, 4, 5]) is None


def test_the_p_of_ties_is_exact() -> None:
    """Three against three: the most unlikely of 20 ways has a probability of 1 in 10, two-sided."""
    found = compare([math.inf] * 3, [5, 5, 5])
    assert found is not None
    assert found.p_value == pytest.approx(0.1)
    alike = compare([5, 5, 5], [5, 5, 5])
    assert alike is not None
    assert (alike.better, alike.p_value) == (0.5, 1)


def test_an_interval_holds_what_it_should() -> None:
    a, b = [1, 2, 3, 7, 8, 9], [4, 5, 6, 10, 11, 12]
    found = compare(a, b)
    assert found is not None
    assert found.interval is not None
    low, high = found.interval
    assert 0.2 < low < found.better < high <= 1


def test_a_run_counts_once(tmp_path: Path) -> None:
    made(tmp_path / "a", 1, [1])
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    paths = find_runs([tmp_path, tmp_path / "a", tmp_path / "." / "a"])
    assert [path.name for path in paths] == ["a", "copy"]
    results, (trouble,) = read_results(paths)
    assert len(results) == 1
    assert "has the config and the seed of" in trouble.problem


def test_of_two_evaluations_of_the_same_test_that_of_more_episodes_counts(tmp_path: Path) -> None:
    run = made(tmp_path / "a", 1, [4, 0.4])
    entry = {
        "task": {"length": 9}, "slots": 9, "sequences": 200, "floor": 0.0, "bit_errors": 0.5,
        "sequence_accuracy": 0.5, "conditions": [],
    }  # fmt: skip
    kept = [(5, 0, 1.0), (50, 0, 2.0), (5, 1, 3.0)]
    entries = [{**entry, "episodes": n, "seed": seed, "bits": bits} for n, seed, bits in kept]
    run.evaluations_file.write_text(json.dumps([*entries, {**entries[0], "slots": 20}]))
    (result,), _ = read_results([run.path])
    assert [(e.slots, e.bits) for e in result.evaluations] == [(9, 2.0), (20, 1.0)]

    for wrong in ({"lenght": 9}, {"width": 4}):
        run.evaluations_file.write_text(json.dumps([{**entries[0], "task": wrong}]))
        _, (trouble,) = read_results([run.path])
        assert "task" in trouble.problem
