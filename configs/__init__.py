"""The shipped configs: ``<task>/<model>.yaml``, trained by ``ntm train <task>/<model>``."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def shipped_configs() -> list[str]:
    """Their names, which ``ntm.experiment.config.find_config`` takes."""
    files = FOLDER.glob("*/*.yaml")
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in files)


def describe(name: str) -> str:
    """What the config's first line says of it."""
    first = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ")
