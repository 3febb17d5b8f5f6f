"""Verbs about a campaign: auto run, status, tree, steer, pin, kill, boost, stop, extend."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from skill.cli.auto import begin, report
from skill.cli.console import print_json, print_table, say
from skill.cli.options import JSON, time_option
from skill.common.errors import DONE, PERSON

_FINDINGS = 5
WORKDIR = click.argument("workdir", metavar="WORKDIR", type=click.Path(path_type=Path))
NODE = click.argument("node", metavar="NODE")


@click.group("auto", short_help="Let an agent propose experiments; the queue measures them.")
def auto() -> None:
    """Let a coding agent propose experiments on a training program; the queue runs them, and code decides from their
    metrics what was better than noise, and when to stop.

    All of a campaign is in WORKDIR: its journal is the truth, and everything else can be deleted and comes back.
    """


auto.add_command(begin.init)
auto.add_command(begin.supervise)
auto.add_command(report.report)


@auto.command("run", short_help="Work on a campaign until it stops.")
@WORKDIR
@JSON
def run(workdir: Path, as_json: bool) -> int:
    """Work on a campaign until a limit stops it. Run it again to resume it, whatever ended it.

    Ctrl-C ends it within two seconds, with the agent's processes; jobs continue, and are collected when it is run
    again.
    Exit code 3 if the baseline gives no number.
    """
    from skill.operations import auto_run, auto_status

    campaign = auto_run.run_campaign(workdir, say=say)
    found = auto_status.status(workdir)
    _show(found, as_json=as_json)
    return PERSON if campaign.stopped == "baseline" else DONE


@auto.command("status", short_help="Show a campaign: its nodes, the best, the budget.")
@WORKDIR
@JSON
def status(workdir: Path, as_json: bool) -> int:
    """Show the nodes of a campaign, the best of them, what runs, and what is left of the limits.

    gain: over the best node before, in the metric, positive is better; it counts if it exceeds `needs`.
    """
    from skill.operations import auto_status

    _show(auto_status.status(workdir), as_json=as_json)
    return DONE


@auto.command("tree", short_help="Show the nodes as a tree.")
@WORKDIR
@JSON
def tree(workdir: Path, as_json: bool) -> int:
    """Show each node under the one that it changes; * marks the best."""
    from skill.operations import auto_status

    found = auto_status.status(workdir)
    if as_json:
        print_json(found["nodes"])
        return DONE
    for line in auto_status.tree(found):
        print(line)
    return DONE


@auto.command("steer", short_help="Tell the planner something.")
@WORKDIR
@click.argument("note", metavar="NOTE")
def steer(workdir: Path, note: str) -> int:
    """Tell the planner something; it reads NOTE with its next plan."""
    from skill.operations import auto_steer

    auto_steer.note(workdir, note)
    print("noted; the planner reads it with its next plan")
    return DONE


def _steer_node(workdir: Path, verb: Literal["pin", "kill", "boost"], node: str, message: str) -> int:
    from skill.operations import auto_steer

    auto_steer.steer_node(workdir, verb, node)
    print(message)
    return DONE


@auto.command("pin", short_help="Have proposals start from NODE.")
@WORKDIR
@NODE
def pin(workdir: Path, node: str) -> int:
    """Have proposals that name no parent start from NODE instead of from the best."""
    return _steer_node(workdir, "pin", node, f"proposals start from {node}")


@auto.command("kill", short_help="End NODE and cancel its jobs.")
@WORKDIR
@NODE
def kill(workdir: Path, node: str) -> int:
    """Cancel the jobs of NODE; it is judged no further."""
    return _steer_node(workdir, "kill", node, f"{node} is ended, and its jobs are cancelled")


@auto.command("boost", short_help="Have NODE edited and measured first.")
@WORKDIR
@NODE
def boost(workdir: Path, node: str) -> int:
    """Have NODE edited and submitted before all others."""
    return _steer_node(workdir, "boost", node, f"{node} comes first")


@auto.command("stop", short_help="End a campaign that is running.")
@WORKDIR
def stop(workdir: Path) -> int:
    """Begin nothing new; the campaign stops when what runs has ended. `auto run` continues it."""
    from skill.operations import auto_steer

    auto_steer.stop_campaign(workdir)
    print("it stops when what runs has ended")
    return DONE


@auto.command("extend", short_help="Set limits of a campaign anew.")
@WORKDIR
@click.option("--max-nodes", type=click.IntRange(0), metavar="N", help="End after N experiments.")
@click.option("--max-rounds", type=click.IntRange(0), metavar="N", help="End after N rounds of planning.")
@click.option(
    "--patience", type=click.IntRange(1), metavar="N", help="End after N experiments in a row without an improvement."
)
@click.option(
    "--no-novel", type=click.IntRange(1), metavar="N", help="End after N rounds in a row without a new proposal."
)
@click.option("--target", type=float, metavar="VALUE", help="End once the metric reaches VALUE.")
@click.option("--for", "seconds", callback=time_option, metavar="TIME", help="End after TIME from now, such as 8h.")
@click.option(
    "--max-usd", type=click.FloatRange(0), metavar="USD", help="Spend at most USD on GPUs and the agent together."
)
@click.option("--max-gpu-usd", type=click.FloatRange(0), metavar="USD", help="Spend at most USD on GPUs.")
@click.option("--max-agent-usd", type=click.FloatRange(0), metavar="USD", help="Spend at most USD on the agent.")
def extend(workdir: Path, seconds: float | None, **limits: Any) -> int:
    """Set limits anew, while it runs or after it has stopped; then continue it with `auto run`."""
    import time

    from skill.operations import auto_steer

    changes = {name: value for name, value in limits.items() if value is not None}
    if seconds is not None:
        changes["deadline"] = time.time() + seconds
    auto_steer.extend(workdir, changes)
    print(f"set: {', '.join(sorted(changes))}; if it has stopped, continue with: wavequeue auto run {workdir}")
    return DONE


def _show(found: dict[str, Any], *, as_json: bool) -> None:
    from skill.operations import auto_status

    if as_json:
        print_json(found)
        return
    for line in auto_status.lines(found):
        print(line)
    print_table(auto_status.cells(found))
    for one in found["findings"][-_FINDINGS:]:
        print(f"{one['id']} ({', '.join(one['nodes'])}): {one['text']}")
