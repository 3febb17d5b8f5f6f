"""Are the results of a host here? The one place that decides it, and with it whether a machine may be destroyed.

What a pull left on a host is told by `leftovers`, and what each kind of them means by the table `LEFTOVERS`. What is
not here of a host's part of a run is told by `missing`, by what is on this machine alone: the host may be gone. An
output counts as a result only where the manager's own record says that its job completed (see runs.pulled_results).
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from build_manifest.faults import listed
from skill.runs import assignment, directory, pulled_results, pulled_states
from skill.runs.assignment import LOST, PLANNED
from skill.runs.digest import FINAL
from skill.runs.directory import Document, Run
from skill.runs.path_map import map_paths, wanted
from skill.transfer.receiver import Received


class PartHere(NamedTuple):
    """What is here of a host's part of a run. `own`: the jobs that it has to run. `state`: of the host as it was last
    pulled; `pulled`: whether it ever was pulled whole. `away`: completed jobs whose output is not here; `outside`: jobs
    that write where nothing is pulled from."""

    own: Sequence[str]
    state: Document | None = None
    pulled: bool = False
    away: Sequence[str] = ()
    outside: Sequence[str] = ()


def missing(part: PartHere | None) -> str | None:
    """Say which results of a host's part of a run are not here; None if all are, or if it has no part (`part` None)."""
    if part is None or not part.own:
        return None
    if part.state is None or not part.pulled:
        return "nothing of it was pulled yet"
    own = set(part.own)
    open_jobs = [row["id"] for row in part.state["jobs"] if row["id"] in own and row["status"] not in FINAL]
    if open_jobs:
        return f"jobs had not ended when it was last pulled: {listed(open_jobs, 5)}"
    away = [job for job in part.away if job in own]
    if away:
        return f"results are not here: {listed(away, 5)}"
    if part.outside:
        return f"results are outside of the directories that are pulled: {listed(part.outside, 5)}"
    return None


def missing_of(run: Run, host: str) -> str | None:
    """Do the same for a host of a run, from the files on this machine. Raises FailedError."""
    return missing(_part_here(run, host))


def _part_here(run: Run, host: str) -> PartHere | None:
    """Find what is here of a host's part; None if it has none, or was given up."""
    found = assignment.read(run)
    part = next((one for one in found.parts if one.host == host), None) if found is not None else None
    if found is None or part is None or part.state in (LOST, PLANNED) or not part.own():
        return None
    manifest = directory.read_manifest(run, ours=True)
    state = pulled_states.documents(run, found).get(host)
    if state is None:
        return PartHere(part.own())
    document = {**state, "jobs": [{**row, "host": host} for row in state["jobs"]]}
    away = pulled_results.read_results(run, found, manifest, document).away
    outside = wanted(map_paths(run, found, manifest, part), manifest, part).outside
    return PartHere(part.own(), state, host in found.pulled, away, outside)


# -- what a pull left ---------------------------------------------------------------------------------------------


class Meaning(NamedTuple):
    """What it means that a pull left something. `fails`: it is a fault of the pull; `again`: another pull brings it;
    `may_go`: the machine may be destroyed all the same."""

    fails: bool
    again: bool
    may_go: bool


LEFTOVERS: Mapping[str, Meaning] = MappingProxyType(
    {
        "refused": Meaning(fails=True, again=False, may_go=False),  # nothing of the kind is written here
        "kept": Meaning(fails=False, again=False, may_go=False),  # newer here, so that what is there is not here
        "later": Meaning(fails=False, again=True, may_go=False),  # changed while it was read
        "more": Meaning(fails=False, again=False, may_go=False),  # too many to be named
        "outside": Meaning(fails=False, again=False, may_go=False),  # where nothing is pulled from
        "missing": Meaning(fails=True, again=False, may_go=False),  # its manager says that it is there
        "unproven": Meaning(fails=True, again=False, may_go=False),  # its manager says that nobody wrote it
        "ahead": Meaning(fails=False, again=False, may_go=True),  # it came, with another time
    }
)


def leftovers(received: Received, outside: Sequence[str], found: Doubts) -> frozenset[str]:
    """List the kinds of `LEFTOVERS` that a pull of one host left."""
    kinds = {
        "refused": received.refused, "kept": received.kept, "later": received.later, "more": received.more,
        "outside": outside, "missing": found.missing, "unproven": found.unproven, "ahead": received.ahead,
    }  # fmt: skip
    return frozenset(kind for kind, what in kinds.items() if what)


class Doubts(NamedTuple):
    """What does not agree.

    `unproven`: files that came, each with its job, which never ran there; `missing`: jobs that have completed there,
    each with the output of which nothing is here.
    """

    unproven: tuple[tuple[str, str], ...] = ()
    missing: tuple[tuple[str, str], ...] = ()


def doubts(
    jobs: Mapping[str, Sequence[str]], state: Document, written: Mapping[str, str], here: Container[str]
) -> Doubts:
    """Compare what came with the record of a manager.

    `jobs`: ids by the pattern that they declare; `state`: of the host, as it came in the same pull; `written`: the
    pattern by which each file came, in any pull; `here`: the patterns that find something on this machine.
    """
    known = {row["id"]: row for row in state["jobs"]}
    # A job may begin after its manager's record was read and write before its result is: only an end proves it.
    is_over = state["meta"]["manager"] == "finished"
    unproven = [
        (name, jobs[pattern][0])
        for name, pattern in written.items()
        if is_over and pattern in jobs and not any(_has_run(known.get(job)) for job in jobs[pattern])
    ]
    missing = [
        (job, pattern)
        for pattern, ids in jobs.items()
        if pattern not in here
        for job in ids
        if job in known and known[job]["status"] == "completed"
    ]
    return Doubts(tuple(unproven), tuple(missing))


def _has_run(row: Mapping[str, Any] | None) -> bool:
    return row is not None and (row["attempts"] > 0 or row["attempt"] > 0 or row["status"] == "completed")
