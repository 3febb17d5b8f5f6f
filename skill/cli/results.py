"""The verb results."""

from __future__ import annotations

import click

from skill.cli.console import print_json, print_markdown
from skill.cli.options import JSON, the_run
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
@JSON
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print a table in Markdown instead.")
@click.option("--latex", "as_latex", is_flag=True, help="Print a table in LaTeX instead (package booktabs).")
def results_verb(
    run_names: tuple[str, ...],
    by: tuple[str, ...],
    metrics: tuple[str, ...],
    missing: bool,
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
    made = results.results([the_run(name) for name in run_names or (None,)], by, metrics)
    if missing:
        made = results.only_missing(made)
    if as_json:
        print_json(cells.document(made))
    elif as_csv:
        print(results_text.csv_text(made), end="")
    elif as_markdown:
        print_markdown(results_text.markdown(made))
    elif as_latex:
        print(results_text.latex(made), end="")
    else:
        _show(made, missing=missing)


def _show(made: cells.Table, *, missing: bool) -> None:
    from skill.common.text_table import columns  # what draws nothing need not pay for rich
    from skill.terminal import live

    output = live.console()
    if not made.cells:
        print("nothing is missing" if missing else "no job of this run has metrics")
        return
    keys, rows = results_text.rows(made)
    for line in columns(rows, output.width, right=range(keys, len(rows[0])), head=True):
        output.print(line, no_wrap=True, crop=False)
    print()
    for note in [results_text.summary(made), *results_text.notes(made)]:
        print(note)
    if missing:
        for note in results_text.missing(made):
            print(f"  {note}")
