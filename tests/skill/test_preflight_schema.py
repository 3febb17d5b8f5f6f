"""What a host tells before a run: used only where all of it is as it should be."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from queue_manager.remote import preflight
from skill.planning import preflight_schema
from tests.skill.story import job, manifest


def document() -> dict[str, Any]:
    return {
        "cwd": {"path": "/w", "there": True},
        "untried": 0,
        "cwds_missing": [{"path": "/w/x", "jobs": ["a"]}],
        "unmet": [
            {"says": "file x is not there", "cwd": "/w", "path": "/w/x", "type": "exists", "jobs": ["a"]},
            {"says": "the command failed", "cwd": "/w", "path": None, "type": "command", "jobs": ["a"]},
        ],
        "activation": {"kind": "venv", "name": ".venv", "python": "3.11", "fault": None},
        "probe": {
            "cpus": 16,
            "gpus": [{"index": 0, "uuid": "GPU-0", "name": "A100", "total_mib": None, "used_mib": 7, "new": [1]}],
        },
        "of a newer version": {"a": [1]},
    }


def test_what_fits_is_used_with_all_that_a_newer_version_adds() -> None:
    assert preflight_schema.read(json.dumps(document()).encode()) == document()


def test_what_this_machine_tells_of_itself_fits() -> None:
    sent = preflight.examine(manifest(job("a"), cwd="/"))
    assert preflight_schema.read(json.dumps(sent).encode()) == json.loads(json.dumps(sent))


@pytest.mark.parametrize(
    "damage",
    [
        lambda found: found.pop("cwd"),
        lambda found: found["cwd"].update(there="yes"),
        lambda found: found.update(untried=None),
        lambda found: found.update(cwds_missing=[{"path": "/w"}]),
        lambda found: found["cwds_missing"][0].update(jobs="a"),
        lambda found: found["unmet"][0].update(path=None),  # a file without its path
        lambda found: found["unmet"][1].update(type="exists"),
        lambda found: found["unmet"][1].update(jobs=[1]),
        lambda found: found["unmet"].append(7),
        lambda found: found["activation"].pop("fault"),
        lambda found: found["probe"].update(cpus="16"),
        lambda found: found["probe"]["gpus"][0].update(uuid=None),
        lambda found: found["probe"].update(gpus={}),
        lambda found: found["cwd"].update(path="x" * (1 << 17)),
    ],
)
def test_a_document_with_a_fault_is_none(damage: Callable[[dict[str, Any]], Any]) -> None:
    found = document()
    damage(found)
    assert preflight_schema.read(json.dumps(found).encode()) is None


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{", b"[" * 100_000, b'{"cwd": 1e999}', b"\xff"])
def test_what_is_no_document_is_none(data: bytes) -> None:
    assert preflight_schema.read(data) is None
