"""The dialect of YAML in configs, and settings given as ``--set key=value``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from ntm.errors import UsageError


class Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number, as in YAML 1.2, and duplicate keys are an error."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                None, None, "aliases are not allowed in a config", self.get_mark()
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} should be a name", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key} appears twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _number(loader: Loader, node: yaml.ScalarNode) -> float:
    """A float, or an int where it is a whole number: 1e5 is one, wherever one is asked for."""
    value = float(loader.construct_yaml_float(node))
    return int(value) if value.is_integer() and abs(value) < 2**63 else value


Loader.add_constructor("tag:yaml.org,2002:float", _number)

#: Besides syntax errors: numbers of thousands of digits, impossible dates, deep nesting.
_NOT_YAML = (yaml.YAMLError, ValueError, OverflowError, RecursionError)

Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """The data of a YAML file. Raises UsageError if it is not valid."""
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is not a text file") from None
    except _NOT_YAML as error:
        raise UsageError(f"{path}: {_yaml_problem(error)}") from None
    if not isinstance(raw, dict):
        raise UsageError(f"{path}: should hold the keys task, model and train")
    return raw


def _yaml_problem(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return (
            f"is not valid YAML: {error.problem} (line {mark.line + 1}, column {mark.column + 1})"
        )
    if isinstance(error, yaml.reader.ReaderError):
        return f"is not UTF-8 text: a config cannot hold the character {chr(error.character)!a}"
    return f"is not valid YAML: {error}"


def split_setting(setting: str) -> tuple[str, Any]:
    """``"train.batch=4"`` -> ``("train.batch", 4)``."""
    key, equals, value = setting.partition("=")
    if not (key and equals):
        raise UsageError(f"--set {setting}: should be key=value, such as train.batch=4")
    try:
        return key, yaml.load(value, Loader)  # noqa: S506 - a SafeLoader
    except _NOT_YAML as error:
        raise UsageError(f"--set {setting}: {_yaml_problem(error)}") from None


def apply_setting(raw: dict[str, Any], key: str, value: Any) -> None:
    """Sets a dotted key in nested data."""
    *parents, last = key.split(".")
    for parent in parents:
        if raw.get(parent) is None:
            raw[parent] = {}
        raw = raw[parent]
        if not isinstance(raw, dict):
            raise UsageError(f"--set {key}: {parent} is a single value and has no keys")
    raw[last] = value
