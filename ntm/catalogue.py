"""What a config can name, and the configs that are shipped: what ``ntm list`` prints."""

from __future__ import annotations

from dataclasses import dataclass

from configs import describe, shipped_configs, shipped_families, shipped_studies
from controllers import CONTROLLERS
from tasks import TASKS


@dataclass(frozen=True)
class Kinds:
    """What a config can name, and the shipped configs with their descriptions."""

    tasks: list[str]
    controllers: list[str]
    configs: dict[str, str]
    families: dict[str, str]
    studies: dict[str, str]


def kinds() -> Kinds:
    """What a config can name, and the configs that are shipped."""
    return Kinds(
        sorted(TASKS),
        sorted(CONTROLLERS),
        {name: describe(name) for name in shipped_configs()},
        {name: describe(name) for name in shipped_families()},
        {name: describe(name) for name in shipped_studies()},
    )
