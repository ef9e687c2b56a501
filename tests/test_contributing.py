"""The worked examples of CONTRIBUTING.md, carried out."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from tests.test_plugins import install, ntm

ROOT = Path(__file__).parents[1]


def blocks(heading: str) -> list[str]:
    """The code blocks below a heading."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    below = text[text.index(f"## {heading}\n") :]
    section = re.split(r"\n## ", below, maxsplit=1)[0]
    return re.findall(r"```\w+\n(.*?)```", section, flags=re.DOTALL)


def test_the_controller_passes_the_contract_of_every_core(tmp_path: Path) -> None:
    """Its file, line and config are put in their places in a copy of the suite."""
    unit, line, config = blocks("Add a controller")
    for package in ("controllers", "configs", "ntm", "tasks", "tests"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    (tmp_path / "controllers" / "mgu.py").write_text(unit)
    (tmp_path / "configs" / "copy" / "ntm-mgu.yaml").write_text(config)
    registry = tmp_path / "ntm" / "registry.py"
    before = '        "nested_lstm":'
    assert registry.read_text().count(before) == 1
    registry.write_text(registry.read_text().replace(before, line + before))

    contract = "tests/memory/test_core_contract.py"
    loaded = "tests/training/test_config.py::test_a_shipped_config_loads_and_survives_being_written"
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", contract, loaded, "-k", "mgu"]
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, check=False, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) > 20


def test_the_package_trains_in_an_ntm_alone_stacked_and_in_both_directions(tmp_path: Path) -> None:
    unit, *_ = blocks("Add a controller")
    project, command = blocks("Publish a package of your own")
    source, packages = tmp_path / "source", tmp_path / "packages"
    source.mkdir()
    (source / "ntm_mgu.py").write_text(unit)
    (source / "pyproject.toml").write_text(project)
    install(source, packages)

    _, *train = shlex.split(command)
    for setting in (
        "train.sequences=32", "train.slots=null", "validation={every: 32, episodes: 3}",
        "task.length=3", "model.controller.size=6",
    ):  # fmt: skip
        train += ["--set", setting]
    alone = ["--set", "model.memory=null", "--set", "train.clip={value: 10}", "--quiet"]
    stacked = ["--set", "model.controller.layers=2", "--run", "alone"]
    both = ["--set", "model.direction=bidirectional", "--run", "both"]
    listed, *trained = ntm(
        tmp_path,
        packages,
        ["list"],
        [*train, "--run", "inside"],
        [*train, *alone, *stacked],
        [*train, *alone, *both],
    )
    assert "mgu" in listed.out.splitlines()[1].split(": ")[1].split(", ")
    assert [output.code for output in trained] == [0, 0, 0], trained
    for run in ("inside", "alone", "both"):
        assert (tmp_path / run / "eval.csv").read_text().count("\n") == 2
        assert "kind: mgu" in (tmp_path / run / "config.yaml").read_text()
