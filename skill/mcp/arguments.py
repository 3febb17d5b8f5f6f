"""The arguments of tools, which are also their JSON Schemas, and what is wrong with some, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from build_manifest.faults import nearest
from skill.common.errors import UseError

RunName = Annotated[str | None, Field(description="Name of a run, its beginning, or its directory; absent: the newest")]
Page = Annotated[int, Field(ge=1, description="Which page, where the answer says that there are more")]


class Arguments(BaseModel):
    """The arguments of one tool; others are refused."""

    model_config = ConfigDict(extra="forbid")


def schema(model: type[Arguments]) -> dict[str, Any]:
    """Return the JSON Schema of a tool's arguments, as short as can be."""
    found: dict[str, Any] = _plain(model.model_json_schema())
    found.pop("description", None)
    return found


def read(model: type[Arguments], given: Mapping[str, Any]) -> Arguments:
    """Return the arguments of a tool. Raises UseError for each that is wrong."""
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        raise UseError("; ".join(dict.fromkeys(_faults(model, error)))) from None


def _faults(model: type[Arguments], error: ValidationError) -> Iterator[str]:
    for fault in error.errors():
        place = [str(part) for part in fault["loc"]]
        name = ".".join(place) or "the arguments"
        if fault["type"] == "extra_forbidden":
            close = nearest(place[-1], _names(model, place))
            yield f"there is no argument {name}" + (f"; did you mean {close}?" if close else "")
        elif fault["type"] == "missing":
            yield f"the argument {name} is missing"
        elif fault["type"].startswith("union_tag"):
            yield f"{name}.change has to be one of: {fault.get('ctx', {}).get('expected_tags', 'see the schema')}"
        else:
            given = json.dumps(fault["input"], default=str)
            yield f"{name}: {fault['msg'].lower()}, not {given if len(given) < 60 else given[:57] + '...'}"


def _names(model: type[Arguments], place: list[str]) -> list[str]:
    """The names of arguments at a place, as far as the model itself says."""
    if len(place) == 1:
        return list(model.model_fields)
    variants = getattr(model, "variants", {})
    return list(variants[place[1]].model_fields) if len(place) > 1 and place[1] in variants else []


_LEFT_OUT = ("title", "default", "discriminator")


def _plain(value: Any) -> Any:
    """Return a part of a schema without what says nothing to who fills it in."""
    if isinstance(value, list):
        return [_plain(one) for one in value if one != {"type": "null"}]
    if not isinstance(value, dict):
        return value
    found = {key: _plain(one) for key, one in value.items() if key not in _LEFT_OUT or isinstance(one, dict)}
    found.pop("discriminator", None)
    options = found.get("anyOf")
    if isinstance(options, list) and len(options) == 1:  # the other one was: not given
        found = {**found.pop("anyOf")[0], **found}
    return found
