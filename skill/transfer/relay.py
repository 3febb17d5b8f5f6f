"""Relay outputs between hosts: what jobs on one host need from jobs on another is sent there by way of this machine,
once it has been pulled.

A job that waits for another host's waits for a mark (see `assignment.marks`): a file that is made on its host after all
that it stands for has been put there. Killed in between, it is all done again, and does no harm.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from build_manifest.faults import listed
from queue_manager.core import transfer_protocol
from queue_manager.core.manifest import JobSpec, Manifest
from skill.common.files import make_directory, write_whole
from skill.hosts import code_push
from skill.hosts.connection import Host, Unreachable
from skill.runs import assignment
from skill.runs.assignment import LOST, SUBMITTED, Assigned, Mark, Part
from skill.runs.directory import Document, Run
from skill.runs.path_map import map_paths
from skill.transfer.code_files import NEVER
from skill.transfer.local_store import look
from skill.transfer.pull import Turn

_DONE = "carried"
Say = Callable[[str], None]


class Relayed(NamedTuple):
    """What was done for one mark of host `dst`: `files` were brought there; `fault` says what is in the way."""

    dst: str
    jobs: tuple[str, ...]
    files: int = 0
    fault: str | None = None


class _Ready(NamedTuple):
    """The files that a mark stands for, by the directory here that they lie in; or why they cannot go."""

    files: Mapping[Path, Sequence[str]] = {}
    fault: str | None = None


def relay_inputs(
    run: Run,
    found: Assigned,
    manifest: Manifest,
    hosts: Mapping[str, Host],
    turns: Mapping[str, Turn],
    states: Mapping[str, Document],
    say: Say = lambda _text: None,
) -> list[Relayed]:
    """Send to each host what its jobs wait for and has been pulled, and create the marks.

    `turns`: the pulls that were just made: only to a host that was reached by one, and so is known to be the one that
    it was, is anything brought. `states`: see `pulled_states.documents`. Raises OSError.
    """
    specs = {spec.id: spec for spec in manifest.jobs}
    owners = {job: part for part in found.parts for job in part.own()}
    completed = {
        row["id"]
        for host, state in states.items()
        for row in state["jobs"]
        if row["status"] == "completed" and row["id"] in owners and owners[row["id"]].host == host
    }
    done = []
    for part in found.parts:
        turn, host = turns.get(part.host), hosts.get(part.host)
        if part.state != SUBMITTED or turn is None or not turn.whole or host is None:
            continue
        for mark in assignment.marks(manifest, part, run.id):
            record = assignment.host_folder(run, part.host) / _DONE / posixpath.basename(mark.path)
            if record.exists() or not completed.issuperset(mark.jobs):
                continue
            away = [(specs[job], owners[job]) for job in mark.jobs if owners[job].host != part.host]
            ready = _ready(run, found, manifest, away, turns)
            relayed = _bring(host, part, map_paths(run, found, manifest, part).there, mark, ready, say)
            if relayed.fault is None:
                make_directory(record.parent)
                write_whole(record, "")
            done.append(relayed)
    return done


def _ready(
    run: Run, found: Assigned, manifest: Manifest, jobs: Iterable[tuple[JobSpec, Part]], turns: Mapping[str, Turn]
) -> _Ready:
    """Tell whether the outputs of completed jobs are here, the same as on their hosts."""
    by_part: dict[str, tuple[Part, dict[str, str]]] = {}
    for spec, part in jobs:
        patterns = by_part.setdefault(part.host, (part, {}))[1]
        if spec.expected_output is None:
            continue
        pattern = map_paths(run, found, manifest, part).output(spec)
        if pattern is None:
            return _Ready(
                fault=f"{spec.expected_output} of {spec.id} is outside of the code's directory; put it inside"
            )
        patterns[pattern] = spec.id
    files: dict[Path, list[str]] = {}
    for part, patterns in by_part.values():
        fault = _not_as_there(part, patterns, turns.get(part.host))
        if fault is not None:
            return _Ready(fault=fault)
        here = map_paths(run, found, manifest, part).here
        names = look(here, tuple(patterns), NEVER).files
        missing = [job for pattern, job in patterns.items() if pattern not in names and not _finds(pattern, names)]
        if missing:
            return _Ready(fault=f"what {listed(missing, 5)} wrote is not here")
        files.setdefault(here, []).extend(names)
    return _Ready(files)


def _finds(pattern: str, names: Iterable[str]) -> bool:
    return any(transfer_protocol.asked_for(pattern, name) for name in names)


def _not_as_there(part: Part, patterns: Mapping[str, str], turn: Turn | None) -> str | None:
    """Say why the files here may differ from what a host's jobs wrote; None if they do not."""
    if part.state == LOST:
        return None  # what had come of it before it was given up was verified then
    if turn is None or not turn.whole:
        return f"{part.host} has not been pulled just now"
    got = turn.received
    if got.more:
        return f"too many files of {part.host} were not pulled; see which with: wavequeue pull --host {part.host}"
    for name in (*got.kept, *(name for name, _ in got.refused), *got.later):
        job = next((job for pattern, job in patterns.items() if transfer_protocol.asked_for(pattern, name)), None)
        if job is not None:
            why = f"is newer here than on {part.host}" if name in got.kept else f"could not be pulled from {part.host}"
            return f"{name} of {job} {why}"
    return None


def _bring(host: Host, part: Part, there: str, mark: Mark, ready: _Ready, say: Say) -> Relayed:
    """Write the files on a host, and then the mark."""
    if ready.fault is not None:
        return Relayed(part.host, mark.jobs, fault=ready.fault)
    count = 0
    for here, names in ready.files.items():
        if names:
            pushed = code_push.push_files(host, here, there, names, say)
            if isinstance(pushed, (str, Unreachable)):
                return Relayed(part.host, mark.jobs, fault=pushed if isinstance(pushed, str) else pushed.reason)
            count += len(names)
    put = host.put(posixpath.join(part.cwd, mark.path), b"")
    if put is not None:
        return Relayed(part.host, mark.jobs, fault=put if isinstance(put, str) else put.reason)
    return Relayed(part.host, mark.jobs, count)
