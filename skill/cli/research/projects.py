"""Verbs about research projects: research init, idea, project-status, validate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from skill.cli.console import print_json, print_table
from skill.cli.options import JSON
from skill.cli.research import dispatch, helpers, paper, runs
from skill.common.errors import DONE, USE, UseError
from skill.common.project import locate_workers
from skill.common.units import count_text, usd

if TYPE_CHECKING:
    from skill.operations.research_projects import IdeaRow
    from skill.research.overview import Row

_STATES = ("open", "running", "supported", "refuted", "dropped")


@click.group("research", short_help="Keep projects, ideas, runs, evidence and papers in files.")
def research() -> None:
    """Keep research projects in files beside workers.yaml: from an idea to runs, to evidence, to a paper.

    Everything is in queues/ and research/PROJECT/. Edit these files as you like: an edit is checked, and never lost.
    """


# -- init ---------------------------------------------------------------------------------------------------------


@research.command("init", short_help="Begin a project.")
@click.option("--title", required=True, metavar="TEXT", help="The title; the id of the project is made from it.")
@click.option("--idea", required=True, metavar="TEXT", help="The first idea, in a sentence.")
@click.option("--target", required=True, metavar="TEXT", help="What has to be reached, in words.")
@click.option("--metric", required=True, metavar="NAME[=RULE]", help="The metric it is about; RULE as in a spec.")
def init(title: str, idea: str, target: str, metric: str) -> int:
    """Begin a project: its directory in research/, its first idea, and the queues, schemas and templates.

    Run twice it changes nothing, but brings the schemas up to date.
    """
    from skill.operations import research_projects

    name, equals, rule = metric.partition("=")
    begun = research_projects.init_project(locate_workers(), title, idea, target, name, rule if equals else None)
    for path in begun.written:
        print(f"wrote {path}")
    print(f"project {begun.project}: {begun.root / 'research' / begun.project}")
    print(f"idea {begun.idea['id']}: {begun.idea['text']}")
    print(f"add a run: wavequeue research add-run --project-id {begun.project} --command 'python train.py --seed 0'")
    return DONE


# -- idea ---------------------------------------------------------------------------------------------------------


@research.command("idea", short_help="Write down an idea, decide on one, or list them.")
@click.argument("text", required=False, metavar="[TEXT | IDEA]")
@click.option("--project", "--project-id", "project", metavar="PROJECT", help="The project (default: the only one).")
@click.option("--state", type=click.Choice(_STATES), help="Say what became of IDEA, given by its id.")
@JSON
def idea(text: str | None, project: str | None, state: str | None, as_json: bool) -> int:
    """Write down an idea: TEXT, in a sentence. Without TEXT, list the ideas with the runs that test them.

    To decide on an idea: research idea IDEA --state supported. Runs are linked to it by add-run --idea IDEA.
    """
    from skill.operations import research_projects

    workers = locate_workers()
    if state is not None:
        if text is None:
            raise UseError("say which idea: wavequeue research idea IDEA --state STATE")
        changed = research_projects.decide_idea(workers, text, state)
        print_json(changed) if as_json else print(f"{changed['id']} {changed['state']}: {changed['text']}")
        return DONE
    rows = research_projects.list_ideas(workers, project)
    of_id = [row for row in rows if row.idea["id"] == text]
    if text is not None and not of_id:
        added = research_projects.write_idea(workers, project, text)
        print_json(added) if as_json else print(added["id"])
        return DONE
    shown = of_id or rows
    if as_json:
        print_json([{**row.idea, "state": row.state, "runs": row.runs} for row in shown])
    elif shown:
        print_table([["idea", "state", "runs", "text"], *map(_idea_cells, shown)])
    else:
        print("no idea is there yet; write one down: wavequeue research idea TEXT")
    return DONE


def _idea_cells(row: IdeaRow) -> list[str]:
    counts: dict[str, int] = {}
    for state in row.runs.values():
        counts[state] = counts.get(state, 0) + 1
    runs_text = ", ".join(f"{count} {state}" for state, count in counts.items()) or "-"
    return [row.idea["id"], row.state, runs_text, row.idea["text"]]


# -- project-status -----------------------------------------------------------------------------------------------


@research.command("project-status", short_help="Show all projects: runs, cost, and what to do next.")
@JSON
def project_status(as_json: bool) -> int:
    """Show for each project its runs by state, its last activity, GPU-hours and cost, and what to do next.

    Read from the files alone; what runs on hosts is looked at by check-runs.
    """
    from skill.operations import research_status

    found = research_status.project_status(locate_workers())
    if as_json:
        print_json({"projects": [row._asdict() for row in found.rows], "spent_usd": round(found.spent, 4)})
        return DONE
    head = ["project", "pending", "running", "done", "failed", "stuck", "last activity", "GPU-h", "cost", "next"]
    print_table([head, *map(_project_cells, found.rows)])
    if found.spent:
        print(f"all rented machines so far: {usd(found.spent)}")
    return DONE


def _project_cells(row: Row) -> list[str]:
    last = (row.last or "-")[:16].replace("T", " ")
    ended = [str(row.counts[state]) for state in ("done", "failed", "stuck")]
    numbers = [str(row.counts["pending"]), str(row.active), *ended]
    return [row.project, *numbers, last, f"{row.gpu_hours:.1f}", usd(row.usd), row.next]


# -- validate -----------------------------------------------------------------------------------------------------


@research.command("validate", short_help="Check all research files.")
@JSON
def validate(as_json: bool) -> int:
    """Check queues, projects and evidence: each fault with file and line, and what to write instead. Changes nothing.

    Exit code 2 if something is wrong.
    """
    from skill.operations import research_validate

    found = research_validate.validate(locate_workers())
    if as_json:
        faults: list[dict[str, Any]] = [fault._asdict() for fault in found.faults]
        print_json({"faults": faults, "projects": found.projects, "records": found.records})
    else:
        for fault in found.faults:
            print(fault)
        records = ", ".join(count_text(count, f"{queue} record") for queue, count in found.records.items())
        checked = f"{count_text(found.projects, 'project')}, {records or 'no queue that can be read'}"
        print(f"{count_text(len(found.faults), 'fault')}; checked {checked}")
    return USE if found.faults else DONE


_OTHERS = (
    runs.add_run, dispatch.dispatch_runs, dispatch.check_runs, paper.evidence, paper.publish, helpers.checkpoint_helper,
)  # fmt: skip
for _verb in _OTHERS:
    research.add_command(_verb)
