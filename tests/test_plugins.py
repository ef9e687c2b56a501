"""Kinds of other packages: built, installed, listed, trained, swept and reported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]


PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "ntm-example"
version = "0.3"

[project.entry-points."ntm.tasks"]
parity = "ntm_example:Parity"

[project.entry-points."ntm.controllers"]
decay = "ntm_example:DecayConfig"

[project.entry-points."ntm.memories"]
delay = "ntm_example:DelayConfig"

[tool.setuptools]
py-modules = ["ntm_example"]
"""


MODULE = '''
"""A task without conditions, a controller, and a memory without slots or heads."""

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from controllers.base import ControllerConfig, Core, linear
from ntm.memory.base import STRICT, MemoryConfig
from tasks.base import Task
from tasks.episode import episode


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Parity(Task):
    """After each bit, whether an odd number of ones has been shown."""

    kind: Literal["parity"] = "parity"
    length: int = Field(default=5, ge=1)

    @property
    def input_size(self):
        return 1

    @property
    def output_size(self):
        return 1

    @property
    def steps(self):
        return self.length

    def sample(self, rng, batch):
        bits = rng.integers(0, 2, size=(self.length, batch, 1))
        targets = (bits.cumsum(axis=0) % 2).astype(np.float32)
        return episode(bits.astype(np.float32), targets, np.ones((self.length, batch), np.float32))


class Decay(Core):
    def __init__(self, input_size, size, generator):
        super().__init__()
        self.input_size, self.output_size = input_size, size
        self.hidden = linear(input_size, size, generator)

    def initial_state(self, batch):
        return self.hidden.bias.new_zeros(batch, self.output_size)

    def forward(self, x, state):
        h = 0.5 * state + torch.tanh(self.hidden(x))
        return h, h


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DecayConfig(ControllerConfig):
    name: ClassVar[str] = "decaying units"
    kind: Literal["decay"] = "decay"

    def layer(self, input_size, generator):
        return Decay(input_size, self.size, generator)


class Delay(Core):
    """What was written ``lag`` steps ago is read."""

    def __init__(self, controller, config, generator):
        super().__init__()
        self.lag, self.width = config.lag, config.width
        self.input_size = controller.input_size - self.width
        self.output_size = controller.output_size + self.width
        self.controller = controller
        self.write = linear(controller.output_size, self.width, generator)

    def initial_state(self, batch):
        queue = self.write.bias.new_zeros(batch, self.lag, self.width)
        return queue, self.controller.initial_state(batch)

    def forward(self, x, state):
        queue, inner = state
        h, inner = self.controller(torch.cat([x, queue[:, 0]], dim=-1), inner)
        queue = torch.cat([queue[:, 1:], self.write(h)[:, None]], dim=1)
        return torch.cat([h, queue[:, 0]], dim=-1), (queue, inner)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DelayConfig(MemoryConfig):
    name: ClassVar[str] = "delay line"
    kind: Literal["delay"] = "delay"
    lag: int = Field(default=2, ge=1)
    width: int = Field(default=3, ge=1)

    @property
    def reads_size(self):
        return self.width

    def core(self, controller, generator):
        return Delay(controller, self, generator)

    def state_floats(self):
        return self.lag * self.width
'''


FAMILY = """
parameters: 150
task: {kind: parity, length: 4}
models:
  delay: {controller: {kind: decay}, memory: {kind: delay, width: 2}}
  both: {controller: {kind: lstm, size: 4}, memory: {kind: delay}}
train: {optimizer: {kind: adam, lr: 1e-3}, sequences: 12, batch: 3}
validation: {every: 6, episodes: 4, task: {length: 7}}
engine: reference
"""


#: Runs commands of ntm one after the other, and prints what each gave.
SCRIPT = """
import contextlib, io, json, sys
from ntm.cli import main

results = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["ntm", *words]
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    results.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(results))
"""


class Output(NamedTuple):
    code: int
    out: str
    err: str


def ntm(folder: Path, packages: Path, *commands: str | list[str]) -> list[Output]:
    """Commands of ntm in a folder, by a Python that finds the packages installed there."""
    words = [c.split() if isinstance(c, str) else c for c in commands]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(words)],
        cwd=folder, check=False, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(packages), str(ROOT)])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [Output(*result) for result in json.loads(done.stdout)]


def install(source: Path, packages: Path) -> None:
    """Builds a package and installs it, from nothing but what is here."""
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
         "--no-build-isolation", "--disable-pip-version-check", "--target", packages, source],
        check=True,
    )  # fmt: skip


@pytest.mark.system
def test_a_package_adds_a_task_a_controller_and_a_memory(tmp_path: Path) -> None:
    source, packages = tmp_path / "source", tmp_path / "packages"
    source.mkdir()
    (source / "pyproject.toml").write_text(PYPROJECT)
    (source / "ntm_example.py").write_text(MODULE)
    install(source, packages)
    (tmp_path / "family.yaml").write_text(FAMILY)

    listed, swept, trained, scored, drawn, reported, typo, learned = ntm(
        tmp_path,
        packages,
        "list",
        "sweep family.yaml --seeds 1 --workers 2 --out swept",
        "train family.yaml:delay --run one --seed 5 --quiet",
        "evaluate one --set task.length=9 --episodes 7 --json",
        "plot one",
        "report swept one --out report",
        "train family.yaml:delay --set task.kind=partiy",
        "evaluate one --slots 7",
    )
    assert (listed.code, listed.err) == (0, "")
    tasks, controllers, memories, *_ = listed.out.splitlines()
    assert "parity" in tasks.split(": ")[1].split(", ")
    assert "decay" in controllers.split(": ")[1].split(", ")
    assert memories == "memories: delay, ntm, sparse"

    assert swept.code == 0, swept.err
    for model in ("delay", "both"):
        manifest = json.loads((tmp_path / f"swept/parity/{model}/seed-1/manifest.json").read_text())
        assert manifest["status"] == "budget"
        assert (manifest["parameters"] <= 150) == (model != "both")
    # 1 + 2 inputs and 1 bias to each unit, 2 outputs and 1 bias of each, 2 reads and 2 + 1 biases
    size = next(n for n in range(50) if 4 * (n + 1) + 2 * (n + 1) + (n + 1) + 3 + 1 > 150)
    assert trained.code == 0, trained.err
    run = json.loads((tmp_path / "one/manifest.json").read_text())
    assert run["parameters"] == 4 * size + 2 * size + 2 + size + 2 + 1
    assert run["state_size"] == 2 * 2 + size
    assert (tmp_path / "one/eval.csv").read_text().count("\n") == 3

    summary = json.loads(scored.out)
    assert summary["episodes"] == 7
    assert summary["conditions"] == []
    assert summary["slots"] is None
    assert drawn.code == 0, drawn.err
    assert reported.code == 0, reported.err
    page = (tmp_path / "report/report.md").read_text()
    assert f"delay line with decaying units {size}" in page
    assert "delay line with LSTM 4" in page

    assert typo.code == 2
    assert "task.kind: 'partiy' is not one of " in typo.err
    assert "did you mean parity?" in typo.err
    assert (learned.code, learned.out) == (2, "")
    assert "--slots cannot be given: a memory of the kind delay has no slots" in learned.err


BROKEN = {
    "no_import": "import a_package_that_is_not_there",
    "no_config": "class Config: kind = 'no_config'",
    "exits": "raise SystemExit('go away')",
    "taken": "Config = None",
    "unfinished": """
from typing import ClassVar, Literal
from pydantic.dataclasses import dataclass
from controllers.base import STRICT, ControllerConfig
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config(ControllerConfig):
    name: ClassVar[str] = "unfinished"
    kind: Literal["unfinished"] = "unfinished"
""",
}


@pytest.mark.system
def test_a_broken_package_is_named_and_does_no_harm(tmp_path: Path) -> None:
    for name, text in BROKEN.items():
        (tmp_path / f"ntm_{name}.py").write_text(text)
        about = tmp_path / f"ntm_{name}-1.2.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: ntm-{name}\nVersion: 1.2\n")
        kind = "gru" if name == "taken" else name
        (about / "entry_points.txt").write_text(f"[ntm.controllers]\n{kind} = ntm_{name}:Config\n")
    (tmp_path / "family.yaml").write_text(FAMILY.replace("parity", "copy"))
    settings = "--set model.memory.kind=ntm --set model.controller.kind="
    listed, *used, unharmed = ntm(
        tmp_path,
        tmp_path,
        "list",
        *(f"train family.yaml:both {settings}{name}" for name in BROKEN if name != "taken"),
        f"train family.yaml:both --run run --quiet {settings}gru",
    )
    reasons = {
        "no_import": "ntm_no_import:Config: ModuleNotFoundError: No module named "
        "'a_package_that_is_not_there'",
        "no_config": "ntm_no_config:Config should be a class that derives from "
        "controllers.base.ControllerConfig",
        "exits": "ntm_exits:Config: SystemExit: go away",
        "unfinished": "ntm_unfinished:Config does not define layer",
        "gru": "controllers.gru:GRUConfig already has this kind",
    }
    names = {"gru": "taken"}
    lines = {
        kind: f"ntm-{names.get(kind, kind)} 1.2: the controller {kind} cannot be used: {reason}"
        for kind, reason in reasons.items()
    }
    assert listed.code == 0
    assert sorted(listed.err.splitlines()) == sorted(lines.values())
    assert "unfinished" not in listed.out
    for output, kind in zip(used, (k for k in BROKEN if k != "taken"), strict=True):
        assert output.code == 2
        assert output.err == f"ntm: family.yaml:both:\n  model.controller.kind: {lines[kind]}\n"
    assert unharmed.code == 0, unharmed.err
