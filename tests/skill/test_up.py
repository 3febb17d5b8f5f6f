"""What `up` says of a machine that ended before all had are pulled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skill.operations import up
from skill.runs import assignment, pulled_states
from skill.runs.assignment import Assigned, Part
from skill.runs.directory import Run

ROW = {"bound": None, "plan": "keep", "reason": "its jobs are running"}
UNKNOWN = "not by its manager, as far as is known; a higher bid or an account without credit can cause this"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (ROW, UNKNOWN),
        (None, UNKNOWN),
        ({**ROW, "bound": "it has cost its $2.00"}, "it has cost its $2.00"),
        ({**ROW, "plan": "stop", "reason": "no job ran for 20m"}, "no job ran for 20m"),
    ],
)
def test_only_a_manager_that_wanted_the_end_is_named_as_its_reason(
    row: dict[str, Any] | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.at(tmp_path / "demo-1")
    run.root.mkdir()
    part = Part("vast1", ("a",))
    assignment.write(run, Assigned("demo-1", "demo", "0" * 64, "2026-01-01T00:00:00.000Z", "/", (part,)))
    monkeypatch.setattr(pulled_states, "documents", lambda *_: {"vast1": {"meta": {"teardown": row}}})
    assert up._why_stopped(run, "vast1") == says
