"""The worked example of CONTRIBUTING.md, carried out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def blocks() -> list[tuple[str, str]]:
    """The code blocks on adding a controller: language and text."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    part = text[text.index("## Add a controller") : text.index("## How we write")]
    return re.findall(r"```(\w+)\n(.*?)```", part, flags=re.DOTALL)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The packages with the example's file, line and config in their places."""
    (_, unit), (_, line), (_, config) = blocks()
    for package in ("controllers", "configs"):
        shutil.copytree(ROOT / package, tmp_path / package)
    (tmp_path / "controllers" / "mgu.py").write_text(unit)
    registry = tmp_path / "controllers" / "__init__.py"
    before = "from controllers.nested_lstm"
    registry.write_text(registry.read_text().replace(before, line + before, 1))
    (tmp_path / "configs" / "copy" / "ntm-mgu.yaml").write_text(config)
    return tmp_path


def run(copy: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words], cwd=copy, check=False, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(copy), str(ROOT)])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_trains_in_the_machine_alone_and_stacked(copy: Path) -> None:
    small = [
        "--set", "train.sequences=32", "--set", "validation={every: 32, episodes: 3}",
        "--set", "model.controller.size=6", "--set", "task.length=3", "--quiet",
    ]  # fmt: skip
    train = ["-m", "ntm.cli", "train", "copy/ntm-mgu", *small]
    run(copy, *train)
    alone = ["--set", "model.memory=null", "--set", "train.clip={value: 10}"]
    run(copy, *train, *alone, "--set", "model.controller.layers=2", "--run", "alone")
    run(copy, *train, *alone, "--set", "model.direction=bidirectional", "--run", "both")
    assert "mgu" in run(copy, "-m", "ntm.cli", "list").splitlines()[1]
    assert (copy / "alone" / "eval.csv").read_text().count("\n") == 2


def test_the_example_passes_the_contract_of_every_core(copy: Path) -> None:
    shutil.copytree(ROOT / "tests", copy / "tests")
    contract = "tests/machine/test_core_contract.py"
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", contract, "-k", "mgu"]
    said = run(copy, *words)
    assert int(re.findall(r"(\d+) passed", said)[0]) > 20
