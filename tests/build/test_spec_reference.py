"""docs/spec-reference.md: a row for each key of the schema, with an example that a spec may hold and a true default."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from build_manifest import build
from queue_manager.core.manifest import Manifest, encode
from tools import spec_reference

SCHEMA = spec_reference.schema()
ROWS = spec_reference.rows(SCHEMA)
ARGS = {"lr": "1e-3", "seed": 2, "N": 384, "batch_size": 8}
BASE: dict[str, Any] = {"project": "p", "default_cmd": "true", "jobs": [{"id": "a", "args": ARGS}]}
GRID = ("grid", "zip", "exclude", "include")
NOT_ALONE = {"conda_hook": {"conda": "dllm"}, "results_to": {"when_done": "destroy"}}
"""What a key needs beside it."""


def test_the_page_is_what_the_schema_says() -> None:
    assert spec_reference.PAGE.read_text(encoding="utf-8") == spec_reference.page(SCHEMA), (
        "run: PYTHONPATH=. python tools/spec_reference.py"
    )


def test_every_key_has_a_row_with_an_example_and_a_description() -> None:
    assert [(row.place, row.key) for row in ROWS if len(row.schema.get("examples", ())) != 1] == []
    assert [(row.place, row.key) for row in ROWS if not row.schema.get("description")] == []
    text = spec_reference.PAGE.read_text(encoding="utf-8")
    assert [row.key for row in ROWS if f"\n| `{row.key}` |" not in text] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.place}/{row.key}")
def test_examples_and_defaults_are_values_of_the_key(row: spec_reference.Row) -> None:
    validator = Draft202012Validator({**row.schema, "$defs": SCHEMA["$defs"]})
    for value in (*row.schema["examples"], *([row.schema["default"]] if "default" in row.schema else [])):
        validator.validate(value)


def _built(spec: dict[str, Any]) -> Manifest:
    return build(json.dumps(spec), "s.json").manifest


def _spec(row: spec_reference.Row, value: Any) -> dict[str, Any]:
    """A spec whose top, phase or job has this value of the key."""
    if row.place == "$defs/job":
        job = {"id": "x", "cmd": "true ${lr}", "args": {"lr": 1}} if row.key == "cmd" else {"id": "x", "args": ARGS}
        other = {"id": "teacher_N384", "cmd": "true"}
        return {"project": "p", "default_cmd": "true", "jobs": [other, {**job, row.key: value}]}
    if row.key in ("jobs", "phases"):
        around: dict[str, Any] = {}
    elif row.key in (*GRID, "template", "match"):
        grid = {} if row.key == "zip" else {"grid": {"lr": ["1e-3", "1e-2"], "seed": "0..4", "N": [384]}}
        grid = {"grid": {"lr": ["1e-3", "1e-2"], "seed": "0..4"}} if row.key in ("exclude", "include") else grid
        around = {**grid, "template": {"cmd": "true"}}
    else:
        around = {"jobs": BASE["jobs"]}
    if not row.place:
        return {"project": "p", "default_cmd": "true", **around, **NOT_ALONE.get(row.key, {}), row.key: value}
    first = {"name": "train_teachers", "grid": {"N": [384]}, "template": {"cmd": "true"}}
    after = {"depends_on": "train_teachers"} if row.key == "match" else {}
    phase = {"name": "x", **around, **after, row.key: value}
    return {"project": "p", "default_cmd": "true", "phases": [first, phase]}


PLACED = [row for row in ROWS if row.place in ("", "$defs/phase", "$defs/job")]


@pytest.mark.parametrize("row", PLACED, ids=lambda row: f"{row.place}/{row.key}")
def test_a_spec_may_hold_the_example(row: spec_reference.Row) -> None:
    (example,) = row.schema["examples"]
    assert _built(_spec(row, example)).jobs


@pytest.mark.parametrize(
    "row", [row for row in PLACED if "default" in row.schema], ids=lambda row: f"{row.place}/{row.key}"
)
def test_a_default_is_what_holds_without_the_key(row: spec_reference.Row) -> None:
    given = _spec(row, row.schema["default"])
    (example,) = row.schema["examples"]
    without = {**given, "jobs": [{k: v for k, v in job.items() if k != row.key} for job in given["jobs"]]}
    without = {key: value for key, value in without.items() if row.place or key != row.key}
    assert _comparable(_built(given)) == _comparable(_built(without))
    assert _comparable(_built(_spec(row, example))) != _comparable(_built(without)), "the key says something"


INNER: dict[str, tuple[str, dict[str, Any]]] = {
    "properties/oom_retry": ("oom_retry", {}),
    "$defs/shell": ("shell", {}),
    "$defs/rung": ("recover", {"run": "true"}),
}


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if row.place in INNER and "default" in row.schema],
    ids=lambda row: f"{row.place}/{row.key}",
)
def test_so_is_the_default_of_an_inner_key(row: spec_reference.Row) -> None:
    (example,) = row.schema["examples"]
    key, beside = INNER[row.place]

    def of(more: dict[str, Any]) -> Any:
        value = {**beside, **more}
        return _comparable(_built({**BASE, key: value}))

    assert of({row.key: row.schema["default"]}) == of({})
    assert of({row.key: example}) != of({})


def _comparable(manifest: Manifest) -> Any:
    return json.loads(encode(manifest))
