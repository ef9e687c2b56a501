"""One training step: clipping, the optimiser, and the weights that it is given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ntm.errors import NTMError, UsageError
from ntm.runs.folder import Checkpoint
from ntm.runs.models import load_model, load_weights, new_model
from ntm.training.optim import flatten
from ntm.training.step import build_optimizer, clip
from tests.small import new_run, small_config
from tests.training.common import OPTIMIZERS


def test_gradients_are_clipped_elementwise_or_by_norm() -> None:
    config = small_config()
    cases: list[tuple[dict[str, float], Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]] = [
        ({"value": 2.0}, lambda g, norm: g.clamp(-2, 2)),
        ({"norm": 3.0}, lambda g, norm: g * 3.0 / norm),
        ({"norm": 1e6}, lambda g, norm: g),
    ]
    for setting, expected in cases:
        parameters = flatten(new_model(config))
        before = torch.randn(parameters.shape, generator=torch.Generator().manual_seed(8)) * 4
        parameters.grad = before.clone()
        clip(parameters, small_config(train={"clip": setting}).train.clip, before.norm())
        torch.testing.assert_close(
            parameters.grad, expected(before, before.norm()), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: str(o["kind"]))
def test_the_optimizer_gets_its_settings(optimizer: dict[str, Any]) -> None:
    config = small_config(train={"optimizer": optimizer})
    built = build_optimizer(config, flatten(new_model(config)))
    settings = built.param_groups[0]
    for name, value in optimizer.items():
        if name != "kind":
            assert settings[name] == value
    assert type(built).__name__.lower() == optimizer["kind"].replace("_", "")


def test_weights_of_another_model_are_refused_by_name() -> None:
    given, own = new_model(small_config()), new_model(small_config(model={"memory": None}))
    checkpoint = Checkpoint(given.state_dict(), {}, {})
    with pytest.raises(NTMError, match=r"core\.interface\.weight has no place in this model"):
        load_weights(own, checkpoint, Path("x"))
    wide = new_model(small_config(model={"controller": {"kind": "lstm", "size": 12}}))
    with pytest.raises(
        NTMError, match=r"core\.r0|core\.controller\.h0 is \[11\], should be \[12\]"
    ):
        load_weights(wide, checkpoint, Path("x"))


def test_slots_mean_nothing_to_a_baseline(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", small_config(model={"memory": None}))
    with pytest.raises(UsageError, match="a baseline has no memory"):
        load_model(run, slots=40)
