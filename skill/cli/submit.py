"""Verbs that bring a spec to hosts: preflight and submit."""

from __future__ import annotations

import shlex
from typing import Any

import click

from queue_manager.core.launchers import SLURM
from queue_manager.core.manifest import Manifest
from skill.cli.console import print_json, print_lines, say, warn
from skill.cli.given_spec import DRY_RUN, NAME, TakesCommand, code_agreement, confirm_size, given
from skill.cli.options import AGAIN, ENGINE, HOSTS, JSON, MANAGER, POLL, POOL, SKIP_DONE, SPEC, YES
from skill.cli.plan_output import print_plan
from skill.cli.run import report_started
from skill.common.errors import DONE, FAILED, UseError
from skill.common.units import jobs_text
from skill.operations import check_here, check_hosts, submission, submit_spec
from skill.operations.build_spec import Given, build, build_for
from skill.operations.submit_spec import Submitted
from skill.planning import host_preflight
from skill.terminal.transfer_bars import TransferBars


@click.command("preflight", short_help="Check that SPEC can run on its hosts.")
@SPEC
@HOSTS
@POOL
@ENGINE
@JSON
def preflight_verb(spec: Given, names: tuple[str, ...], pool: str | None, engine: str, as_json: bool) -> int:
    """Check on its hosts whether SPEC can run there: what is missing, and which jobs that blocks. Writes nothing.

    Hosts: --host, or --pool, or hosts: in the spec, or the only one registered. This machine is checked where no host
    is known, and with --host localhost. Exit code 1 if a check failed.
    """
    manifest = build_for(spec, engine, warn)
    if (engine == SLURM and not names and pool is None) or check_here.is_meant(names, pool, manifest):
        return _preflight_here(manifest, spec, as_json)
    made = submission.prepare(manifest, spec)
    hosts = check_hosts.connect(made, names, pool, say)
    try:
        checked = check_hosts.check(made, hosts, routes=True)
    finally:
        for host in hosts:
            host.close()
    if as_json:
        print_json(host_preflight.document(made.manifest.project, checked.verdicts, checked.sharing.unplaced))
    else:
        print_lines(lambda width: host_preflight.table(made.manifest, checked.verdicts, width))
        if checked.code is not None:
            print("\n".join(submission.code_lines(checked.code)))
        for text in checked.warnings:
            print(f"warning: {text}")
        for text in checked.faults:
            print(f"error: {text}")
        if not checked.faults:
            where = [
                *(f"--host {shlex.quote(name)}" for name in names),
                *([f"--pool {shlex.quote(pool)}"] if pool else ()),
                *([f"--engine {engine}"] if engine == SLURM else ()),
            ]
            print(f"all checks passed; next: {' '.join(['wavequeue submit', str(spec), *where])}")
    return FAILED if checked.faults else DONE


def _preflight_here(manifest: Manifest, spec: Given, as_json: bool) -> int:
    found = check_here.check_here(manifest, spec)
    faults = (*found.faults, *found.blocked)
    if as_json:
        verdict = found.verdict._replace(faults=faults, warnings=found.warnings)
        print_json(host_preflight.document(manifest.project, [verdict], {}))
    else:
        print_lines(lambda width: host_preflight.table(manifest, [found.verdict], width))
        for text in found.warnings:
            print(f"warning: {text}")
        for text in faults:
            print(f"error: {text}")
        if not faults:
            verb = f"submit {spec} --engine slurm" if manifest.launcher == SLURM else f"run {spec}"
            print(f"all checks passed; next: wavequeue {verb}")
    return FAILED if faults else DONE


@click.command("submit", short_help="Run SPEC on its hosts.", cls=TakesCommand)
@given
@HOSTS
@POOL
@NAME
@DRY_RUN
@click.option("--new", is_flag=True, help="Start a new run even if this one was submitted before.")
@AGAIN
@SKIP_DONE
@click.option("--no-code", is_flag=True, help="Do not push the code; use what is on the hosts.")
@POLL
@ENGINE
@MANAGER
@YES
@JSON
def submit_verb(
    spec: Given,
    names: tuple[str, ...],
    pool: str | None,
    name: str | None,
    dry_run: bool,
    new: bool,
    again: bool,
    skip_done: bool,
    no_code: bool,
    poll: float | None,
    engine: str,
    manager: str | None,
    yes: bool,
    as_json: bool,
) -> int:
    """Run SPEC on its hosts: check them, push the code beside the spec, start a manager on each.

    The managers are detached: this machine may sleep. Run the same command again to continue an interrupted submit and
    to update the code. --new, --again and --skip-done start another run; while the previous one is active on a host,
    only --again does. Hosts are chosen as for preflight. A command after --, a file of commands and a table are taken
    as by run.

    With --engine slurm the manager submits the jobs to Slurm, on this machine or on the login node --host NAME. With
    --manager job it is a job of Slurm itself, and another one follows before its time ends.
    """
    if manager is not None and engine != SLURM:
        raise UseError("--manager is for --engine slurm")
    slurm_here = engine == SLURM and not names and pool is None
    if dry_run:
        from skill.operations.plan_spec import plan_spec

        asked = () if slurm_here else check_hosts.meant(build(spec).manifest, names, pool)
        return print_plan(plan_spec(spec, asked, engine=engine, say=say), as_json, "there")
    confirm_size(spec, yes=yes)
    if slurm_here:
        from skill.operations import start_run

        started = start_run.start_run(
            spec, poll=poll, again=again, skip_done=skip_done, name=name, engine=engine, manager=manager, warn=warn,
            say=say,
        )  # fmt: skip
        report_started(started, as_json=as_json)
        return DONE
    with TransferBars(say) as bars:
        done = submit_spec.submit_spec(
            spec, names, pool, new=new, again=again, skip_done=skip_done, name=name, push=not no_code, poll=poll,
            engine=engine, manager=manager, warn=warn, say=say, agree=code_agreement(yes=yes), report=bars.report,
        )  # fmt: skip
    if as_json:
        print_json(_document(done))
    else:
        _report(done)
    failed = [one for one in done.outcomes if one.fault is not None]
    for one in failed:
        say(f"{one.host}: {one.fault}")
    if failed:
        say(f"run the same command again to finish {len(failed)} of {len(done.outcomes)} hosts")
    return FAILED if failed else DONE


def _document(done: Submitted) -> dict[str, Any]:
    """Return what `submit --json` prints."""
    hosts = [
        {"name": one.host, "jobs": one.jobs, "pid": one.pid, "fault": one.fault, "notes": list(one.notes)}
        for one in done.outcomes
    ]
    return {
        "run_id": done.run.id,
        "directory": str(done.run.root),
        "hosts": hosts,
        "estimate": done.estimate,
    }


def _report(done: Submitted) -> None:
    run, outcomes = done.run, done.outcomes
    print(f"{run.id}: {jobs_text(sum(one.jobs for one in outcomes if one.fault is None))}")
    for one in outcomes:
        if one.fault is None:
            manager = [f"manager is process {one.pid}"] if one.pid is not None else []
            print(f"  {one.host}: {jobs_text(one.jobs)}, {'; '.join([*manager, *one.notes])}")
    for text in done.notes:
        print(f"  {text}")
    for text in done.estimate_lines:
        print(text)
    print(run.root)
    if any(one.fault is None for one in outcomes):
        print(f"follow it: wavequeue watch --run {run.id}")
