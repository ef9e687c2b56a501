from __future__ import annotations

import json

import pytest
import torch

from ntm import cli
from ntm.analysis import bench as module
from ntm.analysis.bench import Case, bench
from ntm.kernels import dispatch as engine
from ntm.training.load import load_config
from ntm.training.task_settings import with_settings


def test_every_case_of_the_grid_is_a_task_that_its_config_can_run() -> None:
    for case in module.GRID:
        config = load_config(case.config)
        with_settings(config.task, case.settings)


def test_a_row_holds_the_medians_and_their_ratios() -> None:
    case = Case("copy/ntm-lstm", {"length": [2, 2]}, 3)
    (row,) = bench(torch.device("cpu"), repeats=1, grid=[case])
    assert (row.config, row.batch, row.steps) == ("copy/ntm-lstm", 3, 5)
    assert row.reference > 0
    assert row.lstm > 0
    if row.fused is not None:
        assert row.times_reference == row.reference / row.fused
        assert row.times_lstm == row.lstm / row.fused


def test_without_numba_there_is_no_fused_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    case = Case("copy/paper-lstm", {"length": [1, 1]}, 1)
    (row,) = bench(torch.device("cpu"), repeats=1, grid=[case])
    assert row.fused is row.times_reference is row.times_lstm is None


def test_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module, "GRID", [Case("copy/ntm-lstm", {"length": [1, 1]}, 1)])
    monkeypatch.setattr("sys.argv", ["ntm", "bench", "--repeats", "1", "--threads", "1", "--json"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert not caught.value.code
    data = json.loads(capsys.readouterr().out)
    assert data["threads"] == 1
    assert data["rows"][0]["config"] == "copy/ntm-lstm"
