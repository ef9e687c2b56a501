"""Imports run one way: a machine knows no experiment, an experiment no picture."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: package -> what of this project it may import, itself included
MAY_IMPORT = {
    "configs": {"configs"},
    "controllers": {"controllers"},
    "tasks": {"tasks"},
    "ntm.machine": {"ntm.machine", "ntm.errors", "ntm.files", "controllers", "tasks.base",
                    "tasks.losses"},
    "ntm.experiment": {
        "ntm.experiment", "ntm.machine", "ntm.errors", "ntm.files", "configs", "controllers",
        "tasks",
    },
    "ntm.views": {
        "ntm.views", "ntm.machine.trace", "ntm.experiment.results", "ntm.experiment.rundir",
        "ntm.errors", "ntm.files",
    },
    "ntm.files": {"ntm.files", "ntm.errors"},
    "ntm.console": {"ntm.console"},
    "ntm.errors": set(),
    "ntm.cli": {"ntm", "configs", "controllers", "tasks"},
    "ntm.tensorboard": {
        "ntm.tensorboard", "ntm.experiment", "ntm.machine", "ntm.views", "ntm.errors",
    },
    "ntm.interface": {"ntm", "controllers", "tasks"},
    "ntm.reproduce": {"ntm", "tasks"},
    "ntm.__init__": {"ntm", "tasks"},
}  # fmt: skip


def imports_of(path: Path) -> set[str]:
    """Modules of this project that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # "from ntm.machine import addressing" names a module, "from tasks import Task" a class.
            module = ROOT.joinpath(*node.module.split("."))
            for alias in node.names:
                inside = (module / f"{alias.name}.py").exists()
                names.add(f"{node.module}.{alias.name}" if inside else node.module)
    return {n for n in names if n.split(".")[0] in ("configs", "controllers", "ntm", "tasks")}


def files() -> list[Path]:
    return sorted(p for top in ("configs", "controllers", "ntm", "tasks")
                  for p in (ROOT / top).rglob("*.py"))  # fmt: skip


@pytest.mark.parametrize("path", files(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_run_one_way(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    layer = max((name for name in MAY_IMPORT if f"{module}.".startswith(f"{name}.")), key=len)
    allowed = MAY_IMPORT[layer]
    stray = {
        name
        for name in imports_of(path)
        if not any(f"{name}.".startswith(f"{package}.") for package in allowed)
    }
    assert not stray, f"{module} may not import {sorted(stray)}"
