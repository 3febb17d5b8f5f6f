"""Describe a pull: in one line, in lines about what was not copied, and as a JSON document."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from build_manifest.faults import listed
from queue_manager.core.times import duration
from skill.common.units import size_text
from skill.runs import pulled_states
from skill.runs.assignment import Assigned
from skill.transfer.pull import Turn
from skill.transfer.relay import Relayed

_NAMED = 5


def host_line(turn: Turn, found: Assigned) -> str:
    """Describe what a pull copied from one host, or why it failed. `found`: hosts.json after the pull."""
    return f"{turn.host}: {_brought(turn) if turn.whole else _missed(turn, found)}"


def line(turns: Iterable[Turn], found: Assigned, *, ended: bool) -> str:
    """Describe one pull in one line. `ended`: whether the run has ended."""
    return "; ".join(host_line(turn, found) for turn in turns) + ("; the run has ended" if ended else "")


def details(turns: Iterable[Turn], relayed: Sequence[Relayed]) -> Iterator[str]:
    """List what was not copied, and what was copied between hosts."""
    for turn in turns:
        yield from (f"{turn.host}: {text}" for text in _not_taken(turn))
    for one in relayed:
        what = f"what {listed(one.jobs, _NAMED)} wrote"
        if one.fault is None:
            yield f"{what} was copied to {one.dst}"
        else:
            yield f"{what} could not be copied to {one.dst}: {one.fault}"


def _not_taken(turn: Turn) -> Iterator[str]:
    got = turn.received
    yield from (f"{name} {why}" for name, why in got.refused)
    if got.kept:
        yield f"kept, since newer here: {listed(got.kept, _NAMED)}"
    if got.later:
        yield f"changed while being read, and left for the next pull: {listed(got.later, _NAMED)}"
    if got.ahead:
        yield f"dated in the future by the host's clock, and given the local time: {listed(got.ahead, _NAMED)}"
    for job, output in turn.doubts.missing[:_NAMED]:
        yield f"{job} has completed there, but its output {output} is not here"
    for name, job in turn.doubts.unproven[:_NAMED]:
        yield f"{name} was pulled, but by its manager's record {job} never ran there: do not rely on it"
    left = sum(max(0, len(found) - _NAMED) for found in turn.doubts)
    if left:
        yield f"and {left} more outputs that contradict its manager's record"
    if got.more:
        yield f"and {got.more} more files"
    if turn.outside:
        where = "write outside of the code's directory; these outputs are not pulled"
        yield f"{listed(turn.outside, _NAMED)} {where}"


def _brought(turn: Turn) -> str:
    got = turn.received
    if not got.files:
        return f"nothing new, {got.same} files are already here"
    return f"{got.files} files, {size_text(got.size)}"


def _missed(turn: Turn, found: Assigned) -> str:
    age = pulled_states.age(found, turn.host, time.time())
    last = "never pulled before" if age is None else f"last pulled {duration(age)} ago"
    came = f"{_brought(turn)}, then " if turn.received.files else ""
    return f"{came}{turn.reason}; {last}"


def host_document(turn: Turn, found: Assigned) -> dict[str, Any]:
    """Return one host's part of what `pull --json` prints."""
    got = turn.received
    return {
        "name": turn.host,
        "whole": turn.whole,
        "reachable": turn.unreachable is None,
        "reason": turn.reason,
        "files": got.files,
        "bytes": got.size,
        "same": got.same,
        "kept": list(got.kept),
        "refused": [{"name": name, "why": why} for name, why in got.refused],
        "later": list(got.later),
        "ahead": list(got.ahead),
        "missing": [{"job": job, "output": output} for job, output in turn.doubts.missing],
        "unproven": [{"name": name, "job": job} for name, job in turn.doubts.unproven],
        "outside": list(turn.outside),
        "last_pull": found.pulled.get(turn.host),
    }
