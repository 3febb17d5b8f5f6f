"""The steps that `up` delegates: choose an offer, set up the machine, create the run, pull it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from queue_manager.core.manifest import Manifest
from skill.common.errors import FailedError
from skill.common.project import locate_workers
from skill.fleet import settings, ssh_key
from skill.fleet.offers import Priced, Work
from skill.fleet.provider import connected
from skill.hosts import ssh_preflight
from skill.hosts.code_push import Report, no_report
from skill.hosts.connection import Host
from skill.hosts.registry import Worker
from skill.operations import check_hosts, choose_offer, submission, submit_spec
from skill.operations.build_spec import Given, Say, build
from skill.operations.choose_offer import Asked
from skill.operations.find_run import check_name
from skill.operations.pull_rental import RentalPulls
from skill.operations.setup_hosts import setup_one
from skill.operations.submission import Submission
from skill.operations.up import Agreed, Steps, Up, cost_limit
from skill.providers.outcomes import Unknown
from skill.providers.provider import Provider
from skill.runs.directory import Run


class Offered(NamedTuple):
    """What is about to be rented. `cost_limit`: most that all of it may cost, in $. `credit`: credit of the account in
    $, None where unknown."""

    best: Priced
    work: Work
    image: str
    cost_limit: float
    credit: float | None


class Asks(NamedTuple):
    """What a person is asked before a machine is rented: whether to send much code, which is given in words, and
    whether to rent. Both raise to refuse."""

    send: Say
    rent: Callable[[Offered], None]


@contextmanager
def opened(
    where: Path,
    spec: Given,
    manifest: Manifest,
    profile: str | None,
    asked: Asked,
    asks: Asks,
    say: Say,
    tell: Say,
    *,
    report: Report = no_report,
    name: str | None = None,
    max_cost: float | None,
    poll: float | None,
    every: float,
    new: bool,
) -> Iterator[Up]:
    """Yield the `Up` of a spec for the provider whose key is set. `where`: workers.yaml; `tell` gets each pull that
    brought something new. Raises UseError."""
    meant, _ = choose_offer.wanted(where, spec, profile, asked)
    with connected() as client:
        made = steps(client, where, spec, manifest, profile, asked, max_cost, asks, say, tell, name)._replace(
            report=report
        )
        yield Up(
            client, where, spec, manifest, meant, made, say,
            name=name, max_cost=max_cost, poll=poll, every=every, new=new,
        )  # fmt: skip


def look(spec: Given, profile: str | None, max_cost: float | None) -> Offered:
    """Return what `up` would rent for a spec now. Rents nothing. Raises SpecErrors, UseError and FailedError."""
    where = locate_workers()
    manifest = build(spec).manifest
    submission.prepare(manifest, spec)
    with connected() as client:
        return _offered(client, where, spec, manifest, profile, choose_offer.AS_PROFILE, max_cost)[0]


def _offered(
    client: Provider,
    where: Path,
    spec: Given,
    manifest: Manifest,
    profile: str | None,
    asked: Asked,
    max_cost: float | None,
) -> tuple[Offered, tuple[Priced, ...]]:
    """Return what is about to be rented, and all offers that may be taken in its place."""
    chosen = settings.read_renting(where)
    key = ssh_key.find_key(chosen.key)
    fault = ssh_preflight.fault(key.private, key.public)
    if fault is not None:
        raise FailedError(f"nothing was rented: logging in to rented machines does not work from here: {fault}")
    meant, work = choose_offer.wanted(where, spec, profile, asked)
    candidates = choose_offer.rank(client, where, meant, work)
    best = candidates[0]
    most = cost_limit(manifest, max_cost, best.total)
    if best.total > most:
        raise FailedError(
            f"the best offer is estimated to cost ${best.total:.2f}, above the limit of ${most:.2f}; nothing was rented"
        )
    user = client.user()
    credit = None if isinstance(user, Unknown) else user.credit
    return Offered(best, work, chosen.image, most, credit), candidates


def steps(
    client: Provider,
    where: Path,
    spec: Given,
    manifest: Manifest,
    profile: str | None,
    asked: Asked,
    max_cost: float | None,
    asks: Asks,
    say: Say,
    tell: Say,
    name: str | None = None,
) -> Steps:
    """Return the steps of `up` for a spec. `where`: workers.yaml; `tell` gets each pull that brought something new."""

    def agreed() -> Agreed:
        if name is not None:
            check_name(name)
        made = submission.prepare(manifest, spec)
        submission.say_size(made, made.code(), say, asks.send)
        offered, candidates = _offered(client, where, spec, manifest, profile, asked, max_cost)
        asks.rent(offered)
        most = offered.cost_limit
        return Agreed(tuple(one for one in candidates if one.total <= most), most)

    def set_up(host: Host) -> None:
        outcome = setup_one(where, host, say)
        if outcome.fault is not None:
            raise FailedError(f"{outcome.host}: {outcome.fault}")

    def begin(made: Submission, host: Host) -> Run:
        return submit_spec.begin(made, [host], check_hosts.check(made, [host]), say, new=True, name=name)

    def refreshed(worker: Worker) -> Worker:
        (found,) = check_hosts.refreshed(where, [worker], "run the same command again", say)
        return found

    return Steps(agreed, set_up, begin, refreshed, RentalPulls(say, tell).once)
