"""The command `wavequeue`, and `wq`, which is the same: its verbs, its errors, its exit codes."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import click

from build_manifest import SpecErrors
from skill import (
    __version__,
    verbs_ask,
    verbs_doctor,
    verbs_hosts,
    verbs_job,
    verbs_pull,
    verbs_rescue,
    verbs_run,
    verbs_spec,
    verbs_submit,
    verbs_up,
    verbs_vast,
)
from skill.errors import DONE, FAILED, INTERRUPTED, USE, FailedError, UseError

_NAMES = ("wavequeue", "wq")


class _InOrder(click.Group):
    """Lists its verbs in the order in which they are used, and not by the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands)


@click.group(cls=_InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Run batches of ML experiments: one spec, a detached manager, nothing lost.

    Write a spec (init), look at what it would do (plan), run it (run), follow it (watch), find out about a job (why,
    logs). Without --run, the newest run is meant.
    """


for _verb in (
    verbs_spec.init, verbs_spec.build_verb, verbs_spec.plan_verb, verbs_run.run_verb, verbs_submit.preflight_verb,
    verbs_submit.submit_verb, verbs_run.status_verb, verbs_run.watch, verbs_job.why_verb, verbs_job.logs_verb,
    verbs_job.attach, verbs_ask.cancel, verbs_ask.retry, verbs_ask.pause, verbs_ask.resume, verbs_ask.add,
    verbs_pull.pull_verb, verbs_rescue.rescue_verb, verbs_run.report_verb, verbs_hosts.hosts, verbs_vast.vast,
    verbs_up.up_verb, verbs_doctor.doctor_verb,
):  # fmt: skip
    cli.add_command(_verb)


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns its exit code: 0 done, 1 failed, 2 wrong use, 3 jobs need a person, 130 left."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show a character gets its number instead
            stream.reconfigure(errors="backslashreplace")
    name = Path(sys.argv[0]).name
    try:
        code = cli.main(arguments, prog_name=name if name in _NAMES else "wavequeue", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        return _say_click(error)
    except SpecErrors as error:
        faults = str(error).splitlines()
        _say(faults[0] if len(faults) == 1 else f"{len(faults)} faults, and nothing was written:\n{error}")
        return USE
    except UseError as error:
        _say(str(error))
        return USE
    except FailedError as error:
        _say(str(error))
        return FAILED
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        _say(f"{error.filename or 'this machine'}: {error.strerror or error}")
        return FAILED
    except (click.Abort, KeyboardInterrupt):
        print(file=sys.stderr)
        return INTERRUPTED
    return code if isinstance(code, int) else DONE


def _say(text: str) -> None:
    print(f"wavequeue: {text}", file=sys.stderr)


def _say_click(error: click.ClickException) -> int:
    """What click found wrong with the arguments, with the help that says more."""
    context = getattr(error, "ctx", None)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        print(error.format_message())
        return USE
    path = context.command_path if context else "wavequeue"
    _say(f"{error.format_message().rstrip('.')}; see: {path} --help")
    return USE


if __name__ == "__main__":
    sys.exit(main())
