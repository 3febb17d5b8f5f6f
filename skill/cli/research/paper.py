"""Verbs about results: research evidence, publish."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from skill.cli.console import print_json, print_lines
from skill.cli.options import JSON
from skill.common.errors import DONE, FAILED, UseError
from skill.common.project import locate_workers
from skill.common.text_table import columns

if TYPE_CHECKING:
    from skill.operations.publish_paper import Published
    from skill.operations.research_evidence import Found

PROJECT = click.option("--project-id", "project", metavar="PROJECT", help="The project (default: the only one).")


@click.command("evidence", short_help="Show what the runs of a project say together.")
@PROJECT
@click.option(
    "--control", "controls", metavar="KEY=VALUE", multiple=True, help="Compare with the runs that have this value."
)
@JSON
def evidence(project: str | None, controls: tuple[str, ...], as_json: bool) -> int:
    """Show the metrics of done runs by phase: a row for each cell, with mean ± sample standard deviation over seeds,
    and the runs that it rests on.

    With a control, as in project.yaml or by --control, each cell is compared with it: difference, 95% interval, n. An
    interval that holds zero is a null result, and is called one.
    """
    from skill.operations import research_evidence

    found = research_evidence.aggregate_evidence(locate_workers(), project, _control(controls))
    if as_json:
        print_json(found.document())
    else:
        _show(found)
    return DONE


def _control(texts: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise UseError(f"--control {text}: write KEY=VALUE, such as --control lam=0")
        found[name] = value
    return found


def _show(found: Found) -> None:
    from skill.operations import evidence_text
    from skill.reports import results_text

    made = found.aggregate
    if not found.lines:
        print(f"the project {found.project} has no evidence yet; collect it: wavequeue research check-runs")
        return
    for phase, table in made.tables.items():
        print(f"{phase}:")
        keys, rows = evidence_text.table(table)
        right = range(keys, len(rows[0]) - 1)
        print_lines(lambda width, rows=rows, right=right: columns(rows, width, 2, right, head=True))  # type: ignore[misc]
        for note in results_text.notes(table):
            print(f"  {note}")
        print()
    control = ", ".join(f"{name}={value}" for name, value in found.control.items())
    effects = evidence_text.effects(made)
    if effects:
        print(f"compared with {control}:")
        for line in effects:
            print(f"  {line}")
        print()
    for line in evidence_text.missing(made):
        print(f"no number: {line}")
    print(evidence_text.summary(made, len(found.lines)))


@click.command("publish", short_help="Fill the paper of a project from its evidence.")
@PROJECT
@click.option("--check", is_flag=True, help="Only check that the paper says what the evidence says.")
@JSON
def publish(project: str | None, check: bool, as_json: bool) -> int:
    """Fill the numbers, tables and figures of research/PROJECT/paper from the evidence; your own text stays as it is.

    Each number is a LaTeX macro whose line in numbers.tex names the runs it rests on. A number that was typed by hand
    where a macro was is reported, with exit code 1. A PDF is made where latexmk or pdflatex is installed. Nothing is
    posted anywhere.
    """
    from skill.operations import publish_paper

    work = publish_paper.check_paper if check else publish_paper.publish_paper
    found = work(locate_workers(), project)
    if as_json:
        faults = [fault._asdict() for fault in found.faults]
        pdf = None if found.pdf is None else str(found.pdf)
        print_json({"written": found.written, "kept": found.kept, "faults": faults, "notes": found.notes, "pdf": pdf})
    else:
        _tell(found, check=check)
    return FAILED if found.faults else DONE


def _tell(found: Published, *, check: bool) -> None:
    for name in found.written:
        print(f"wrote {found.paper / name}")
    for name in found.kept:
        print(f"edited by hand, written anew, and kept as {found.paper / name}")
    for note in found.notes:
        print(note)
    for fault in found.faults:
        print(f"{found.paper}/{fault}")
    if found.pdf is not None:
        print(f"{found.pdf} ({found.by})")
    elif not check:
        print("no PDF: neither latexmk nor pdflatex is installed; the LaTeX holds together")
    if found.faults:
        count = len(found.faults)
        print(
            f"{count} place{'' if count == 1 else 's'} of the paper differ{'s' if count == 1 else ''} from the evidence"
        )
    else:
        print("the paper says what the evidence says")
