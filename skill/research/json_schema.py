"""The JSON Schemas of the research files, for editors: written from the columns that the parser reads. Pure."""

from __future__ import annotations

from typing import Any

from skill.common import typed_json
from skill.research.records import KINDS, Project

_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, str]:
    """The text of each schema, by file name."""
    kinds = {f"{queue}_queue.schema.json": list[kind.columns] for queue, kind in KINDS.items()}  # type: ignore[name-defined]
    return {name: _text(name, kind) for name, kind in {**kinds, "project.schema.json": Project}.items()}


def _text(name: str, kind: Any) -> str:
    found = typed_json.schema(kind)
    for record in found["$defs"].values():
        record["additionalProperties"] = False
        record["description"] = " ".join(record["description"].split())
    return typed_json.pretty({"$schema": _DRAFT, "title": name.split(".", maxsplit=1)[0].replace("_", " "), **found})
