"""Numbers that stop being finite while a model is trained."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from ntm.analysis.evaluate import evaluate
from ntm.errors import NTMError
from ntm.model import Model
from ntm.runs.folder import Checkpoint, RunDir
from ntm.runs.models import load_weights, new_model
from ntm.training import loop
from ntm.training.schema import Config
from tests.small import Watch, new_run, small_config, train
from tests.training.common import CPU, stop_after


def broken(config: Config, tmp_path: Path, poison: Callable[[RunDir], None]) -> str:
    run = new_run(tmp_path / "run", config)
    train(run, config, CPU, Watch(), should_stop=stop_after(4))
    poison(run)
    before = run.last_file.read_bytes()
    with pytest.raises(NTMError) as caught:
        train(run, config, CPU, Watch(), resume=True)
    assert run.last_file.read_bytes() == before
    return str(caught.value)


def poison_weight(name: str, value: float) -> Callable[[RunDir], None]:
    def poison(run: RunDir) -> None:
        weights, optimizer, state = run.load_checkpoint()
        weights[name].view(-1)[0] = value
        run.save_checkpoint(Checkpoint(weights, optimizer, state))

    return poison


def test_a_loss_that_is_not_finite_says_where_it_arose(tmp_path: Path) -> None:
    poison = poison_weight("core.interface.bias", math.nan)  # the first number of a key
    message = broken(small_config(), tmp_path, poison)
    assert "is not finite; it arose in key at time step 0" in message
    assert "the checkpoint of 12 sequences is kept" in message
    assert "train.optimizer.lr" in message


def test_a_loss_of_a_baseline_that_is_not_finite(tmp_path: Path) -> None:
    message = broken(
        small_config(model={"memory": None}), tmp_path, poison_weight("readout.bias", math.nan)
    )
    assert "the loss is not finite; it arose in outputs at time step 0" in message


def test_the_checkpoint_that_is_kept_is_good_when_training_diverges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ntm.training import loop as module

    monkeypatch.setattr(module, "learning_rate", lambda _, p: 1e-3 if p.sequences < 18 else 3e37)
    config = small_config(
        train={"checkpoint_every": 1}, validation={"every": 1, "episodes": 2}, engine="reference"
    )
    run = new_run(tmp_path / "run", config)
    with pytest.raises(NTMError, match="is not finite; it arose in"):
        train(run, config, CPU, Watch())
    kept = run.load_checkpoint()
    assert kept.state["progress"]["sequences"] == 18
    model = new_model(config)
    load_weights(model, kept, run.last_file)
    assert math.isfinite(evaluate(model, config.task, 5).summary()["bits"])
    assert all(math.isfinite(row["bits"]) for row in run.rows(run.validation_file))
    assert all(tensor.isfinite().all() for tensor in run.load_best().weights.values())


def overflowing(config: Config, times: float) -> Model:
    """A model whose gradient overflows in its first so many steps."""
    model, left = new_model(config), itertools.count(times, -1)
    model.readout.bias.register_hook(lambda grad: grad * math.inf if next(left) > 0 else grad)
    return model


def test_a_gradient_that_is_never_finite_names_the_parameters(tmp_path: Path) -> None:
    config = small_config(engine="reference")  # autograd calls the hook
    run = new_run(tmp_path / "run", config)
    with pytest.raises(NTMError, match=r"the gradient is not finite; it arose in readout\.bias"):
        loop.train(run, config, overflowing(config, math.inf), Watch())
    assert run.load_checkpoint().state["progress"]["sequences"] == 0


def test_a_gradient_that_overflows_once_is_left_out(tmp_path: Path) -> None:
    config = small_config(engine="reference", train={"report_every": 6})  # two steps of 3
    run = new_run(tmp_path / "run", config)
    loop.train(run, config, overflowing(config, 1), Watch())
    rows = run.rows(run.metrics_file)
    assert [row["skipped"] for row in rows] == [3] + [0] * 9
    assert all(math.isfinite(row["grad_norm"]) and row["grad_norm"] > 0 for row in rows)
