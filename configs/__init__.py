"""The shipped configs: ``<task>/<model>.yaml``, trained by ``ntm train <task>/<model>``.

And what ``ntm sweep`` runs: families, ``compare/<task>.yaml``, are many models in one file;
studies, ``study/<name>.yaml``, are variants of a config over many seeds, with tests of each run.
"""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

FOLDER = Path(__file__).parent


def shipped_configs() -> list[str]:
    """Their names, which ``ntm.training.load.find_config`` takes."""
    return [name for name in _names() if not name.startswith(("compare/", "study/"))]


def shipped_families() -> list[str]:
    """The names of the families, which it takes as well."""
    return [name for name in _names() if name.startswith("compare/")]


def shipped_studies() -> list[str]:
    """The names of the studies, which ``ntm.runs.study.find_study`` takes."""
    return [name for name in _names() if name.startswith("study/")]


def _names() -> list[str]:
    files = FOLDER.glob("*/*.yaml")
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in files)


def describe(name: str) -> str:
    """The first sentence of the comment that a config or a family begins with."""
    lines = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    comment = " ".join(line.lstrip("# ") for line in takewhile(lambda s: s.startswith("#"), lines))
    return comment.partition(". ")[0].removesuffix(".") + "."
