"""Completion of the command in a shell: the verb `completion`, and the answers that its script asks for.

What a word may become follows from the name of its place in the help: JOB, RUN, HOST. Only the module of the verb that
is typed is imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import click
from click import shell_completion
from click.shell_completion import CompletionItem, ShellComplete

from skill.common.errors import DONE, UseError

VARIABLE = "_WAVEQUEUE_COMPLETE"
"""Environment variable by which a shell asks for completions."""
NAMES = ("wavequeue", "wq")
SHELLS = ("bash", "zsh", "fish")
_FILES = frozenset({"SPEC", "SPEC | -- COMMAND", "FILE", "LOG", "PATH", "DIR"})
_BEFORE = {"zsh": ("(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -u; }",)}
"""What a shell needs before the script, where its user has not set that up."""
_WANTED = {
    "attach": {"running"},
    "cancel": {"running", "pending", "failed_oom", "failed_other", "blocked"},
    "retry": {"stuck", "cancelled", "blocked"},
    "accept": {"stuck", "cancelled", "blocked"},
}
"""The statuses of the jobs that a verb is for."""


def _names(kind: str, ctx: click.Context) -> list[str] | None:
    """The names that a place takes, by what the help calls it; None where click knows them."""
    from skill.operations import completions

    run = ctx.params.get("run_name")
    table: dict[str, Callable[[], list[str]]] = {
        "JOB": lambda: completions.jobs(run, _WANTED.get(ctx.info_name or "", ())),
        "RUN": completions.runs,
        "PHASE": lambda: completions.phases(run),
        "HOST": completions.hosts,
        "POOL": completions.pools,
    }
    if kind == "NAME" and ((ctx.parent and ctx.parent.info_name == "hosts") or "names" in ctx.params):
        kind = "HOST"
    return table[kind]() if kind in table else None


def _get_completions(self: ShellComplete, args: list[str], incomplete: str) -> list[CompletionItem]:
    ctx = shell_completion._resolve_context(self.cli, self.ctx_args, self.prog_name, args)
    place, incomplete = shell_completion._resolve_incomplete(ctx, args, incomplete)
    kind = (getattr(place, "metavar", None) or "").strip("[].")
    if kind in _FILES:
        return [CompletionItem(incomplete, type="file")]
    names = _names(kind, ctx) if kind else None
    if names is None:
        return place.shell_complete(ctx, incomplete)
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _completer(shell: str, name: str, group: click.Command) -> ShellComplete:
    known = shell_completion.get_completion_class(shell)
    assert known is not None
    made = type(f"Complete{shell}", (known,), {"get_completions": _get_completions})
    found: ShellComplete = made(group, {}, name, VARIABLE)
    return found


def answer(instruction: str, name: str, group: click.Command) -> int:
    """Print what the word at the cursor may become. `instruction`: such as bash_complete."""
    shell = instruction.partition("_")[0]
    if shell in SHELLS:
        sys.stdout.write(_completer(shell, name, group).complete() + "\n")
    return DONE


def script(shell: str, group: click.Command) -> str:
    """The script by which a shell completes both names of the command."""
    made = [_completer(shell, name, group) for name in NAMES]
    return "\n".join([*_BEFORE.get(shell, ()), *(one.source_template % one.source_vars() for one in made)])


@click.command("completion", short_help="Complete verbs, runs, jobs, hosts and files in your shell.")
@click.argument("shell", required=False, type=click.Choice(SHELLS), metavar="[bash|zsh|fish]")
@click.option("--install", is_flag=True, help="Have the shell load it from now on.")
@click.pass_context
def completion_verb(ctx: click.Context, shell: str | None, install: bool) -> None:
    """Print a script that completes verbs, options, files, runs, jobs, phases and hosts in a shell.

    Without the name of a shell: for the one of $SHELL. --install writes it into your home and has .bashrc or .zshrc
    load it; fish finds it by itself.
    """
    chosen = shell or os.path.basename(os.environ.get("SHELL", ""))
    if chosen not in SHELLS:
        raise UseError(f"say for which shell: wavequeue completion {'|'.join(SHELLS)}")
    text = script(chosen, ctx.find_root().command)
    if not install:
        sys.stdout.write(text)
        return
    from skill.operations import completions

    for path in completions.install(chosen, text, NAMES):
        print(f"wrote {path}")
    print(f"open a new {chosen} to use it")
