"""The JSON Schemas against the parser: the same keys, the same verdict on every shape."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from build_manifest import SpecErrors, build
from build_manifest.faults import Faults
from build_manifest.forms import JOB_KEYS, OOM_RETRY_KEYS, PHASE_KEYS, PRECONDITION_KEYS, TOP_KEYS
from build_manifest.nodes import ListNode, MapNode, Node
from build_manifest.spec import read
from build_manifest.values import as_json
from queue_manager.core.manifest import JobSpec, Manifest, OomRetry, Phase, Precondition, encode
from tests.build.test_examples import COUNTS, MANIFESTS
from tests.build.test_specs import BAD, GOOD

SPEC = json.loads((MANIFESTS / "spec.schema.json").read_text())
MANIFEST = json.loads((MANIFESTS / "manifest.schema.json").read_text())
SPECS = Draft202012Validator(SPEC)
MANIFESTS_OF = Draft202012Validator(MANIFEST)

NOT_STRUCTURAL = {
    "cards", "circle_of_both", "circle_of_itself", "circle_of_jobs", "circle_of_phases", "depends_on",
    "duplicate_ids", "duplicate_key", "expression_attribute", "expression_fails", "expressions", "launcher",
    "match_key", "match_value", "no_cards", "notify_hook", "numbers_from_grid", "paths", "recover_places",
    "too_large", "undefined", "unsafe_ids",
}  # fmt: skip
"""What a schema cannot see: which launchers there are, whether names are there, expressions run, a path has a secret in
it, and keys are written twice."""

SHAPES = [
    path
    for path in BAD
    if path.stem not in NOT_STRUCTURAL and not path.stem.startswith(("yaml_", "json_", "list", "noth"))
]


def _document(path: Path) -> Any:
    """A spec as an editor sees it."""
    return _json(read(Faults(path.name, path.read_text(encoding="utf-8"))))


def _json(node: Node) -> Any:
    if isinstance(node, MapNode):
        return {key.text: _json(value) for key, value in node.entries}
    if isinstance(node, ListNode):
        return [_json(item) for item in node.items]
    return as_json(node.text, node.plain)


def _parses(document: Any) -> bool:
    try:
        build(json.dumps(document), "s.json")
    except SpecErrors:
        return False
    return True


def test_the_schemas_are_schemas() -> None:
    Draft202012Validator.check_schema(SPEC)
    Draft202012Validator.check_schema(MANIFEST)


def test_the_spec_schema_has_the_parsers_keys() -> None:
    assert set(SPEC["properties"]) == set(TOP_KEYS)
    assert set(SPEC["properties"]["oom_retry"]["properties"]) == set(OOM_RETRY_KEYS)
    assert set(SPEC["$defs"]["phase"]["properties"]) == set(PHASE_KEYS)
    assert set(SPEC["$defs"]["job"]["properties"]) == set(JOB_KEYS)
    found = {}
    for one in SPEC["$defs"]["precondition"]["oneOf"]:
        kind = one["properties"]["type"]
        found.update({name: set(one["properties"]) for name in kind.get("enum", [kind.get("const")])})
    assert found == {kind: set(keys) for kind, keys in PRECONDITION_KEYS.items()}


def test_every_key_of_the_spec_is_described() -> None:
    for place in (SPEC, SPEC["$defs"]["phase"], SPEC["$defs"]["job"]):
        assert [key for key, value in place["properties"].items() if not value.get("description")] == []


def test_the_manifest_schema_has_the_manifests_fields() -> None:
    properties = MANIFEST["properties"]
    assert set(properties) == {"format", "version", *Manifest._fields}
    assert set(properties["jobs"]["items"]["properties"]) == set(JobSpec._fields)
    assert set(properties["phases"]["items"]["properties"]) == set(Phase._fields)
    assert set(properties["oom_retry"]["properties"]) == set(OomRetry._fields)
    preconditions = properties["jobs"]["items"]["properties"]["preconditions"]["items"]["properties"]
    assert set(preconditions) == set(Precondition._fields)


@pytest.mark.parametrize("path", [*GOOD, *(MANIFESTS / f"{name}.yaml" for name in COUNTS)], ids=lambda path: path.stem)
def test_a_good_spec_and_its_manifest_are_valid(path: Path) -> None:
    SPECS.validate(_document(path))
    manifest = build(path.read_text(encoding="utf-8"), path.name).manifest
    MANIFESTS_OF.validate(json.loads(encode(manifest)))


@pytest.mark.parametrize("path", SHAPES, ids=lambda path: path.stem)
def test_a_bad_shape_is_refused_by_both(path: Path) -> None:
    """That the parser refuses it is shown where its messages are."""
    assert not SPECS.is_valid(_document(path))


def test_each_exception_is_still_a_case() -> None:
    assert {path.stem for path in BAD} >= NOT_STRUCTURAL


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _places(inner, (*path, number))


def _with(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with the value at `path` replaced; left out, where the value is `...`."""
    if not path:
        return value
    changed = copy.deepcopy(document)
    at = changed
    for key in path[:-1]:
        at = at[key]
    if value is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return changed


FREE = ("grid", "zip", "include", "exclude", "env", "args", "metrics")
"""Mappings whose keys are the writer's."""
BASES = ["phases", "everything", "jobs_args", "zip_include", "match_groups", "notify"]


@pytest.mark.parametrize("name", BASES)
def test_an_unknown_key_is_refused_by_both_wherever_it_stands(name: str) -> None:
    document = _document(next(path for path in GOOD if path.stem == name))
    for path in _places(document):
        value = document
        for key in path:
            value = value[key]
        if isinstance(value, dict) and not set(path) & set(FREE):
            changed = _with(document, path, {**value, "zzz": 1})
            assert not SPECS.is_valid(changed), path
            assert not _parses(changed), path


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("wrong", [{"zzz": {"y": 1}}, [["zzz"]], None, -1.5, [], ""], ids=repr)
def test_what_the_schema_refuses_the_parser_refuses(name: str, wrong: Any) -> None:
    """A value of the wrong type at every place, one at a time. (The other way round the parser may know more.)"""
    document = _document(next(path for path in GOOD if path.stem == name))
    refused = 0
    for path in _places(document):
        changed = _with(document, path, copy.deepcopy(wrong))
        if not SPECS.is_valid(changed):
            refused += 1
            assert not _parses(changed), path
    assert refused > 5


@pytest.mark.parametrize("name", BASES)
def test_a_mapping_is_refused_by_both_where_a_value_is_meant(name: str) -> None:
    document = _document(next(path for path in GOOD if path.stem == name))
    for path in _places(document):
        if "metrics" not in path and path and path[-1] not in FREE:
            changed = _with(document, path, {"zzz": {"y": 1}})
            assert not SPECS.is_valid(changed), path
            assert not _parses(changed), path


@pytest.mark.parametrize("name", BASES)
def test_a_key_left_out_is_judged_alike(name: str) -> None:
    """The parser may miss a name that is still used; what the schema requires it requires too."""
    document = _document(next(path for path in GOOD if path.stem == name))
    for path in _places(document):
        if path and isinstance(path[-1], str):
            changed = _with(document, path, ...)
            if not SPECS.is_valid(changed):
                assert not _parses(changed), path
            if path[-1] in ("project", "name", "template", "phases"):
                assert not SPECS.is_valid(changed), path
