"""The JSON Schemas of the research files and their parser judge alike, by the columns of one table."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from skill.research.json_schema import schemas
from skill.research.record_faults import columns, queue_faults, record_faults
from skill.research.records import KINDS, Project, Record
from tools.research_schemas import FOLDER

TIME = "2026-01-31T12:00:00Z"
WHOLE: dict[str, Record] = {
    "idea": {"id": "moons-i1", "project": "moons", "text": "t", "state": "open", "created": TIME},
    "benchmark": {"id": "moons-b1", "project": "moons", "text": "t", "state": "open", "created": TIME},
    "run": {
        "id": "moons-r1", "project": "moons", "command": "c", "priority": 0, "state": "pending", "created": TIME,
        "gpus": 0, "params": {"seed": "1"}, "metrics": {"loss": {"json": "out.json", "key": "loss"}},
    },
    "publication": {"id": "moons-p1", "project": "moons", "title": "t", "state": "draft", "created": TIME},
}  # fmt: skip
PROJECT: Record = {"id": "moons", "title": "t", "idea": "i", "target": "t", "metric": "m", "created": TIME}


def by_schema(name: str, document: Any) -> bool:
    return Draft202012Validator(json.loads(schemas()[name])).is_valid(document)


def test_the_files_are_what_the_columns_say() -> None:
    there = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}
    assert there == schemas(), "run: PYTHONPATH=. python tools/research_schemas.py"


def test_every_column_says_what_it_is() -> None:
    kinds = [*(kind.columns for kind in KINDS.values()), Project]
    assert [name for kind in kinds for name, column in columns(kind).items() if not column.says] == []


def broken(record: Record) -> list[Record]:
    """The record with each of its columns missing, of another type, empty and misspelt."""
    found = []
    for key in record:
        rest = {name: value for name, value in record.items() if name != key}
        found += [
            rest,
            *({**rest, key: value} for value in (None, 3.5, [1], "", {"a": 1}, "ä ö")),
            {**rest, f"{key}x": 1},
        ]
    return found


@pytest.mark.parametrize("queue", KINDS)
def test_parser_and_schema_of_a_queue_agree(queue: str) -> None:
    name, kind, record = f"{queue}_queue.schema.json", KINDS[queue].columns, WHOLE[queue]
    assert by_schema(name, [record])
    assert list(queue_faults([record], kind)) == []
    assert list(queue_faults([], kind)) == []
    documents: list[Any] = [{}, "x", [3]]
    for wrong in documents:
        assert not by_schema(name, wrong)
        assert list(queue_faults(wrong, kind)) != []
    judged = [(one, by_schema(name, [one]), list(queue_faults([one], kind)) == []) for one in broken(record)]
    assert [one for one, schema, parser in judged if schema != parser] == []
    assert {schema for _, schema, _ in judged} == {True, False}


def test_parser_and_schema_of_a_project_agree() -> None:
    assert by_schema("project.schema.json", PROJECT)
    assert list(record_faults(PROJECT, Project)) == []
    judged = [
        (one, by_schema("project.schema.json", one), list(record_faults(one, Project)) == []) for one in broken(PROJECT)
    ]
    assert [one for one, schema, parser in judged if schema != parser] == []
