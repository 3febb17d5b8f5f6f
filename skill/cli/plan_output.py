"""What is printed of a plan: by `plan`, and by the verbs that only show one with --dry-run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from skill.cli.console import print_json, print_lines
from skill.common.errors import DONE, FAILED
from skill.planning import plan

if TYPE_CHECKING:
    from skill.operations.plan_spec import Planned


def print_plan(planned: Planned, as_json: bool, where: str, *, brief: bool = False) -> int:
    """Print a plan. `where`: here or there; `brief`: see plan.brief. Returns the exit code: 1 where it cannot start."""
    if as_json:
        print_json(plan.brief(planned.document) if brief else planned.document)
    else:
        print_lines(lambda width: plan.lines(planned.document, width))
        for warning in planned.warnings:
            print(warning, file=sys.stderr)
    if planned.faults:
        print(f"wavequeue: it cannot run {where}: {'; '.join(planned.faults)}", file=sys.stderr)
    return FAILED if planned.faults else DONE
