"""The verb that does all of it on a rented machine: up."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skill.cli.console import ask_first, print_json, say, warn
from skill.cli.options import JSON, SPEC, time_option
from skill.cli.vast.hunt import needs, wanted
from skill.cli.vast.rent import rank, still_billing, telling_what_bills, terms
from skill.common.errors import FAILED, USE, FailedError, UseError
from skill.operations import submission
from skill.operations.build_spec import build
from skill.runs import assignment, pulled_states

if TYPE_CHECKING:
    from skill.fleet.follow_rental import Took
    from skill.hosts.connection import Host
    from skill.hosts.registry import Worker
    from skill.operations.submission import Order
    from skill.operations.up import Agreed, Ended, Steps
    from skill.providers.vast.client import Client
    from skill.runs.directory import Run


@click.command("up", short_help="Run SPEC on a rented machine: rent, run, pull, destroy.")
@SPEC
@click.option("--max-cost", type=click.FloatRange(0.01), metavar="USD", help="Cost limit in USD for the whole run.")
@needs
@click.option(
    "--every", callback=time_option, default="30s", metavar="TIME", help="Longest time between pulls (default: 30s)."
)
@click.option("--poll", type=click.FloatRange(0.01, 3600), metavar="SEC", help="Seconds between looks at the GPUs.")
@click.option("--new", is_flag=True, help="Run again even if it was done.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON
def up_verb(
    spec: str,
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
    """Rent the best offer for SPEC, run it there, bring all results home, and destroy the machine.

    Shows the offer, the estimated hours and the total, and asks once. The cost limit is --max-cost, else max_cost of
    SPEC, else twice the estimate. The machine's own manager enforces it, and ends the machine if this one is gone. If
    the command is interrupted, run it again to continue. Exit code 3 if jobs need a person: the machine is then
    stopped, and its disk is kept.
    """
    from skill.hosts import registry
    from skill.operations.up import Up, purpose
    from skill.providers.vast import client as vast

    where = registry.locate(Path.cwd())
    manifest = build(spec, warn).manifest
    submission.order(manifest, spec)  # code that cannot be pushed is said before anything is paid for
    asked = {"max_dph": max_dph, "ref_hours": ref_hours, "ref_dlp": ref_dlp, "disk_gb": disk}
    meant, _ = wanted(spec, profile, where, asked)
    client = vast.connect()
    steps = _steps(client, where, spec, profile, asked, max_cost, yes=yes)
    try:
        with telling_what_bills(client, where, purpose(manifest)):
            went = Up(
                client, where, spec, manifest, meant, steps, say, max_cost=max_cost, poll=poll, every=every, new=new
            )
            try:
                ended = went.go()
            except (FailedError, UseError) as error:
                say(str(error))
                for text in still_billing(client, where, went.purpose):
                    say(text)
                return USE if isinstance(error, UseError) else FAILED
    finally:
        client.close()
    _report(ended, as_json)
    return ended.code


def _steps(
    client: Client,
    where: Path,
    spec: str,
    profile: str | None,
    asked: dict[str, Any],
    max_cost: float | None,
    *,
    yes: bool,
) -> Steps:
    from skill.fleet import settings, ssh_key
    from skill.hosts import registry, ssh_preflight
    from skill.operations.up import Agreed, Steps, ceiling
    from skill.providers.vast.responses import Unknown

    manifest = build(spec).manifest

    def agreed() -> Agreed:
        chosen = settings.read_renting(where)
        key = ssh_key.find_key(chosen.key)
        fault = ssh_preflight.fault(key.private, key.public)
        if fault is not None:
            raise FailedError(f"nothing was rented: no machine could be entered from here: {fault}")
        meant, work = wanted(spec, profile, where, asked)
        candidates = rank(client, where, meant, work)
        best = candidates[0]
        most = ceiling(manifest, max_cost, best.total)
        if best.total > most:
            raise FailedError(
                f"the best offer is reckoned to cost ${best.total:.2f}, above the ceiling of ${most:.2f}; nothing was "
                "rented"
            )
        for text in terms(best, work, chosen.image, more=True):
            click.echo(text, err=True)
        click.echo(f"ceiling: ${most:.2f}; its manager begins no job beyond that, and ends the machine", err=True)
        user = client.user()
        if not isinstance(user, Unknown) and user.credit is not None and user.credit < most:
            click.echo(f"warning: the account has ${user.credit:.2f}, less than the ceiling", err=True)
        ask_first("rent it, run the jobs, bring the results home and destroy it?", yes=yes)
        return Agreed(tuple(one for one in candidates if one.total <= most), most)

    def set_up(host: Host) -> None:
        from skill.cli.hosts import env_of, setup_script
        from skill.hosts import setup

        known = registry.Registry.load(where)
        to_get = setup.Wanted(env_of(where.parent, None, known.env_allow), setup_script(where.parent))
        (outcome,) = setup.setup([host], to_get, lambda name, text: say(f"{name}: {text}"))
        if outcome.fault is not None:
            raise FailedError(f"{outcome.host}: {outcome.fault}")

    def begin(made: Order, host: Host) -> Run:
        from skill.operations import check_hosts, submit_spec

        return submit_spec.begin(made, [host], check_hosts.check(made, [host]), say, new=True)

    def mended(worker: Worker) -> Worker:
        from skill.operations import check_hosts

        (found,) = check_hosts.mended(where, [worker], "run the same command again", say)
        return found

    return Steps(agreed, set_up, begin, mended, _Pulls().once)


class _Pulls:
    """Pulls of one run, each told in a line where something is new."""

    def __init__(self) -> None:
        self._told: tuple[str, bool] | None = None

    def once(self, run: Run, patience: float) -> Took:
        """One pull, which may take so many seconds."""
        from skill.cli import pull as verbs_pull
        from skill.fleet.follow_rental import Took

        try:
            done = verbs_pull.once(run, patience)
        except FailedError as error:  # somebody else pulls it just now
            say(str(error))
            return Took(is_last=False, is_reached=True)
        found = assignment.read(run)
        assert found is not None
        rows = [row for state in pulled_states.documents(run, found).values() for row in state["jobs"]]
        counts = {word: sum(row["status"] == word for row in rows) for word in ("completed", "running")}
        how = f"{counts['completed']} of {len(rows)} jobs completed, {counts['running']} running"
        if self._told != (how, bool(done.away)) or done.last:
            rest = "all of it is here" if done.last else verbs_pull.line(run, done)
            print(f"{time.strftime('%H:%M:%S')} {how}; {rest}", file=sys.stderr, flush=True)
        self._told = how, bool(done.away)
        reasons = [turn.reason for turn in done.turns.values() if not turn.whole]
        refused = sum(len(turn.received.refused) for turn in done.turns.values())
        return Took(done.last, not done.away, "; ".join(filter(None, reasons)) or None, refused)


def _report(ended: Ended, as_json: bool) -> None:
    from skill.fleet import ledger as book

    if as_json:
        print_json(
            {
                "run_id": ended.run.id,
                "directory": str(ended.run.root),
                "summary": str(ended.run.paths.summary),
                "worker": ended.rental.worker,
                "instance_id": ended.rental.instance_id,
                "state": ended.rental.state,
                "cost_usd": round(book.cost(ended.rental, time.time()), 6),
                "said": list(ended.said),
            }
        )
        return
    print(f"{ended.run.id}: {ended.run.paths.summary}")
    for text in ended.said:
        print(text)
