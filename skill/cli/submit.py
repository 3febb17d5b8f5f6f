"""Verbs that bring a spec to hosts: preflight and submit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from build_manifest.faults import listed
from queue_manager.core.layout import LOCAL_RUNS
from skill.cli.spec import AGAIN, JSON, SKIP_DONE, SPEC, build, earlier, earlier_manifests, print_json
from skill.common import files
from skill.common.errors import DONE, FAILED, FailedError, UseError
from skill.hosts.connection import Host
from skill.operations import submission, submit
from skill.operations.submission import Order
from skill.operations.submit import TRIES, Outcome
from skill.planning import existing_outputs, host_preflight, plan
from skill.planning.assign_jobs import Offer, Sharing
from skill.planning.existing_outputs import Found
from skill.planning.host_preflight import Verdict
from skill.runs import assignment, directory, live_runs
from skill.runs import local_manager as manager
from skill.runs.directory import Run
from skill.runs.path_map import Ground
from skill.terminal import live
from skill.transfer import code_files, write_gate

if TYPE_CHECKING:
    from skill.hosts.registry import Worker

HOSTS = click.option("--host", "names", metavar="NAME", multiple=True, help="On this host; may be given several times.")
POOL = click.option("--pool", metavar="POOL", help="On all enabled hosts of this pool.")


class Checked(NamedTuple):
    """A spec held against hosts. `existing`: what of it is on each host already, so far as that was told."""

    offers: list[Offer]
    sharing: Sharing
    verdicts: list[Verdict]
    faults: list[str]
    warnings: list[str]
    existing: Mapping[str, Found] = {}


def _connect(made: Order, names: Sequence[str], pool: str | None) -> list[Host]:
    from skill.hosts import registry  # not before it is known that there is a spec

    where = registry.locate(Path.cwd())
    meant = submission.targets(registry.Registry.load(where), names, pool, made.manifest)
    meant = mended(where, meant, "take it out with `wavequeue hosts remove {name}`, and submit to another host")
    return [registry.connect(worker, where, TRIES) for worker in meant]


def mended(where: Path, meant: list[Worker], instead: str) -> list[Worker]:
    """The workers as they are now, if some are rented: an address may have changed. Raises FailedError where one has
    gone: its address may be somebody else's by now. `instead`: what is to be done about {name} then."""
    if all(worker.instance_id is None for worker in meant):
        return meant
    from skill.fleet.drift import is_known_gone
    from skill.fleet.reconcile import reconcile_before
    from skill.hosts import registry

    for text in reconcile_before(where, [worker.name for worker in meant]):
        submit.say(text)
    known = registry.Registry.load(where)
    found = [known.named(worker.name) for worker in meant]
    for worker in found:
        if is_known_gone(worker):
            words = instead.format(name=worker.name)
            raise FailedError(f"{worker.name} was instance {worker.instance_id}, which is there no more; {words}")
    return found


def check(made: Order, hosts: Sequence[Host], *, newest_code: bool = False) -> Checked:
    """Look at all hosts at once, share the jobs out, and judge each host for its own. `newest_code`: see scout."""
    from skill.operations import survey
    from skill.planning import assign_jobs

    found = survey.scout(made, hosts, newest_code=newest_code)
    # A host that did not answer gets nothing; that it did not is a fault all the same.
    offers = [one.offer(host.name, _speed(host)) for host in hosts if (one := found[host.name]).document is not None]
    known = plan.history(earlier(made.manifest.project, made.beside))
    sharing = assign_jobs.share(made.manifest, offers, {phase: median for phase, (median, _) in known.items()})
    verdicts = []
    for host in hosts:
        seen = found[host.name].seen(host.name, pushed=made.pushed)
        cwd = "/" if seen.found is None else seen.found["cwd"]["path"]
        verdict = host_preflight.judge(made.manifest, sharing.parts.get(host.name, ()), seen, made.comes(cwd))
        twin = found[host.name].twin(found)
        if twin is not None:
            verdict = verdict._replace(faults=(*verdict.faults, f"{submit.same_home(twin)}; leave one of them out"))
        verdicts.append(verdict)
    # Where no host could be looked at, why no job has one is said already.
    unplaced = host_preflight.unplaced_lines(sharing.unplaced) if offers else []
    return Checked(
        offers,
        sharing,
        verdicts,
        host_preflight.fault_lines(verdicts, unplaced),
        [*_code_warnings(made), *_output_warnings(made), *host_preflight.warning_lines(verdicts)],
        {name: there for name, one in found.items() if (there := one.existing()) is not None},
    )


def _code_warnings(made: Order) -> list[str]:
    """What of the project is not sent, since it looks like a secret."""
    secrets = code_files.choose(made.source).secrets if made.pushed else []
    return [code_files.left_out_words(secrets)] if secrets else []


def _output_warnings(made: Order) -> list[str]:
    """What is here of the outputs, and would be in the way of a pull."""
    if made.cwd is None:
        return []
    where = Ground("there", made.cwd, made.source)
    outputs = dict.fromkeys(name for spec in made.manifest.jobs if (name := where.output(spec)) is not None)
    names = write_gate.left_alone(made.beside / LOCAL_RUNS, made.source, tuple(outputs))
    if not names:
        return []
    words = (
        f"{listed(names, 5)}: here already, and of an expected_output that does not spell out its name: a pull "
        "replaces none of it. To have the files of this run, move these away before you pull"
    )
    return [words]


def _speed(host: Host) -> float:
    speed = host.worker.resources.get("speed", 1.0)
    return float(speed) if isinstance(speed, (int, float)) and speed > 0 else 1.0


@click.command("preflight", short_help="Check that SPEC can run on its hosts.")
@SPEC
@HOSTS
@POOL
@JSON
def preflight_verb(spec: str, names: tuple[str, ...], pool: str | None, as_json: bool) -> int:
    """Check on its hosts whether SPEC can run there: what is missing, and which jobs that blocks. Writes nothing.

    Hosts: --host, or --pool, or hosts: in the spec, or the only one registered. Exit code 1 if anything would stop the
    run.
    """
    made = submission.order(build(spec).manifest, spec)
    hosts = _connect(made, names, pool)
    try:
        checked = check(made, hosts)
    finally:
        _close(hosts)
    if as_json:
        print_json(host_preflight.document(made.manifest.project, checked.verdicts, checked.sharing.unplaced))
    else:
        output = live.console()
        for line in host_preflight.table(made.manifest, checked.verdicts, output.width):
            output.print(line, no_wrap=True, crop=False)
        if made.pushed:
            print(f"code: {code_files.size_words(made.source, code_files.choose(made.source).files)}")
        for text in checked.warnings:
            print(f"warning: {text}")
        for text in checked.faults:
            print(f"stops it: {text}")
        if not checked.faults:
            print(f"nothing stops it; submit it: wavequeue submit {spec}")
    return FAILED if checked.faults else DONE


@click.command("submit", short_help="Run SPEC on its hosts.")
@SPEC
@HOSTS
@POOL
@click.option("--new", is_flag=True, help="Begin another run, though this one was submitted before.")
@AGAIN
@SKIP_DONE
@click.option("--no-code", is_flag=True, help="Leave the code on the hosts as it is.")
@click.option("--poll", type=click.FloatRange(0.01, 3600), metavar="SEC", help="Seconds between looks at the cards.")
@JSON
def submit_verb(
    spec: str,
    names: tuple[str, ...],
    pool: str | None,
    new: bool,
    again: bool,
    skip_done: bool,
    no_code: bool,
    poll: float | None,
    as_json: bool,
) -> int:
    """Run SPEC on its hosts: check them, push the code beside the spec, start a manager on each.

    The managers are detached: this machine may sleep. The same again takes up the same run: it finishes what was cut
    off and brings the code up to date. With --new, --again or --skip-done it is another run: while the one before is
    live on a host, only --again begins it. Hosts: as for preflight.
    """
    if again and skip_done:
        raise UseError("--again runs all jobs, and --skip-done not all: give one of them")
    new = new or again or skip_done
    made = submission.order(build(spec).manifest, spec, push=not no_code)
    run = None if new else submit.existing(made)
    how_long, notes = "", []
    if run is not None:
        hosts = _again(made, run, names, pool)
        submit.say(f"{run.id} has the same manifest and is taken up again; another run: --new")
        for text in _code_warnings(made):
            submit.say(f"warning: {text}")
    else:
        hosts = _connect(made, names, pool)
        checked = check(made, hosts, newest_code=skip_done and (no_code or not made.pushed))
        done = _there_already(spec, made, checked, again=again, skip_done=skip_done, pushed=made.pushed and not no_code)
        run = begin(made, hosts, checked, new=new, done=done)
        how_long = _estimate(made, checked)
        notes = _carried(checked)
        hosts = [host for host in hosts if host.name in checked.sharing.parts]
    directory.note_submitted(run, Path.home())
    try:
        outcomes = submit.finish(run, made, hosts, push=not no_code, poll=poll)
    finally:
        _close(hosts)
    if as_json:
        print_json(_document(run, outcomes, how_long))
    else:
        _report(run, outcomes, how_long, notes)
    failed = [one for one in outcomes if one.fault is not None]
    for one in failed:
        submit.say(f"{one.host}: {one.fault}")
    if failed:
        submit.say(f"run the same command again to finish {len(failed)} of {len(outcomes)} hosts")
    return FAILED if failed else DONE


def _again(made: Order, run: Run, names: Sequence[str], pool: str | None) -> list[Host]:
    """The hosts of a run that was begun before. Raises UseError where others were asked for."""
    from skill.hosts import registry

    where = registry.locate(Path.cwd())
    known = registry.Registry.load(where)
    asked = [worker.name for worker in submission.targets(known, names, pool, made.manifest)] if names or pool else []
    submit.check_asked(run, asked)
    found = assignment.read(run)
    assert found is not None
    meant = [known.named(part.host) for part in found.parts if part.state != assignment.LOST]
    meant = mended(where, meant, f"have its jobs run elsewhere: wavequeue rescue {run.id} --from {{name}}")
    return [registry.connect(worker, where, TRIES) for worker in meant]


def _there_already(
    spec: str, made: Order, checked: Checked, *, again: bool, skip_done: bool, pushed: bool
) -> dict[str, tuple[str, ...]]:
    """Say what lies or goes on where the jobs would run that has to do with them. Gives the jobs that outputs stand
    for, by host. Raises UseError where the same jobs run, FailedError where --skip-done cannot be decided."""
    by_id = {job.id: job for job in made.manifest.jobs}
    lines: list[str] = []
    done: dict[str, tuple[str, ...]] = {}
    here = None
    for host, ids in checked.sharing.parts.items():
        found = checked.existing.get(host)
        if found is None:
            continue
        refused = live_runs.refusal(found.live, spec, f"on {host}")
        if refused is not None and not again:
            raise UseError(refused)
        lines += live_runs.warnings(found.live, f"on {host}")
        mine = [by_id[name] for name in ids]
        if skip_done:
            if pushed and here is None:
                where = str(made.source / (made.cwd or "."))
                here = manager.examine(made.manifest._replace(cwd=where), newest_code=True)
            code = existing_outputs.newest_code(found if here is None else _of_here(here))
            before = earlier_manifests(made.manifest.project, made.beside)
            chosen = existing_outputs.skips(mine, found, code, Path(spec).stat().st_mtime, before)
            done[host] = chosen.done
            lines += [f"{host}: {line}" for line in existing_outputs.skip_words(chosen, code)]
        elif not again:
            lines += existing_outputs.words(found, mine, f"on {host}")
    for line in lines:
        submit.say(line)
    return done


def _of_here(document: Mapping[str, Any]) -> Found:
    found = existing_outputs.read(document)
    return Found({}, 0, ()) if found is None else found


def begin(
    made: Order,
    hosts: Sequence[Host],
    checked: Checked,
    *,
    new: bool,
    done: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> Run:
    """Make the run here, if nothing stops it. `done`: the jobs that outputs stand for, by host.

    Raises FailedError, with nothing written, where something does.
    """
    for text in checked.warnings:
        submit.say(f"warning: {text}")
    if checked.faults:
        lines = "\n".join(f"  {text}" for text in checked.faults)
        raise FailedError(f"nothing was submitted, for this stops it:\n{lines}\nSee all: wavequeue preflight SPEC")
    workers = {host.name: host.worker for host in hosts}
    parts = [
        made.part(workers[name], jobs)._replace(done=done.get(name, ())) for name, jobs in checked.sharing.parts.items()
    ]
    with files.in_turn(made.beside / LOCAL_RUNS):
        if not new and submit.existing(made) is not None:
            raise FailedError("another submit of the same manifest has just begun; run the same command again")
        return submit.create(made, parts)


def _estimate(made: Order, checked: Checked) -> str:
    from skill.planning import estimate

    known = plan.history(earlier(made.manifest.project, made.beside))
    return estimate.estimate(made.manifest, checked.offers, checked.sharing, known).how


def _carried(checked: Checked) -> list[str]:
    """Which outputs have to travel between hosts, a line for each way."""
    ways: dict[tuple[str, str], list[str]] = {}
    for one in checked.sharing.carried:
        ways.setdefault((one.src, one.dst), []).append(one.job)
    return [
        f"outputs go from {src} to {dst} by way of this machine: {listed(jobs, 5)}" for (src, dst), jobs in ways.items()
    ]


def _document(run: Run, outcomes: Sequence[Outcome], how_long: str) -> dict[str, Any]:
    """What `submit --json` prints."""
    hosts = [
        {"name": one.host, "jobs": one.jobs, "pid": one.pid, "fault": one.fault, "notes": list(one.notes)}
        for one in outcomes
    ]
    return {"run_id": run.id, "directory": str(run.root), "hosts": hosts, "estimate": how_long or None}


def _report(run: Run, outcomes: Sequence[Outcome], how_long: str, notes: Sequence[str]) -> None:
    print(f"{run.id}: {sum(one.jobs for one in outcomes if one.fault is None)} jobs")
    for one in outcomes:
        if one.fault is None:
            manager = [f"manager is process {one.pid}"] if one.pid is not None else []
            print(f"  {one.host}: {one.jobs} jobs, {'; '.join([*manager, *one.notes])}")
    for text in notes:
        print(f"  {text}")
    if how_long:
        print(f"how long: {how_long}")
    print(f"{run.root}\nfollow it: wavequeue watch --run {run.id}")


def _close(hosts: Sequence[Host]) -> None:
    for host in hosts:
        host.close()
