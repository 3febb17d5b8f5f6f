"""The verb report."""

from __future__ import annotations

from pathlib import Path

import click

from skill.cli.console import print_json, print_markdown
from skill.cli.options import BRIEF, JSON, RUN, the_run
from skill.common.errors import UseError
from skill.common.files import write_whole
from skill.common.units import size_text
from skill.operations import report_run
from skill.reports import report


@click.command("report", short_help="Report on a run: phases, failures, numbers over seeds.")
@RUN
@BRIEF
@JSON
@click.option("--html", "page", metavar="FILE", help="Write the report as one page for a browser, with charts.")
@click.option(
    "--control", "controls", metavar="KEY=VALUE", multiple=True,
    help="With --html: compare each cell with the one that has this value; may be given for several keys.",
)  # fmt: skip
def report_verb(run_name: str | None, brief: bool, as_json: bool, page: str | None, controls: tuple[str, ...]) -> None:
    """Report on a run: phases, failures by reason, and the metrics of its jobs, averaged over seeds.

    With --html the report is one file that needs no network and no server: the use of each GPU over time, results as
    charts and tables, failures, and every job with the command that reproduces it. It contains names of environment
    variables, but none of their values.
    """
    if as_json and page is not None:
        raise UseError("give --json or --html, not both")
    if brief and (as_json or page is not None):
        raise UseError("--brief is for the report as text: leave it out")
    if controls and page is None:
        raise UseError("--control needs --html FILE")
    if page is not None:
        _write_page(run_name, Path(page), controls)
        return
    made = report_run.report_run(the_run(run_name))
    if as_json:
        print_json(made)
    else:
        print_markdown(report.brief(made) if brief else report.markdown(made))


def _write_page(run_name: str | None, file: Path, controls: tuple[str, ...]) -> None:
    from skill.reports import html_page  # the other forms need not pay for jinja2

    run = the_run(run_name)
    pairs = [text.partition("=") for text in controls]
    for name, sign, value in pairs:
        if not (name and sign):
            raise UseError(f"--control {name}{sign}{value}: write KEY=VALUE, such as --control lam=0")
    if not file.parent.is_dir():
        raise UseError(f"{file.parent} is not a directory; create it first")
    if file.exists() and not html_page.is_ours(file):
        raise UseError(f"{file} exists and is not a report of wavequeue; give another name")
    text = report_run.report_page(run, {name: value for name, _, value in pairs})
    write_whole(file, text, mode=None, durable=False, errors="replace")
    print(f"{file}: {size_text(len(text.encode(errors='replace')))}; open it in a browser")
