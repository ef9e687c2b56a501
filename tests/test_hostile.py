"""Files may come from strangers: what they hold is used, or refused with a word."""

from __future__ import annotations

import contextlib
import copy
import itertools
import random
import signal
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs import shipped_configs
from ntm import cli
from ntm.analysis.trace import Trace
from ntm.errors import NTMError, UsageError
from ntm.memory.ntm import NTMConfig
from ntm.runs.folder import Checkpoint, RunDir
from ntm.training.load import expand, load_config, parse_config, to_dict
from tests.tasks import grammar
from tests.views.test_plots import trace_of

#: Small, so that what is valid is quick, or enormous; nothing that would merely take long.
NUMBERS = st.sampled_from([0, 1, 2, 3, 5, -1, 0.5, 1e-3, 10**10, 10**12, 10**30, 2**63, 1e300])
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, False, "", "x", "1", "12e3", "[1, 2]", "~", "copy", "../../x", "<script>",
     float("nan"), float("inf"), -float("inf"), [], {}, [1], [1, 2], [2, 1], [0, 1], [1, 2, 3],
     [[1]], ["a"], {"kind": "copy"}, {"kind": "lstm"}, {"kind": []}, {"norm": 1}, "\x00", "\u2028"]
)  # fmt: skip
VALUES = NUMBERS | ODD | st.text(max_size=5) | st.integers() | st.floats()
KINDS = st.sampled_from(
    ["copy", "repeat_copy", "associative_recall", "ngram", "priority_sort", "charlm",
     "autocomplete", "lstm", "gru", "rnn", "feedforward", "nested_lstm", "echo_state", "leaky",
     "gru2", "adam", "adamw", "rmsprop", "graves_rmsprop", "cooldown", "linear", "cosine"]
)  # fmt: skip


def small(name: str) -> dict[str, Any]:
    """A shipped config, of a size that runs at once."""
    raw = to_dict(load_config(name))
    task: dict[str, Any] = raw["task"]
    task.update(
        {key: [2, 3] for key in ("length", "repeats", "items") if isinstance(task.get(key), list)}
    )
    task.update(
        {
            k: v
            for k, v in {"length": 9, "items": 4, "sorted": 3, "words": 5}.items()
            if isinstance(task.get(k), int)
        }
    )
    task.update({"path": grammar.shared_file()} if "path" in task else {})
    raw["model"]["controller"]["size"] = 5
    if memory := raw["model"].get("memory"):
        memory.update(slots=7, width=4)
    raw["train"].update(sequences=4, batch=2)
    raw["validation"] = {"every": 4, "episodes": 2}
    return raw


BASES = [small(name) for name in shipped_configs() if not name.startswith("ngram/paper")]


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key and index of nested data."""
    items = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


@st.composite
def hostile(draw: st.DrawFn, bases: list[dict[str, Any]]) -> dict[str, Any]:
    """A config of which some keys are gone, doubled elsewhere, misspelt, or hold something else."""
    raw: dict[str, Any] = copy.deepcopy(draw(st.sampled_from(bases)))
    for _ in range(draw(st.integers(0, 4))):  # values are copied: a later one may change them
        every = list(places(raw))
        if not every:
            break
        *parents, key = draw(st.sampled_from(every))
        node: Any = raw
        for parent in parents:
            node = node[parent]
        what = draw(st.sampled_from(["value", "value", "kind", "drop", "add", "misspell"]))
        if what == "drop":
            del node[key]
        elif what == "kind" and isinstance(node, dict) and "kind" in node:
            node["kind"] = draw(KINDS)
        elif what == "add" and isinstance(node, dict):
            node[draw(st.text(min_size=1, max_size=8))] = copy.deepcopy(draw(VALUES))
        elif what == "misspell" and isinstance(node, dict):
            node[f"{key}s"] = node.pop(key)
        else:
            node[key] = copy.deepcopy(draw(VALUES))
    return raw


def train(text: str, folder: Path) -> tuple[int, str]:
    """What ``ntm train`` makes of a file in its first steps: its exit code and its words."""
    file = folder / "config.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    said: list[str] = []
    patch = pytest.MonkeyPatch()
    patch.setattr(
        sys,
        "argv",
        ["ntm", "train", str(file), "--run", str(folder / "run"), "--quiet", "--threads", "1"],
    )
    patch.setattr("typer.echo", lambda message="", **_: said.append(str(message)))
    patch.setattr("os.fsync", lambda handle: None)  # these two take most of the time
    patch.setattr("ntm.runs.start.commit", lambda: None)
    steps = itertools.count()
    patch.setattr("ntm.runs.session.StopOnSignal.requested", lambda _: next(steps) == 10)
    signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(60)
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0), "\n".join(said)
    finally:
        signal.alarm(0)
        patch.undo()
    raise AssertionError("cli.main returned")


def _hangs(*_: Any) -> None:
    raise AssertionError("it took a minute: that is a hang")


def check_config(text: str, folder: Path) -> None:
    code, said = train(text, folder)
    if code in (0, 130):  # done, or stopped after its first steps
        run = RunDir.open(folder / "run")
        assert all(np.isfinite(row["bits"]) for row in run.rows(run.metrics_file))
        assert all(t.isfinite().all() for t in run.load_checkpoint().weights.values())
    elif code == 1:  # its numbers left the range of floats, said with where, or memory
        assert "is not finite; it arose in" in said or "not enough memory" in said, said
    else:
        assert code == 2, said
        assert said.startswith("ntm: ")
        assert ": " in said.removeprefix("ntm: ")
        assert "Traceback" not in said


def hostile_configs(count: int) -> Any:
    @settings(
        max_examples=count, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(raw=hostile(BASES))
    def check(tmp_path_factory: pytest.TempPathFactory, raw: dict[str, Any]) -> None:
        check_config(yaml.safe_dump(raw, allow_unicode=True), tmp_path_factory.mktemp("config"))

    return check


test_a_config_runs_or_is_refused_by_its_key = hostile_configs(150)
test_ten_thousand_configs_run_or_are_refused = pytest.mark.slow(hostile_configs(10_000))


FAMILY: dict[str, Any] = {
    "parameters": 900,
    "task": {"kind": "copy", "width": 3, "length": [1, 4]},
    "models": {
        "nested": {"controller": {"kind": "nested_lstm", "depth": 3}},
        "stack": {"controller": {"kind": "gru", "layers": 2}, "train": {"clip": {"norm": 1}}},
        "machine": {"controller": {"kind": "leaky"}, "memory": {"slots": 9, "width": 5}},
        "echo": {"controller": {"kind": "echo_state", "size": 6}, "validation": {"every": 5}},
    },
    "train": {"optimizer": {"kind": "adam", "lr": 1e-3}},
}


@settings(max_examples=120, deadline=None, derandomize=True, database=None,
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(raw=hostile([FAMILY]))
def test_every_model_of_a_family_is_a_config_or_refused(
    tmp_path_factory: pytest.TempPathFactory, raw: dict[str, Any]
) -> None:
    file = tmp_path_factory.mktemp("family") / "family.yaml"
    text = yaml.safe_dump(raw, allow_unicode=True)
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(60)
    try:
        names: list[str] = []
        with contextlib.suppress(UsageError):
            names = expand(str(file))
        for name in names:  # one that is wrong does not spoil the others
            with contextlib.suppress(UsageError):
                config = load_config(name)
                assert parse_config(to_dict(config), name) == config
    finally:
        signal.alarm(0)


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "1", "{", "a: &x [*x]", "[" * 5000, "{a: " * 5000, "? " * 3000,
        "task: !!python/object/apply:os.system [echo]", "a: 1\na: 2", "\x00", "\ud800",
        "task: &a {x: 1}\nmodel: *a", "seed: " + "9" * 5000, "seed: 0x" + "f" * 5000,
        "seed: 1_0", "- " * 3000, "%YAML 9.9\n---\na: 1", "2001-01-01: 1", "a: !!binary x",
        "seed: 190:20:30", "a: " + "b" * 10**6,
    ],
    ids=lambda text: repr(text[:20]),
)  # fmt: skip
def test_a_file_that_is_no_config_is_refused(text: str, tmp_path: Path) -> None:
    check_config(text, tmp_path)
    assert not (tmp_path / "run").exists()


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The same with some bytes changed, cut off, left out, repeated, or put elsewhere."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data)) if data else 0
        length = rng.choice([1, 2, 4, 8, 64])
        what = rng.randrange(5)
        if what == 0:
            data[at : at + length] = rng.randbytes(length)
        elif what == 1:
            del data[at:]
        elif what == 2:
            del data[at : at + length]
        elif what == 3:
            data[at:at] = data[at : at + length]
        elif data:
            data[at] ^= 1 << rng.randrange(8)
    return bytes(data)


def equal(a: Checkpoint, b: Checkpoint) -> bool:
    return a.state == b.state and all(
        mine.keys() == yours.keys()
        and all(torch.equal(mine[k], yours[k]) and mine[k].dtype == yours[k].dtype for k in mine)
        for mine, yours in ((a.weights, b.weights), (a.optimizer, b.optimizer))
    )


@pytest.mark.parametrize("seed", range(10))
def test_a_changed_checkpoint_is_refused_or_equal(seed: int, tmp_path: Path) -> None:
    """A thousand for each seed."""
    run = RunDir(tmp_path)
    whole = Checkpoint(
        {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(7)},
        {"0/m": torch.linspace(0, 1, 5, dtype=torch.float64)},
        {"progress": {"sequences": 12}, "text": "\N{GREEK SMALL LETTER BETA}"},
    )
    run.save_checkpoint(whole)
    content, rng, refused = run.last_file.read_bytes(), random.Random(seed), 0
    for _ in range(1000):
        run.last_file.write_bytes(mutated(content, rng))
        try:
            assert equal(run.load_checkpoint(), whole)
        except NTMError:
            refused += 1
    assert refused > 900


@pytest.mark.parametrize("seed", range(10))
def test_a_changed_trace_is_refused_or_equal(seed: int, tmp_path: Path) -> None:
    """A thousand for each seed."""
    whole, file = trace_of(NTMConfig(slots=3, width=2)), tmp_path / "trace.npz"
    whole.save(file)
    content, rng, refused = file.read_bytes(), random.Random(seed), 0
    for _ in range(1000):
        file.write_bytes(mutated(content, rng))
        try:
            found = Trace.load(file)
        except NTMError:
            refused += 1
            continue
        assert np.array_equal(found.outputs, whole.outputs)
        if found.ntm is not None:  # what names the machine may be what was changed
            assert whole.ntm is not None
            assert np.array_equal(found.ntm.memory, whole.ntm.memory)
    assert refused > 500


def test_a_trace_that_claims_terabytes_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "trace.npz"
    trace_of(None).save(file)
    with np.load(file) as data:
        arrays = dict(data)
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as stream:
                shape = (10**12, 3) if name == "inputs" else array.shape
                np.lib.format.write_array_header_1_0(
                    stream, {"descr": "<f4", "fortran_order": False, "shape": shape}
                )  # fmt: skip
                stream.write(array.tobytes())
    with pytest.raises(NTMError, match=r"inputs\.npy is not as long as it says"):
        Trace.load(file)


def test_a_pickle_in_a_trace_is_not_executed(tmp_path: Path) -> None:
    class Danger:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    np.savez(tmp_path / "trace.npz", inputs=np.array([Danger()], dtype=object))
    with pytest.raises(NTMError, match="not a readable trace"):
        Trace.load(tmp_path / "trace.npz")
    assert not (tmp_path / "executed").exists()


def test_shipped_configs_are_valid_when_small() -> None:
    """Or the mutations above would start from what is refused anyway."""
    for raw in BASES:
        parse_config(raw, "small")
