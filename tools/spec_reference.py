"""Write docs/spec-reference.md from manifests/spec.schema.json: every key of a spec, its type, default and an example.

Run it from the repository's root: `PYTHONPATH=. python tools/spec_reference.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = ROOT / "manifests" / "spec.schema.json"
PAGE = ROOT / "docs" / "spec-reference.md"
_INTRO = """\
# Keys of a spec

Look up what a key means, what it may hold, and what holds without it. [Write a spec](spec.md) shows how they go
together.

*duration* is a number of seconds, or such as `90s`, `30m`, `2h`, `1d`. *text* also takes numbers as they are written.
Where a key may stand at several levels, the innermost one counts. Keys that begin with `x-` are yours, and ignored.
"""
_TITLES = {
    "": "At the top",
    "$defs/phase": "In a phase",
    "$defs/job": "In a template or a job",
    "$defs/range": "Values of a grid",
    "$defs/precondition": "In `preconditions`",
    "$defs/env": "In `env`",
    "properties/oom_retry": "In `oom_retry`",
    "$defs/shell": "In `shell`",
    "$defs/metric": "In `metrics`, for each number",
    "$defs/health": "In `health`",
    "$defs/health/properties/low_util": "In `low_util`",
    "$defs/bound": "In `bounds`",
    "$defs/health/properties/early_stop": "In `early_stop`",
    "$defs/rung": "In `recover`, for each rung",
    "properties/notify": "In `notify`",
}
_TYPES = {
    "string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "object": "mapping",
    "null": "null",
}  # fmt: skip
_NAMED = {
    "text": "text", "texts": "text, or a list of them", "hosts": "name, or a list of them", "seconds": "duration",
    "duration": "duration", "id": "name", "cells": "mapping of lists", "entries": "list of mappings", "env": "mapping",
    "scalar": "text, number or boolean", "preconditions": "list of mappings", "recover": "list of rungs, or `off`",
}  # fmt: skip


class Row(NamedTuple):
    """A key: the place of its object in the schema, and what is said of it there."""

    place: str
    key: str
    schema: dict[str, Any]
    required: bool


def schema() -> dict[str, Any]:
    """The JSON Schema of a spec."""
    document: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return document


def rows(document: dict[str, Any]) -> list[Row]:
    """Every key of every object. Forms of one object, of which one is chosen, have one place."""
    return [
        Row(re.sub(r"/(oneOf|anyOf|additionalProperties)\b.*", "", place), key, said, key in inner.get("required", ()))
        for place, inner in _objects(document, "")
        for key, said in inner["properties"].items()
    ]


def _objects(value: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        if isinstance(value.get("properties"), dict):
            yield place, value
        for key, inner in value.items():
            yield from _objects(inner, f"{place}/{key}".lstrip("/"))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _objects(inner, f"{place}/{number}")


def page(document: dict[str, Any]) -> str:
    """The text of the page."""
    found = rows(document)
    top = {row.key: row.schema.get("description") for row in found if not row.place}
    places = [*_TITLES, *dict.fromkeys(row.place for row in found if row.place not in _TITLES)]
    lines = [_INTRO]
    for place in places:
        lines += [
            f"## {_TITLES.get(place) or 'In `' + place.rsplit('/', maxsplit=1)[-1] + '`'}", "",
            "| key | type | default | example | what it is |", "|---|---|---|---|---|",
        ]  # fmt: skip
        shown = dict.fromkeys(_cells(row, top) for row in found if row.place == place)
        assert shown, f"there is no {place} in the schema"
        lines += [*shown, ""]
    return "\n".join(lines)


def _cells(row: Row, top: dict[str, str | None]) -> str:
    words, default = _default(row)
    if row.place and top.get(row.key) == row.schema.get("description"):
        words = "As at the top."
    (example,) = row.schema["examples"]
    cells = (f"`{row.key}`", kind(row.schema), default, f"`{_yaml(example)}`", _escaped(words))
    return f"| {' | '.join(cells)} |"


def _default(row: Row) -> tuple[str, str]:
    """The description without what it says of the default, and that."""
    text = row.schema["description"]
    if "default" in row.schema:
        return text, f"`{_yaml(row.schema['default'])}`"
    said = re.search(r"[.;]? ?\b([Aa]bsent|[Dd]efault): ([^.;]+)", text)
    if said is None:
        return text, "required" if row.required else "none"
    rest = f"{text[: said.start()]}{text[said.end() :]}".strip()
    return rest if rest.endswith(".") else f"{rest}.", _escaped(said[2])


def kind(said: dict[str, Any]) -> str:
    """The type of a value in words."""
    if "$ref" in said:
        name = said["$ref"].rsplit("/", maxsplit=1)[-1]
        referred = schema()["$defs"][name]
        return kind(referred) if "enum" in referred else _NAMED.get(name, "mapping")
    if "enum" in said or "const" in said:
        values = said.get("enum") or [said["const"]]
        return " or ".join(f"`{_yaml(value)}`" for value in values if not isinstance(value, bool))
    if "anyOf" in said and "type" not in said:
        kinds = dict.fromkeys(kind(one) for one in said["anyOf"] if one.get("$ref") != "#/$defs/substituted")
        if kinds.pop("number or true or false", None) is None or "text" not in kinds:
            return " or ".join(kinds)
        return "text"
    if said.get("type") == "array":
        return f"list of {_several(kind(said['items']))}" if "items" in said else "list"
    types = said.get("type", "string")
    return " or ".join(_TYPES[one] for one in ([types] if isinstance(types, str) else types))


def _several(name: str) -> str:
    plural = {"text": "texts", "number": "numbers", "whole number": "whole numbers", "mapping": "mappings"}
    return " or ".join(plural.get(one, one) for one in name.split(" or "))


def _yaml(value: Any) -> str:
    """A value as YAML on one line, in a cell of a table."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False)
    text = text.removesuffix("\n").removesuffix("\n...").replace("|", "\\|")
    return re.sub(r"'(on|off)'", r"\1", text)  # which a spec may say without quotes


def _escaped(text: str) -> str:
    return re.sub(r"([*|<])", r"\\\1", text)


if __name__ == "__main__":
    PAGE.write_text(page(schema()), encoding="utf-8")
