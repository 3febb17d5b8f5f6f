"""Verbs that begin a campaign: auto init, auto supervise."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skill.cli.console import say
from skill.cli.options import time_option
from skill.common.errors import DONE, UseError

if TYPE_CHECKING:
    from skill.operations.auto_init import Wanted


@click.command("init", short_help="Begin a campaign: prove that its metric can be read, and write config.json.")
@click.argument("workdir", type=click.Path(path_type=Path), metavar="WORKDIR")
@click.option("--dir", "directory", default=".", type=click.Path(path_type=Path), help="The program's directory.")
@click.option("--name", metavar="NAME", help="The campaign (default: the name of WORKDIR).")
@click.option("--command", metavar="CMD", help="How the program is run; ${NAME} is a setting, ${seed} the seed.")
@click.option("--metric", metavar="NAME[=RULE]", help="What is to get better; RULE as in a spec.")
@click.option("--goal", type=click.Choice(["min", "max"]), help="Whether smaller or larger is better.")
@click.option("--set", "settings", metavar="NAME=VALUE", multiple=True, help="A setting, with the baseline's value.")
@click.option("--edit", "editable", metavar="GLOB", multiple=True, help="Files that the agent may edit.")
@click.option("--protect", "protected", metavar="GLOB", multiple=True, help="Files that must stay as they are.")
@click.option("--agent", metavar="CMD", help="claude, codex, or a command that reads its prompt on stdin.")
@click.option("--envelope", type=click.Choice(["claude", "codex", "raw"]), help="The form of the agent's output.")
@click.option("--build", metavar="CMD", help="Run once for each content of the code; $IMAGE is its last line.")
@click.option("--check", metavar="CMD", help="Has to succeed in a node's code before it is run, such as: pytest -q")
@click.option("--host", "hosts", metavar="NAME", multiple=True, help="Run jobs on this host (default: here).")
@click.option("--gpus", type=click.IntRange(0), metavar="N", help="GPUs of one run (default: 1).")
@click.option("--max-nodes", type=click.IntRange(1), metavar="N", help="End after N experiments.")
@click.option("--max-rounds", type=click.IntRange(1), metavar="N", help="End after N rounds of planning.")
@click.option(
    "--patience", type=click.IntRange(1), metavar="N", help="End after N experiments in a row without an improvement."
)
@click.option("--target", type=float, metavar="VALUE", help="End once the metric reaches VALUE.")
@click.option("--for", "duration", metavar="TIME", callback=time_option, help="End after TIME from now, such as 8h.")
@click.option("--max-usd", type=float, metavar="USD", help="Spend at most USD on GPUs and the agent together.")
@click.option("--gpu-usd-per-hour", type=float, metavar="USD", help="What an hour of one run costs.")
@click.option(
    "--job-minutes",
    type=float,
    metavar="MIN",
    help="How long one run takes (default: as long as the first one, and half more).",
)
@click.option("--brief", metavar="FILE", type=click.Path(path_type=Path), help="What the agent should know, as text.")
@click.option(
    "--idea", "ideas", metavar="NAME", multiple=True, help="Try cached-loader or subprocess-loader (PyTorch)."
)
@click.option("--instrument", is_flag=True, help="Have the agent make the program report its metric.")
@click.option("--include-changes", is_flag=True, help="Begin from the uncommitted changes of files that may be edited.")
@click.option("--yes", is_flag=True, help="Do not ask; what is missing is an error.")
def init(
    workdir: Path,
    metric: str | None,
    settings: tuple[str, ...],
    duration: float | None,
    brief: Path | None,
    instrument: bool,
    include_changes: bool,
    yes: bool,
    max_nodes: int | None,
    max_rounds: int | None,
    patience: int | None,
    target: float | None,
    max_usd: float | None,
    **given: object,
) -> int:
    """Begin a campaign in WORKDIR, which is made.

    Asks for what is missing. Runs the program once to prove that its metric can be read, commits the anchor on the
    branch wq/NAME/anchor, and writes config.json. The checkout is not touched. The layout of karpathy/autoresearch
    (program.md, prepare.py, train.py) needs no answers but the agent.
    """
    from skill.common import files
    from skill.operations import auto_init

    limits = {
        "max_nodes": max_nodes,
        "max_rounds": max_rounds,
        "patience": patience,
        "target": target,
        "deadline": None if duration is None else round(time.time() + duration, 3),
        "max_usd": max_usd,
    }
    name, equals, rule = (metric or "").partition("=")
    wanted = auto_init.Wanted(
        metric=name or None,
        rule=rule if equals else None,
        settings=dict(_pair(one) for one in settings),
        brief=files.read_text(brief) if brief is not None else "",
        limits={name: value for name, value in limits.items() if value is not None},
        **given,  # type: ignore[arg-type]
    )
    if not yes and sys.stdin.isatty():
        wanted = _ask(wanted, instrument=instrument)
    begun = auto_init.begin(workdir, wanted, include_changes=include_changes, instrument=instrument, say=say)
    config = begun.config
    print(f"one run gives {config.objective.metric} {begun.value:g}, in {begun.seconds:.0f} s")
    print(f"wrote {workdir / 'config.json'}")
    print(f"the anchor is {config.anchor[:12]}, on branch wq/{config.name}/anchor")
    print(f"start it: wavequeue auto run {workdir}")
    return DONE


@click.command("supervise", short_help="Hand a campaign to an agent that you talk to.")
@click.argument("workdir", type=click.Path(path_type=Path), metavar="WORKDIR")
@click.option("--dir", "directory", default=".", type=click.Path(path_type=Path), help="The program's directory.")
@click.option(
    "--agent",
    default="claude",
    metavar="CMD",
    help="Command of the agent, which gets its prompt as the last argument (default: claude).",
)
def supervise(workdir: Path, directory: Path, agent: str) -> None:
    """Start an agent that you talk to, and that begins, watches and steers the campaign in WORKDIR with you.

    It is given the instructions for that and the campaign's state; where none has begun, what is known of the program
    in --dir and what `auto init` still needs.
    """
    import os
    import shlex

    from skill.operations import auto_supervise

    started = auto_supervise.supervisor(workdir, directory, tuple(shlex.split(agent)))
    sys.stdout.flush()
    os.execv(started.command[0], started.command)


def _ask(wanted: Wanted, *, instrument: bool) -> Wanted:
    """Ask for what is missing."""
    from skill.operations import auto_init

    _, known = auto_init.look(wanted)
    for question in auto_init.questions(wanted, known, instrument=instrument):
        answer = click.prompt(question.ask, default=question.default, err=True).strip()
        value = tuple(answer.split()) if question.field == "editable" else answer
        if question.field == "goal" and answer not in ("min", "max"):
            raise UseError(f"{answer!r} is neither min nor max")
        given: dict[str, Any] = {question.field: value}
        wanted = replace(wanted, **given)
    return wanted


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UseError(f"--set {text}: write --set NAME=VALUE")
    return name, value
