"""What changes something: run, submit, retry, cancel, add, pull, up. Each shows first what it would do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Union

from pydantic import Field, WithJsonSchema

from build_manifest.faults import listed
from queue_manager.core.manifest import JobSpec, encode, sha256
from skill.common.errors import FailedError, UseError
from skill.common.units import jobs_text
from skill.mcp.arguments import Arguments, RunName
from skill.mcp.given import GivenSpec, Spec, given_spec
from skill.operations import (
    add_jobs,
    change_run,
    check_hosts,
    choose_offer,
    detach_up,
    pull_run,
    pull_text,
    request_text,
    start_run,
    submission,
    submit_spec,
    up_steps,
)
from skill.operations.build_spec import Given, Say, build
from skill.operations.change_run import Changed
from skill.operations.find_run import find_run, find_run_on_hosts
from skill.operations.plan_spec import plan_spec
from skill.planning import plan
from skill.runs import requests
from skill.runs.directory import Run
from skill.runs.open import open_run
from skill.transfer import pull

_WIDTH = 120
_SHOWN = 20
_UP_PATIENCE = 20.0
"""Seconds in which `up` tells what fails at once: no key, no offer, no credit."""


class Shown(NamedTuple):
    """What a change would do, in lines. `seen`: what it is shown for; if that is another one later, the change is not
    made. `refused`: why it cannot be made."""

    lines: Sequence[str]
    seen: Any
    refused: str | None = None


class Done(NamedTuple):
    """What was done, in lines, and what to call next. `failed`: not all of it was."""

    lines: Sequence[str]
    then: str
    failed: bool = False


class Change(Arguments):
    """A change that somebody may preview and make."""

    def look(self) -> Shown:
        """Show what it would do, and change nothing. Raises SpecErrors, UseError and FailedError."""
        raise NotImplementedError

    def make(self, say: Say) -> Done:
        """Make it. `say` gets lines while it goes on. Raises SpecErrors, UseError and FailedError."""
        raise NotImplementedError


Jobs = Annotated[tuple[str, ...], Field(description="Ids of jobs, or patterns such as s42_*")]
Phase = Annotated[str | None, Field(description="Instead of jobs: those of this phase")]
Hosts = Annotated[tuple[str, ...], Field(description="Hosts; absent: those of the spec, or the only one registered")]


def _digest(spec: Given) -> str:
    return sha256(encode(build(spec).manifest).encode())


class RunIt(Change, GivenSpec):
    """Run a spec on this machine."""

    change: Literal["run"]
    name: Annotated[str | None, Field(description="Call the run so; absent: as its project")] = None
    again: Annotated[bool, Field(description="Run all jobs, even if their outputs exist")] = False
    skip_done: Annotated[bool, Field(description="Skip jobs whose outputs are newer than the code")] = False

    def look(self) -> Shown:
        spec = self.given()
        planned = plan_spec(spec)
        lines = [line.plain.rstrip() for line in plan.lines(planned.document, _WIDTH)]
        refused = f"it cannot run here: {'; '.join(planned.faults)}" if planned.faults else None
        return Shown([*lines, *planned.warnings], _digest(spec), refused)

    def make(self, say: Say) -> Done:
        spec = self.given()
        run, jobs, _ = start_run.start_run(
            spec, again=self.again, skip_done=self.skip_done, name=self.name, warn=say, say=say
        )
        return Done([f"started {run.id}: {jobs_text(jobs)}", str(run.root)], f"wait(run={run.id})")


class Submit(Change, GivenSpec):
    """Run a spec on hosts: push the code, start a manager on each."""

    change: Literal["submit"]
    hosts: Hosts = ()
    name: Annotated[str | None, Field(description="Call the run so; absent: as its project")] = None
    new: Annotated[bool, Field(description="A new run, even if this one was submitted before")] = False
    again: Annotated[bool, Field(description="Run all jobs, even if their outputs exist")] = False
    skip_done: Annotated[bool, Field(description="Skip jobs whose outputs are newer than the code")] = False

    def look(self) -> Shown:
        spec = self.given()
        notes: list[str] = []
        made = submission.prepare(build(spec, notes.append).manifest, spec)
        hosts = check_hosts.connect(made, self.hosts, None, notes.append)
        try:
            checked = check_hosts.check(made, hosts)
        finally:
            for host in hosts:
                host.close()
        parts = {name: list(jobs) for name, jobs in checked.sharing.parts.items()}
        lines = [f"{name}: {jobs_text(len(jobs))}" for name, jobs in parts.items()]
        code = None
        if checked.code is not None:
            code = "; ".join(submission.code_lines(checked.code))
            lines.append(f"sends to each host: {code}")
        lines += [*notes, *checked.warnings]
        refused = f"checks failed: {'; '.join(checked.faults)}" if checked.faults else None
        return Shown(lines, [made.digest, sorted(parts), code], refused)

    def make(self, say: Say) -> Done:
        spec = self.given()
        done = submit_spec.submit_spec(
            spec, self.hosts, new=self.new, again=self.again, skip_done=self.skip_done, name=self.name, warn=say,
            say=say,
        )  # fmt: skip
        lines = [f"{done.run.id}: {done.run.root}"]
        lines += [f"{one.host}: {one.fault or jobs_text(one.jobs)}" for one in done.outcomes]
        failed = any(one.fault is not None for one in done.outcomes)
        then = "preview and apply the same submit to finish the rest" if failed else f"wait(run={done.run.id})"
        return Done([*lines, *done.notes, *done.estimate_lines], then, failed)


class Retry(Change):
    """Run failed or cancelled jobs again, with new attempts."""

    change: Literal["retry"]
    run: RunName = None
    jobs: Jobs = ()
    phase: Phase = None
    stuck: Annotated[bool, Field(description="Instead of jobs: all that are stuck")] = False

    def look(self) -> Shown:
        change_run.check_choice(self.jobs, self.phase, self.stuck, "stuck")
        run = find_run(self.run)
        with open_run(run) as there:
            document = there.look(full=True)
        ids = set(change_run.jobs_to_retry(document, self.jobs, self.phase, stuck=self.stuck))
        rows = [row for row in document["jobs"] if row["id"] in ids]
        names = [f"{row['id']} ({row['status']})" for row in rows]
        seen = [run.id, [[row["id"], row["status"], row["attempt"]] for row in rows]]
        refused = None if rows else "nothing to retry: none of these jobs needs it"
        return Shown([f"retries {jobs_text(len(rows))} of {run.id}: {listed(names, _SHOWN)}"], seen, refused)

    def make(self, say: Say) -> Done:  # noqa: ARG002
        run = find_run(self.run)
        return _asked(run, change_run.retry_jobs(run, self.jobs, phase=self.phase, stuck=self.stuck))


class Cancel(Change):
    """Cancel jobs; running ones are stopped."""

    change: Literal["cancel"]
    run: RunName = None
    jobs: Jobs = ()
    phase: Phase = None
    everything: Annotated[bool, Field(description="Instead of jobs: all that have not ended")] = False

    def look(self) -> Shown:
        change_run.check_choice(self.jobs, self.phase, self.everything, "everything")
        run = find_run(self.run)
        with open_run(run) as there:
            document = there.look(full=True)
        ids = set(change_run.jobs_to_cancel(document, self.jobs, self.phase, everything=self.everything))
        rows = [row for row in document["jobs"] if row["id"] in ids]
        running = sum(row["status"] == "running" for row in rows)
        names = [f"{row['id']} ({row['status']})" for row in rows]
        # Which jobs are meant, and not how far they are: a run goes on while somebody thinks about its preview.
        meant = requests.select(document, self.jobs or ("*",), self.phase)
        lines = [f"cancels {jobs_text(len(rows))} of {run.id}, {running} running: {listed(names, _SHOWN)}"]
        return Shown(lines, [run.id, list(meant)], None if rows else "nothing to cancel")

    def make(self, say: Say) -> Done:  # noqa: ARG002
        run = find_run(self.run)
        return _asked(run, change_run.cancel_jobs(run, self.jobs, phase=self.phase, everything=self.everything))


class Add(Change):
    """Add jobs to a run: those of a spec that it does not have, or one job given by id and cmd."""

    change: Literal["add"]
    run: RunName = None
    spec: Spec = None
    update: Annotated[bool, Field(description="With spec: also change jobs that have not completed")] = False
    id: Annotated[str | None, Field(description="Instead of a spec: the id of one job")] = None
    cmd: Annotated[str | None, Field(description="With id: its command")] = None
    phase: Annotated[str, Field(description="With id: its phase")] = "main"
    gpus: Annotated[int, Field(ge=0, description="With id: how many GPUs it needs")] = 1
    depends_on: Annotated[tuple[str, ...], Field(description="With id: jobs that it waits for")] = ()
    expected_output: Annotated[str | None, Field(description="With id: the file that it writes")] = None

    def look(self) -> Shown:
        run = find_run(self.run)
        job = self._job()
        if job is not None:
            warnings = add_jobs.look_at_job(run, job)
            return Shown([f"adds {job.id} to {run.id}: {job.cmd}", *warnings], [run.id])
        spec = given_spec(self.spec or "")
        found = add_jobs.look_at_spec(run, spec, update=self.update)
        lines = [f"adds {jobs_text(len(found.new))} to {run.id}: {listed(found.new, _SHOWN)}"]
        if found.changed:
            lines.append(f"changes {jobs_text(len(found.changed))}: {listed(found.changed, _SHOWN)}")
        refused = None if found.new or found.changed else "nothing to add: the run has every job of this spec"
        return Shown(lines, [run.id, _digest(spec), list(found.new), list(found.changed)], refused)

    def make(self, say: Say) -> Done:
        run = find_run(self.run)
        job = self._job()
        if job is not None:
            return _asked(run, add_jobs.add_job(run, job, say))
        added = add_jobs.add_spec(run, given_spec(self.spec or ""), update=self.update)
        parts = [_asked(run, one) for one in added if one is not None]
        lines = [line for one in parts for line in one.lines]
        return Done(lines, f"wait(run={run.id})", any(one.failed for one in parts))

    def _job(self) -> JobSpec | None:
        if (self.spec is None) == (self.id is None) or (self.id is None) != (self.cmd is None):
            raise UseError("give spec, or id and cmd")
        if self.id is None or self.cmd is None:
            return None
        return JobSpec(
            self.id, self.cmd, self.phase, depends_on=tuple(self.depends_on), gpus=self.gpus,
            expected_output=self.expected_output,
        )  # fmt: skip


class Pull(Change):
    """Copy results, logs and state of a run from its hosts to this machine."""

    change: Literal["pull"]
    run: RunName = None
    hosts: Annotated[tuple[str, ...], Field(description="From these hosts only; absent: from all")] = ()

    def look(self) -> Shown:
        run = find_run_on_hosts(self.run)
        parts = pull.parts(pull_run.assignment_of(run), self.hosts)
        places = pull_run.results_below(run)
        lines = [f"copies from {part.host} what {jobs_text(len(part.jobs))} wrote" for part in parts]
        lines.append(f"into {listed(map(str, places.results))}; replaces nothing that is newer here")
        return Shown(lines, [run.id, [[part.host, list(part.jobs)] for part in parts]])

    def make(self, say: Say) -> Done:
        run = find_run_on_hosts(self.run)
        done = pull_run.pull_run(run, self.hosts, say)
        found = pull_run.assignment_of(run)
        lines = [pull_text.host_line(turn, found) for turn in done.turns.values()]
        lines += pull_text.details(done.turns.values(), done.relayed)
        return Done(lines, f"results(run={run.id})", done.failed)


class Up(Change):
    """Rent a machine, run a spec there, pull the results, destroy it. Goes on when the server ends."""

    change: Literal["up"]
    spec: Annotated[str, Field(description="A spec (YAML or JSON)")]
    max_cost: Annotated[float, Field(ge=0.01, description="Cost limit in USD for all of it")]
    profile: Annotated[str | None, Field(description="Profile of the machine; absent: as the spec needs")] = None

    def look(self) -> Shown:
        offered = up_steps.look(self.spec, self.profile, self.max_cost)
        lines = choose_offer.terms(offered.best, offered.work, offered.image, more=True)
        lines.append(f"cost limit: ${offered.cost_limit:.2f}; beyond it, no job starts and the machine is ended")
        if offered.credit is not None and offered.credit < offered.cost_limit:
            lines.append(f"the account has ${offered.credit:.2f}, less than the limit")
        lines.append("offers change: what is rented is the best one at that time, within the limit")
        return Shown(lines, _digest(self.spec))

    def make(self, say: Say) -> Done:  # noqa: ARG002
        done = detach_up.detach_up(self.spec, self.max_cost, self.profile, _UP_PATIENCE)
        if done.code:
            raise FailedError(f"{done.last or 'up failed'}; all that it printed is in {done.log}")
        words = "has ended" if done.code == 0 else f"goes on as process {done.pid}"
        return Done([f"up {words}: {done.last}", f"what it prints: {done.log}"], "status() once its run has begun")


def _asked(run: Run, done: Changed) -> Done:
    lines = list(request_text.lines(done))
    return Done(
        [text for text, _ in lines], f"status(run={run.id})", any(kind in ("waits", "failed") for _, kind in lines)
    )


VARIANTS: dict[str, type[Change]] = {
    "run": RunIt, "submit": Submit, "retry": Retry, "cancel": Cancel, "add": Add, "pull": Pull, "up": Up,
}  # fmt: skip
AnyChange = Annotated[
    Union[RunIt, Submit, Retry, Cancel, Add, Pull, Up],
    Field(discriminator="change"),
]


class Preview(Arguments):
    variants: ClassVar[dict[str, type[Change]]] = VARIANTS
    change: Annotated[AnyChange, Field(description="What to do")]


class Apply(Arguments):
    variants: ClassVar[dict[str, type[Change]]] = VARIANTS
    # The schema of preview says what a change may be; twice would be twice as many words for each session.
    change: Annotated[AnyChange, WithJsonSchema({"type": "object", "description": "The change as it was previewed"})]
    token: Annotated[str, Field(description="What the preview of this change gave; good once, for 15 minutes")] = ""
