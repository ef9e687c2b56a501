"""What the README says, done: its commands, its config, its Python, its pictures."""

from __future__ import annotations

import re
import shlex
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

import ntm
from ntm import cli
from tests.tasks import grammar

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every line of a code block that calls ntm, without what explains it."""
    lines = [line for language, block in BLOCKS if not language for line in block.splitlines()]
    return [re.split(r"\s{2,}", line)[0] for line in lines if line.startswith("ntm ")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder, with the README's config and a text."""
    (config,) = [block for language, block in BLOCKS if language == "yaml"]
    (tmp_path / "my-config.yaml").write_text(config)
    grammar.write(tmp_path / "text8")
    return tmp_path


#: What the README trains before, by what a command asks for.
BEFORE = {
    "runs/demo": "ntm train copy/ntm-lstm --run runs/demo",
    "runs": "ntm train copy/ntm-lstm --run runs/demo",
    "runs/charlm/gru/seed-1": "ntm train charlm/gru",
    "runs/autocomplete/lstm/seed-1": "ntm train autocomplete/lstm",
    "fig6": "ntm train copy/ntm-lstm",
}


def shortened(command: str) -> list[str]:
    """The command with two sequences instead of thousands."""
    words = shlex.split(command.replace("RUN", "runs/demo"))
    short = []
    if words[1] == "train":
        short = ["train.sequences=2", "validation.episodes=1", "train.snapshots=2"]
    if words[1] == "evaluate":
        words += ["--episodes", "2"]
    return words + [word for setting in short for word in ("--set", setting)]


def test_there_are_commands() -> None:
    assert len(commands()) > 10
    assert {c.split()[1] for c in commands()} >= {"train", "evaluate", "plot", "list", "bench"}


class Call:
    """Runs a command line in this process: its exit code and what it writes to standard error."""

    def __init__(self, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self._patch, self._capture = patch, capture

    def __call__(self, words: list[str]) -> tuple[object, str]:
        self._patch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return caught.value.code or 0, self._capture.readouterr().err


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return Call(monkeypatch, capsys)


#: Takes minutes, or measures them; tests of their own run these on something small.
LONG = ("ntm bench", "ntm reproduce all --quick", "ntm sweep")


@pytest.mark.parametrize("command", [c for c in commands() if not c.startswith(LONG)])
def test_a_command_does_what_it_says(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    monkeypatch.chdir(folder)
    words = shortened(command)
    for word in words:
        if word in BEFORE and BEFORE[word] != command:
            assert call(shortened(BEFORE[word]))[0] == 0
    if "--resume" in words:
        call([word for word in words if word != "--resume"])
    code, err = call(words)
    if "cuda" in words and not torch.cuda.is_available():
        assert code == 2
        assert "torch has no such device here, only cpu" in err
    else:
        assert code == 0, err


def test_the_mistake_is_answered_as_shown(call: Call) -> None:
    (shown,) = [block for _, block in BLOCKS if block.startswith("$ ntm")]
    command, *answer = shown.splitlines()
    code, err = call(shlex.split(command.removeprefix("$ ")))
    assert code == 2
    assert err.replace(f"{ROOT}/", "").splitlines() == answer


def test_the_python_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a few sequences of training and of tests instead of thousands."""
    short = {"train.sequences": 2, "validation.episodes": 1}
    train = partial(ntm.train, run=tmp_path / "run", settings=short, progress=False)
    monkeypatch.setattr(ntm, "train", train, raising=False)
    monkeypatch.setattr(ntm, "evaluate", partial(ntm.evaluate, episodes=2), raising=False)
    monkeypatch.chdir(ROOT)
    for language, block in BLOCKS:
        if language == "python":
            exec(compile(block, "README.md", "exec"), {})


def test_links_and_pictures_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#]+)\)", README)
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target
