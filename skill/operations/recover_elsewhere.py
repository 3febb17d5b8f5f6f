"""Jobs whose ladder asks for another host (`other_host` in `recover`) run on another one, by the code of `rescue`.

The host of such a job lives, and keeps all its other jobs. With it go the jobs that wait for it there. It takes along
what its ladder has changed, and the rungs that are left: on each host it can only come nearer to the end.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from build_manifest.faults import listed
from queue_manager.core.manifest import Manifest
from queue_manager.core.recover_policy import OTHER_HOST, ladder
from queue_manager.core.status import Status
from skill.common.errors import UseError
from skill.common.units import jobs_text
from skill.operations import rescue
from skill.operations.rescue import Done, Plan
from skill.planning import rescue_plan
from skill.planning.rescue_plan import Moving
from skill.runs import assignment, recovery
from skill.runs.assignment import SUBMITTED, Part
from skill.runs.dependencies import Dependencies
from skill.runs.directory import Document, Run
from skill.runs.open import on_hosts
from skill.runs.remote import RemoteRun

_NAMED = 5
_WAITS = frozenset({Status.PENDING.value, Status.BLOCKED.value})


class Moves(NamedTuple):
    """What was moved, a plan for each host, and how it went; `why_not`: what keeps jobs where they are, in words."""

    plans: tuple[Plan, ...]
    done: Done
    why_not: tuple[str, ...] = ()


def asking(document: Document) -> dict[str, list[str]]:
    """The jobs that are to run on another host, by the host that they are on."""
    found: dict[str, list[str]] = {}
    for row in document["jobs"]:
        if "host" in row and recovery.wants_host(row):
            found.setdefault(row["host"], []).append(row["id"])
    return found


def with_waiters(manifest: Manifest, part: Part, jobs: Collection[str], statuses: Mapping[str, str]) -> tuple[str, ...]:
    """These jobs of a part, and all of it that wait for them, in the order of the part."""
    dependencies = Dependencies(manifest)
    moved, before = {job for job in jobs if job in dependencies.jobs}, -1
    while len(moved) > before:
        before = len(moved)
        for job in part.own():
            waits = job not in moved and job in dependencies.jobs and statuses.get(job) in _WAITS
            if waits and any(not moved.isdisjoint(need.ids) for need in dependencies.needs(job)):
                moved.add(job)
    return tuple(job for job in part.own() if job in moved)


def rungs(
    manifest: Manifest, part: Part, rows: Sequence[Mapping[str, object]], jobs: Collection[str]
) -> dict[str, int]:
    """How far each of these jobs has come on the ladder of its spec. `rows`: of the whole run; on a host to which it
    was moved it knows only the rungs that were left then."""
    specs = {spec.id: spec for spec in manifest.jobs}
    found = {}
    for row in rows:
        name = str(row["id"])
        if name in jobs and recovery.wants_host(row):
            below = part.rungs[name] + 1 if name in part.rungs else 0
            at = below + int(recovery.steps(row)[-1]["rung"])
            assert ladder(specs[name].recover)[at].kind == OTHER_HOST
            found[name] = at
    return found


def move(
    run: Run, names: Sequence[str], pool: str | None, agree: Callable[[Plan], None], say: Callable[[str], None]
) -> Moves:
    """Run the jobs that ask for it on other hosts of the run, or on those of `names` or `pool`.

    `agree` receives each plan before it is written down, and raises to refuse. Raises UseError, FailedError and
    OSError.
    """
    if not on_hosts(run):
        raise UseError(f"run {run.id} runs on this machine: there is no other host")
    with rescue.alone(run), RemoteRun.at(run) as there:
        document = there.look(full=True)
        statuses = {row["id"]: row["status"] for row in document["jobs"]}
        plans: list[Plan] = []
        why_not: list[str] = []
        for host, wanted in asking(document).items():
            part = there.assigned.part(host)
            jobs = with_waiters(there.manifest, part, wanted, statuses)
            try:
                hosts = [one for one in rescue.takers(there, host, names, pool) if not _had(there, one.name, wanted)]
                if not hosts:
                    raise UseError(f"every other host of the run has had {', '.join(wanted[:5])}: name one with --host")
                made = Plan(part, "its ladder asks for another host", None, Moving(moved=jobs), {}, {})
                made = rescue.shared(made, there, hosts, document, say)
            except UseError as error:
                why_not.append(str(error))
                continue
            agree(made)
            _note(there, made, rungs(there.manifest, part, document["jobs"], wanted))
            plans.append(made)
        unsent = plans or rescue.unfinished(there.assigned)
        return Moves(tuple(plans), rescue.finish(there, say) if unsent else Done(()), tuple(why_not))


def before(made: Plan) -> list[str]:
    """What would be done."""
    lines = [f"{made.lost.host}: {jobs_text(len(made.moving.moved))} to run on another host, as recover asks for"]
    return lines + [f"  {host} gets {listed(jobs, _NAMED)}" for host, jobs in made.shares.items()]


def after(moves: Moves) -> list[str]:
    """What was done, and what could not be."""
    lines = [
        f"{host} gets {listed(jobs, _NAMED)}, which failed on {made.lost.host}"
        for made in moves.plans
        for host, jobs in made.shares.items()
    ]
    lines += [f"{one.host}: {one.fault}" for one in moves.done.outcomes if one.fault is not None]
    lines += [f"to {one.dst}: {one.fault}" for one in moves.done.relayed if one.fault is not None]
    return [*lines, *([moves.done.fault] if moves.done.fault else []), *moves.why_not]


def _had(there: RemoteRun, host: str, jobs: Collection[str]) -> bool:
    """Whether a host has had one of these jobs: its manager takes none twice."""
    return any(part.host == host and not set(jobs).isdisjoint(part.jobs) for part in there.assigned.parts)


def _note(there: RemoteRun, made: Plan, come_to: Mapping[str, int]) -> None:
    """Write down what goes where. From now on it holds, and `rescue.finish` does it. Raises FailedError, OSError."""
    with assignment.changed(there.run) as now:
        rescue.check_unchanged(there, now.assigned)
        now.assigned = rescue_plan.noted(
            now.assigned, made.lost.host, made.moving.moved, made.shares, made.fresh, state=SUBMITTED, rungs=come_to
        )
    there.refresh()
