"""Show what a spec would run: on this machine, on hosts, or on a machine that can be rented."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from queue_manager.core.launchers import SLURM
from queue_manager.core.manifest import Manifest
from queue_manager.core.readings import Card
from skill.common.errors import UseError
from skill.common.project import locate_workers
from skill.operations import check_here, check_hosts, choose_offer, submission
from skill.operations.build_spec import (
    Given,
    Say,
    beside,
    build,
    build_for,
    expected,
    file_of,
    hosts_warning,
    ignore,
    settle,
)
from skill.operations.choose_offer import Asked, Looked
from skill.planning import assign_jobs, engines, existing_outputs, local_preflight, plan, power, slurm_plan, what_if
from skill.planning import where as wheres
from skill.planning.assign_jobs import Offer
from skill.planning.plan import Place
from skill.planning.where import Where
from skill.runs import live_runs, local_manager


class Planned(NamedTuple):
    """The plan of a spec. `document`: see `wavequeue plan --json`. `faults`: why it cannot run there, in words."""

    document: Mapping[str, Any]
    warnings: tuple[str, ...]
    faults: tuple[str, ...]


def plan_spec(
    spec: Given,
    names: Sequence[str] = (),
    pool: str | None = None,
    *,
    gpus: int | None = None,
    offer: int | None = None,
    where: Where | None = None,
    engine: str = engines.HOSTS,
    say: Say = ignore,
) -> Planned:
    """Plan a spec: its phases and jobs, the available GPUs, the duration and the cost. Starts nothing. `engine`: what
    places the jobs, see planning.engines.

    Where: on this machine; or on the hosts `names` or of `pool`; or on the rentable `offer` of that number. `gpus`:
    count so many GPUs on each machine. `where`: a person's decision where to run it, for what is advised; only on this
    machine there is advice. `say` gets a line for each host that changed. Raises SpecErrors where the spec
    cannot be built, UseError and FailedError.
    """
    if gpus is not None and gpus < 1:
        raise UseError(f"--gpus {gpus}: give how many GPUs to plan for, 1 or more")
    if where is not None and (names or pool is not None or offer is not None):
        raise UseError("--where is for a plan of this machine; give it without --host, --pool and --offer")
    if offer is not None and (names or pool is not None or gpus is not None):
        raise UseError("--offer is one machine as it can be rented; give it without --host, --pool and --gpus")
    warnings: list[str] = []
    manifest = build_for(spec, engine, warnings.append)
    if gpus is not None:
        manifest = manifest._replace(gpus=None)
    if offer is not None:
        return _on_offer(manifest, spec, offer, warnings)
    if names or pool is not None:
        return _on_hosts(manifest, spec, names, pool, gpus, warnings, say)
    return _here(manifest, spec, gpus, where, warnings)


def _here(manifest: Manifest, spec: Given, gpus: int | None, decided: Where | None, warnings: list[str]) -> Planned:
    folder = beside(spec)
    manifest = settle(manifest, folder)
    document = local_manager.preflight(manifest)
    found, there = document["probe"], existing_outputs.read(document)
    cards = tuple(
        Card(row["index"], row["uuid"], row["name"], row["total_mib"] or 0, row["used_mib"] or 0)
        for row in found["gpus"]
    )
    on_slurm = manifest.launcher == SLURM
    machine = Offer(found["host"], () if on_slurm else cards, engines.WINDOW if on_slurm else found["cpus"])
    faults: list[str] = []
    if gpus is not None:
        machine = what_if.with_cards(manifest, machine, gpus)
        warnings += local_preflight.unset_words(document, {job.id for job in manifest.jobs})
    else:
        checked = check_here.judge(manifest, document)
        faults += checked.faults
        warnings += [*checked.blocked, *checked.warnings]
    warnings += hosts_warning(manifest)
    if there is not None:
        refused = live_runs.refusal(there.live, str(spec), file=file_of(spec))
        faults += [refused] if refused else []
        warnings += [] if refused else live_runs.warnings(there.live, there.live_unknown)
        warnings += existing_outputs.words(there, manifest.jobs)
    which = "this machine" if gpus is None else "this machine, if it had these GPUs"
    has = "by Slurm" if on_slurm else plan.host_words(manifest, machine)
    place = Place(f"{which} ({machine.name}), {has}", (machine,), assign_jobs.all_on(manifest, machine))
    durations, asked = expected(manifest, folder), slurm_plan.of_hosts(manifest, [document])
    warnings += slurm_plan.warnings(manifest, durations)
    made = plan.plan(manifest, place, durations, [*warnings, *faults], asked)
    made["totals"]["outputs_there"] = None if there is None else len(there.outputs)
    if on_slurm:
        return Planned(made, tuple(warnings), tuple(faults))
    work = wheres.work_of(manifest, made["estimate"]["makespan_s"])
    stays_on = not power.has_battery()
    advice = wheres.decide(work, wheres.usable(manifest, machine.cards), stays_on)
    if decided is not None:
        advice = wheres.overruled(work, decided)
    made["advice"] = {**advice._asdict(), "overruled": decided is not None}
    return Planned(made, tuple(warnings), tuple(faults))


def _on_hosts(
    manifest: Manifest,
    spec: Given,
    names: Sequence[str],
    pool: str | None,
    gpus: int | None,
    warnings: list[str],
    say: Say,
) -> Planned:
    made = submission.prepare(manifest, spec)
    hosts = check_hosts.connect(made, names, pool, say)
    try:
        checked = check_hosts.check(made, hosts, gpus=gpus)
    finally:
        for host in hosts:
            host.close()
    words = "; ".join(f"{one.name}, {plan.host_words(manifest, one)}" for one in checked.offers) or "no host answered"
    words += "" if gpus is None else " (if it had these GPUs)"
    place = Place(words, tuple(checked.offers), checked.sharing, checked.prices)
    warnings += checked.warnings
    asked = slurm_plan.of_hosts(manifest, checked.documents)
    document = plan.plan(manifest, place, checked.durations, [*warnings, *checked.faults], asked)
    return Planned(document, tuple(warnings), tuple(checked.faults))


def plan_rental(spec: Given, profile: str | None, asked: Asked) -> Planned:
    """Plan a spec on the offer that `up` would rent now. Rents nothing. Raises as `plan_spec` does."""
    warnings: list[str] = []
    manifest = build(spec, warnings.append).manifest
    submission.prepare(manifest, spec)
    return _on_found(manifest, spec, choose_offer.look_at_best(locate_workers(), spec, profile, asked), warnings)


def _on_offer(manifest: Manifest, spec: Given, number: int, warnings: list[str]) -> Planned:
    return _on_found(manifest, spec, choose_offer.look(locate_workers(), spec, number), warnings)


def _on_found(manifest: Manifest, spec: Given, found: Looked, warnings: list[str]) -> Planned:
    """Plan for an offer that can be rented now, at its price per hour without traffic."""
    machine = found.machine
    words = f"offer {found.number}: {found.words}, {plan.host_words(manifest, machine)}"
    place = Place(words, (machine,), assign_jobs.all_on(manifest, machine), {machine.name: found.dph})
    durations = expected(manifest, beside(spec))
    return Planned(plan.plan(manifest, place, durations, warnings), tuple(warnings), ())
