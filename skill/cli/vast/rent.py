"""Verbs that rent, and the ledger of rentals: vast rent, vast ledger."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skill.cli.console import ask_first, print_json, print_lines, say
from skill.cli.options import JSON
from skill.cli.vast.hunt import needs
from skill.common.errors import DONE, INTERRUPTED, UseError
from skill.common.project import locate_workers
from skill.common.units import usd

if TYPE_CHECKING:
    from skill.fleet.offers import Priced, Work

_NUMBER = click.IntRange(min=1)


@contextmanager
def telling_what_bills(where: Path, purpose: str) -> Iterator[None]:
    """Print what is still billed when the block is interrupted by Ctrl-C."""
    from skill.operations import rent_machine

    try:
        yield
    except (KeyboardInterrupt, click.Abort):
        print(file=sys.stderr)
        for text in rent_machine.still_billing(where, purpose):
            say(text)
        say("run the same command again to continue")
        raise SystemExit(INTERRUPTED) from None


@click.command("rent", short_help="Rent an offer, and register it as a worker.")
@click.argument("offer", required=False, type=_NUMBER, metavar="[OFFER]")
@click.option(
    "--best", is_flag=True, help="Rent the best offer of vast hunt; if it fails, the next one at about the same cost."
)
@click.option("--for", "spec", metavar="SPEC", help="With --best: rent for the jobs of SPEC.")
@needs
@click.option("--name", metavar="NAME", help="Name of the worker (default: vast1, vast2, ...).")
@click.option("--pool", metavar="POOL", help="Add it to this pool: the hosts that --pool POOL means.")
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
    """Rent OFFER, or the --best one, wait until SSH login works, and register it as a worker.

    A machine that is not ready within ready_within (vast.yaml, rent:) is destroyed and blacklisted; with --best the
    next offer is rented, within tries and max_waste. If the command is interrupted, run it again to continue. Every
    step is written to .wavequeue/ledger.jsonl before it is taken.
    """
    from skill.operations import choose_offer, rent_machine

    if (offer is None) == (not best):
        raise UseError("give OFFER, a number that vast hunt shows, or --best")
    asked = choose_offer.Asked(max_dph, ref_hours, ref_dlp, disk)
    where = locate_workers()
    rental = rent_machine.Rent(where, offer, spec=spec, profile=profile, asked=asked, name=name, pool=pool)

    def agree(priced: Priced, work: Work, image: str) -> None:
        for text in choose_offer.terms(priced, work, image, more=best):
            click.echo(text, err=True)
        ask_first("rent it?", yes=yes)

    with telling_what_bills(where, rent_machine.PURPOSE):
        worker = rental.go(agree, say)
    assert worker.ssh is not None
    at = f"root@{worker.ssh.host}:{worker.ssh.port}"
    if as_json:
        print_json(
            {"worker": worker.name, "instance_id": worker.instance_id, "address": at, "dph": worker.resources["dph"]}
        )
    else:
        print(f"{worker.name}: instance {worker.instance_id} is ready at {at}, and registered in {where}")
        print(f"it costs ${worker.resources['dph']:.4f} an hour until it is destroyed")
        print(f"set it up for jobs: wavequeue hosts setup {worker.name}")
    return DONE


@click.command("ledger", short_help="Show what was rented, and what it cost.")
@JSON
def ledger_verb(as_json: bool) -> None:
    """Show what was rented for this project, what became of it, and its cost: the price from creation to end.

    This is at most what was billed, without traffic. Reads only .wavequeue/ledger.jsonl, and does not contact Vast.ai.
    """
    from skill.fleet import ledger
    from skill.operations import rent_machine

    found = rent_machine.read_ledger(locate_workers())
    if as_json:
        print_json(ledger.document(found.rentals, found.now))
        return
    if not found.rentals:
        print("nothing was rented yet")
        return
    print_lines(lambda width: ledger.table(found.rentals, found.now, width))
    print(f"in all: {usd(found.spent)}, without traffic")
