"""Verbs that change our instances: vast stop, vast start, vast destroy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from skill.cli.console import ask_first, print_json, say
from skill.cli.options import JSON
from skill.common.errors import DONE
from skill.common.project import locate_workers

if TYPE_CHECKING:
    from skill.fleet.ownership import RentedInstance
    from skill.operations.instances import Agree, InstanceStatus

_WHICH = click.argument("which", metavar="INSTANCE")
_YES = click.option("--yes", is_flag=True, help="Do not ask.")


@click.command("stop", short_help="Stop an instance; its disk is still billed.")
@_WHICH
@_YES
@JSON
def stop_verb(which: str, yes: bool, as_json: bool) -> int:
    """Stop INSTANCE, a number or a worker's name. Its jobs are interrupted and lose no attempt; its disk is kept.

    Stopping does not end billing: the disk is billed until the instance is destroyed, and the GPU may be somebody
    else's when it is started again.
    """
    from skill.operations import instances

    agree = _agreement("stop instance {id}?", yes=yes)
    return _tell(instances.stop_instance(locate_workers(), which, agree), as_json)


@click.command("start", short_help="Start a stopped instance.")
@_WHICH
@_YES
@JSON
def start_verb(which: str, yes: bool, as_json: bool) -> int:
    """Start INSTANCE, a number or a worker's name, wait until SSH login works, and update its address.

    Its managers continue automatically. If its GPU is taken, the start is cancelled; otherwise it would begin to bill
    whenever a GPU becomes free.
    """
    from skill.operations import instances

    agree = _agreement("start instance {id}?", yes=yes)
    return _tell(instances.start_instance(locate_workers(), which, agree, say), as_json)


@click.command("destroy", short_help="Destroy an instance, with its disk.")
@_WHICH
@_YES
@click.option("--force", is_flag=True, help="Destroy it even if results on it have not been pulled.")
@JSON
def destroy_verb(which: str, yes: bool, force: bool, as_json: bool) -> int:
    """Destroy INSTANCE, a number or a worker's name, with everything on it. Ends its billing.

    Refuses while results of a run on it have not been pulled. Only instances that a worker names, or that have a label
    given here, can be destroyed. Its worker is disabled.
    """
    from skill.operations import instances

    agree = _agreement("destroy instance {id}, with its disk?", yes=yes)
    return _tell(instances.destroy_instance(locate_workers(), which, agree, say, force=force), as_json)


def _agreement(question: str, *, yes: bool) -> Agree:
    """Show what is about to be changed, and ask for confirmation. `question` contains {id}."""

    def agree(found: RentedInstance, billing: str) -> None:
        click.echo(billing, err=True)
        ask_first(question.format(id=found.id), yes=yes)

    return agree


def _tell(now: InstanceStatus, as_json: bool) -> int:
    """Print the state of an instance, and what is billed."""
    if as_json:
        print_json({"instance_id": now.id, "worker": now.worker, "status": now.status, "billing": now.billing})
    else:
        print(now.billing)
    return DONE
