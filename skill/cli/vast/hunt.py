"""Verbs about what can be rented: vast hunt, vast blacklist."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skill.cli.console import print_json
from skill.cli.options import JSON
from skill.common.errors import DONE, FAILED, UseError
from skill.common.text_table import columns
from skill.operations.build_spec import build, earlier
from skill.terminal import live as view

if TYPE_CHECKING:
    from skill.fleet.offers import Work
    from skill.fleet.profiles import Profile

_WHOLE = click.IntRange(min=1)


def unknown(what: str, reason: str, as_json: bool) -> int:
    """Say that something is not known, and why. Returns the exit code."""
    if as_json:
        print_json({"known": False, "reason": reason})
    click.echo(f"wavequeue: {what}: {reason}", err=True)
    return FAILED


_OPTIONS = (
    click.option(
        "--profile", metavar="NAME", help="cpu, inference-24g, finetune-40g, pytorch, or a profile of vast.yaml."
    ),
    click.option(
        "--max-dph", type=click.FloatRange(0.001), metavar="USD", help="Price limit in USD per hour, with the disk."
    ),
    click.option("--ref-hours", type=click.FloatRange(0.01), metavar="H", help="Hours that the work takes..."),
    click.option(
        "--ref-dlp", type=click.FloatRange(0.1), metavar="DLP", help="... on a machine (SPEC: a GPU) of this DLP."
    ),
    click.option("--disk", type=click.FloatRange(8), metavar="GB", help="Disk size to rent, in GB."),
)


def needs(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the options that say what is to be rented."""
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
    """Rank what can be rented by the cost of the whole work: price x ref hours x ref DLP / DLP, plus disk and traffic.

    With SPEC: GPUs and memory are what its jobs need, and hours are from its earlier runs. Profiles are changed, and
    made, in vast.yaml beside workers.yaml. Rents nothing. Exit code 1 if nothing fits, or nothing is known.
    """
    from skill.fleet import offers as hunting
    from skill.fleet import settings
    from skill.hosts.registry import locate
    from skill.providers.vast import client as vast
    from skill.providers.vast.responses import Unknown

    where = locate(Path.cwd())
    asked = {"max_dph": max_dph, "ref_hours": ref_hours, "ref_dlp": ref_dlp, "disk_gb": disk}
    chosen, work = wanted(spec, profile, where, asked)
    banned = {one.machine_id for one in settings.read_blacklist(where)}
    client = vast.connect()
    try:
        found = client.offers(hunting.filters(chosen, work, banned), chosen.disk_gb)
    finally:
        client.close()
    if isinstance(found, Unknown):
        return unknown("what can be rented is unknown", found.reason, as_json)
    ranking = hunting.rank(found.offers, chosen, work, banned)
    if as_json:
        print_json(hunting.document(ranking, chosen, work, complete=found.complete))
    else:
        if ranking.priced:
            output = view.console()
            for line in hunting.table(ranking, output.width):
                output.print(line, no_wrap=True, crop=False)
        else:
            print("no offer fits")
        for text in hunting.lines(ranking, chosen, work, complete=found.complete):
            print(text)
    return DONE if ranking.priced else FAILED


def wanted(spec: str | None, name: str | None, registry: Path, asked: dict[str, Any]) -> tuple[Profile, Work]:
    """The profile with what was typed (`asked`; None: nothing), and the work. Raises UseError and SpecErrors."""
    from skill.fleet import offers as hunting
    from skill.fleet import settings
    from skill.fleet.profiles import CPU, DEFAULT
    from skill.planning import plan

    said = {key: value for key, value in asked.items() if value is not None}
    known = settings.read_profiles(registry)
    if spec is None:
        profile = settings.profile(known, name or DEFAULT)._replace(**said)
        return profile, hunting.plain_work(profile)
    manifest = build(spec).manifest
    needs_card = any(job.gpus for job in manifest.jobs)
    profile = settings.profile(known, name or (DEFAULT if needs_card else CPU))._replace(**said)
    history = plan.history(earlier(manifest.project, Path(spec).absolute().parent))
    return profile, hunting.spec_work(manifest, history, profile)


@click.group("blacklist", short_help="Manage the machines that are not to be rented.")
def blacklist() -> None:
    """Machines that are not to be rented again, by Vast.ai's machine id. They stand in vast_blacklist.json."""


@blacklist.command("add", short_help="Add a machine.")
@click.argument("machine", type=_WHOLE, metavar="MACHINE")
@click.option("--reason", metavar="TEXT", required=True, help="Why; for whoever reads it later.")
def add(machine: int, reason: str) -> int:
    """Put a machine on the blacklist. MACHINE is its machine id, as hunt and instances --json show it."""
    from skill.fleet import settings
    from skill.fleet.blacklist import Banned
    from skill.hosts.registry import locate

    where = locate(Path.cwd())
    settings.read_blacklist(where)  # a file that cannot be read is said before anything is asked
    doubt = _check_machine(machine)
    with settings.changed_blacklist(where) as banned:
        before = banned.get(machine)
        since = before.added if before else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        banned[machine] = Banned(machine, reason, since)
    print(f"{machine}: " + ("was on the blacklist, and has the new reason" if before else "is on the blacklist"))
    if doubt:
        click.echo(f"wavequeue: warning: {doubt}", err=True)
    return DONE


@blacklist.command("remove", short_help="Remove a machine.")
@click.argument("machine", type=_WHOLE, metavar="MACHINE")
def remove(machine: int) -> int:
    """Take a machine off the blacklist."""
    from skill.fleet import settings
    from skill.hosts.registry import locate

    with settings.changed_blacklist(locate(Path.cwd())) as banned:
        if machine not in banned:
            raise UseError(f"machine {machine} is not on the blacklist; see: wavequeue vast blacklist list")
        del banned[machine]
    print(f"{machine}: is off the blacklist")
    return DONE


@blacklist.command("list", short_help="Show it.")
@JSON
def list_verb(as_json: bool) -> None:
    """Show the machines that are not to be rented, why, and since when."""
    from skill.fleet import settings
    from skill.hosts.registry import locate

    banned = settings.read_blacklist(locate(Path.cwd()))
    if as_json:
        print_json({"machines": [one._asdict() for one in banned]})
    elif banned:
        output = view.console()
        rows = [["machine", "since", "reason"], *([str(one.machine_id), one.added, one.reason] for one in banned)]
        for line in columns(rows, output.width, head=True):
            output.print(line, no_wrap=True, crop=False)
    else:
        print("no machine is on the blacklist")


def _check_machine(machine: int) -> str | None:
    """Refuse the id of an instance, with UseError. Returns why that could not be looked up, if it could not."""
    from skill.providers.vast import client as vast
    from skill.providers.vast.responses import Unknown

    try:
        client = vast.connect()
    except UseError as error:
        return f"that {machine} is a machine, and no instance, was not looked up: {error}"
    try:
        live = client.instances()
    finally:
        client.close()
    if isinstance(live, Unknown):
        return f"that {machine} is a machine, and no instance, was not looked up: {live.reason}"
    found = next((one for one in live if one.id == machine), None)
    if found is None or any(one.machine_id == machine for one in live):
        return None
    hint = f"; its machine is {found.machine_id}" if found.machine_id is not None else ""
    raise UseError(f"{machine} is the id of an instance{hint}; give the id of a machine")
