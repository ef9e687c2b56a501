"""What the shell completes: names of configs, and folders of runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from glob import escape, glob

# The command line imports this before it knows that ``configs`` is ours, so functions import that.

#: Folders that are looked into for runs: a key press should be answered at once.
FOLDERS = 2000


def trainable(incomplete: str) -> list[str]:
    """Configs that a run can be trained with: shipped ones, models of families, YAML files."""
    from configs import shipped_configs, shipped_families

    names = shipped_configs()
    if incomplete.startswith("compare/"):
        names += [f"{family}:{model}" for family in shipped_families() for model in _models(family)]
    return [*_beginning(names, incomplete), *_files(incomplete)]


def configs(incomplete: str) -> list[str]:
    """Everything that a sweep takes."""
    from configs import shipped_configs, shipped_families, shipped_studies

    names = [*shipped_configs(), *shipped_families(), *shipped_studies()]
    return [*_beginning(names, incomplete), *_files(incomplete)]


def runs(incomplete: str) -> list[str]:
    """Folders of runs, below ``runs`` where nothing has been typed yet."""
    starts = glob(f"{escape(incomplete)}*") if incomplete else ["runs"]
    return sorted(run for start in starts for run in _runs_below(start))


def _runs_below(start: str) -> Iterator[str]:
    for count, (folder, inside, files) in enumerate(os.walk(start)):
        if count == FOLDERS:
            return
        if "config.yaml" in files:
            inside.clear()
            yield folder


def _models(family: str) -> list[str]:
    import yaml

    from configs import FOLDER

    with (FOLDER / f"{family}.yaml").open(encoding="utf-8") as stream:
        return list(yaml.safe_load(stream)["models"])


def _beginning(names: list[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _files(incomplete: str) -> list[str]:
    """YAML files, and folders in which there may be some."""
    found = sorted(glob(f"{escape(incomplete)}*" if incomplete else "*.yaml"))
    folders = [f"{name}/" for name in found if os.path.isdir(name)]
    return [name for name in found if name.endswith((".yaml", ".yml"))] + folders
