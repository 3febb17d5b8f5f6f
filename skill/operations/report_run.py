"""The report of a run."""

from __future__ import annotations

import time
from typing import Any

from skill.reports import report
from skill.runs.directory import Run
from skill.runs.open import open_run


def report_run(run: Run) -> dict[str, Any]:
    """Report on a run: phases, failures by reason, and the numbers in its outputs that are on this machine.

    Returns the document of `wavequeue report --json`. Raises FailedError, and UseError for a fault in workers.yaml.
    """
    with open_run(run, once=True) as there:
        document = there.look(full=True)
        found = there.results(document)
        return report.report(
            document, there.manifest, found.found, found.numbers, found.last_line, time.time(), found.away
        )
