"""The verb diagnose."""

from __future__ import annotations

from collections import Counter

import click

from skill.cli.console import print_json, say
from skill.cli.options import JSON
from skill.common.errors import DONE, USE
from skill.operations import diagnose_logs
from skill.operations.diagnose_logs import HEALTHY, Diagnosis, Unread


@click.command("diagnose", short_help="Find in log files why their jobs failed.")
@click.argument("logs", metavar="LOG...", nargs=-1, required=True)
@JSON
def diagnose_verb(logs: tuple[str, ...], as_json: bool) -> int:
    """Find out from log files why their jobs failed: the failure class, the line that shows it, and what helps.

    Works with any log, also from other tools; `-` reads standard input. Classes: oom, cuda, sick_card, nccl, nan,
    import, missing_file, permission, disk_full, network, killed, segfault, assertion, arguments, traceback, and healthy
    where the log shows no failure.

    Exit code 0 if all logs could be read, whatever they show, else 2.
    """
    rows = diagnose_logs.diagnose_logs(logs)
    found = [row for row in rows if isinstance(row, Diagnosis)]
    if as_json:
        print_json([diagnose_logs.as_json(row) for row in found])
    else:
        _show(found)
    unread = [row for row in rows if isinstance(row, Unread)]
    for row in unread:
        say(f"{row.file}: {row.why}")
    return USE if unread else DONE


def _show(found: list[Diagnosis]) -> None:
    for row in found:
        place = row.file if row.line_no is None else f"{row.file}:{row.line_no}"
        print(f"{place}: {row.name}")
        if row.line is not None:
            print(f"  | {row.line}")
        if row.name != HEALTHY or len(found) == 1:
            print(f"  {row.says}")
    if len(found) > 1:
        counts = Counter(row.name for row in found)
        print(f"\n{len(found)} logs: {', '.join(f'{n} {name}' for name, n in counts.most_common())}")
