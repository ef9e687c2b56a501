from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ntm.errors import UsageError
from ntm.runs.models import choose_engine, find_device, load_model, new_model
from tests.small import Watch, new_run, small_config, train


def test_a_model_starts_from_its_seed_alone() -> None:
    a, b, c = (new_model(small_config(seed=seed)).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["readout.weight"], c["readout.weight"])


@pytest.mark.parametrize("available", [False, True])
def test_a_device_is_found(available: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    machine, baseline = small_config(engine="reference"), small_config(model={"memory": None})
    for config in (machine, baseline):
        assert find_device("cpu", config).type == "cpu"
        assert find_device("auto", config).type == ("cuda" if available else "cpu")
        if available:
            assert find_device("cuda", config).type == "cuda"
        else:
            with pytest.raises(UsageError, match="torch has no such device here, only cpu"):
                find_device("cuda", config)
    with pytest.raises(UsageError, match="should be auto, cpu, cuda, cuda:N or mps"):
        find_device("tpu", machine)


def test_auto_stays_on_the_cpu_where_the_fused_engine_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    config = small_config()
    if choose_engine(config, new_model(config)).engine != "fused":
        pytest.skip("the fused engine does not run here")
    assert find_device("auto", config).type == "cpu"


def test_a_learned_memory_keeps_its_slots(tmp_path: Path) -> None:
    config = small_config(model={"memory": {"slots": 9, "width": 4, "initial": "learned"}})
    run = new_run(tmp_path / "run", config)
    train(run, config, torch.device("cpu"), Watch())
    assert load_model(run, slots=9)[0].get_parameter("core.M0").shape == (9, 4)
    with pytest.raises(
        UsageError, match=r"--slots cannot be given: .* a row for each of its 9 slots"
    ):
        load_model(run, slots=12)
