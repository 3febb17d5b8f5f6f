"""What stands in place of SPEC: a spec, a file of commands, a table, or a command after `--`."""

from __future__ import annotations

import functools
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from queue_manager.core.manifest import MAX_JOBS
from skill.cli.console import ask_first, say
from skill.common.errors import UseError
from skill.common.units import jobs_text

if TYPE_CHECKING:
    from skill.operations.build_spec import Given

_COMMAND = "wavequeue.command"
_ASKED_ABOVE = 1_000
"""Jobs of a command: more may be a slip of the pen."""
_PROGRAMS = frozenset({".py", ".sh", ".bash", ".r", ".jl", ".pl", ".lua", ".ipynb"})


def _name_option(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Raises UseError where no run can have the name."""
    from queue_manager.core.layout import project_fault

    fault = None if value is None else project_fault(value)
    if fault:
        raise UseError(f"--name {shlex.quote(value or '')} {fault}")
    return value


NAME = click.option(
    "--name", metavar="NAME", callback=_name_option, help="Name the run, for --run NAME; default: its project."
)
DRY_RUN = click.option("--dry-run", is_flag=True, help="Show what would run, and start nothing.")
_OPTIONS = (
    click.option("--id", "job_id", metavar="PATTERN", help="Ids of the jobs of a command or table: '{lr}_{seed}'."),
    click.option(
        "--gpus", type=click.IntRange(min=0), metavar="N", help="GPUs that each job of a command needs (default: 1)."
    ),
    click.option(
        "--gpu-mem", type=click.IntRange(min=1), metavar="MIB", help="GPU memory each of them needs, to share."
    ),
    click.option("--output", metavar="PATTERN", help="File that each of them writes: 'out/{id}.json'."),
    click.option("--cmd", metavar="COMMAND", help="Command of each row of a table: 'python train.py --lr {lr}'."),
    click.option("--save", metavar="FILE", help="Write the spec that is made of a command or table."),
)


class TakesCommand(click.Command):
    """A verb whose spec may be a command after `--`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = list(args)
        if "--" in given:
            at = given.index("--")
            ctx.meta[_COMMAND] = tuple(given[at + 1 :])
            return super().parse_args(ctx, given[:at])
        try:
            rest = super().parse_args(ctx, list(given))
        except click.UsageError as error:
            _say_dashes(ctx, given)
            raise error from None
        if not ctx.resilient_parsing and _is_program(ctx.params.get("spec") or ""):
            _say_dashes(ctx, given)
        return rest


def _say_dashes(ctx: click.Context, given: list[str]) -> None:
    """Raises UseError where a command was given without `--` before it."""
    for at, word in enumerate(given):
        if _is_program(word):
            words = given[at:] if Path(word).suffix != ".py" or shutil.which(word) else ["python", *given[at:]]
            before = "".join(f"{shlex.quote(one)} " for one in given[:at])
            raise UseError(
                f"{word} is a program, not a spec: write -- before a command: "
                f"{ctx.command_path} {before}-- {shlex.join(words)}"
            )


def _is_program(word: str) -> bool:
    if not word or word.startswith("-"):
        return False
    if Path(word).suffix.lower() in _PROGRAMS:
        return True
    return not Path(word).suffix and not Path(word).is_file() and shutil.which(word) is not None


def given(function: Callable[..., Any]) -> Callable[..., Any]:
    """The argument SPEC and the options for what stands in its place; the verb gets one `spec`, which is a Given."""

    @functools.wraps(function)
    def verb(
        spec: str | None,
        job_id: str | None,
        gpus: int | None,
        gpu_mem: int | None,
        output: str | None,
        cmd: str | None,
        save: str | None,
        **others: Any,
    ) -> Any:
        options = {"--id": job_id, "--gpus": gpus, "--gpu-mem": gpu_mem, "--output": output}
        return function(spec=_given(spec, options, cmd, save), **others)

    decorated: Callable[..., Any] = click.argument("spec", metavar="SPEC | -- COMMAND", required=False)(verb)
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def _given(spec: str | None, options: dict[str, Any], cmd: str | None, save: str | None) -> Given:
    command: tuple[str, ...] | None = click.get_current_context().meta.get(_COMMAND)
    if command is not None and spec is not None:
        raise UseError(f"give a spec ({spec}) or a command after --, not both")
    if command == ():
        raise UseError("there is no command after --")
    if command is None and spec is None:
        raise click.UsageError(
            "Missing argument 'SPEC': give a spec, a file of commands, or -- and a command",
            click.get_current_context(),
        )
    from build_manifest.written_spec import JobOptions
    from skill.operations import make_spec  # the words of the command line are judged without it

    if command is None and spec is not None and not make_spec.is_made(spec):
        more = [name for name, value in {**options, "--cmd": cmd, "--save": save}.items() if value is not None]
        if more:
            raise UseError(f"{more[0]} is for a command, a file of commands or a table; write it into {spec}")
        return spec
    made_of = JobOptions(*options.values())
    if command is not None:
        if cmd is not None:
            raise UseError("--cmd is for tables; the command stands after --")
        made = make_spec.of_command(command, made_of)
    else:
        made = make_spec.of_file(spec or "", cmd, made_of)
    if save is None:
        return made
    saved = make_spec.save(made, save)
    say(f"wrote {save}")
    return saved


def code_agreement(*, yes: bool) -> Callable[[str], None]:
    """Ask before much code is sent; it gets the words for it."""
    hint = "name what is not needed in .gitignore or .wavequeueignore"
    return lambda words: ask_first(f"send {words} to each host?", yes=yes, look=hint)


def confirm_size(spec: Given, *, yes: bool) -> None:
    """Ask before a command starts very many jobs. Raises as `ask_first` does."""
    from skill.operations.build_spec import MadeSpec

    if isinstance(spec, MadeSpec) and _ASKED_ABOVE < spec.jobs <= MAX_JOBS:
        ask_first(f"{spec.name} makes {jobs_text(spec.jobs)}; start them?", yes=yes, look="look at it with --dry-run")
