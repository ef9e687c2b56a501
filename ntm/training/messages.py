"""Plain data -> validated settings; what is wrong with them, one line each."""

from __future__ import annotations

import difflib
import json
import re
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ntm.errors import UsageError

_T = TypeVar("_T")


def validate(adapter: TypeAdapter[_T], raw: Any, source: str, prefix: str = "") -> _T:
    """Validated as JSON: there lists may stand for tuples, and nothing else is converted."""
    try:
        text = json.dumps(raw, default=str)
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
        if not present and kind not in ("missing", "missing_argument"):
            continue
        path.append(str(part))
        known, others = here.get("properties", {}), here.get("additionalProperties") or {}
        if kind in ("extra_forbidden", "unexpected_keyword_argument") and not (
            part in known or others
        ):
            near = difflib.get_close_matches(str(part), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the keys here are {', '.join(known)}"
            return f"{'.'.join(path)}: no such key; {hint}"
        node = node.get(part) if isinstance(node, dict) else None
        here = _resolve(known.get(part, others), schema, node)
    key = ".".join(path)

    if kind in ("missing", "missing_argument"):
        return f"{key}: is missing"
    if kind == "union_tag_not_found":
        return f"{key}.kind: is missing; should be one of {_tags(here)}"
    if kind == "union_tag_invalid":
        tags = context["expected_tags"].replace("'", "")
        near = difflib.get_close_matches(str(context["tag"]), tags.split(", "), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{key}.kind: {context['tag']!r} is not one of {tags}{hint}"
    if kind == "value_error":
        message = str(context["error"])
        separator = "." if re.match(r"[a-z_.]+: ", message) else ": "  # names one of its keys
        return f"{key}{separator}{message}" if key else message
    message = error["msg"].replace("Input should be", "should be")
    return f"{key}: {message}, not {json.dumps(error['input'], default=str)}"


def _resolve(node: dict[str, Any], root: dict[str, Any], raw: Any) -> dict[str, Any]:
    """The part of a JSON schema that describes ``raw``: follows references and chosen unions."""
    if "$ref" in node:
        return _resolve(root["$defs"][node["$ref"].rsplit("/", 1)[-1]], root, raw)
    if "discriminator" in node and isinstance(raw, dict):
        kind = raw.get("kind")
        reference = node["discriminator"]["mapping"].get(kind) if isinstance(kind, str) else None
        return _resolve({"$ref": reference}, root, raw) if reference else node
    for choice in node.get("anyOf", []):
        if "$ref" in choice:
            return _resolve(choice, root, raw)
    return node


def _tags(node: dict[str, Any]) -> str:
    return ", ".join(node.get("discriminator", {}).get("mapping", {}))
