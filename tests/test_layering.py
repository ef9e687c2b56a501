"""Imports run one way, between files: nothing imports what imports it, at any distance."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOPS = ("configs", "controllers", "ntm", "tasks")

#: What a package may import of this project, beside itself. Applications are ``ntm.api``,
#: ``ntm.cli``, ``ntm.reproduce`` and the watchers: they may import everything that is below them.
MAY_IMPORT = {
    "configs": set(),
    "controllers": {"ntm.registry"},
    "tasks": {"ntm.registry"},
    "ntm.registry": {"ntm.errors"},
    "ntm.memory": {"controllers", "ntm.errors", "ntm.files"},
    "ntm.kernels": {"controllers", "ntm.errors", "ntm.memory"},
}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def files() -> dict[str, Path]:
    """Every module of this project, by its name."""
    return {module_of(p): p for top in TOPS for p in sorted((ROOT / top).rglob("*.py"))}


def imports_of(path: Path) -> set[str]:
    """Modules of this project that a file imports: anywhere in it, for types only too."""
    known, names = files(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # "from ntm.memory import addressing" names a module, "from tasks import Task" a class.
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                names.add(inside if inside in known else node.module)
    return names & known.keys() - {module_of(path)}


def test_no_file_imports_in_a_circle() -> None:
    graph = {name: imports_of(path) for name, path in files().items()}
    done: set[str] = set()
    circles: list[str] = []

    def visit(name: str, above: list[str]) -> None:
        if name in above:
            circles.append(" -> ".join([*above[above.index(name) :], name]))
        elif name not in done:
            for other in sorted(graph[name]):
                visit(other, [*above, name])
            done.add(name)

    sys.setrecursionlimit(10_000)
    for name in graph:
        visit(name, [])
    assert not circles, "\n".join(circles)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_what_is_below_knows_nothing_of_what_is_above(package: str) -> None:
    allowed = {package, *MAY_IMPORT[package]}
    stray = {
        f"{name} imports {other}"
        for name, path in files().items()
        if f"{name}.".startswith(f"{package}.")
        for other in imports_of(path)
        if not any(f"{other}.".startswith(f"{one}.") for one in allowed)
    }
    assert not stray, sorted(stray)
