"""The verb auto report."""

from __future__ import annotations

from pathlib import Path

import click

from skill.cli.console import say
from skill.common.errors import DONE, UseError


@click.command("report", short_help="Report on a campaign.")
@click.argument("workdir", metavar="WORKDIR", type=click.Path(path_type=Path))
@click.option("--narrate", is_flag=True, help="Have the agent write prose; its numbers are checked.")
@click.option("--html", metavar="FILE", type=click.Path(path_type=Path), help="Write the page to FILE as well.")
def report(workdir: Path, narrate: bool, html: Path | None) -> int:
    """Print the summary of a campaign, and write all its views anew.

    With --narrate the agent is asked once more. Each number in its prose names the node that has it; a number that no
    node has is struck out.
    """
    from skill.common import files
    from skill.operations import auto_report
    from skill.reports import html_page

    if html is not None and html.exists() and not html_page.is_ours(html):
        raise UseError(f"{html} exists and is no page of wavequeue; choose another file for --html")
    if narrate:
        auto_report.narrate(workdir, say=say)
    print(auto_report.report(workdir), end="")
    if html is not None:
        files.write_whole(html, auto_report.report_page(workdir), mode=None)
        say(f"wrote {html}")
    return DONE
