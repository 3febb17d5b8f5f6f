"""Ask the managers of a run for something: cancel, retry, accept, pause, resume."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable, Sequence
from typing import NamedTuple

from build_manifest.faults import listed
from queue_manager.core.requests import Request
from skill.common.errors import UseError
from skill.runs import directory, requests
from skill.runs.access import Outcome
from skill.runs.directory import Run
from skill.runs.open import open_run


class Changed(NamedTuple):
    """What became of a request at each manager that it is for.

    `outcomes` is empty where there was nothing to ask, and `nothing` then says why. `notes`: what else a person should
    know, in lines.
    """

    run: Run
    request: Request
    outcomes: tuple[Outcome, ...] = ()
    nothing: str | None = None
    notes: tuple[str, ...] = ()


Agree = Callable[[int, int], None]
"""Is told how many jobs are to be cancelled, and how many of them run; raises where that is not to be."""


def check_choice(jobs: Sequence[str], phase: str | None, many: bool, option: str) -> None:
    """Raise UseError unless jobs are chosen in one way: by name, by phase, or by the option that means `many`."""
    if bool(jobs) + (phase is not None) + many != 1:
        raise UseError(f"give JOB..., or --phase PHASE, or {option}")


def cancel_jobs(
    run: Run,
    jobs: Sequence[str] = (),
    *,
    phase: str | None = None,
    everything: bool = False,
    agree: Agree | None = None,
) -> Changed:
    """Take jobs out of a run; running ones are ended.

    `jobs`: ids or patterns; or all open jobs of a phase; or `everything` that has not ended, after `agree`. Raises
    UseError and FailedError.
    """
    check_choice(jobs, phase, everything, "--all")
    with open_run(run) as there:
        document = there.look(full=True)
        if everything or phase is not None:
            is_open = frozenset({"pending", "running", "failed_oom", "failed_other"})
            ids = requests.select(document, (), phase, is_open)
        else:
            ids = requests.select(document, jobs)
        request = Request(requests.new_id("cancel"), "cancel", ids)
        outcomes: list[Outcome] = []
        if ids and document["meta"]["manager"] != "finished":
            if everything and agree is not None:
                agree(len(ids), document["counts"].get("running", 0))
            outcomes = there.request(document, request, start=False)
        nothing = None if outcomes else "nothing to cancel: none of these jobs is running or waiting"
        return Changed(run, request, tuple(outcomes), nothing)


def retry_jobs(run: Run, jobs: Sequence[str] = (), *, phase: str | None = None, stuck: bool = False) -> Changed:
    """Give jobs a fresh set of attempts: those named (ids or patterns), or all of a phase that need a person, or all
    that are stuck. Raises UseError and FailedError."""
    check_choice(jobs, phase, stuck, "--stuck")
    with open_run(run) as there:
        document = there.look(full=True)
        if jobs:
            ids = requests.select(document, jobs)
        else:
            again = {"stuck"} if stuck else {"stuck", "cancelled", "failed_oom", "failed_other"}
            ids = requests.select(document, (), phase, frozenset(again))
        request = Request(requests.new_id("retry"), "retry", ids)
        if not ids:
            nothing = "nothing to retry: none of these jobs is stuck" + ("" if stuck else " or cancelled")
            return Changed(run, request, nothing=nothing)
        statuses = {row["id"]: row["status"] for row in document["jobs"] if row["id"] in set(ids)}
        if set(statuses.values()) <= {"completed", "running", "pending"}:
            raise UseError(f"nothing to retry: {listed(f'{name} is {status}' for name, status in statuses.items())}")
        return Changed(run, request, tuple(there.request(document, request, start=True)))


def accept_jobs(run: Run, jobs: Sequence[str], *, output: str | None = None, reason: str = "") -> Changed:
    """Take the results of jobs that failed or were cancelled as they are: they count as completed from now on.

    `jobs`: ids or patterns; `output`: the file that is the result of one job, in place of its expected_output;
    `reason`: kept in the run's journal, with who accepted. Raises UseError and FailedError.
    """
    with open_run(run) as there:
        document = there.look(full=True)
        ids = requests.select(document, jobs)
        if output is not None and len(ids) != 1:
            raise UseError(f"--output is for one job, but {len(ids)} were given: accept them one by one")
        changes = {} if output is None else {ids[0]: {"expected_output": output}}
        by = f"{getpass.getuser()}@{socket.gethostname()}"
        request = Request(requests.new_id("accept"), "accept", ids, changes=changes, by=by, reason=reason)
        return Changed(run, request, tuple(there.request(document, request, start=True)))


def pause_run(run: Run) -> Changed:
    """Let running jobs go on, and start no new one. Raises FailedError."""
    with open_run(run) as there:
        document = there.look()
        request = Request(requests.new_id("pause"), "pause")
        if document["meta"]["manager"] == "finished":
            return Changed(run, request, nothing="has finished; nothing to pause")
        return Changed(run, request, tuple(there.request(document, request, start=False)))


def resume_run(run: Run) -> Changed:
    """Let a paused run go on, and start its manager again if it has died. Raises FailedError."""
    with open_run(run) as there:
        is_begun = there.begin()
        document = there.look()
        request = Request(requests.new_id("resume"), "resume")
        notes: tuple[str, ...] = ()
        if is_begun:
            notes = tuple(directory.start_notices(document["meta"]["conditions"]))
            if not document["meta"]["paused"]:
                return Changed(run, request, nothing="resumed", notes=notes)
        if document["meta"]["manager"] == "finished":
            again = f"wavequeue retry JOB --run {run.id}"
            nothing = f"has finished; nothing to resume. Run jobs again with: {again}"
            return Changed(run, request, nothing=nothing, notes=notes)
        return Changed(run, request, tuple(there.request(document, request, start=True)), notes=notes)
