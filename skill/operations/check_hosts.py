"""Check a spec against the hosts that it is for."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from build_manifest.faults import listed
from queue_manager.core.durations import Durations
from queue_manager.core.layout import LOCAL_RUNS
from queue_manager.core.manifest import Manifest
from skill.common.errors import FailedError
from skill.common.project import locate_workers
from skill.hosts import registry
from skill.hosts.bootstrap import Facts
from skill.hosts.connection import Host, Unreachable
from skill.hosts.registry import Worker
from skill.operations import submission, survey
from skill.operations.build_spec import Say, expected
from skill.operations.submission import Submission
from skill.operations.submit import TRIES, same_machine
from skill.planning import assign_jobs, host_preflight, slurm_plan, what_if
from skill.planning.assign_jobs import Offer, Sharing
from skill.planning.existing_outputs import Found
from skill.planning.host_preflight import Verdict
from skill.runs.path_map import PathMap
from skill.transfer import code_files, not_code, write_gate
from skill.transfer.code_files import CodeFiles

_FRESH = 60.0
"""Seconds for which what a host said of itself holds."""


class Checked(NamedTuple):
    """The result of a check. `durations`: expected durations of the jobs; `prices`: USD per hour of rented hosts;
    `existing`: outputs that each host already has, where the host reported them; `documents`: what those said of
    themselves that could be checked; `code`: what is pushed; `facts`: of the hosts that answered, at `at` in epoch
    seconds."""

    offers: list[Offer]
    sharing: Sharing
    durations: Durations
    prices: Mapping[str, float]
    verdicts: list[Verdict]
    faults: list[str]
    warnings: list[str]
    existing: Mapping[str, Found] = {}
    documents: Sequence[Mapping[str, Any]] = ()
    code: CodeFiles | None = None
    facts: Mapping[str, Facts] = {}
    at: float = 0.0

    def fresh_facts(self) -> Mapping[str, Facts]:
        """What still holds of the hosts: nothing, where a person was asked something for long."""
        return self.facts if time.time() - self.at < _FRESH else {}


def meant(manifest: Manifest, names: Sequence[str], pool: str | None) -> tuple[str, ...]:
    """Return the names of the hosts that `connect` would connect to. Raises UseError where there is none."""
    known = registry.Registry.load(locate_workers())
    return tuple(worker.name for worker in submission.targets(known, names, pool, manifest))


def connect(made: Submission, names: Sequence[str], pool: str | None, say: Say) -> list[Host]:
    """Return connections to the hosts of a spec: those in `names`, of `pool`, in the spec, or the only one registered.

    Raises UseError and FailedError.
    """
    where = locate_workers()
    meant = submission.targets(registry.Registry.load(where), names, pool, made.manifest)
    meant = refreshed(where, meant, "remove it with `wavequeue hosts remove {name}`, and submit to another host", say)
    return [registry.connect(worker, where, TRIES) for worker in meant]


def refreshed(where: Path, meant: list[Worker], instead: str, say: Say) -> list[Worker]:
    """Return the workers with current addresses; a rented one may have moved. Raises FailedError where one no longer
    exists: its address may belong to somebody else. `instead`: advice about host {name} for that case."""
    if all(worker.instance_id is None for worker in meant):
        return meant
    from skill.fleet.drift import is_known_gone
    from skill.fleet.reconcile import reconcile_before

    for text in reconcile_before(where, [worker.name for worker in meant]):
        say(text)
    known = registry.Registry.load(where)
    found = [known.named(worker.name) for worker in meant]
    for worker in found:
        if is_known_gone(worker):
            words = instead.format(name=worker.name)
            raise FailedError(f"{worker.name} was instance {worker.instance_id}, which no longer exists; {words}")
    return found


def check(
    made: Submission,
    hosts: Sequence[Host],
    *,
    newest_code: bool = False,
    routes: bool = False,
    gpus: int | None = None,
) -> Checked:
    """Check all hosts at once and assign the jobs. `newest_code` and `routes`: see survey. `gpus`: count so many GPUs
    on each host."""
    found = survey.survey_hosts(made, hosts, newest_code=newest_code, routes=routes)
    # A host that did not answer gets no jobs, and counts as a fault.
    offers = [one.offer(host.name, _speed(host)) for host in hosts if (one := found[host.name]).document is not None]
    if gpus is not None:
        offers = [what_if.with_cards(made.manifest, offer, gpus) for offer in offers]
    durations = expected(made.manifest, made.beside)
    sharing = assign_jobs.share(made.manifest, offers, durations.of_phases(made.manifest.jobs))
    verdicts = []
    code = made.code()
    code_mib = made.code_mib(code)
    for host in hosts:
        seen = found[host.name].seen(host.name, pushed=made.pushed, code_mib=code_mib)
        cwd = "/" if seen.found is None else seen.found["cwd"]["path"]
        verdict = host_preflight.judge(made.manifest, sharing.parts.get(host.name, ()), seen, made.comes(code, cwd))
        twin = found[host.name].twin(found)
        if twin is not None:
            verdict = verdict._replace(faults=(*verdict.faults, f"{same_machine(twin)}; remove one of them"))
        verdicts.append(verdict)
    # Where no host could be checked, the reason has been reported already.
    unplaced = host_preflight.unplaced_lines(sharing.unplaced) if offers else []
    return Checked(
        offers,
        sharing,
        durations,
        {host.name: price for host in hosts if (price := _price(host)) is not None},
        verdicts,
        host_preflight.fault_lines(verdicts, unplaced),
        [
            *code_warnings(code),
            *output_warnings(made),
            *host_preflight.warning_lines(verdicts),
            *slurm_plan.warnings(made.manifest, durations),
        ],
        {name: there for name, one in found.items() if (there := one.existing()) is not None},
        [one.document for one in found.values() if one.document is not None],
        code,
        {name: one.facts for name, one in found.items() if not isinstance(one.facts, Unreachable)},
        time.time(),
    )


def code_warnings(code: CodeFiles | None) -> list[str]:
    """Return warnings of files that are not pushed: what looks like a secret, and what commands seem to need."""
    if code is None:
        return []
    named = [row for row in code.left_out if row.is_named]
    found = [code_files.left_out_words(code.secrets)] if code.secrets else []
    return [*found, *([not_code.named_words(named, code_files.IGNORE)] if named else [])]


def output_warnings(made: Submission) -> list[str]:
    """Return a warning for each local file that would block the pull of an output."""
    if made.cwd is None:
        return []
    where = PathMap("there", made.cwd, made.source)
    outputs = dict.fromkeys(name for spec in made.manifest.jobs if (name := where.output(spec)) is not None)
    names = write_gate.left_alone(made.beside / LOCAL_RUNS, made.source, tuple(outputs))
    if not names:
        return []
    words = (
        f"{listed(names, 5)}: these files exist here, and expected_output matches them only by a pattern, so a pull "
        "does not replace them. To get the files of this run, move them away before you pull"
    )
    return [words]


def _price(host: Host) -> float | None:
    """Return USD per hour of a rented host, None of another."""
    price = host.worker.resources.get("dph")
    return float(price) if host.worker.instance_id is not None and isinstance(price, (int, float)) else None


def _speed(host: Host) -> float:
    speed = host.worker.resources.get("speed", 1.0)
    return float(speed) if isinstance(speed, (int, float)) and speed > 0 else 1.0
