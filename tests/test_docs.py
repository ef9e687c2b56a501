"""The code in docs/python.md runs as it stands there, and computes what it says."""

from __future__ import annotations

import re
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree

import ntm
from ntm.runs.folder import RunDir

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


class MLflow(ModuleType):
    """What the example uses of it."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self.params: dict[str, Any] = {}
        self.artifacts = ""

    def set_tracking_uri(self, uri: str) -> None:
        assert uri.startswith("sqlite:///")

    def start_run(self) -> Any:
        return nullcontext()

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.metrics.append((step, metrics))

    def log_params(self, params: dict[str, Any]) -> None:
        self.params = params

    def log_artifacts(self, local_dir: str) -> None:
        self.artifacts = local_dir


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All names of the page after it has run, in a user's folder with the reference runs."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "runs").mkdir()
    (folder / "runs" / "reference").symlink_to(ROOT / "runs" / "reference")
    short = {"train.sequences": 4, "train.report_every": 2, "validation.episodes": 1}
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setitem(sys.modules, "mlflow", MLflow())
        train = partial(ntm.train, settings=short, progress=False)
        patch.setattr(ntm, "train", train, raising=False)
        torch.manual_seed(3)
        for block in BLOCKS:
            exec(compile(block, "docs/python.md", "exec"), names)
        yield names


def test_layers_and_loop_are_what_they_are_said_to_be(page: Any) -> None:
    assert isinstance(page["state"], ntm.NTMState)
    assert page["nats"].shape == page["errors"].shape == (1,)
    assert page["nats"].item() == pytest.approx(80 * np.log(2), rel=0.1)  # hardly trained yet
    (vector,) = page["optimizer"].state.values()
    assert vector["step"] == 50
    assert vector["exp_avg"].numel() == sum(p.numel() for p in page["model"].parameters())
    assert {p.dtype for p in page["gru"].parameters()} == {torch.float64}


def test_the_exported_step_computes_what_the_model_does(page: Any, tmp_path: Path) -> None:
    """Step by step, in this process and read again from a file, without a word of warning."""
    trained, program = page["trained"], page["program"]
    episode = trained.task.sample(np.random.default_rng(2), 1)
    expected, end = trained(episode.inputs, engine="reference")
    torch.export.save(program, tmp_path / "step.pt2")
    for step in (program.module(), torch.export.load(tmp_path / "step.pt2").module()):
        state, outputs = page["first"], []
        for x in episode.inputs:
            y, state = step(x, state)
            outputs.append(y)
        torch.testing.assert_close(torch.stack(outputs), expected)
        torch.testing.assert_close(pytree.tree_leaves(state), pytree.tree_leaves(end))


def test_every_row_is_logged(page: Any) -> None:
    mlflow, run = page["mlflow"], RunDir.open(page["run"])
    assert mlflow.artifacts == str(run.path)
    assert mlflow.params == {"config": "copy/ntm-lstm", "seed": 1}
    for group, file in (("train", run.metrics_file), ("validation", run.validation_file)):
        rows = run.rows(file)
        name = f"{group}/bits"
        logged = [(step, row[name]) for step, row in mlflow.metrics if name in row]
        assert [step for step, _ in logged] == [row["sequences"] for row in rows]
        assert [bits for _, bits in logged] == pytest.approx([row["bits"] for row in rows])
