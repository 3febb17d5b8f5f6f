"""The verb results."""

from __future__ import annotations

import click

from skill.cli.console import print_json, print_markdown
from skill.cli.options import BRIEF, JSON, the_run
from skill.common import fitting
from skill.common.errors import UseError
from skill.operations import results
from skill.reports import cells, results_text


@click.command("results", short_help="Show the results of a run: a row for each cell, over its seeds.")
@click.option("--run", "run_names", metavar="RUN", multiple=True, help="The run to show; several runs are combined.")
@click.option("--by", metavar="KEY", multiple=True, help="Group rows by this key; may be given several times.")
@click.option(
    "--metric", "metrics", metavar="NAME", multiple=True, help="Only this metric; may be given several times."
)
@click.option("--missing", is_flag=True, help="Only cells with missing numbers, and their jobs.")
@BRIEF
@JSON
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print a table in Markdown instead.")
@click.option("--latex", "as_latex", is_flag=True, help="Print a table in LaTeX instead (package booktabs).")
def results_verb(
    run_names: tuple[str, ...],
    by: tuple[str, ...],
    metrics: tuple[str, ...],
    missing: bool,
    brief: bool,
    as_json: bool,
    as_csv: bool,
    as_markdown: bool,
    as_latex: bool,
) -> None:
    """Show the metrics of a run's completed jobs: a row for each cell, with mean ± sample standard deviation.

    A cell is the set of jobs that differ only in seeds: grid keys and args called seed, repeat, replicate, trial or
    fold, or with such an ending (data_seed). With --by, rows differ in these keys only, and everything else is
    averaged. If the spec sets a goal for a metric, the best row is marked.

    Several runs are combined: if more than one has a job, the result that completed last counts.
    """
    if sum((as_json, as_csv, as_markdown, as_latex)) > 1:
        raise UseError("give one of --json, --csv, --markdown and --latex")
    if brief and (as_csv or as_markdown or as_latex):
        raise UseError("--brief is for the table and --json: leave it out")
    made = results.results([the_run(name) for name in run_names or (None,)], by, metrics)
    if missing:
        made = results.only_missing(made)
    if as_json:
        print_json(cells.brief(made) if brief else cells.document(made))
    elif as_csv:
        print(results_text.csv_text(made), end="")
    elif as_markdown:
        print_markdown(results_text.markdown(made))
    elif as_latex:
        print(results_text.latex(made), end="")
    else:
        _show(made, missing=missing, brief=brief)


def _show(made: cells.Table, *, missing: bool, brief: bool) -> None:
    from skill.common.text_table import columns  # what draws nothing need not pay for rich
    from skill.terminal import live

    output = live.console()
    if not made.cells:
        print("nothing is missing" if missing else "no job of this run has metrics")
        return
    keys, rows = results_text.rows(made)
    table = columns(rows, output.width, right=range(keys, len(rows[0])), head=True)
    notes = [results_text.summary(made), *results_text.notes(made)]
    lacking = [f"  {note}" for note in results_text.missing(made)] if missing else []
    kept = _fitting([line.plain for line in table], notes, lacking) if brief else (len(table), len(lacking))
    for line in table[: kept[0]]:
        output.print(line, no_wrap=True, crop=False)
    if kept[0] < len(table):
        print(f"and {len(table) - kept[0]} more rows")
    print()
    print("\n".join([*notes, *lacking[: kept[1]]]))
    if kept[1] < len(lacking):
        print(f"  and {len(lacking) - kept[1]} more lines")


def _fitting(table: list[str], notes: list[str], lacking: list[str]) -> tuple[int, int]:
    """How many lines of the table and of what is missing have room in a few KB: half of it for each, where both are
    long."""
    room = fitting.MOST - fitting.size(notes) - len("and 1000000 more rows\n  and 1000000 more lines\n\n")
    rows = len(fitting.lines(table, room // 2 if lacking else room))
    left = room - sum(len(line.encode(errors="replace")) + 1 for line in table[:rows])
    return rows, len(fitting.lines(lacking, left))
