"""Submit a run: the manifest, the code and a manager to each host.

The run's directory on this machine records what was decided. Each host is then brought to that state step by step, and
every step checks first whether it was done: after a kill at any moment, the same command finishes and does nothing
twice.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from build_manifest.faults import listed
from queue_manager.core import durations, machine
from queue_manager.core.durations import Earlier
from queue_manager.core.layout import LOCAL_RUNS, HostPaths, RunPaths
from queue_manager.core.manifest import encode, sha256
from queue_manager.core.times import epoch, iso
from skill.common import files
from skill.common.errors import FailedError, UseError
from skill.common.files import write_whole
from skill.common.project import WORKERS
from skill.common.retry import backoff
from skill.common.units import size_text
from skill.fleet import ledger_file
from skill.fleet.ledger import UP
from skill.hosts import bootstrap, code_push, survival
from skill.hosts.bootstrap import Facts, Python
from skill.hosts.code_push import Report, no_report
from skill.hosts.connection import Host, Unreachable, each
from skill.operations.build_spec import Say
from skill.operations.submission import Submission
from skill.planning import existing_outputs
from skill.runs import assignment, code_versions, directory, local_code
from skill.runs.assignment import LOST, SUBMITTED, Assigned, Part
from skill.runs.code_versions import Push
from skill.runs.directory import Run
from skill.runs.open import on_hosts
from skill.transfer.code_files import CodeFiles

PATIENCE = 3600.0
"""Seconds for one host to receive everything; the code may be large."""
_MOST_PUSHES = 50
TRIES = 3
"""How often the work for a host is tried again after its connection was dropped or refused."""
_PAUSE = 1.0
_AGAIN = frozenset({"dropped"})  # the connection has already retried a refusal
_LOCK = "submit.lock"
T = TypeVar("T")


class Outcome(NamedTuple):
    """The result on one host. `fault`: what failed, or None; `pid`: of the manager; `pushed`: whether its copy of the
    code changed."""

    host: str
    jobs: int
    pid: int | None
    fault: str | None
    notes: tuple[str, ...] = ()
    pushed: bool = False


class _Stop(Exception):
    """This host cannot be set up, for the reason given."""


class _Lost(Exception):
    """The connection failed; the step may be tried again."""

    def __init__(self, why: Unreachable) -> None:
        super().__init__(why.reason)
        self.why = why


# -- the run here -------------------------------------------------------------------------------------------------


def existing(submission: Submission) -> Run | None:
    """Return the newest run on hosts with the same manifest beside its spec."""
    for run in directory.in_folder(submission.beside / LOCAL_RUNS):
        if not on_hosts(run):
            continue
        found = assignment.read(run)
        if found is not None and (found.project, found.digest) == (submission.manifest.project, submission.digest):
            return run
    return None


def create(
    submission: Submission, parts: Sequence[Part], earlier: Earlier = durations.NOTHING, name: str | None = None
) -> Run:
    """Create the run's directory with its manifest, its assignment, and the durations of earlier runs. `name`: its id,
    if one is given. Raises OSError."""
    now = time.time()

    def fill(run: Run, run_id: str) -> None:
        write_whole(run.paths.manifest, submission.text)
        if earlier.jobs:
            write_whole(run.paths.durations, durations.encode(earlier).decode())
        row = Assigned(
            run_id, submission.manifest.project, submission.digest, iso(now) or "", str(submission.source), tuple(parts)
        )
        assignment.write(run, row)

    return directory.create_filled(name or directory.run_id(submission.manifest.project, now), submission.beside, fill)


def pushed_before(run: Run) -> float:
    """Return since when all hosts of a run have its code, in epoch seconds; 0 where one has never got it."""
    found = assignment.read(run)
    parts = [part for part in found.parts if part.state != LOST] if found is not None else []
    return min((epoch(part.code[-1].at) if part.code else 0.0 for part in parts), default=0.0)


def check_asked(run: Run, names: Sequence[str]) -> None:
    """Check that a run to continue is on the hosts that were named. Raises UseError."""
    found = assignment.read(run)
    have = [part.host for part in found.parts] if found else []
    other = [name for name in names if name not in have]
    if other:
        raise UseError(
            f"the same manifest was submitted as {run.id} to {listed(have)}, and not to {listed(other)}; submit it to "
            f"{listed(have)} to continue, or start another run with --new"
        )


# -- the hosts ----------------------------------------------------------------------------------------------------


def finish(
    run: Run,
    submission: Submission,
    hosts: Sequence[Host],
    *,
    push: bool,
    poll: float | None,
    say: Say,
    report: Report = no_report,
    manager: str | None = None,
    facts: Mapping[str, Facts] = MappingProxyType({}),
    code: CodeFiles | None = None,
) -> list[Outcome]:
    """Bring every host of a run to the state in hosts.json, all at once. A failure on one host stops no other. `report`
    is called with how much of the code each has got. `manager`: where it runs, see bootstrap.start. `facts`: of hosts
    that were asked just now and cannot have anything of this run yet; the others are asked. `code`: the files to push,
    chosen just now; None: they are chosen now."""
    found = assignment.read(run)
    assert found is not None
    with _working_on(run):
        parts = {part.host: part for part in found.parts}
        chosen = (code or submission.code()) if push else None
        sent = None if chosen is None else chosen.files
        name = None if sent is None else local_code.name(submission.source / (submission.cwd or "."))
        outcomes = each(
            hosts,
            lambda host: _persist(
                _Work(run, submission, host, parts[host.name], sent, name, poll, say, report, manager),
                facts.get(host.name),
            ),
            PATIENCE,
        )
        ended = [
            Outcome(name, len(parts[name].own()), None, outcome.reason) if isinstance(outcome, Unreachable) else outcome
            for name, outcome in outcomes.items()
        ]
        _note_pushes(run, name, [one.host for one in ended if one.pushed])
    return ended


def _note_pushes(run: Run, code: str | None, names: Sequence[str]) -> None:
    """Record which code some hosts have from now on. Raises OSError."""
    if not names:
        return
    push = Push(code, iso(time.time()) or "")
    with assignment.changed(run) as now:
        for name in names:
            part = now.assigned.part(name)
            now.assigned = now.assigned.with_part(part._replace(code=(*part.code, push)[-_MOST_PUSHES:]))


def _working_on(run: Run) -> AbstractContextManager[None]:
    """Lock out a second submit of the same run, which would send the same things. Raises FailedError."""
    return files.alone(run.root / _LOCK, f"another submit of {run.id} is running; try again when it has finished")


class _Work(NamedTuple):
    """What to do for one host. `files`: the code, relative to the submission's source; None: it is not pushed. `code`:
    the identity of the code here, see queue_manager.adapters.code_identity; None where it is unknown."""

    run: Run
    submission: Submission
    host: Host
    part: Part
    files: Sequence[str] | None
    code: str | None
    poll: float | None
    say: Say
    report: Report
    manager: str | None


def _persist(work: _Work, facts: Facts | None) -> Outcome:
    """Do the work, again after a dropped connection. `facts`: of the host as it is; None: it is asked."""
    name, count = work.host.name, len(work.part.own())
    if work.part.state == LOST:
        return Outcome(name, count, None, None, ("given up; its jobs were moved to other hosts",))
    for number in range(1, TRIES + 1):
        try:
            return _bring(work, facts if number == 1 else None)
        except (_Stop, UseError, FailedError, OSError) as error:
            return Outcome(name, count, None, str(error))
        except _Lost as error:
            if error.why.kind not in _AGAIN or number == TRIES:
                times = f" (tried {number} times)" if number > 1 else ""
                return Outcome(name, count, None, f"unreachable: {error.why.reason}{times}")
            work.say(f"{name}: {error.why.reason}; tried again ({number + 1} of {TRIES})")
            time.sleep(backoff(number, _PAUSE))
    raise AssertionError("every pass returns or goes on")


def _bring(work: _Work, facts: Facts | None) -> Outcome:
    """Do every step that was not done yet. Raises _Stop and _Lost."""
    host, part, run = work.host, work.part, work.run
    facts = facts or _or_raise(bootstrap.facts(host, run.id))
    fault = identity_fault(part, facts)
    if fault is not None:
        raise _Stop(fault)
    python = facts.python
    if python is None:
        raise _Stop(f"{facts.why_no_python}; set it up with: wavequeue hosts setup {host.name}")
    notes = []
    submitted = part.state == SUBMITTED
    if submitted and facts.manifest_sha256 is None:
        raise _Stop(f"the run's directory no longer exists there; have its jobs run elsewhere: {_rescue(run, host)}")
    pid = facts.manager_pid
    ended = submitted and not pid and facts.ended
    if not submitted or not (pid or ended):
        part, facts = _prepare(work, part, facts, python)
    is_pushed = False
    if work.files is not None:
        pushed = code_push.push_files(host, work.submission.source, part.workspace, work.files, work.say, work.report)
        if isinstance(pushed, Unreachable):  # it was retried as often as is useful
            raise _Stop(f"unreachable: {pushed.reason}")
        pushed = _or_raise(pushed)
        inside = "" if work.submission.cwd == "." else f"{work.submission.cwd}/"
        if inside and not any(name.startswith(inside) for name in work.files):  # else it has come with its files
            _done(bootstrap.make_cwd(host, part.cwd))
        is_pushed = bool(pushed.files) or not part.code
        if pushed.files:
            notes.append(f"{pushed.files} files of code sent, {size_text(pushed.bytes)} ({pushed.how})")
        if is_pushed and work.code is not None and local_code.is_commit(work.code):
            _done(bootstrap.note_code(host, python.path, part.runtime or "", part.cwd, work.code))
        notes.append(code_versions.copy_words(work.code, part.code, is_pushed))
    if not submitted:
        if not {job.id for job in work.submission.manifest.jobs}.issuperset(part.jobs):
            raise _Stop("jobs that were added later must be sent there; run the same `wavequeue rescue` again instead")
        made = encode(assignment.part_manifest(work.submission.manifest, part, run.id)).encode()
        if sha256(made) != facts.manifest_sha256:
            _done(bootstrap.place_run(host, run.id, made, _request(part)))
        _tell_instance(host, run, facts)
        if run.paths.durations.exists():
            place = RunPaths.of(HostPaths(Path(facts.place)).runs / run.id)
            _done(host.put(str(place.durations), run.paths.durations.read_bytes()))
    if ended:
        notes.append("its jobs have ended already")
    elif not pid:  # 0: its PID is unknown yet, since it is just starting
        _done(survival.fault(host, facts))
        pid = _or_raise(bootstrap.start(host, python.path, part.runtime or "", run.id, work.poll, work.manager))
        if not pid:
            is_job = work.manager == "job"
            notes.append(
                "its manager is a job of Slurm" if is_job else "a manager is running, but its process ID is unknown"
            )
    pid = pid or None
    if not submitted or (pid is not None and part.pid != pid):
        with assignment.changed(run) as now:
            now.assigned = now.assigned.with_part(now.assigned.part(host.name)._replace(state=SUBMITTED, pid=pid))
    return Outcome(host.name, len(part.own()), pid, None, tuple(notes), is_pushed)


def _request(part: Part) -> tuple[str, bytes] | None:
    """Return the first request for a part's manager: the jobs whose outputs exist already."""
    if not part.done:
        return None
    return existing_outputs.REQUEST, existing_outputs.request_text(part.done).encode()


def _tell_instance(host: Host, run: Run, facts: Facts) -> None:
    """Tell a run on a rented machine which instance it is on, and what it costs from now on. Raises _Stop and _Lost.

    A machine that `up` rented is for this run only, and counts from its creation.
    """
    worker = host.worker
    if worker.instance_id is None:
        return
    rental = ledger_file.by_instance(host.known_hosts.parent.parent / WORKERS).get(worker.instance_id)
    is_for_it = rental is not None and rental.purpose.startswith(UP)
    since = rental.rates[0][0] if rental is not None and is_for_it else time.time()
    dph, disk = (_dollars(worker.resources.get(name)) for name in ("dph", "storage_dph"))
    text = machine.instance_text(machine.Instance(worker.instance_id, dph, disk or 0.0, since))
    _done(host.put(str(RunPaths.of(HostPaths(Path(facts.place)).runs / run.id).instance), text.encode()))


def _dollars(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None


def _prepare(work: _Work, part: Part, facts: Facts, python: Python) -> tuple[Part, Facts]:
    """Give the host an identity and the runtime, and record both. Returns the facts with its place as it is now."""
    bundle = bootstrap.bundle_for(facts)
    host_id = facts.host_id if facts.named else None
    if host_id is None:
        host_id, place = _or_raise(bootstrap.claim_identity(work.host))
        facts = facts._replace(place=place)
    with assignment.changed(work.run) as now:
        twin = next((one.host for one in now.assigned.parts if one.host != part.host and one.host_id == host_id), None)
        if twin is not None:
            raise _Stop(f"{same_machine(twin)}; start another run on one of them: --new --host {twin}")
        part = now.assigned.part(part.host)._replace(host_id=host_id, python=python.path, runtime=bundle.digest)
        now.assigned = now.assigned.with_part(part)
    if bundle.digest not in facts.runtimes:
        _done(bootstrap.place_runtime(work.host, facts, bundle))
    return part, facts


def _or_raise(answer: T | str | Unreachable) -> T:
    """Return the result of a step. Raises _Stop and _Lost where it failed."""
    if isinstance(answer, Unreachable):
        raise _Lost(answer)
    if isinstance(answer, str):
        raise _Stop(answer)
    return answer


def _done(answer: str | Unreachable | None) -> None:
    """Do the same for a step without a result."""
    _or_raise(answer)


def same_machine(twin: str) -> str:
    """Say why a host cannot have a part of a run in which `twin` has one."""
    return f"it is the same machine as {twin}, and one machine can hold only one part of a run"


def identity_fault(part: Part, facts: Facts) -> str | None:
    """Say why a host is not the one that a part was given to; None if it may be."""
    if part.host_id is None or part.host_id == facts.host_id:
        return None
    if facts.owner is not None:
        return (
            f"it is not the host that got this run, and shares the home of {facts.owner}. Nothing was written there. "
            f"If it is {facts.owner} under a new name, run there: rm ~/.wavequeue/machine"
        )
    is_new = "has no identity of ours" if facts.host_id is None else "is another machine"
    return (
        f"it {is_new} than the one that got this run: rented to somebody else, or set up anew. Nothing was written "
        "there. Have its jobs run elsewhere with: wavequeue rescue"
    )


def _rescue(run: Run, host: Host) -> str:
    return f"wavequeue rescue {run.id} --from {host.name}"
