"""Verbs about rented machines: vast instances, vast reconcile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from skill.cli.console import print_json, print_lines
from skill.cli.options import JSON
from skill.cli.vast import hunt, lifecycle, rent, watcher
from skill.cli.vast.hunt import unknown
from skill.common.errors import DONE, FAILED
from skill.common.project import locate_workers
from skill.common.units import count_text
from skill.providers.outcomes import Unknown

if TYPE_CHECKING:
    from skill.fleet.reconcile import Outcome


@click.group("vast", short_help="Rent machines of Vast.ai: list them, their cost, and offers.")
def vast() -> None:
    """Machines rented from Vast.ai: list them and their cost, compare them with workers.yaml, rent, stop and destroy.

    The key is VAST_API_KEY, or that of the official command; VAST_URL is the server.
    """


@vast.command("instances", short_help="List the rented instances and their cost.")
@JSON
def instances_verb(as_json: bool) -> int:
    """List rented instances with the workers that workers.yaml names, and what all of it costs now.

    Exit code 1 where Vast.ai gives no answer: the rented instances are then unknown.
    """
    from skill.fleet import inventory
    from skill.operations import instances

    found = instances.list_instances(locate_workers())
    if isinstance(found, Unknown):
        return unknown("the rented instances are unknown", found.reason, as_json)
    if as_json:
        print_json(inventory.document(found))
        return DONE
    if found.rows or found.missing:
        print_lines(lambda width: inventory.table(found, width))
    for text in inventory.lines(found):
        print(text)
    return DONE


@vast.command("reconcile", short_help="Compare workers.yaml with the rented instances.")
@click.option("--fix", is_flag=True, help="Update address, status and price; disable instances that no longer exist.")
@JSON
def reconcile_verb(fix: bool, as_json: bool) -> int:
    """Compare workers.yaml with the rented instances: address, status, price, instances that no longer exist.

    A new address is accepted only if the machine there identifies itself as the instance. Writes nothing without --fix,
    and then only these fields. Exit code 1 if a difference remains.
    """
    from skill.operations import instances

    found = instances.reconcile_workers(locate_workers(), fix=fix)
    if isinstance(found, Unknown):
        return unknown("whether workers.yaml is up to date is unknown, and nothing was changed", found.reason, as_json)
    if as_json:
        print_json(_document(found))
    else:
        for line in _lines(found):
            print(line)
    return DONE if found.settled else FAILED


def _document(found: Outcome) -> dict[str, Any]:
    workers = [
        {
            "worker": report.worker,
            "instance_id": report.instance_id,
            "findings": [finding._asdict() for finding in report.findings],
            "patch": dict(report.patch),
            "note": report.note or None,
        }
        for report in found.reports
    ]
    return {
        "known": True,
        "consistent": found.consistent,
        "fixed": found.fixed,
        "workers": workers,
        "without_instance_id": list(found.nameless),
    }


def _lines(found: Outcome) -> list[str]:
    lines = [f"{report.worker}: {finding.text}" for report in found.reports for finding in report.findings]
    lines += [f"{report.worker}: {report.note}" for report in found.reports if report.note]
    lines += [
        f"{name}: is at an address of Vast.ai and has no instance_id; write instance_id: NUMBER into workers.yaml"
        for name in found.nameless
    ]
    patches = sum(bool(report.patch) for report in found.reports)
    workers = count_text(patches, "worker")
    if found.consistent:
        lines.append(f"consistent: {len(found.reports)} rented in workers.yaml")
    elif patches:
        lines.append(f"updated {workers}" if found.fixed else f"nothing was written; to update {workers}: add --fix")
    return lines


for _verb in (
    hunt.hunt, rent.rent_verb, lifecycle.stop_verb, lifecycle.start_verb,
    lifecycle.destroy_verb, rent.ledger_verb, watcher.watcher,
    hunt.blacklist,
):  # fmt: skip
    vast.add_command(_verb)
