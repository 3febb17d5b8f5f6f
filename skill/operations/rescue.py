"""Move the jobs of a lost host to other hosts. Completed jobs whose results are here do not run again.

hosts.json is written first, whole and durable, and says what goes where. Each host is then brought to that state by
steps that are safe to repeat: after a kill at any moment, the same command finishes the rescue and does nothing twice.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from build_manifest.faults import listed
from queue_manager.core.durations import Durations
from queue_manager.core.manifest import Manifest, encode, sha256
from queue_manager.core.requests import Request
from skill.common import files
from skill.common.errors import FailedError, UseError
from skill.common.project import workers_of
from skill.hosts import bootstrap, registry
from skill.hosts.connection import Host, Unreachable
from skill.operations import submit, survey
from skill.operations.submission import Submission
from skill.operations.submit import Outcome
from skill.planning import assign_jobs, history, host_preflight, rescue_plan
from skill.planning.rescue_plan import Moving
from skill.runs import assignment, pulled_results, pulled_states, remote_requests, state_cache
from skill.runs.assignment import LOST, PLANNED, SUBMITTED, Assigned, Part
from skill.runs.directory import Document, Run
from skill.runs.open import on_hosts
from skill.runs.remote import RemoteRun
from skill.runs.requests import Asked
from skill.transfer import pull, relay
from skill.transfer.relay import Relayed

_LOCK = "rescue.lock"
Say = Callable[[str], None]


class Plan(NamedTuple):
    """What giving up a host would do. `why`: why it counts as lost; `age`: seconds since it was last read, None if it
    never was. `shares`: which host gets which jobs; `fresh`: parts of hosts that had none."""

    lost: Part
    why: str
    age: float | None
    moving: Moving
    shares: Mapping[str, tuple[str, ...]]
    fresh: Mapping[str, Part]


def alone(run: Run) -> AbstractContextManager[None]:
    """Lock out other rescues of the same run. Raises FailedError where one is running."""
    return files.alone(run.root / _LOCK, f"another rescue of {run.id} is running; try again when it has finished")


# -- what would be done -------------------------------------------------------------------------------------------


def make_plan(there: RemoteRun, name: str, names: Sequence[str], pool: str | None, say: Say) -> Plan:
    """Check all hosts, and plan what giving up host `name` would do. Writes nothing.

    `names`, or else `pool`: hosts that get its jobs; without both, the other hosts of the run. Raises UseError, and
    FailedError where the host answers or no host can take its jobs.
    """
    part = there.assigned.part(name)
    _check_names(there, name, names, pool)
    document = there.look(full=True)
    why = _why_away(there, part)
    manifest = there.manifest
    found = moving(there.run, there.assigned, manifest, part)
    look = there.looks[name]
    age = None if look.at is None else max(0.0, time.time() - look.at)
    made = Plan(part, why, age, found, {}, {})
    if not found.moved:
        return made
    return shared(made, there, takers(there, name, names, pool), document, say)


def _check_names(there: RemoteRun, name: str, names: Sequence[str], pool: str | None) -> None:
    if names and pool is not None:
        raise UseError("give --host or --pool, not both")
    if name in names:
        raise UseError(f"{name} is the host that is given up; name another one with --host")
    given_up = [one for one in names if one in there.names and there.assigned.part(one).state == LOST]
    if given_up:
        raise UseError(f"{listed(given_up)} was given up before, and gets no jobs of this run; name another host")


def _why_away(there: RemoteRun, part: Part) -> str:
    """Return why a host counts as lost. Raises FailedError where it does not."""
    name, look = part.host, there.looks[part.host]
    if look.reason is not None and not look.answered:
        return look.reason
    way = there.way(name)
    facts = way if isinstance(way, Unreachable) else bootstrap.facts(way, there.run.id)
    if isinstance(facts, Unreachable):
        return facts.reason
    if submit.identity_fault(part, facts) is not None:
        return "it is not the machine that the run was submitted to"
    if part.state == SUBMITTED and facts.manifest_sha256 is None:
        return "the run's directory no longer exists there"
    run = f"--run {there.run.id}"
    raise FailedError(
        f"{name} answers, so nothing was moved. Check it: wavequeue status {run}; start its manager again: "
        f"wavequeue resume {run}; stop jobs there: wavequeue cancel JOB {run}"
    )


def moving(run: Run, found: Assigned, manifest: Manifest, part: Part) -> Moving:
    """Return what happens to each job of a host, by what was pulled of it."""
    folder = assignment.host_folder(run, part.host)
    pulled = pulled_states.documents(run, found).get(part.host)
    kept = [one.document for whole in (True, False) if (one := state_cache.recall(folder, whole=whole)) is not None]
    known = rescue_plan.statuses(part, kept if pulled is None else [*kept, pulled])
    return rescue_plan.moving(manifest, part, known, _home(run, found, manifest, part, pulled))


def _home(run: Run, found: Assigned, manifest: Manifest, part: Part, pulled: Document | None) -> set[str]:
    """Return the jobs whose outputs are here: they had completed when their host was pulled, and the local files are
    from that attempt.

    A host sends the state that it had before it listed its results.
    """
    if pulled is None:
        return set()
    document = {**pulled, "jobs": [{**row, "host": part.host} for row in pulled["jobs"]]}
    return {job for job, count in pulled_results.read_results(run, found, manifest, document).found.items() if count}


def takers(there: RemoteRun, name: str, names: Sequence[str], pool: str | None) -> list[Host]:
    """Return the hosts that may get jobs: those that were named, or the others of the run. Raises UseError."""
    where = workers_of(there.run.root)
    known = registry.Registry.load(where)
    if pool is not None:
        names = [worker.name for worker in known.in_pool(pool) if worker.name != name]
    others = {part.host: part for part in there.assigned.parts if part.host != name}
    chosen = list(dict.fromkeys(names)) or [host for host, part in others.items() if part.state == SUBMITTED]
    if not chosen:
        raise UseError(
            f"run {there.run.id} is on no other host; say which one gets the jobs of {name}: --host NAME or --pool POOL"
        )
    ways = []
    for host in chosen:
        if host in others:
            way = there.way(host)
            if isinstance(way, Unreachable):
                raise UseError(way.reason)
            ways.append(way)
        else:
            ways.append(registry.connect(known.named(host), where, submit.TRIES))
    return ways


def shared(made: Plan, there: RemoteRun, hosts: Sequence[Host], document: Document, say: Say) -> Plan:
    """Return the plan with the assignment of jobs. Raises FailedError where no host can take them."""
    submission = submission_of(there)
    jobs = made.moving.moved
    found = survey.survey_hosts(submission, [host for host in hosts if _takes(there, host.name, say)])
    parts = {part.host: part for part in there.assigned.parts}
    offers = []
    workers = {host.name: host.worker for host in hosts}
    for name, one in found.items():
        fault = _unfit(one, made.lost, parts, parts.get(name))
        if fault is not None:
            say(f"{name} gets no jobs: {fault}")
        elif one.document is not None:
            speed = workers[name].resources.get("speed", 1.0)
            offers.append(one.offer(name, float(speed) if isinstance(speed, (int, float)) and speed > 0 else 1.0))
    if not offers:
        raise FailedError(
            f"nothing was moved: no host can take the jobs of {made.lost.host} now. If nothing answers, the network "
            "here may be cut; else name another host: --host NAME"
        )
    offers = rescue_plan.weighed(offers, document["meta"]["hosts"], len(jobs))
    only = assignment.part_manifest(there.manifest, Part("", jobs), there.run.id)
    durations = Durations(only.jobs, history.earlier([document]))
    sharing = assign_jobs.share(only, offers, durations.of_phases(only.jobs))
    fresh = {name: submission.part(workers[name], given) for name, given in sharing.parts.items() if name not in parts}
    faults = host_preflight.unplaced_lines(sharing.unplaced)
    code = submission.code() if fresh else None
    code_mib = submission.code_mib(code)
    for name in fresh:
        seen = found[name].seen(name, pushed=submission.pushed, code_mib=code_mib)
        cwd = "/" if seen.found is None else seen.found["cwd"]["path"]
        verdict = host_preflight.judge(there.manifest, fresh[name].jobs, seen, submission.comes(code, cwd))
        faults += host_preflight.fault_lines([verdict], ())
        for text in host_preflight.warning_lines([verdict]):
            say(f"warning: {text}")
    if faults:
        raise FailedError("nothing was moved, because checks failed:\n" + "\n".join(f"  {text}" for text in faults))
    return made._replace(shares=sharing.parts, fresh=fresh)


def _takes(there: RemoteRun, name: str, say: Say) -> bool:
    """Return whether a host that already has a part could be read now; other hosts are checked later."""
    if name not in there.names:
        return True
    part, look = there.assigned.part(name), there.looks[name]
    if part.state == PLANNED:
        say(f"{name} gets no jobs: its own jobs were not sent there yet; finish that with: wavequeue submit SPEC")
        return False
    if look.reason is not None:
        say(f"{name} gets no jobs: {look.reason}")
    return look.reason is None


def _unfit(one: survey.Surveyed, lost: Part, parts: Mapping[str, Part], part: Part | None) -> str | None:
    """Return why a host that was checked gets no jobs; None if it can."""
    if isinstance(one.facts, Unreachable):
        return one.facts.reason
    if part is not None:
        return submit.identity_fault(part, one.facts) or (one.why or None)
    twin = next((other for other in parts.values() if other.host_id and other.host_id == one.facts.host_id), None)
    if twin is not None and twin.host == lost.host:
        return f"it is the same machine as {lost.host}, which is therefore not lost"
    if twin is not None:
        return submit.same_machine(twin.host)
    return one.facts.why_no_python or one.why or None


def submission_of(there: RemoteRun) -> Submission:
    """Return the run as it was submitted, with the jobs that were added since, for hosts that had no part of it."""
    manifest, source = there.manifest, Path(there.assigned.source)
    text = encode(manifest)
    made = Submission(manifest, text, sha256(text.encode()), there.run.root.parents[1], source, None)
    if manifest.cwd.startswith(("/", "~")):
        return made
    here = os.path.realpath(made.beside / manifest.cwd)
    return made._replace(cwd=os.path.relpath(here, source))


# -- doing it -----------------------------------------------------------------------------------------------------


def check_unchanged(there: RemoteRun, now: Assigned) -> None:
    """Check that the jobs are where they were when a plan was made. Raises FailedError where they are not."""
    if now.parts != there.assigned.parts:
        raise FailedError(f"another command has just changed where the jobs of {there.run.id} are; try again")


def note(there: RemoteRun, made: Plan) -> None:
    """Record the new assignment. From now on it is valid, and `finish` carries it out. Raises FailedError and
    OSError."""
    with assignment.changed(there.run) as now:
        check_unchanged(there, now.assigned)
        now.assigned = rescue_plan.noted(now.assigned, made.lost.host, made.moving.moved, made.shares, made.fresh)
    there.refresh()


class Done(NamedTuple):
    """What was done: the outcome for each host that got jobs, and what was copied to hosts."""

    outcomes: tuple[Outcome, ...]
    relayed: tuple[Relayed, ...] = ()
    fault: str | None = None

    @property
    def failed(self) -> bool:
        outcomes, relayed = (any(one.fault for one in self.outcomes), any(one.fault for one in self.relayed))
        return self.fault is not None or outcomes or relayed


def finish(there: RemoteRun, say: Say) -> Done:
    """Bring every host to the state in hosts.json: batches, new parts, and the outputs that their jobs wait for. Raises
    FailedError and OSError."""
    document = there.document()
    outcomes = [*_send_batches(there, document), *_submit_new(there, document, say)]
    there.refresh()
    parts = [part for part in there.assigned.parts if part.state == SUBMITTED]
    if not any(assignment.marks(there.manifest, part, there.run.id) for part in parts):
        return Done(tuple(outcomes))
    try:
        return Done(tuple(outcomes), tuple(_relay(there, say)))
    except FailedError as error:
        return Done(tuple(outcomes), fault=str(error))


def _send_batches(there: RemoteRun, document: Document) -> list[Outcome]:
    """Ask managers to accept the jobs that were moved to them."""
    requests: dict[str, Request] = {}
    counts: dict[str, int] = {}
    outcomes: dict[str, Outcome] = {}
    while True:
        for part in there.assigned.parts:
            number = next((n for n, batch in enumerate(part.batches) if not batch.sent), None)
            if part.state == SUBMITTED and number is not None and part.host not in outcomes:
                requests[part.host] = assignment.batch_request(there.manifest, part, number, there.run.id)
        if not requests:
            return list(outcomes.values())
        for name, asked, *_ in remote_requests.ask(there, document, requests, start=True):
            request = requests.pop(name)
            counts[name] = counts.get(name, 0) + len(request.specs)
            fault = _not_taken(asked)
            if fault is not None:
                outcomes[name] = Outcome(name, counts[name], None, fault)
                continue
            with assignment.changed(there.run) as now:
                part = now.assigned.part(name)
                batches = tuple(one._replace(sent=one.sent or one.id == request.id) for one in part.batches)
                now.assigned = now.assigned.with_part(part._replace(batches=batches))
            there.refresh()
            if all(batch.sent for batch in there.assigned.part(name).batches):
                outcomes[name] = Outcome(name, counts[name], there.assigned.part(name).pid, None)


def _not_taken(asked: Asked | Unreachable | str) -> str | None:
    """Return why a manager has not accepted jobs; None if it has."""
    if isinstance(asked, Unreachable):
        return f"unreachable: {asked.reason}"
    if isinstance(asked, str):
        return asked
    if asked.answer is None:
        return "its manager has not answered yet" if asked.alive else "its manager is not running"
    return None if asked.answer.ok else asked.answer.text


def _submit_new(there: RemoteRun, document: Document, say: Say) -> list[Outcome]:
    """Submit their part to hosts that had none. Of a run that was never fully submitted: to all hosts that have none
    yet."""
    hosts: list[Host] = []
    outcomes = []
    for part in there.assigned.parts:
        if part.state == PLANNED:
            way = there.way(part.host)
            if isinstance(way, Host):
                hosts.append(way)
            else:
                outcomes.append(Outcome(part.host, len(part.own()), None, way.reason))
    if not hosts:
        return outcomes
    submission = submission_of(there)
    poll = document["meta"]["poll"]
    return [*outcomes, *submit.finish(there.run, submission, hosts, push=submission.pushed, poll=poll, say=say)]


def _relay(there: RemoteRun, say: Say) -> list[Relayed]:
    """Pull, and copy to each host the outputs that its jobs wait for. Raises FailedError and OSError."""
    run, manifest = there.run, there.manifest
    hosts = {name: way for name in there.names if isinstance(way := there.way(name), Host)}
    with pull.alone(run):
        turns = pull.pull(run, manifest, pull.parts(there.assigned, ()), hosts, say)
        found = assignment.read(run) or there.assigned
        states = pulled_states.documents(run, found)
        relayed = relay.relay_inputs(run, found, manifest, hosts, turns, states, say)
        pull.conclude(run, manifest, states, time.time())
    return relayed


def move(
    run: Run, name: str, names: Sequence[str], pool: str | None, agree: Callable[[Plan], None], say: Say
) -> tuple[Plan | None, Done]:
    """Give up a host and run its jobs elsewhere; or finish a rescue that was begun before, without a plan.

    `agree` receives the plan before anything is written, and raises to refuse. Raises UseError, FailedError and
    OSError.
    """
    if not on_hosts(run):
        raise UseError(f"run {run.id} runs on this machine, and has no hosts that could be lost")
    with alone(run), RemoteRun.at(run) as there:
        if there.assigned.part(name).state == LOST:
            there.look()
            return None, finish(there, say)
        made = make_plan(there, name, names, pool, say)
        agree(made)
        note(there, made)
        return made, finish(there, say)


def unfinished(found: Assigned) -> int:
    """Return how many jobs are assigned to a host that has not received them yet."""
    batches = sum(len(batch.jobs) for part in found.parts for batch in part.batches if not batch.sent)
    return batches + sum(len(part.own()) for part in found.parts if part.state == PLANNED)
