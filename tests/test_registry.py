"""Kinds registered from Python, and by which names they are handed on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import torch
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from controllers.base import STRICT, ControllerConfig, Core
from controllers.gru import GRUConfig
from ntm import registry
from ntm.errors import UsageError
from ntm.registry import CONTROLLERS, TASKS, Kinds, Registry, register, require_importable
from tasks.base import Task
from tasks.copy import Copy

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class WiderConfig(GRUConfig):
    kind: Literal["wider"] = "wider"  # type: ignore[assignment]
    size: int = 300


def small_registry() -> Registry[ControllerConfig]:
    return Registry(
        "controller",
        "none_are_installed",
        "controllers.base:ControllerConfig",
        {"gru": "controllers.gru:GRUConfig"},
        requires=("name",),
    )


def test_what_is_registered_can_be_chosen_from_then_on() -> None:
    kinds = small_registry()
    assert dict(kinds) == {"gru": GRUConfig}
    before = kinds.version
    kinds.add(WiderConfig)
    assert kinds.version > before
    assert list(kinds) == ["gru", "wider"]

    def read(raw: dict[str, Any]) -> Any:
        return TypeAdapter(Annotated[ControllerConfig, Kinds(kinds, default="gru")]).validate_json(
            json.dumps(raw)
        )

    assert read({"kind": "wider", "layers": 2}) == WiderConfig(layers=2)
    assert read({"layers": 2}) == GRUConfig(layers=2)
    kinds.add(WiderConfig)  # once more, as a notebook's cell that runs again
    assert list(kinds) == ["gru", "wider"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OtherConfig(GRUConfig):
    kind: Literal["wider"] = "wider"  # type: ignore[assignment]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class KindlessConfig(ControllerConfig):
    def layer(self, input_size: int, generator: torch.Generator) -> Core:
        raise NotImplementedError


@dataclass(kw_only=True, config=STRICT)
class ThawedTask(Task):
    kind: Literal["thawed"] = "thawed"


class Undecorated(GRUConfig):
    kind: Literal["undecorated"] = "undecorated"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (OtherConfig, "tests.test_registry:WiderConfig already has the kind 'wider'"),
        (KindlessConfig, "it should have the kind"),
        (Undecorated, "it should be a pydantic dataclass"),
        (Copy, "it should be a class that derives from controllers.base.ControllerConfig"),
    ],
)
def test_a_class_that_cannot_be_registered_is_refused(cls: Any, message: str) -> None:
    kinds = small_registry()
    kinds.add(WiderConfig)
    with pytest.raises(UsageError, match="cannot be registered") as caught:
        kinds.add(cls)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert dict(kinds) == {"gru": GRUConfig, "wider": WiderConfig}


def test_settings_are_frozen() -> None:
    tasks: Registry[Any] = Registry("task", "none_are_installed", "tasks.base:Task", {})
    with pytest.raises(UsageError, match=r"it should be frozen: @dataclass\(frozen=True"):
        tasks.add(ThawedTask)


def test_register_refuses_what_is_no_kind_of_anything() -> None:
    others: list[Any] = [int, GRUConfig(), None]
    for cls in others:
        with pytest.raises(UsageError, match="derives from Task, ControllerConfig, MemoryConfig"):
            register(cls)
    assert registry.registered() == []


#: A class of a module, and one of the script itself, registered after the first config was read.
SCRIPT_THAT_REGISTERS = """
from typing import Literal
from pydantic.dataclasses import dataclass
import ntm
from controllers.base import STRICT
from controllers.rnn import RNNConfig
from ntm import registry
from ntm.errors import UsageError
from ntm.training.load import load_config

load_config("copy/ntm-lstm")
import mine

@ntm.register
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Here(RNNConfig):
    kind: Literal["here"] = "here"

assert registry.registered() == ["mine:Mine"]
for kind in ("mine", "here"):
    config = load_config("copy/ntm-lstm", [f"model.controller={{kind: {kind}, size: 7}}"])
    assert config.model.controller == {"mine": mine.Mine, "here": Here}[kind](size=7)
registry.require_importable(config.task, mine.Mine(), config.model.memory, None)
try:
    registry.require_importable(config.model.controller)
except UsageError as error:
    print(error)
"""


MINE = """
from typing import Literal
from pydantic.dataclasses import dataclass
from controllers.base import STRICT
from controllers.rnn import RNNConfig
from ntm.registry import register

@register
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Mine(RNNConfig):
    kind: Literal["mine"] = "mine"
"""


CHILD = """
from ntm import registry
from ntm.training.load import load_config
registry.register_from("mine:Mine")
print(load_config("copy/lstm", ["model.controller={kind: mine}"]).model.controller.size)
"""


def test_a_class_registered_from_python_reaches_another_process_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)

    def run(script: str) -> str:
        file = tmp_path / "script.py"
        file.write_text(script)
        done = subprocess.run(
            [sys.executable, file], check=False, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run(SCRIPT_THAT_REGISTERS) == (
        "Here: was defined in __main__ and cannot be imported from there by another process: put "
        "it into a module of its own\n"
    )
    assert run(CHILD) == "100\n"


def test_only_what_another_process_can_import_is_handed_on() -> None:
    @dataclass(frozen=True, kw_only=True, config=STRICT)
    class Local(GRUConfig):
        kind: Literal["local"] = "local"  # type: ignore[assignment]

    require_importable(GRUConfig(), Copy(), WiderConfig())
    with pytest.raises(UsageError, match=r"Local: was defined in tests\.test_registry and cannot"):
        require_importable(Copy(), Local())


def test_every_kind_is_found_under_its_own_name() -> None:
    for kinds in (TASKS, CONTROLLERS, registry.MEMORIES):
        for kind, cls in kinds.items():
            assert cls.kind == kind
            assert kinds._problem(cls, kind) is None
