"""Plain data -> validated settings, or one line for each problem with them."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ntm import registry
from ntm.errors import UsageError
from ntm.training.settings import plain

#: Old key -> new key. Keys of a task may also stand in validation.task and train.curriculum.task.
RENAMED = {
    "model.form": "model.direction",
    "model.memory.first": "model.memory.initial",
    "task.hard": "task.hard_fraction",
    "train.clip.weights": "train.clip.weighting_grad",
    "train.curriculum.below": "train.curriculum.advance_bits",
    "train.lost": "train.rollback_factor",
    "train.schedule.below": "train.schedule.trigger_bits",
    "train.schedule.over": "train.schedule.decay_sequences",
    "train.segment": "train.recompute_every",
}

_MISSING = ("missing", "missing_argument")

_T = TypeVar("_T")


def validate(adapter: TypeAdapter[_T], raw: Any, source: str, prefix: str = "") -> _T:
    """Validates plain data as JSON, in which lists stand for tuples and nothing else is converted.

    source: what an error message names. prefix: the key that ``raw`` is the value of.
    Raises UsageError with a line for each problem.
    """
    try:
        text = json.dumps(raw, default=plain, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        found = ascii(error.object[error.start])
        raise UsageError(
            f"{source}: is not UTF-8 text: a config cannot hold the character {found}"
        ) from None
    except (ValueError, RecursionError):
        raise UsageError(
            f"{source}: holds a number that is too long, or is nested too deeply"
        ) from None
    try:
        return adapter.validate_json(text)
    except UsageError as error:  # of validation.task
        problems = str(error).splitlines()
        raise UsageError("\n".join([f"{source}:", *(f"  {p}" for p in problems)])) from None
    except ValidationError as error:
        schema = adapter.json_schema()
        problems = [_problem(e, raw, schema, prefix) for e in error.errors()]
        if prefix:
            raise UsageError("\n".join(problems)) from None
        raise UsageError("\n".join([f"{source}:", *(f"  {p}" for p in problems)])) from None


def _problem(error: Any, raw: Any, schema: dict[str, Any], prefix: str) -> str:
    """One line on one error: the key, and what would be right."""
    kind, context = error["type"], error.get("ctx", {})
    # pydantic names the chosen member of a union in the path; a user does not write it.
    path: list[str] = [prefix] if prefix else []
    node, here = raw, _resolve(schema, schema, raw)
    for part in error["loc"]:
        present = isinstance(node, dict) and part in node
        if isinstance(part, int):
            path[-1] += f"[{part}]"
            continue
        if not present and (part is not error["loc"][-1] or kind not in _MISSING):
            continue
        path.append(str(part))
        known, others = here.get("properties", {}), here.get("additionalProperties") or {}
        if kind in ("extra_forbidden", "unexpected_keyword_argument") and not (
            part in known or others
        ):
            return _unknown_key(".".join(path), str(part), known)
        node = node.get(part) if isinstance(node, dict) else None
        here = _resolve(known.get(part, others), schema, node)
    key = ".".join(path)

    if kind in _MISSING:
        return f"{key}: is missing"
    if kind == "union_tag_not_found":
        known = here.get("discriminator", {}).get("mapping", {})
        return f"{key}.kind: is missing; should be one of {', '.join(known)}"
    if kind == "union_tag_invalid":
        known = context["expected_tags"].replace("'", "").split(", ")
        return f"{key}.kind: {registry.unknown_kind(str(context['tag']), known)}"
    if kind == "value_error":
        message = str(context["error"])
        separator = "." if re.match(r"[a-z_.]+: ", message) else ": "  # names one of its keys
        return f"{key}{separator}{message}" if key else message
    message = error["msg"].replace("Input should be", "should be")
    return f"{key}: {message}, not {json.dumps(error['input'], default=str)}"


def _unknown_key(key: str, name: str, known: Iterable[str]) -> str:
    for old, new in RENAMED.items():
        if key == old or (old.startswith("task.") and key.endswith(f".{old}")):
            return f"{key}: is now called {key.removesuffix(old)}{new}"
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the keys here are {', '.join(known)}"
    return f"{key}: no such key; {hint}"


def _resolve(node: dict[str, Any], root: dict[str, Any], raw: Any) -> dict[str, Any]:
    """The node of a JSON schema that describes ``raw``: follows references and chosen unions."""
    if "$ref" in node:
        return _resolve(root["$defs"][node["$ref"].rsplit("/", 1)[-1]], root, raw)
    if "discriminator" in node and isinstance(raw, dict):
        kind = raw.get("kind", node["discriminator"].get("default"))
        reference = node["discriminator"]["mapping"].get(kind) if isinstance(kind, str) else None
        return _resolve({"$ref": reference}, root, raw) if reference else node
    for choice in node.get("anyOf", []):
        if "$ref" in choice or "discriminator" in choice:
            return _resolve(choice, root, raw)
    return node
