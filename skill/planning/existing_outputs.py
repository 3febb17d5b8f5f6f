"""Outputs that exist before a run starts: how many, and which jobs count as done by them. Pure.

A job counts as done if its output is newer than the code, and was made by the command that the spec has now: it is
newer than the spec, or the newest run before it had the job with the same command.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from build_manifest.faults import listed
from queue_manager.core.manifest import JobSpec, Manifest
from queue_manager.core.requests import Request, encode_request
from queue_manager.core.terminal_text import one_line
from queue_manager.core.times import iso
from skill.common.errors import FailedError
from skill.common.units import jobs_text
from skill.runs import live_runs
from skill.runs.live_runs import LiveRun

REQUEST = "skip-done"
"""Id of the request that tells a run's manager which jobs count as done."""


class Found(NamedTuple):
    """A machine's report. `outputs`: when each job's output last changed, epoch seconds by job id, of those that are
    there. `untried`: how many were not looked for. `newest_code`: the source file changed last and when, if it was
    asked for and can be told; its path is empty where there is no source file. `live_unknown`: runs of which it is
    unknown whether they continue, and why."""

    outputs: Mapping[str, float]
    untried: int
    live: tuple[LiveRun, ...]
    newest_code: tuple[str, float] | None = None
    live_unknown: tuple[str, ...] = ()
    newest_code_fault: str = ""


class Earlier(NamedTuple):
    """An earlier run. `at`: when its manifest was written, epoch seconds."""

    at: float
    manifest: Manifest


class Skips(NamedTuple):
    """`done`: ids of jobs that count as done. `old_code`, `old_spec`: ids of jobs whose output is older than the code,
    or may have been made by another command."""

    done: tuple[str, ...]
    old_code: tuple[str, ...]
    old_spec: tuple[str, ...]


def read(document: Mapping[str, Any]) -> Found | None:
    """Read what queue_manager.remote.preflight reported; None where it reported nothing of this (older versions), or an
    invalid value."""
    try:
        found = document["existing"]
        outputs = {str(job): float(at) for job, at in found["outputs"]}
        code = document.get("newest_code")
        newest = None if code is None else (str(code["path"]), float(code["at"]))
        why = one_line(str(document.get("newest_code_fault", "")), 300)
        unknown = tuple(one_line(str(text), 300) for text in found.get("live_unknown", ()))
        return Found(outputs, int(found["outputs_untried"]), tuple(live_runs.read(found["live"])), newest, unknown, why)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def skips(
    jobs: Iterable[JobSpec], found: Found, code: tuple[str, float], spec_at: float, before: Sequence[Earlier]
) -> Skips:
    """Decide about each output that is there. `code`: the source file that was changed last, and when; `spec_at`: when
    the spec was; `before`: earlier runs, newest first. All in epoch seconds by the clock of the outputs."""
    made = [(run.at, {job.id: job for job in run.manifest.jobs}) for run in before]
    done, old_code, old_spec = [], [], []
    for job in jobs:
        at = found.outputs.get(job.id)
        if at is None:
            continue
        if at <= code[1]:
            old_code.append(job.id)
        elif at > spec_at or _is_vouched(job, at, made):
            done.append(job.id)
        else:
            old_spec.append(job.id)
    return Skips(tuple(done), tuple(old_code), tuple(old_spec))


def _is_vouched(job: JobSpec, at: float, made: Sequence[tuple[float, Mapping[str, JobSpec]]]) -> bool:
    """Whether the newest run before the output that had the job had it with the same command."""
    for begun, jobs in made:
        other = jobs.get(job.id)
        if begun < at and other is not None:
            return (job.cmd, job.env, job.cwd, job.expected_output) == (
                other.cmd, other.env, other.cwd, other.expected_output,
            )  # fmt: skip
    return False


def newest_code(found: Found) -> tuple[str, float]:
    """Return the source file that changed last. Raises FailedError where it is unknown."""
    if found.newest_code is None:
        why = found.newest_code_fault or "there are too many source files, or the file system is slow"
        raise FailedError(
            f"it is unknown when the code was last changed ({why}), so existing outputs cannot be used; leave out "
            "--skip-done"
        )
    return found.newest_code


def request_text(jobs: Sequence[str]) -> str:
    """Return the file of the request that tells a manager of them."""
    return encode_request(Request(REQUEST, "skip", tuple(jobs)))


def words(found: Found, jobs: Iterable[JobSpec], where: str = "here") -> list[str]:
    """Describe existing outputs where no option was given about them, a line for each point."""
    expected = [job.id for job in jobs if job.expected_output is not None]
    count = sum(name in found.outputs for name in expected)
    lines = []
    if count:
        exist, they = ("exists", "its job runs") if count == 1 else ("exist", "their jobs run")
        lines.append(
            f"{count} of {len(expected)} outputs already {exist} {where}, and {they} anyway; --skip-done runs no "
            "job whose output is newer than the code, --again runs all without this warning"
        )
    if found.untried:
        lines.append(f"{found.untried} outputs were not checked {where}: the file system is slow")
    return lines


def skip_words(found: Skips, code: tuple[str, float]) -> list[str]:
    """Describe what --skip-done decided about existing outputs, a line for each kind."""
    lines = [f"{_jobs(found.done)} not run, since the output already exists"] if found.done else []
    if found.done and not code[0]:
        lines.append("there is no source file in the cwd, so these outputs were compared with the spec alone")
    if found.old_code:
        lines.append(f"{_jobs(found.old_code)} run: the output is older than {code[0]}, changed at {iso(code[1])}")
    if found.old_spec:
        lines.append(
            f"{_jobs(found.old_spec)} run: the spec was changed since, and no earlier run shows the same command"
        )
    return lines or ["no output is there yet: all jobs run"]


def _jobs(ids: Sequence[str]) -> str:
    return f"{jobs_text(len(ids))} ({listed(ids, 3)})"
