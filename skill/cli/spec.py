"""Verbs about a spec, before anything runs: init, build, plan."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from build_manifest.faults import listed
from queue_manager.core.launchers import SLURM
from queue_manager.core.manifest import encode
from queue_manager.core.terminal_text import json_escaped
from skill.cli import init_spec
from skill.cli.console import say, warn
from skill.cli.options import BRIEF, ENGINE, HOSTS, JSON, POOL, SPEC
from skill.cli.plan_output import print_plan
from skill.common.errors import UseError
from skill.common.files import write_whole
from skill.common.units import count_text, jobs_text
from skill.operations import plan_spec, write_scripts
from skill.operations.build_spec import Given, build, file_of

if TYPE_CHECKING:
    from skill.planning.where import Where


@click.command("init")
@click.argument("file", required=False, metavar="[FILE]")
@click.option("--from", "script", metavar="SCRIPT", help="Write the spec for this Python script, by its options.")
@click.option("--run-help", is_flag=True, help="With --from: run SCRIPT --help, and take the options that it prints.")
@click.option("--example", metavar="NAME", help="Copy an example instead, with its scripts; see `--example list`.")
def init(file: str | None, script: str | None, run_help: bool, example: str | None) -> None:
    """Write a small commented spec to start from.

    FILE is spec.yaml by default; an existing file is not overwritten. With --from the spec runs SCRIPT: command,
    grid and output come from its options, as its source declares them (argparse, click, typer, absl, Hydra,
    HfArgumentParser). SCRIPT itself is not run, unless --run-help is given.
    """
    if example is not None:
        if file is not None or script is not None or run_help:
            raise UseError("an example has its own name: leave out FILE, --from and --run-help")
        _copy_example(example)
        return
    file = "spec.yaml" if file is None else file
    path = Path(file)
    if path.exists():
        raise UseError(f"{file} already exists; choose another name")
    if not path.absolute().parent.is_dir():
        raise UseError(f"there is no directory {path.parent}")
    if script is not None:
        _write_for(script, path, run_help=run_help)
        return
    if run_help:
        raise UseError("--run-help is for --from SCRIPT")
    write_whole(path, init_spec.text(path.absolute().parent.name, file), mode=None)
    print(f"wrote {file}. See what it would do: wavequeue plan {file}")


def _write_for(script: str, path: Path, *, run_help: bool) -> None:
    from skill.operations import init_from

    made = init_from.spec_for(script, path, run_help=run_help)
    write_whole(path, made.text, mode=None)
    library = f" ({made.library})" if made.library else ""
    print(f"wrote {path}: {count_text(made.options, 'option')} of {script}{library} found")
    for note in made.notes:
        say(f"note: {note}")
    if made.to_write:
        print(f"write values for {listed(made.to_write)} first, in place of {init_from.TO_WRITE}")
    print(f"see what it would do: wavequeue plan {path}")


def _copy_example(name: str) -> None:
    from skill.operations import copy_example

    if name == "list":
        print("\n".join(copy_example.examples()))
        return
    spec = copy_example.copy_example(name, Path.cwd()).name
    print(f"wrote {spec}. See what it would do: wavequeue plan {spec}")


@click.command("build", short_help="Expand SPEC into its manifest: every job in one JSON document.")
@SPEC
@click.option("-o", "--output", metavar="FILE", help="Write the manifest to FILE, or Slurm's scripts to a directory.")
@ENGINE
def build_verb(spec: Given, output: str | None, engine: str) -> None:
    """Expand SPEC into its manifest: one JSON document with every job.

    With --engine slurm it writes what would be submitted to Slurm into a new directory instead, and submits nothing:
    the scripts of tasks and jobs, and the call of sbatch for each array.
    """
    if engine == SLURM:
        if output is None:
            raise UseError("--engine slurm writes scripts: add --output DIR, a new directory")
        scripts = write_scripts.write_scripts(spec, output, warn)
        print(f"{output}: {count_text(len(scripts), 'array')}; nothing was submitted")
        for row in scripts:
            which = jobs_text(row.jobs) if row.jobs else "allocations that its jobs share"
            print(f"  {row.directory}: phase {row.phase}, {which}, {count_text(row.tasks, 'task')}")
        return
    built = build(spec, warn)
    text = encode(built.manifest)
    if output is None:
        sys.stdout.write(json_escaped(text))
        sys.stdout.flush()
        return
    path = Path(output)
    if path.exists() and path.samefile(file_of(spec)):
        raise UseError(f"{output} is the spec itself; write the manifest to another file")
    if path.exists() and not path.is_file():
        raise UseError(f"{output} is not a regular file; write the manifest to another path")
    try:
        write_whole(path, text)
    except OSError as error:
        raise UseError(f"{output} cannot be written: {error.strerror}") from None
    jobs, phases = len(built.manifest.jobs), len(built.manifest.phases)
    print(f"{output}: {jobs_text(jobs)} in {count_text(phases, 'phase')}")


@click.command("plan", short_help="Show what SPEC would run, for how long and at what cost.")
@SPEC
@HOSTS
@POOL
@click.option("--gpus", type=int, metavar="N", help="Plan as if the machine, or each host, had N GPUs.")
@click.option("--offer", type=click.IntRange(min=1), metavar="ID", help="Plan for a machine that can be rented.")
@click.option("--where", type=click.Choice(["local", "remote", "remote-gpu"]), help="Overrule where it is best run.")
@ENGINE
@BRIEF
@JSON
def plan_verb(
    spec: Given,
    names: tuple[str, ...],
    pool: str | None,
    gpus: int | None,
    offer: int | None,
    where: Where | None,
    engine: str,
    brief: bool,
    as_json: bool,
) -> int:
    """Show what SPEC would run: phases, jobs, GPUs, duration and cost. Starts nothing.

    Plans for this machine, or for --host, --pool, --offer. The duration comes from the scheduler itself, run
    against simulated time. A job takes as long as jobs of its phase took in earlier runs of the project, else its
    est_minutes. For this machine it also says where the spec is best run, and why. Exit code 1 if it cannot start
    there.
    """
    if brief and not as_json:
        raise UseError("--brief shortens --json: add it, or leave out --brief")
    planned = plan_spec.plan_spec(spec, names, pool, gpus=gpus, offer=offer, where=where, engine=engine, say=say)
    return print_plan(planned, as_json, "there" if names or pool else "here", brief=brief)
