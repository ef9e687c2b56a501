"""Folders of the user's that have the names of our packages, and are found in their place."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

from ntm.errors import ShadowedPackageError

#: The top-level packages that belong to this one, beside it in the same folder.
PACKAGES = ("configs", "controllers", "tasks")


def check_packages() -> None:
    """Raises ShadowedPackageError where Python finds another ``tasks`` and so on than ours."""
    ours = Path(__file__).resolve().parents[1]
    for name in PACKAGES:
        found = _location(_find(name))
        if found is not None and found != (ours / name).resolve():
            raise ShadowedPackageError(
                f"{found}: is in the way of this program's own package {name}: Python finds it "
                f"first; rename it, or start Python in another folder"
            )


def _find(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ValueError:  # a module in sys.modules that was not imported from a file
        return getattr(sys.modules[name], "__spec__", None)


def _location(spec: ModuleSpec | None) -> Path | None:
    """The folder of a package, or the file of a module."""
    if spec is None:
        return None
    for folder in spec.submodule_search_locations or ():
        return Path(folder).resolve()
    return Path(spec.origin).resolve() if spec.origin else None
