"""What a config can name, and the configs that are shipped: what ``ntm list`` prints."""

from __future__ import annotations

from dataclasses import dataclass

from configs import describe, shipped_configs, shipped_families, shipped_studies
from ntm import registry


@dataclass(frozen=True)
class Kinds:
    """What a config can name, and the shipped configs with their descriptions."""

    tasks: list[str]
    controllers: list[str]
    memories: list[str]
    configs: dict[str, str]
    families: dict[str, str]
    studies: dict[str, str]
    problems: list[str]  # a line for each plugin that cannot be used


def kinds() -> Kinds:
    """What a config can name, plugins included, and the configs that are shipped."""
    return Kinds(
        **registry.kinds(),
        configs={name: describe(name) for name in shipped_configs()},
        families={name: describe(name) for name in shipped_families()},
        studies={name: describe(name) for name in shipped_studies()},
        problems=registry.troubles(),
    )
