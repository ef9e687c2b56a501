"""YAML and ``--set`` -> a typed, validated, frozen :class:`Config`, and back."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

import configs
from ntm.errors import UsageError
from ntm.training import family
from ntm.training.dialect import apply_setting, read_yaml, split_setting
from ntm.training.messages import validate
from ntm.training.schema import Config, Member
from tasks import Task

_CONFIG: TypeAdapter[Config] = TypeAdapter(Config)
_MEMBER: TypeAdapter[Member] = TypeAdapter(Member)


def load_config(source: str | Path, settings: Iterable[str] = ()) -> Config:
    """The config at a path, or of a shipped name (``copy/ntm-lstm``), with settings applied.

    One of a family is FAMILY:MODEL, such as ``compare/copy:lstm``. Settings are applied before its
    controller's size is chosen, so that it keeps to the budget whatever they are.
    """
    path, name = find_config(source)
    raw = read_yaml(path)
    if name is not None:
        raw = family.member(raw, name, str(source).rpartition(":")[0])
    elif family.is_family(raw):
        names = ", ".join(family.members(raw, str(source)))
        raise UsageError(
            f"{source}: is a family; {source}:MODEL is one of it, and ntm sweep {source} runs them "
            f"all. Its models are {names}"
        )
    elif "variants" in raw:
        raise UsageError(f"{source}: is a study; ntm sweep {source} runs it")
    for setting in settings:
        apply_setting(raw, *split_setting(setting))
    if name is None:
        return validate(_CONFIG, raw, str(path))
    return _sized(validate(_MEMBER, raw, f"{path}:{name}"), raw, f"{path}:{name}")


def _sized(given: Member, raw: dict[str, Any], source: str) -> Config:
    """An ordinary config, in which the size of the controller is a number."""
    values = {field.name: getattr(given, field.name) for field in dataclasses.fields(Config)}
    if given.parameters is not None and "size" not in raw["model"]["controller"]:
        try:
            values["model"] = family.fit(given.model, given.task, given.parameters)
        except UsageError as error:
            raise UsageError(f"{source}: {error}") from None
    return Config(**values)


def expand(source: str) -> list[str]:
    """The configs that a CONFIG argument stands for: of a family, all of it."""
    path, name = find_config(source)
    raw = read_yaml(path)
    if name is not None or not family.is_family(raw):
        return [source]
    return [f"{source}:{name}" for name in family.members(raw, source)]


def short_name(source: str) -> str:
    """A config's name as the folder of its runs."""
    path, name = find_config(source)
    return path.stem if name is None else name


def usual_folder(source: str, task: Task) -> Path:
    """Where runs of a config are, below ``runs``; a family's models have a folder of their own."""
    path, name = find_config(source)
    return Path(task.kind) / (path.stem if name is None else f"{path.stem}-{name}")


def parse_config(raw: dict[str, Any], source: str) -> Config:
    """A config from plain data; ``source`` is what an error message names."""
    return validate(_CONFIG, raw, source)


def find_config(source: str | Path) -> tuple[Path, str | None]:
    """The file that a CONFIG argument means, and the model in it where it says FAMILY:MODEL."""
    if path := _file(str(source)):
        return path, None
    text, colon, name = str(source).rpartition(":")
    if colon and (path := _file(text)):
        return path, name
    shipped = _shipped()
    near = difflib.get_close_matches(text or name, shipped, n=1, cutoff=0.5)
    meant = f"{near[0]}:{name}" if near and colon else near[0] if near else ""
    hint = f"did you mean {meant}?" if near else "ntm list shows the shipped ones"
    raise UsageError(f"{source}: no such file, and no shipped config of that name; {hint}")


def _file(source: str) -> Path | None:
    """The file of this name, or of the shipped config, family or study of this name."""
    with contextlib.suppress(OSError, ValueError):  # a name that no file system takes
        if Path(source).is_file():
            return Path(source)
    return configs.FOLDER / f"{source}.yaml" if source in _shipped() else None


def _shipped() -> list[str]:
    return [*configs.shipped_configs(), *configs.shipped_families(), *configs.shipped_studies()]


def dump_config(config: Config) -> str:
    """The config as YAML, every setting resolved; ``load_config`` gives back an equal one."""
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def to_dict(config: Config) -> dict[str, Any]:
    """The config as plain data."""
    data: dict[str, Any] = _CONFIG.dump_python(config, mode="json")
    return data
