"""Run a spec on hosts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from build_manifest.faults import listed
from queue_manager.core.layout import LOCAL_RUNS
from skill.common import files
from skill.common.errors import FailedError, UseError
from skill.common.project import locate_workers
from skill.hosts import registry
from skill.hosts.bootstrap import Facts
from skill.hosts.code_push import Report, no_report
from skill.hosts.connection import Host
from skill.operations import check_hosts, submission, submit
from skill.operations.build_spec import Given, Say, build_for, changed_at, earlier_manifests, file_of, ignore
from skill.operations.check_hosts import Checked
from skill.operations.find_run import check_name
from skill.operations.submission import Submission
from skill.operations.submit import TRIES, Outcome
from skill.planning import engines, existing_outputs, forecast
from skill.planning.existing_outputs import Found
from skill.runs import assignment, directory, live_runs, local_manager
from skill.runs.directory import Run


class Submitted(NamedTuple):
    """A run on hosts.

    `outcomes`: whether it was started, by host. `estimate`: how long it takes and what it costs, see
    planning.forecast.document; `estimate_lines`: the same for people. Both are empty where a run is continued. `notes`:
    which outputs are copied between hosts.
    """

    run: Run
    outcomes: tuple[Outcome, ...]
    estimate: Mapping[str, Any] | None
    estimate_lines: tuple[str, ...]
    notes: tuple[str, ...]


def submit_spec(
    spec: Given,
    names: Sequence[str] = (),
    pool: str | None = None,
    *,
    new: bool = False,
    again: bool = False,
    skip_done: bool = False,
    name: str | None = None,
    push: bool = True,
    engine: str = engines.HOSTS,
    manager: str | None = None,
    poll: float | None = None,
    warn: Say = ignore,
    say: Say = ignore,
    agree: Say = ignore,
    report: Report = no_report,
) -> Submitted:
    """Check hosts, push the code beside the spec to them, and start a manager on each.

    Hosts: `names`, or those of `pool`, or those that the spec names, or the only one registered. The same spec again
    continues the same run, unless `new`, `again` (although the same jobs are running) or `skip_done` (jobs whose
    outputs exist and are newer than the code count as done). `name`: call the run so, instead of after its project.
    `push`: send the code; `agree` is asked before much of it is sent. `engine`: what places the jobs, see
    planning.engines; the host is a login node then, and `manager` says where its manager runs, see bootstrap.start.
    `poll`: seconds between checks of the GPUs. `report` gets how much each host has got. `warn` gets the warnings of
    the build, `say` all other lines.

    Raises SpecErrors, UseError and FailedError, with nothing written. A later failure on one host is in its outcome.
    """
    if again and skip_done:
        raise UseError("--again and --skip-done cannot be used together")
    new = new or again or skip_done
    made = submission.prepare(build_for(spec, engine, warn), spec, push=push)
    run = None if new else submit.existing(made)
    if name is not None and (run is None or directory.title(run.id) != name):
        if run is not None:
            raise UseError(
                f"the same manifest was submitted as {run.id}; leave out --name to continue it, or add --new"
            )
        check_name(name)
    estimate: Mapping[str, Any] | None = None
    estimate_lines: tuple[str, ...] = ()
    notes: list[str] = []
    facts: Mapping[str, Facts] = {}
    if run is not None:
        hosts = _again(made, run, names, pool, say)
        say(f"{run.id} has the same manifest and is continued; for another run: --new")
        code = made.code()
        if push:
            submission.say_size(made, code, say, agree, submit.pushed_before(run))
        for text in check_hosts.code_warnings(code):
            say(f"warning: {text}")
    else:
        hosts = check_hosts.connect(made, names, pool, say)
        checked = check_hosts.check(made, hosts, newest_code=skip_done and not (push and made.pushed))
        done = _there_already(spec, made, checked, say, again=again, skip_done=skip_done, pushed=made.pushed and push)
        if push and not checked.faults:
            submission.say_size(made, checked.code, say, agree)
        run = begin(made, hosts, checked, say, new=new, name=name, done=done)
        found = forecast.forecast(
            made.manifest, checked.offers, checked.sharing, checked.durations, checked.prices, done
        )
        estimate, estimate_lines = forecast.document(found), forecast.lines(found, list(checked.prices))
        notes = _carried(checked)
        hosts = [host for host in hosts if host.name in checked.sharing.parts]
        facts, code = checked.fresh_facts(), checked.code
    directory.note_submitted(run, Path.home())
    try:
        outcomes = submit.finish(
            run, made, hosts, push=push, poll=poll, manager=manager, say=say, report=report, facts=facts, code=code
        )
    finally:
        for host in hosts:
            host.close()
    return Submitted(run, tuple(outcomes), estimate, estimate_lines, tuple(notes))


def push_again(run: Run, spec: Given, say: Say = ignore) -> tuple[Outcome, ...]:
    """Push the code beside a spec to all hosts of a run that was begun before, and finish on them what its submit did
    not. Raises UseError and FailedError; a failure on one host is in its outcome."""
    made = submission.prepare(directory.read_manifest(run, ours=True), spec)
    hosts = _again(made, run, (), None, say)
    try:
        return tuple(submit.finish(run, made, hosts, push=True, poll=None, say=say))
    finally:
        for host in hosts:
            host.close()


def _again(made: Submission, run: Run, names: Sequence[str], pool: str | None, say: Say) -> list[Host]:
    """Return the hosts of a run that was begun before. Raises UseError where other hosts were given."""
    where = locate_workers()
    known = registry.Registry.load(where)
    asked = [worker.name for worker in submission.targets(known, names, pool, made.manifest)] if names or pool else []
    submit.check_asked(run, asked)
    found = assignment.read(run)
    assert found is not None
    meant = [known.named(part.host) for part in found.parts if part.state != assignment.LOST]
    meant = check_hosts.refreshed(
        where, meant, f"have its jobs run elsewhere: wavequeue rescue {run.id} --from {{name}}", say
    )
    return [registry.connect(worker, where, TRIES) for worker in meant]


def _there_already(
    spec: Given, made: Submission, checked: Checked, say: Say, *, again: bool, skip_done: bool, pushed: bool
) -> dict[str, tuple[str, ...]]:
    """Report outputs and runs on the hosts that concern these jobs. Returns the jobs that count as done, by host.
    Raises UseError where the same jobs are running, FailedError where --skip-done cannot be decided."""
    by_id = {job.id: job for job in made.manifest.jobs}
    lines: list[str] = []
    done: dict[str, tuple[str, ...]] = {}
    here = None
    for host, ids in checked.sharing.parts.items():
        found = checked.existing.get(host)
        if found is None:
            continue
        refused = live_runs.refusal(found.live, str(spec), f"on {host}", file_of(spec))
        if refused is not None and not again:
            raise UseError(refused)
        lines += live_runs.warnings(found.live, found.live_unknown, f"on {host}")
        mine = [by_id[name] for name in ids]
        if skip_done:
            if pushed and here is None:
                where = str(made.source / (made.cwd or "."))
                here = local_manager.examine(made.manifest._replace(cwd=where), newest_code=True)
            code = existing_outputs.newest_code(found if here is None else _of_here(here))
            before = earlier_manifests(made.manifest.project, made.beside)
            chosen = existing_outputs.skips(mine, found, code, changed_at(spec), before)
            done[host] = chosen.done
            lines += [f"{host}: {line}" for line in existing_outputs.skip_words(chosen, code)]
        elif not again:
            lines += existing_outputs.words(found, mine, f"on {host}")
    for line in lines:
        say(line)
    return done


def _of_here(document: Mapping[str, Any]) -> Found:
    found = existing_outputs.read(document)
    return Found({}, 0, ()) if found is None else found


def begin(
    made: Submission,
    hosts: Sequence[Host],
    checked: Checked,
    say: Say,
    *,
    new: bool,
    name: str | None = None,
    done: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> Run:
    """Create the run here, if all checks passed. `done`: the jobs that count as done, by host.

    Raises FailedError, with nothing written, where a check failed.
    """
    for text in checked.warnings:
        say(f"warning: {text}")
    if checked.faults:
        lines = "\n".join(f"  {text}" for text in checked.faults)
        raise FailedError(f"nothing was submitted, because checks failed:\n{lines}\nSee all: {made.preflight}")
    workers = {host.name: host.worker for host in hosts}
    parts = [
        made.part(workers[name], jobs)._replace(done=done.get(name, ())) for name, jobs in checked.sharing.parts.items()
    ]
    with files.in_turn(made.beside / LOCAL_RUNS):
        if not new and submit.existing(made) is not None:
            raise FailedError("another submit of the same manifest has just begun; run the same command again")
        called = None if name is None else directory.run_id(name, time.time())
        return submit.create(made, parts, checked.durations.earlier, called)


def _carried(checked: Checked) -> list[str]:
    """Return a line for each pair of hosts between which outputs are copied."""
    ways: dict[tuple[str, str], list[str]] = {}
    for one in checked.sharing.carried:
        ways.setdefault((one.src, one.dst), []).append(one.job)
    return [f"outputs go from {src} to {dst} via this machine: {listed(jobs, 5)}" for (src, dst), jobs in ways.items()]
