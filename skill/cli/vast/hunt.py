"""Verbs about what can be rented: vast hunt, vast blacklist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from skill.cli.console import print_json, print_lines, print_table, say
from skill.cli.options import JSON
from skill.common.errors import DONE, FAILED
from skill.common.project import locate_workers
from skill.providers.outcomes import Unknown

_WHOLE = click.IntRange(min=1)


def unknown(what: str, reason: str, as_json: bool) -> int:
    """Print that something is unknown, and why. Returns the exit code."""
    if as_json:
        print_json({"known": False, "reason": reason})
    click.echo(f"wavequeue: {what}: {reason}", err=True)
    return FAILED


_OPTIONS = (
    click.option(
        "--profile",
        metavar="NAME",
        help="api-only, cpu, inference-24g, finetune-40g, pytorch, or a profile of vast.yaml.",
    ),
    click.option(
        "--max-dph", type=click.FloatRange(0.001), metavar="USD", help="Price limit in USD per hour, with the disk."
    ),
    click.option(
        "--ref-hours",
        type=click.FloatRange(0.01),
        metavar="H",
        help="Hours that the work takes on a machine of --ref-dlp (default: the profile's).",
    ),
    click.option(
        "--ref-dlp",
        type=click.FloatRange(0.1),
        metavar="DLP",
        help="Speed (DLP at Vast.ai) of that machine; with SPEC, of one GPU (default: the profile's).",
    ),
    click.option("--disk", type=click.FloatRange(8), metavar="GB", help="Disk size to rent, in GB."),
)


def needs(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what to rent to a verb."""
    for option in reversed(_OPTIONS):
        verb = option(verb)
    return verb


@click.command("hunt", short_help="Rank offers by the cost of the whole work.")
@click.argument("spec", required=False, metavar="[SPEC]")
@needs
@JSON
def hunt(
    spec: str | None,
    profile: str | None,
    max_dph: float | None,
    ref_hours: float | None,
    ref_dlp: float | None,
    disk: float | None,
    as_json: bool,
) -> int:
    """Rank offers by the cost of the whole work: price x ref hours x ref DLP / DLP, plus disk and traffic.

    With SPEC: GPUs and memory are what its jobs need, and hours come from its earlier runs. Profiles are defined in
    vast.yaml beside workers.yaml. Rents nothing. Exit code 1 if no offer fits, or offers are unknown.
    """
    from skill.fleet import offers
    from skill.operations import choose_offer

    found = choose_offer.hunt(locate_workers(), spec, profile, choose_offer.Asked(max_dph, ref_hours, ref_dlp, disk))
    if isinstance(found, Unknown):
        return unknown("the offers cannot be listed", found.reason, as_json)
    ranking, chosen, work, complete = found
    if as_json:
        print_json(offers.document(ranking, chosen, work, complete=complete))
    else:
        if ranking.priced:
            print_lines(lambda width: offers.table(ranking, width))
        else:
            print("no offer fits")
        for text in offers.lines(ranking, chosen, work, complete=complete):
            print(text)
    return DONE if ranking.priced else FAILED


@click.group("blacklist", short_help="Manage the blacklist: machines that are never rented.")
def blacklist() -> None:
    """Machines that are never rented again, by Vast.ai's machine ID. The list is vast_blacklist.json."""


@blacklist.command("add", short_help="Add a machine.")
@click.argument("machine", type=_WHOLE, metavar="MACHINE")
@click.option("--reason", metavar="TEXT", required=True, help="The reason, shown in the list.")
def add(machine: int, reason: str) -> int:
    """Put a machine on the blacklist. MACHINE is its machine ID, as hunt and instances --json show it."""
    from skill.operations import blacklist_machine

    done = blacklist_machine.add(locate_workers(), machine, reason)
    print(
        f"{machine}: "
        + ("was already on the blacklist; its reason was updated" if done.was_there else "is on the blacklist")
    )
    if done.doubt:
        say(f"warning: {done.doubt}")
    return DONE


@blacklist.command("remove", short_help="Remove a machine.")
@click.argument("machine", type=_WHOLE, metavar="MACHINE")
def remove(machine: int) -> int:
    """Remove a machine from the blacklist."""
    from skill.operations import blacklist_machine

    blacklist_machine.remove(locate_workers(), machine)
    print(f"{machine}: removed from the blacklist")
    return DONE


@blacklist.command("list", short_help="Show it.")
@JSON
def list_verb(as_json: bool) -> None:
    """List the machines that are never rented, with reason and date."""
    from skill.operations import blacklist_machine

    banned = blacklist_machine.listed(locate_workers())
    if as_json:
        print_json({"machines": [one._asdict() for one in banned]})
    elif banned:
        print_table([["machine", "since", "reason"], *([str(one.machine_id), one.added, one.reason] for one in banned)])
    else:
        print("no machine is on the blacklist")
