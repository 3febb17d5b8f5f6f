"""Whether a host still has something to do for a run, by what was written down and what it says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from skill.hosts import bootstrap
from skill.hosts.bootstrap import Facts, Python
from skill.hosts.connection import Host, Unreachable
from skill.hosts.registry import Worker
from skill.runs import assignment, remote
from skill.runs.assignment import LOST, SUBMITTED, Assigned, Part
from skill.runs.directory import Run

NEVER = Part("gpu-a", ("j1",))
PLACED = NEVER._replace(host_id="0" * 32, python="/usr/bin/python3", runtime="r")
PYTHON = Python("3.11.2", "/usr/bin/python3")
BARE = Facts("/root", PYTHON, "", "x86_64", None, None, 900, True, None, frozenset(), None, None, ended=False)
HELD = BARE._replace(manifest_sha256="0" * 64)
GONE = Unreachable("it refused the connection", "refused")


@pytest.mark.parametrize(
    ("part", "facts", "unfinished"),
    [
        (NEVER, GONE, False),  # the submit ended before anything was brought there
        (PLACED, BARE, False),  # it ended before the run was placed
        (PLACED, GONE, True),
        (PLACED, HELD, True),
        (PLACED, BARE._replace(manager_pid=7), True),
        (PLACED._replace(state=SUBMITTED), BARE, True),  # its directory has gone: how it ended is not known
        (PLACED._replace(state=SUBMITTED), HELD._replace(ended=True), False),
        (PLACED._replace(state=SUBMITTED), HELD, True),
        (PLACED._replace(state=LOST), GONE, False),
    ],
)
def test_a_run_that_was_never_brought_to_a_host_holds_nothing_there(
    part: Part, facts: Facts | Unreachable, unfinished: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.at(tmp_path / "demo-1")
    run.root.mkdir()
    assignment.write(run, Assigned("demo-1", "demo", "0" * 64, "2026-01-01T00:00:00.000Z", "/", (part,)))
    monkeypatch.setattr(bootstrap, "facts", lambda *_: facts)
    host = Host(Worker("gpu-a"), tmp_path / "known_hosts")
    assert remote.is_unfinished(run, host) is unfinished
