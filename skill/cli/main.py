"""The command `wavequeue`, also called `wq`: its verbs, errors and exit codes."""

from __future__ import annotations

import gc
import importlib
import io
import itertools
import os
import sys
from pathlib import Path
from typing import NamedTuple

import click

from build_manifest.faults import SpecErrors
from skill import __version__
from skill.cli import interrupt
from skill.common.errors import DONE, FAILED, INTERRUPTED, USE, FailedError, UseError
from skill.terminal import safe_output

_NAMES = ("wavequeue", "wq")


class Verb(NamedTuple):
    """A verb, imported when it is called: a module of skill.cli and its command. `help`: its short help."""

    module: str
    attribute: str
    help: str


VERBS = {  # in the order in which they are used
    "init": Verb("spec", "init", "Write a small commented spec to start from."),
    "build": Verb("spec", "build_verb", "Expand SPEC into its manifest: every job in one JSON document."),
    "plan": Verb("spec", "plan_verb", "Show what SPEC would run, for how long and at what cost."),
    "run": Verb("run", "run_verb", "Run SPEC on this machine, or a command without a spec."),
    "preflight": Verb("submit", "preflight_verb", "Check that SPEC can run on its hosts."),
    "submit": Verb("submit", "submit_verb", "Run SPEC on its hosts."),
    "ls": Verb("runs", "ls", "List runs, here and on hosts."),
    "status": Verb("status", "status_verb", "Show the status of a run."),
    "watch": Verb("run", "watch", "Follow a run until it ends; q or Ctrl-C leaves it running."),
    "wait": Verb("wait", "wait_verb", "Wait for the end of a run, or for a new problem in it."),
    "babysit": Verb("babysit", "babysit_verb", "Watch over a run: a line for each job and check."),
    "why": Verb("job", "why_verb", "Explain the status of JOB, back to the root cause."),
    "logs": Verb("job", "logs_verb", "Print the log of JOB."),
    "attach": Verb("job", "attach", "Attach to the terminal of a running JOB."),
    "cancel": Verb("requests", "cancel", "Cancel jobs of a run; running jobs are stopped."),
    "retry": Verb("requests", "retry", "Run stuck or cancelled jobs again, with new attempts."),
    "accept": Verb("requests", "accept", "Accept the result of JOB as it is, and let its dependents run."),
    "pause": Verb("requests", "pause", "Start no new jobs; running jobs continue."),
    "resume": Verb("requests", "resume", "Continue a paused or interrupted run."),
    "add": Verb("requests", "add", "Add jobs to a run."),
    "pull": Verb("pull", "pull_verb", "Copy results, logs and state from the hosts to this machine."),
    "rescue": Verb("rescue", "rescue_verb", "Give up a lost host and run its jobs on others."),
    "repair": Verb("repair", "repair_verb", "Show what can be recovered of a damaged run, then repair it."),
    "rm": Verb("runs", "rm", "Remove runs that have ended, here and on hosts."),
    "gc": Verb("runs", "gc", "Remove runs that ended long ago; asks."),
    "report": Verb("report", "report_verb", "Report on a run: phases, failures, numbers over seeds."),
    "results": Verb("results", "results_verb", "Show the results of a run: a row for each cell, over its seeds."),
    "diagnose": Verb("diagnose", "diagnose_verb", "Find in log files why their jobs failed."),
    "hosts": Verb("hosts", "hosts", "Register hosts, check them, set them up."),
    "vast": Verb("vast.instances", "vast", "Rent machines of Vast.ai: list them, their cost, and offers."),
    "up": Verb("up", "up_verb", "Run SPEC on a rented machine: rent, run, pull, destroy."),
    "research": Verb("research.projects", "research", "Keep projects, ideas, runs, evidence and papers in files."),
    "auto": Verb("auto.campaign", "auto", "Let an agent propose experiments; the queue measures them."),
    "completion": Verb("completion", "completion_verb", "Complete verbs, runs, jobs, hosts and files in your shell."),
    "mcp": Verb("mcp_verb", "mcp_verb", "Serve runs to agents by the Model Context Protocol."),
    "skill": Verb("skill_verb", "skill_verb", "Install the instructions by which Claude Code uses wavequeue."),
    "doctor": Verb("doctor", "doctor_verb", "Check the keys of Vast.ai, W&B, Hugging Face and GitHub."),
}


def load(name: str) -> click.Command:
    """Import the command of a verb of VERBS."""
    verb = VERBS[name]
    command: click.Command = getattr(importlib.import_module(f"skill.cli.{verb.module}"), verb.attribute)
    return command


class _Verbs(click.Group):
    """A group that lists its verbs in the order of VERBS, and imports a verb when it is called. Lists, completions and
    suggestions use the names and short helps of the table."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.commands = {name: click.Command(name, short_help=verb.help) for name, verb in VERBS.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None:
            command = load(name)
            gc.freeze()
            gc.enable()
        interrupt.raise_again()
        return name, command, rest


def _print_version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    from skill.common.commit import commit

    found = commit()
    print(f"wavequeue {__version__} ({'commit unknown' if found is None else f'commit {found}'})")
    context.exit()


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version,
    help="Show the version and the commit.",
)  # fmt: skip
def cli() -> None:
    """Run batches of ML experiments: one spec, a detached manager, nothing lost.

    Write a spec (init), see what it would do (plan), run it (run), follow it (watch), find out about a job (why, logs).
    Without --run, a verb uses the newest run.
    """


def _as_found(name: str) -> str:
    """How the command is typed here: by its name, or by its path where a shell would not find it by that."""
    path = sys.argv[0]
    if os.path.basename(path) != name or not os.path.isfile(path):
        return name
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        found = os.path.join(folder, name)
        if os.access(found, os.X_OK):
            if os.path.samefile(found, path):
                return name
            break
    import shlex  # hardly ever

    near = os.path.relpath(path)
    return shlex.quote(os.path.abspath(path) if near.startswith("..") or os.sep not in near else near)


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns its exit code: 0 done, 1 failed, 2 wrong use, 3 jobs need a person, 130 left."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show a character gets its number instead
            stream.reconfigure(errors="backslashreplace")
    name = Path(sys.argv[0]).name
    name = name if name in _NAMES else "wavequeue"
    typed = _as_found(name)
    if "_WAVEQUEUE_COMPLETE" in os.environ:  # a shell asks, and reads the answer by itself
        from skill.cli import completion

        return completion.answer(os.environ[completion.VARIABLE], name, cli)
    given = sys.argv[1:] if arguments is None else arguments
    with safe_output.guarded(safe_output.named(typed, VERBS, name)):
        try:
            return _run(name, given, as_json="--json" in itertools.takewhile("--".__ne__, given))
        except BrokenPipeError:  # whoever read our output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED


def _run(name: str, given: list[str], *, as_json: bool) -> int:
    """Run the command; its error goes to stderr, and with `--json` to stdout as well, as the one document there."""
    printed = _documents() if as_json else 0
    try:
        code = cli.main(given, prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        return USE
    except BrokenPipeError:
        raise
    except (click.Abort, KeyboardInterrupt):
        print(file=sys.stderr)
        return INTERRUPTED
    except (click.ClickException, SpecErrors, UseError, FailedError, OSError) as error:
        text, code = _fault(error)
        print(f"wavequeue: {text}", file=sys.stderr, flush=True)
        if as_json and _documents() == printed:
            from skill.cli.console import print_json

            print_json({"error": text})
        return code
    return code if isinstance(code, int) else DONE


def _documents() -> int:
    """How many JSON documents have been printed."""
    from skill.cli import console

    return len(console.documents)


def _fault(error: Exception) -> tuple[str, int]:
    """What to say of an error, and the exit code."""
    if isinstance(error, click.ClickException):  # of the arguments: the help says more
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "wavequeue"
        return f"{error.format_message().rstrip('.')}; see: {path} --help", USE
    if isinstance(error, SpecErrors):
        faults = str(error).splitlines()
        return faults[0] if len(faults) == 1 else f"{len(faults)} faults, and nothing was written:\n{error}", USE
    if isinstance(error, OSError):
        return f"{error.filename or 'this machine'}: {error.strerror or error}", FAILED
    return str(error), USE if isinstance(error, UseError) else FAILED


if __name__ == "__main__":
    sys.exit(main())
