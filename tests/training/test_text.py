"""Training, scoring and writing on a text whose entropy is known."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ntm
from ntm.analysis.evaluate import Scores, evaluate
from ntm.analysis.results import Result, trace_of
from ntm.analysis.sample import sample
from ntm.analysis.trace import record
from ntm.errors import UsageError
from ntm.model import Model
from ntm.runs.folder import RunDir
from ntm.runs.models import load_model, new_model
from ntm.runs.start import continue_run, settings_of_test
from ntm.training.load import parse_config
from ntm.training.optim import flatten
from ntm.training.schema import Config
from ntm.training.step import build_optimizer, differentiation
from ntm.training.streams import Stream, numpy_generator
from ntm.training.task_settings import with_settings
from tasks.autocomplete import Autocomplete
from tasks.charlm import CharLM
from tasks.copy import Copy
from tasks.text import SYMBOLS, load_words
from tests.small import Watch, new_run, small_config, train
from tests.tasks import grammar
from tests.training.common import CPU, stop_after

NTM: dict[str, Any] = {"slots": 9, "width": 5}


def config_of(
    task: dict[str, Any], memory: dict[str, Any] | None = None, size: int = 32, **train: Any
) -> Config:
    raw = {
        "task": {"path": grammar.shared_file(), **task},
        "model": {"controller": {"kind": "gru", "size": size}, "memory": memory},
        "train": {
            "optimizer": {"kind": "adam", "lr": 1e-2}, "clip": {"norm": 1}, "batch": 16,
            "solved_bits": 0, "schedule": {"kind": "linear"}, **train,
        },
        "validation": {"every": 2000, "episodes": 50},
    }  # fmt: skip
    return parse_config(raw, "text")


Trained = tuple[RunDir, Model, Config]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """Models that have learned the grammar, trained once: by name, ``charlm`` and others."""
    configs = {
        "charlm": config_of({"kind": "charlm", "length": 50}, sequences=6000),
        "ntm": config_of({"kind": "charlm", "length": 50}, NTM, sequences=6000),
        "autocomplete": config_of(
            {"kind": "autocomplete", "length": 50, "words": 5}, sequences=4000
        ),
    }
    folder, made = tmp_path_factory.mktemp("text"), {}

    def get(name: str) -> Trained:
        if name not in made:
            run = new_run(folder / name, configs[name])
            train(run, configs[name], CPU, Watch())
            made[name] = (run, *load_model(run))
        return made[name]

    return get


@pytest.mark.parametrize("name", ["charlm", "ntm"])
def test_bits_per_character_come_near_the_entropy_and_not_below_it(
    name: str, trained: Callable[[str], Trained]
) -> None:
    _, model, config = trained(name)
    assert isinstance(config.task, CharLM)
    longer = CharLM(path=config.task.path, length=190)
    scores = evaluate(model, longer, 100)
    bits, error = scores.bits.mean().item(), scores.bits.std().item() / 10
    assert grammar.entropy() - 3 * error < bits < grammar.entropy() + 0.06
    assert error < 0.01
    summary = scores.summary()
    assert summary["accuracy"] == pytest.approx(1 - summary["bit_errors"] / 190)
    assert 0.9 < summary["accuracy"] < 1
    assert "steps" not in summary


def test_half_a_word_is_known_as_the_grammar_knows_it(trained: Callable[[str], Trained]) -> None:
    """Against the most likely word for each first word of what is shown, counted in the grammar."""
    _, model, config = trained("autocomplete")
    scores = evaluate(model, config.task, 150)
    share, known = grammar.stationary(), load_words(grammar.shared_file(), 5).vocabulary
    assert len(known) == 5
    missing = set(grammar.WORDS) - set(known)
    best: dict[int, list[float]] = {}  # of the known words, by characters seen: all, and right
    for before, followers in grammar.FOLLOWERS.items():
        prefixes: dict[str, dict[str, float]] = {}
        for word, p in followers.items():
            for seen in range(len(word) + 1):
                prefixes.setdefault(word[:seen], {})[word] = share[before] * p
        for prefix, words in prefixes.items():
            scored = {w: p for w, p in words.items() if w not in missing}
            total = best.setdefault(len(prefix), [0.0, 0.0])
            total[0] += sum(scored.values())
            total[1] += max(scored.values(), default=0.0)
    for row in scores.steps:
        asked, right = best[int(row["seen"])]
        deviation = 4 * (0.25 / row["scored"]) ** 0.5
        # The first word of an observation has no word before it.
        assert right / asked - deviation - 0.12 < row["accuracy"] <= right / asked + deviation
    assert [row["seen"] for row in scores.steps] == sorted(s for s in best if best[s][0] > 0)
    accuracies = [row["accuracy"] for row in scores.steps]
    assert accuracies[0] < accuracies[-1]


def test_steps_add_up_to_the_whole() -> None:
    config = config_of({"kind": "autocomplete", "length": 30, "words": 4}, size=7)
    model = new_model(config)
    scores = evaluate(model, config.task, 60)
    task = config.task.held_out("test")
    n = wrong = nats = 0.0
    for part, count in ((0, 50), (1, 10)):
        drawn = task.sample(numpy_generator(0, Stream.EVALUATION, part), 50).select(0, count)
        logits, _ = model(drawn.inputs)
        p = torch.log_softmax(logits, -1)
        for t, b in torch.nonzero(drawn.mask).tolist():
            n += 1
            nats -= p[t, b, drawn.targets[t, b, 0]].item()
            wrong += int(p[t, b].argmax()) != int(drawn.targets[t, b, 0])
    means = [
        (row["scored"], row["accuracy"] * row["scored"], row["bits"] * row["scored"])
        for row in scores.steps
    ]
    totals = [sum(column) for column in zip(*means, strict=True)]
    assert totals == pytest.approx([n, n - wrong, nats / math.log(2)], rel=1e-5)
    assert scores.summary()["accuracy"] == pytest.approx(1 - wrong / n)


def test_where_nothing_is_asked_nothing_counts() -> None:
    """Short windows of words that are mostly unknown: their means are over those with a guess."""
    config = config_of({"kind": "autocomplete", "length": 6, "words": 1}, size=7)
    scores = evaluate(new_model(config), config.task, 60)
    assert scores.answers is not None
    asked = scores.answers > 0
    assert 0 < asked.sum() < 60
    found = scores.summary()
    assert found["episodes"] == asked.sum()
    assert found["bits"] == pytest.approx(scores.bits[asked].mean().item())
    assert found["sequence_accuracy"] == pytest.approx(
        (scores.bit_errors[asked] == 0).double().mean().item()
    )
    nothing = Scores(scores.bits * 0, scores.floor, scores.floor, scores.conditions, scores.floor)
    assert nothing.summary()["episodes"] == 0


def test_a_text_elsewhere_is_the_same_text_and_another_is_another(tmp_path: Path) -> None:
    file = grammar.write(tmp_path / "text")
    task = {"length": 9, "path": str(file)}
    for kind in ("charlm", "autocomplete"):
        config = config_of({"kind": kind, **task}, size=5, sequences=32)
        run = new_run(tmp_path / kind, config)
        train(run, config, CPU, Watch(), should_stop=stop_after(1))
        moved = shutil.copy(file, tmp_path / "moved")
        _, gone_on, notes, _ = continue_run(run.path, [f"task.path={moved}"], config, CPU, "")
        assert gone_on.task == with_settings(config.task, {"path": moved})
        assert not [note for note in notes if "bit for bit" in note]
        assert settings_of_test(run, gone_on.task, {"path": moved, "length": 8}) == {"length": 8}

        other = tmp_path / "other"
        other.write_text(file.read_text()[::-1])
        with pytest.raises(UsageError, match=r"task\.path is .* there and .*other here"):
            continue_run(run.path, [f"task.path={other}"], config, CPU, "")
        settings = {"path": str(other)}
        elsewhere = with_settings(config.task, settings)
        if kind == "charlm":
            assert settings_of_test(run, elsewhere, settings) == settings
        else:
            with pytest.raises(UsageError, match="its words have other numbers"):
                settings_of_test(run, elsewhere, settings)
        with pytest.raises(UsageError, match="or has changed since"):
            settings_of_test(run, elsewhere, {})


def test_validation_and_tests_are_on_their_own_parts(tmp_path: Path) -> None:
    """A text of three languages: what is trained on, validated on and tested on."""
    file = tmp_path / "text"
    file.write_text("a" * 900 + "b" * 50 + "c" * 50)
    config = config_of({"kind": "charlm", "length": 8, "path": str(file)}, sequences=600)
    run = new_run(tmp_path / "run", config)
    watch = Watch()
    train(run, config, CPU, watch)
    assert watch.reports[-1]["bits"] < 0.1
    assert watch.validations[-1]["bits"] > 5  # it has never seen a b
    model, _ = load_model(run)
    for stream, letter in ((Stream.VALIDATION, 2), (Stream.EVALUATION, 3)):
        drawn = config.task.held_out("validation" if letter == 2 else "test")
        episode = drawn.sample(numpy_generator(0, stream, 0), 50)
        assert (episode.targets == letter).all()
        bits = evaluate(model, config.task, 50, stream=stream).bits
        logits, _ = model(episode.inputs)
        p = torch.log_softmax(logits, -1)[..., letter]
        torch.testing.assert_close(bits, (-p.mean(dim=0) / math.log(2)).double(), rtol=1e-5, atol=0)
    trace = trace_of(Result(run, config, {}, [], []))
    assert trace.inputs[:, 2].all()
    assert trace.targets.shape == trace.outputs.shape == (8, 1)


@pytest.mark.parametrize("memory", [None, NTM])
def test_a_resumed_run_on_a_text_is_the_same_bit_for_bit(
    memory: dict[str, Any] | None, tmp_path: Path
) -> None:
    config = config_of({"kind": "charlm", "length": 13}, memory, size=7, sequences=160)
    whole, parts = (new_run(tmp_path / name, config) for name in ("whole", "parts"))
    train(whole, config, CPU, Watch())
    for i, steps in enumerate((3, 4)):
        train(parts, config, CPU, Watch(), resume=i > 0, should_stop=stop_after(steps))
    train(parts, config, CPU, Watch(), resume=True)
    a, b = whole.load_checkpoint(), parts.load_checkpoint()
    assert a.state["generator"] == b.state["generator"]
    assert all(torch.equal(a.weights[name], b.weights[name]) for name in a.weights)
    assert all(torch.equal(a.optimizer[name], b.optimizer[name]) for name in a.optimizer)


@pytest.mark.parametrize("segment", [None, 4])
def test_the_fused_engine_has_the_references_gradient_of_classes(segment: int | None) -> None:
    gradients = []
    for engine in ("reference", "fused"):
        config = config_of({"kind": "charlm", "length": 13}, NTM, size=7, recompute_every=segment)
        config = dataclasses.replace(config, engine=engine)
        model = new_model(config).double()
        parameters = flatten(model)
        episode = config.task.sample(np.random.default_rng(3), 5)
        episode = episode._replace(inputs=episode.inputs.double(), mask=episode.mask.double())
        optimizer = build_optimizer(config, parameters)
        cost = differentiation(model, parameters, config, optimizer)(episode, None)
        assert cost.nats.shape == cost.errors.shape == (5,)
        assert parameters.grad is not None
        gradients.append(parameters.grad.clone())
    assert gradients[0].abs().max() > 1e-4
    torch.testing.assert_close(*gradients)


def test_outputs_of_classes_are_traced_as_what_came(trained: Callable[[str], Trained]) -> None:
    _, model, config = trained("ntm")
    episode = config.task.sample(np.random.default_rng(2), 3)
    trace = record(model, episode, config.task.loss, 1)
    logits, _ = model(episode.inputs[:, 1:2])
    p = torch.softmax(logits[:, 0], -1)
    given = [p[t, episode.targets[t, 1, 0]].item() for t in range(50)]
    assert trace.outputs[:, 0].tolist() == pytest.approx(given, abs=1e-5)
    assert trace.targets.tolist() == [[1.0]] * 50
    assert trace.ntm is not None


# Without the text, or with another


def test_a_run_that_goes_on_with_another_text_says_so(tmp_path: Path) -> None:
    file = grammar.write(tmp_path / "text")
    config = config_of({"kind": "charlm", "length": 9, "path": str(file)}, size=5, sequences=32)
    run = new_run(tmp_path / "run", config)
    train(run, config, CPU, Watch(), should_stop=stop_after(1))
    was = run.manifest()["data"]
    size = len(file.read_text())
    assert was.startswith(f"{size:,} characters, sha256 ")
    assert continue_run(run.path, [], config, CPU, "ntm train")[2] == []
    file.write_text("x" * size)
    (note,) = continue_run(run.path, [], config, CPU, "ntm train")[2]
    assert note.startswith(f"not bit for bit as if it had not stopped: data was {was}, is {size:,}")
    assert "data" not in new_run(tmp_path / "copy", small_config()).manifest()


def test_a_run_needs_its_text_to_begin_to_go_on_and_to_be_scored(tmp_path: Path) -> None:
    file = grammar.write(tmp_path / "text")
    config = config_of({"kind": "charlm", "length": 9, "path": str(file)}, size=5, sequences=32)
    run = new_run(tmp_path / "run", config)
    train(run, config, CPU, Watch(), should_stop=stop_after(1))
    before = run.manifest_file.read_bytes()
    model, _ = load_model(run)
    file.unlink()
    with pytest.raises(UsageError, match=r"task\.path: .*No such file"):
        new_run(tmp_path / "other", config)
    assert not (tmp_path / "other").exists()
    with pytest.raises(UsageError, match=r"task\.path: "):
        continue_run(run.path, [], config, CPU, "ntm train")
    assert run.manifest_file.read_bytes() == before
    with pytest.raises(UsageError, match=r"task\.path: "):
        evaluate(model, config.task, 3)
    assert len(sample(model, config.task, 11)) == 11  # which needs none
    assert run.config() == config


# Writing


@pytest.mark.parametrize("name", ["charlm", "ntm"])
def test_what_is_written_is_of_the_grammar(name: str, trained: Callable[[str], Trained]) -> None:
    _, model, config = trained(name)
    text = sample(model, config.task, 400, temperature=0.7, prompt="The ", seed=3)
    assert text.startswith("the ")
    assert len(text) == 404
    words = text.split()[:-1]  # the last one may be cut off
    assert sum(word in grammar.WORDS for word in words) > 0.95 * len(words)
    pairs = list(pairwise(words))
    assert sum(b in grammar.FOLLOWERS.get(a, {}) for a, b in pairs) > 0.9 * len(pairs)


def test_the_most_likely_text_is_always_the_same(trained: Callable[[str], Trained]) -> None:
    _, model, config = trained("charlm")

    def written(**how: Any) -> str:
        return sample(model, config.task, 60, **how)

    assert len({written(temperature=0.0, seed=seed) for seed in range(3)}) == 1
    assert written(temperature=0.0) == written(temperature=1e-300)
    assert "the ox sat the ox sat" in written(temperature=0.0)
    assert written(seed=1) == written(seed=1)
    assert len({written(seed=seed) for seed in range(5)}) > 1
    wild = written(temperature=1e6)
    assert len(set(wild)) > 15  # every character alike


@pytest.mark.parametrize("memory", [None, NTM])
@pytest.mark.parametrize("prompt", ["", "ox", "It's 2"])
def test_the_state_is_carried(memory: dict[str, Any] | None, prompt: str) -> None:
    """Against the whole text so far, read from the beginning for each character."""
    config = config_of({"kind": "charlm", "length": 13}, memory, size=11)
    model = new_model(config)
    folded = {"It's 2": "it s two "}.get(prompt, prompt)
    text = folded or " "
    with torch.no_grad():
        for _ in range(12):
            rows = [[float(s == c) for s in SYMBOLS] for c in text]
            logits, _ = model(torch.tensor(rows)[:, None])
            text += SYMBOLS[int(logits[-1, 0].argmax())]
    found = sample(model, config.task, 12, temperature=0, prompt=prompt)
    assert found == (text if folded else text[1:])


def test_frequencies_are_those_of_the_softmax_at_a_temperature() -> None:
    config = config_of({"kind": "charlm", "length": 13}, size=5)
    model = new_model(config)
    with torch.no_grad():  # whatever is read, the outputs are these
        model.readout.weight.zero_()
        model.readout.bias.copy_(torch.linspace(-1, 3, 27))
    text = sample(model, config.task, 6000, temperature=2.0, seed=5)
    p = torch.softmax(torch.linspace(-1, 3, 27).double() / 2, 0).numpy()
    counts = np.array([text.count(s) for s in SYMBOLS])
    assert np.abs(counts - 6000 * p).max() < 5 * np.sqrt(6000 * p).max()


def test_what_cannot_be_written() -> None:
    config = config_of({"kind": "charlm", "length": 13}, size=5)
    model = new_model(config)
    for temperature in (-1.0, math.nan, math.inf):
        with pytest.raises(UsageError, match="the temperature should be a number from 0 up"):
            sample(model, config.task, 3, temperature)
    other = Autocomplete(path=grammar.shared_file())
    for task in (Copy(), other):
        with pytest.raises(UsageError, match=f"only a model of charlm .* is of {task.kind}"):
            sample(model, task, 3)


def test_from_python(trained: Callable[[str], Trained]) -> None:
    run, model, config = trained("charlm")
    loaded = ntm.load(run.path)
    assert ntm.sample(loaded, 30, prompt="the", seed=2) == sample(
        model, config.task, 30, prompt="the", seed=2
    )
    episode = loaded.task.sample(np.random.default_rng(1), 2)
    found = ntm.trace(loaded, episode, 1)
    assert found.outputs.shape == (50, 1)
    ntm.plot_memory(found, "text", loaded.task.symbols)
