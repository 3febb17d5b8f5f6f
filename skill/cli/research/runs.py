"""Verbs about the runs of research projects: research add-run."""

from __future__ import annotations

import click

from skill.cli.console import print_json, warn
from skill.cli.options import JSON
from skill.common.errors import DONE, UseError
from skill.common.project import locate_workers


@click.command("add-run", short_help="Add a run, or all jobs of a spec, to the queue.")
@click.option("--project-id", "project", metavar="PROJECT", help="The project (default: the only one).")
@click.option("--command", "command", metavar="COMMAND", help="The command to run, in bash.")
@click.option("--spec", metavar="SPEC", help="Add a run for each job of this spec, with its grid keys.")
@click.option("--worker-pool", "pool", metavar="POOL", help="The pool of workers.yaml to run in.")
@click.option("--priority", type=int, metavar="N", help="Higher goes first (default: 0, or as the spec says).")
@click.option("--idea", metavar="IDEA", help="The id of the idea that it tests.")
@click.option("--gpus", type=click.IntRange(0, 1024), metavar="N", help="GPUs of --command, 0 for none (default: 1).")
@click.option("--metric", "metrics", metavar="NAME=RULE", multiple=True, help="Where a metric is, as in a spec.")
@click.option("--env", metavar="NAME=VALUE", multiple=True, help="Set a variable; may be given several times.")
@JSON
def add_run(
    project: str | None,
    command: str | None,
    spec: str | None,
    pool: str | None,
    priority: int | None,
    idea: str | None,
    gpus: int | None,
    metrics: tuple[str, ...],
    env: tuple[str, ...],
    as_json: bool,
) -> int:
    """Add a run to the queue and print its id; with --spec one for each job. dispatch-runs starts them.

    RULE is as in a spec: {json: 'out/${id}.json', key: loss, goal: min}, {log: 'acc=([0-9.]+)'} or {csv: FILE,
    column: NAME}; ${id} is the id of the run. Rules that are not given are those of project.yaml.
    """
    from skill.operations import research_runs

    workers, columns = locate_workers(), research_runs.Columns(pool, priority, idea, _pairs("--env", env))
    if command is not None and spec is None:
        rules = _pairs("--metric", metrics)
        added = [research_runs.add_command(workers, project, command, columns, rules, gpus=gpus, warn=warn)]
    elif spec is not None and command is None:
        if metrics or gpus is not None:
            option, what = ("--metric", "the metrics") if metrics else ("--gpus", "the GPUs")
            raise UseError(f"{option} belongs to --command; write {what} of a spec into the spec")
        added = research_runs.add_spec(workers, project, spec, columns, warn)
    else:
        raise UseError("give either --command COMMAND or --spec SPEC")
    if as_json:
        print_json(added)
    else:
        for run in added:
            print(run["id"])
    return DONE


def _pairs(option: str, texts: tuple[str, ...]) -> dict[str, str]:
    """NAME=VALUE, given several times. Raises UseError."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UseError(f"{option} {text}: write {option} NAME={'RULE' if option == '--metric' else 'VALUE'}")
        if name in found:
            raise UseError(f"{option} {name} is given twice; keep one")
        found[name] = value
    return found
