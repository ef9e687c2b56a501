"""What is installed is what is in the repository."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("configs", "controllers", "ntm", "tasks")


def files(folder: Path) -> set[str]:
    """All files of our packages below a folder."""
    return {
        path.relative_to(folder).as_posix()
        for package in PACKAGES
        for path in (folder / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_a_wheel_has_every_module_config_and_template(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for package in PACKAGES:  # a build leaves files behind
        shutil.copytree(
            ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index",
         "--no-build-isolation", "--disable-pip-version-check", "--wheel-dir", tmp_path, source],
        check=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == files(source)
    wanted = {"configs/copy/ntm-lstm.yaml", "ntm/py.typed", "ntm/registry.py"}
    assert wanted < packed
    assert any(name.endswith(".jinja") for name in packed)
