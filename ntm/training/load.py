"""YAML and ``--set`` -> a typed, validated, frozen :class:`Config`, and back."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

import configs
from ntm.errors import UsageError
from ntm.files import user_path
from ntm.training import family
from ntm.training.dialect import apply_setting, read_yaml, split_setting
from ntm.training.messages import validate
from ntm.training.schema import Config, Member, config_adapter, member_adapter
from tasks import Task


def load_config(source: str | Path, settings: Iterable[str] = ()) -> Config:
    """The config in a file, or the shipped one of this name (``copy/ntm-lstm``), with settings.

    FAMILY:MODEL is one model of a family, such as ``compare/copy:lstm``. Settings are applied
    before the size of its controller is chosen, so that it keeps within the budget.
    """
    path, name = find_config(source)
    raw = read_yaml(path)
    if name is not None:
        raw = family.member(raw, name, str(source).rpartition(":")[0])
    elif family.is_family(raw):
        names = ", ".join(family.members(raw, str(source)))
        raise UsageError(
            f"{source}: is a family of models; train one with {source}:MODEL, or all with "
            f"ntm sweep {source}. Its models are {names}"
        )
    elif "variants" in raw:
        raise UsageError(f"{source}: is a study; ntm sweep {source} runs it")
    for setting in settings:
        apply_setting(raw, *split_setting(setting))
    if name is None:
        return validate(config_adapter(), raw, str(path))
    return _sized(validate(member_adapter(), raw, f"{path}:{name}"), raw, f"{path}:{name}")


def _sized(given: Member, raw: dict[str, Any], source: str) -> Config:
    """An ordinary config, in which the size of the controller is resolved."""
    values = {field.name: getattr(given, field.name) for field in dataclasses.fields(Config)}
    if given.parameters is not None and "size" not in raw["model"]["controller"]:
        try:
            values["model"] = family.fit(given.model, given.task, given.parameters)
        except UsageError as error:
            raise UsageError(f"{source}: {error}") from None
    return Config(**values)


def expand(source: str) -> list[str]:
    """The configs that a CONFIG argument stands for: all models of a family, or the one config."""
    path, name = find_config(source)
    raw = read_yaml(path)
    if name is not None or not family.is_family(raw):
        return [source]
    return [f"{source}:{name}" for name in family.members(raw, source)]


def short_name(source: str) -> str:
    """The name of a config in the folder of its runs."""
    path, name = find_config(source)
    return path.stem if name is None else name


def usual_folder(source: str, task: Task) -> Path:
    """The default folder of runs of a config, below ``runs``."""
    path, name = find_config(source)
    return Path(task.kind) / (path.stem if name is None else f"{path.stem}-{name}")


def parse_config(raw: dict[str, Any], source: str) -> Config:
    """A config from plain data; ``source`` is what an error message names."""
    return validate(config_adapter(), raw, source)


def find_config(source: str | Path) -> tuple[Path, str | None]:
    """The file that a CONFIG argument names, and the model in it if it is FAMILY:MODEL."""
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
        if (path := user_path(source)).is_file():
            return path
    return configs.FOLDER / f"{source}.yaml" if source in _shipped() else None


def _shipped() -> list[str]:
    return [*configs.shipped_configs(), *configs.shipped_families(), *configs.shipped_studies()]


def dump_config(config: Config) -> str:
    """The config as YAML with all defaults; ``load_config`` reads an equal one from it."""
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def to_dict(config: Config) -> dict[str, Any]:
    """The config as plain data."""
    data: dict[str, Any] = config_adapter().dump_python(config, mode="json")
    return data
