"""Send requests to the managers of a run: cancel, retry, accept, pause, resume."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable, Sequence
from typing import NamedTuple

from build_manifest.faults import listed
from queue_manager.core.outputs import is_glob
from queue_manager.core.requests import Request
from skill.common.errors import UseError
from skill.runs import directory, requests
from skill.runs.access import Outcome
from skill.runs.directory import Document, Run
from skill.runs.open import open_run


class Changed(NamedTuple):
    """The outcome of a request, by manager. `nothing`: why there was nothing to request, where `outcomes` is empty.
    `notes`: further lines for the user."""

    run: Run
    request: Request
    outcomes: tuple[Outcome, ...] = ()
    nothing: str | None = None
    notes: tuple[str, ...] = ()


Agree = Callable[[int, int], None]
"""Receives how many jobs will be cancelled, and how many of these are running; raises to refuse."""


def check_choice(jobs: Sequence[str], phase: str | None, many: bool, option: str) -> None:
    """Raise UseError unless jobs are chosen in exactly one way: by name, by phase, or by the option `many`."""
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
    """Cancel jobs; running ones are stopped.

    `jobs`: IDs or patterns; or all open jobs of `phase`; or `everything` that has not ended. `agree` is
    asked before everything is cancelled, or a pattern or phase ends running jobs. Raises
    UseError and FailedError.
    """
    check_choice(jobs, phase, everything, "--all")
    with open_run(run) as there:
        document = there.look(full=True)
        ids = jobs_to_cancel(document, jobs, phase, everything=everything)
        request = Request(requests.new_id("cancel"), "cancel", ids)
        outcomes: list[Outcome] = []
        if ids and document["meta"]["manager"] != "finished":
            running = sum(row["status"] == "running" for row in document["jobs"] if row["id"] in set(ids))
            many = everything or ((phase is not None or any(map(is_glob, jobs))) and running)
            if many and agree is not None:
                agree(len(ids), running)
            outcomes = there.request(document, request, start=False)
        nothing = None if outcomes else "nothing to cancel: none of these jobs is running or waiting"
        return Changed(run, request, tuple(outcomes), nothing)


def jobs_to_cancel(document: Document, jobs: Sequence[str], phase: str | None, *, everything: bool) -> tuple[str, ...]:
    """Return the jobs that `cancel_jobs` means. Raises UseError."""
    if everything or phase is not None:
        return requests.select(document, (), phase, frozenset({"pending", "running", "failed_oom", "failed_other"}))
    return requests.select(document, jobs)


def retry_jobs(run: Run, jobs: Sequence[str] = (), *, phase: str | None = None, stuck: bool = False) -> Changed:
    """Give jobs new attempts: those named (IDs or patterns), those of a phase that need a person, or all stuck jobs.
    Raises UseError and FailedError."""
    check_choice(jobs, phase, stuck, "--stuck")
    with open_run(run) as there:
        document = there.look(full=True)
        ids = jobs_to_retry(document, jobs, phase, stuck=stuck)
        request = Request(requests.new_id("retry"), "retry", ids)
        if not ids:
            nothing = "nothing to retry: none of these jobs is stuck" + ("" if stuck else " or cancelled")
            return Changed(run, request, nothing=nothing)
        statuses = {row["id"]: row["status"] for row in document["jobs"] if row["id"] in set(ids)}
        if set(statuses.values()) <= {"completed", "running", "pending"}:
            raise UseError(f"nothing to retry: {listed(f'{name} is {status}' for name, status in statuses.items())}")
        return Changed(run, request, tuple(there.request(document, request, start=True)))


def jobs_to_retry(document: Document, jobs: Sequence[str], phase: str | None, *, stuck: bool) -> tuple[str, ...]:
    """Return the jobs that `retry_jobs` means. Raises UseError."""
    if jobs:
        return requests.select(document, jobs)
    again = {"stuck"} if stuck else {"stuck", "cancelled", "failed_oom", "failed_other"}
    return requests.select(document, (), phase, frozenset(again))


def accept_jobs(run: Run, jobs: Sequence[str], *, output: str | None = None, reason: str = "") -> Changed:
    """Accept the results of failed or cancelled jobs: they count as completed from now on.

    `jobs`: IDs or patterns; `output`: the file with the result of one job, instead of its expected_output; `reason`:
    recorded in the run's journal, with who accepted. Raises UseError and FailedError.
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
    """Start no new jobs; running ones continue. Raises FailedError."""
    with open_run(run) as there:
        document = there.look()
        request = Request(requests.new_id("pause"), "pause")
        if document["meta"]["manager"] == "finished":
            return Changed(run, request, nothing="has finished; nothing to pause")
        return Changed(run, request, tuple(there.request(document, request, start=False)))


def resume_run(run: Run) -> Changed:
    """Continue a paused run, and start its manager again if it died. Raises FailedError."""
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
