"""`python -m queue_manager.remote.resume_all`: start the managers of all runs on this machine that are not finished.

For a machine's own start script: after a stop and a start, nobody else brings them back. Prints one JSON document,
{"started": {RUN: PID}, "faults": {RUN: TEXT}}; running twice is harmless.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from queue_manager.adapters import facts, host_place
from queue_manager.core.layout import RunPaths
from queue_manager.remote.start import started_or_why


def main() -> int:
    """Print the document. 0; 1 where a manager could not be started."""
    document = resume_all()
    print(json.dumps(document))
    return 1 if document["faults"] else 0


def resume_all() -> dict[str, Any]:
    """See to it that a manager holds each run of ~/.wavequeue/runs that had not come to its end."""
    runs = host_place.here().runs
    document: dict[str, Any] = {"started": {}, "faults": {}}
    for directory in sorted(runs.iterdir()) if runs.is_dir() else ():
        paths = RunPaths.of(directory)
        meta = facts.state_meta(paths.state)
        # Without a journal no manager ever had it: it may be half a push.
        if paths.journal.exists() and paths.manifest.exists() and unfinished(meta):
            found = started_or_why(directory.name, poll(meta))
            document["faults" if isinstance(found, str) else "started"][directory.name] = found
    return document


def unfinished(meta: Mapping[str, Any]) -> bool:
    """Whether a run has something left to do, by the `meta` of its state: jobs, or the end of its machine."""
    return meta.get("manager") != "finished" or meta.get("teardown") is not None


def poll(meta: Mapping[str, Any]) -> float | None:
    """The poll that its manager had, in seconds."""
    found = meta.get("poll")
    return float(found) if isinstance(found, (int, float)) and 0.01 <= found <= 3600 else None


if __name__ == "__main__":
    sys.exit(main())
