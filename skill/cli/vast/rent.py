"""Verbs that rent, and the ledger of what was rented: vast rent, vast ledger."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from queue_manager.core.layout import id_fault
from skill.cli.console import ask_first, print_json, say
from skill.cli.options import JSON
from skill.cli.vast.hunt import needs, wanted
from skill.common.errors import DONE, INTERRUPTED, FailedError, UseError
from skill.terminal import live as view

if TYPE_CHECKING:
    from skill.fleet.offers import Priced, Work
    from skill.fleet.profiles import Profile
    from skill.providers.vast.client import Client

PURPOSE = "rent"
_NUMBER = click.IntRange(min=1)


@contextmanager
def telling_what_bills(client: Client, where: Path, purpose: str) -> Iterator[None]:
    """Say what goes on billing when this is left with Ctrl-C."""
    try:
        yield
    except (KeyboardInterrupt, click.Abort):
        print(file=sys.stderr)
        for text in still_billing(client, where, purpose):
            say(text)
        say("the same command goes on from here")
        raise SystemExit(INTERRUPTED) from None


def still_billing(client: Client, where: Path, purpose: str) -> list[str]:
    """What was rented for a purpose, and may be billed: a line for each. Where nothing is, what it all cost."""
    from skill.fleet import ledger as book
    from skill.fleet import ledger_file, startup
    from skill.providers.vast.responses import Gone, Unknown

    found = []
    for one in ledger_file.rentals(where).values():
        if one.purpose != purpose or one.ended is not None:
            continue
        if one.instance_id is not None:
            live = client.instance(one.instance_id)
            end = "" if isinstance(live, Gone) else f"; to delete it: wavequeue vast destroy {one.instance_id}"
            found.append(startup.billing(one.instance_id, live) + end)
            continue
        listed = client.instances()
        mine = [] if isinstance(listed, Unknown) else [live for live in listed if live.label == one.label]
        doubt = f"offer {one.offered.offer_id} was asked for under the label {one.label}, and may yet be rented"
        again = f", at ${one.offered.dph:.4f} an hour; the same command again finds out"
        found += [startup.billing(live.id, live) for live in mine] or [doubt + again]
    made = [one for one in ledger_file.rentals(where).values() if one.purpose == purpose and one.rates]
    cost = book.spent(made, time.time())
    if not made:
        return found or ["nothing was rented, and nothing of this is billed"]
    return found or [
        f"nothing goes on billing; what was rented for this cost {book.usd(cost)}, at most, without traffic"
    ]


@click.command("rent", short_help="Rent an offer, and register it as a worker.")
@click.argument("offer", required=False, type=_NUMBER, metavar="[OFFER]")
@click.option(
    "--best", is_flag=True, help="Rent the best offer of vast hunt; if it fails, the next one at about the same cost."
)
@click.option("--for", "spec", metavar="SPEC", help="With --best: rent for the jobs of SPEC.")
@needs
@click.option("--name", metavar="NAME", help="Name of the worker (default: vast1, vast2, ...).")
@click.option("--pool", metavar="POOL", help="Put it into this pool, a group of hosts for --pool.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON
def rent_verb(
    offer: int | None,
    best: bool,
    spec: str | None,
    profile: str | None,
    max_dph: float | None,
    ref_hours: float | None,
    ref_dlp: float | None,
    disk: float | None,
    name: str | None,
    pool: str | None,
    yes: bool,
    as_json: bool,
) -> int:
    """Rent OFFER, or the --best one, wait until it can be entered, and register it as a worker.

    A machine that is not ready within ready_within (vast.yaml, rent:) is destroyed and blacklisted; with --best the
    next offer is rented, within tries and max_waste. If the command is interrupted, run it again to continue. Every
    step is written to .wavequeue/ledger.jsonl before it is done.
    """
    from skill.fleet import rent, settings, ssh_key
    from skill.hosts import registry
    from skill.providers.vast import client as vast

    if (offer is None) == (not best):
        raise UseError("give OFFER, a number that vast hunt shows, or --best")
    if spec is not None and not best:
        raise UseError("--for goes with --best")
    where = registry.locate(Path.cwd())
    chosen = settings.read_renting(where)
    ssh_key.find_key(chosen.key)
    _check_name(where, name)
    asked = {"max_dph": max_dph, "ref_hours": ref_hours, "ref_dlp": ref_dlp, "disk_gb": disk}
    meant, work = wanted(spec, profile, where, asked)
    client = vast.connect()
    try:
        with telling_what_bills(client, where, PURPOSE):
            left = rent.unfinished(where, PURPOSE)
            candidates: tuple[Priced, ...] = ()
            if left:
                say("a rental was cut off, and is finished first; to rent another, run the command again")
            else:
                candidates = (
                    rank(client, where, meant, work) if best else (_offer(client, where, offer or 0, meant, work),)
                )
                for text in terms(candidates[0], work, chosen.image, more=best):
                    click.echo(text, err=True)
                ask_first("rent it?", yes=yes)
            worker = rent.rent(client, where, rent.Wish(meant, PURPOSE, name, pool), candidates, say)
    finally:
        client.close()
    assert worker.ssh is not None
    at = f"root@{worker.ssh.host}:{worker.ssh.port}"
    if as_json:
        print_json(
            {"worker": worker.name, "instance_id": worker.instance_id, "address": at, "dph": worker.resources["dph"]}
        )
    else:
        print(f"{worker.name}: instance {worker.instance_id} is ready at {at}, and registered in {where}")
        print(f"it costs ${worker.resources['dph']:.4f} an hour until it is destroyed")
        print(f"make it ready for jobs: wavequeue hosts setup {worker.name}")
    return DONE


def _check_name(where: Path, name: str | None) -> None:
    from skill.hosts.registry import Registry

    known = Registry.load(where)
    if name is None:
        return
    fault = id_fault(name)
    if fault:
        raise UseError(f"the name {name!r} {fault}")
    if name in known.workers:
        raise UseError(f"{name} is registered already; take another name, or first: wavequeue hosts remove {name}")


def rank(client: Client, where: Path, profile: Profile, work: Work) -> tuple[Priced, ...]:
    """The best offer, and those that may be taken in its place. Raises FailedError where there is none."""
    from skill.fleet import offers, settings
    from skill.providers.vast.responses import Unknown

    banned = {one.machine_id for one in settings.read_blacklist(where)}
    found = client.offers(offers.filters(profile, work, banned), profile.disk_gb)
    if isinstance(found, Unknown):
        raise FailedError(f"what can be rented is unknown, and nothing was rented: {found.reason}")
    ranking = offers.rank(found.offers, profile, work, banned)
    if not ranking.priced:
        why = ", ".join(f"{count} {words}" for words, count in ranking.left_out.items()) or "there are none"
        raise FailedError(f"no offer fits ({why}), and nothing was rented; see: wavequeue vast hunt")
    return offers.alternatives(ranking)


def _offer(client: Client, where: Path, number: int, profile: Profile, work: Work) -> Priced:
    """One offer by its number, whether or not it fits a profile. Raises FailedError and UseError."""
    from skill.fleet import offers, settings
    from skill.providers.vast.responses import Unknown

    found = client.offers({"ask_contract_id": {"eq": number}}, profile.disk_gb)
    if isinstance(found, Unknown):
        raise FailedError(f"what offer {number} is, is unknown, and nothing was rented: {found.reason}")
    one = next((one for one in found.offers if one.id == number), None)
    if one is None or one.rentable is False:
        raise FailedError(f"offer {number} is not to be had (any more); see: wavequeue vast hunt")
    ban = next((row for row in settings.read_blacklist(where) if row.machine_id == one.machine_id), None)
    if ban is not None:
        raise UseError(
            f"machine {ban.machine_id} of offer {number} is on the blacklist ({ban.reason}); off again: wavequeue vast "
            f"blacklist remove {ban.machine_id}"
        )
    if one.machine_id is None:
        raise FailedError(f"offer {number} does not name its machine, and is not rented")
    if one.disk_gb is not None and one.disk_gb < profile.disk_gb:
        raise FailedError(
            f"offer {number} has {one.disk_gb:g} GB of disk, and {profile.disk_gb:g} are asked for (--disk)"
        )
    priced = offers.price(one, profile, work)
    if isinstance(priced, str):
        raise FailedError(f"offer {number} {priced}, and is not rented")
    return priced


def terms(best: Priced, work: Work, image: str, *, more: bool) -> list[str]:
    """What is about to be rented, and what it will cost."""
    offer = best.offer
    place = f", {offer.geolocation}" if offer.geolocation else ""
    reliable = f"reliability {100 * (offer.reliability or 0):.1f} %"
    found = [
        f"offer {offer.id}: {offer.cards}, machine {offer.machine_id}{place}, {reliable}; image {image}",
        f"${best.dph:.4f} an hour with its disk; the work: {best.hours:.2f} h, ${best.total:.2f} in all with traffic",
        f"(work: {work.how})",
    ]
    if more:
        found.append("if it does not come up: another one that costs at most a quarter more")
    return found


@click.command("ledger", short_help="Show what was rented, and what it cost.")
@JSON
def ledger_verb(as_json: bool) -> None:
    """Show what was rented for this project, what became of it, and what it cost: its price from create to end.

    This is at most what was billed, without traffic. Reads .wavequeue/ledger.jsonl only; Vast.ai is not asked.
    """
    from skill.fleet import ledger as book
    from skill.fleet import ledger_file
    from skill.hosts.registry import locate

    found = list(ledger_file.rentals(locate(Path.cwd())).values())
    now = time.time()
    if as_json:
        print_json(book.document(found, now))
        return
    if not found:
        print("nothing was rented yet")
        return
    output = view.console()
    for line in book.table(found, now, output.width):
        output.print(line, no_wrap=True, crop=False)
    print(f"in all: {book.usd(book.spent(found, now))}, without traffic")
