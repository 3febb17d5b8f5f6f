"""The verb up: run a spec on a rented machine."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from skill.cli.console import ask_first, print_json, say, warn
from skill.cli.given_spec import DRY_RUN, NAME, TakesCommand, code_agreement, confirm_size, given
from skill.cli.options import JSON, POLL, YES, time_option
from skill.cli.plan_output import print_plan
from skill.cli.vast.hunt import needs
from skill.cli.vast.rent import telling_what_bills
from skill.common.errors import DONE, FAILED, PERSON, USE, FailedError, UseError
from skill.common.project import locate_workers
from skill.terminal.transfer_bars import TransferBars

if TYPE_CHECKING:
    from skill.operations.build_spec import Given
    from skill.operations.up import Ended
    from skill.operations.up_steps import Offered


@click.command("up", short_help="Run SPEC on a rented machine: rent, run, pull, destroy.", cls=TakesCommand)
@given
@NAME
@DRY_RUN
@click.option("--max-cost", type=click.FloatRange(0.01), metavar="USD", help="Cost limit in USD for the whole run.")
@needs
@click.option(
    "--every", callback=time_option, default="30s", metavar="TIME", help="Longest time between pulls (default: 30s)."
)
@POLL
@click.option("--new", is_flag=True, help="Run again even if it was already done.")
@YES
@JSON
def up_verb(
    spec: Given,
    name: str | None,
    dry_run: bool,
    max_cost: float | None,
    profile: str | None,
    max_dph: float | None,
    ref_hours: float | None,
    ref_dlp: float | None,
    disk: float | None,
    every: float,
    poll: float | None,
    new: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Rent the best offer for SPEC, run it there, pull all results, and destroy the machine.

    Shows the offer, the estimated hours and the total, and asks once. The cost limit is --max-cost, else max_cost of
    SPEC, else twice the estimate. The machine's own manager enforces it, and ends the machine if this one is gone. If
    the command is interrupted, run it again to continue. Exit code 3 if jobs need a person: the machine is then
    stopped, and its disk is kept. A command after --, a file of commands and a table are taken as by run.
    """
    from skill.operations import choose_offer, rent_machine, submission, up_steps
    from skill.operations.build_spec import build

    where = locate_workers()
    asked = choose_offer.Asked(max_dph, ref_hours, ref_dlp, disk)
    if dry_run:
        from skill.operations.plan_spec import plan_rental

        return print_plan(plan_rental(spec, profile, asked), as_json, "there")
    confirm_size(spec, yes=yes)
    manifest = build(spec, warn).manifest
    submission.prepare(manifest, spec)  # report code that cannot be pushed before anything is paid for
    with TransferBars(say) as bars, up_steps.opened(
        where, spec, manifest, profile, asked, up_steps.Asks(code_agreement(yes=yes), _agreement(yes=yes)), say,
        _tell_time, report=bars.report, name=name, max_cost=max_cost, poll=poll, every=every, new=new,
    ) as went, telling_what_bills(where, went.purpose):  # fmt: skip
        try:
            ended = went.go()
        except (FailedError, UseError) as error:
            say(str(error))
            for text in rent_machine.still_billing(where, went.purpose):
                say(text)
            return USE if isinstance(error, UseError) else FAILED
    _report(ended, as_json)
    return DONE if ended.completed else PERSON


def _agreement(*, yes: bool) -> Callable[[Offered], None]:
    """Show what is about to be rented, and ask for confirmation."""
    from skill.operations import choose_offer

    def agree(offered: Offered) -> None:
        most = offered.cost_limit
        for text in choose_offer.terms(offered.best, offered.work, offered.image, more=True):
            click.echo(text, err=True)
        click.echo(f"cost limit: ${most:.2f}; beyond it, the manager starts no job and ends the machine", err=True)
        if offered.credit is not None and offered.credit < most:
            click.echo(f"warning: the account has ${offered.credit:.2f}, less than the limit", err=True)
        ask_first("rent it, run the jobs, pull the results and destroy it?", yes=yes)

    return agree


def _tell_time(text: str) -> None:
    """Print one line with the time of day on stderr."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _report(ended: Ended, as_json: bool) -> None:
    from skill.fleet import ledger

    if as_json:
        print_json(
            {
                "run_id": ended.run.id,
                "directory": str(ended.run.root),
                "summary": str(ended.run.paths.summary),
                "worker": ended.rental.worker,
                "instance_id": ended.rental.instance_id,
                "state": ended.rental.state,
                "cost_usd": round(ledger.cost(ended.rental, time.time()), 6),
                "said": list(ended.notes),
            }
        )
        return
    print(f"{ended.run.id}: {ended.run.paths.summary}")
    for text in ended.notes:
        print(text)
