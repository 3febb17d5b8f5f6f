"""`python -m tests.nvml_reader FIFO ARGUMENTS`: for each line of the FIFO read the GPUs by an Nvml of these arguments
(JSON), and say what was read, how long it took, and how many threads there are."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import queue_manager.adapters.nvml  # noqa: F401  else the first reading does, within its limit
from queue_manager.adapters.gpus import Nvml
from queue_manager.core.readings import Cards


def main() -> int:
    """Read until the FIFO ends."""
    questions, arguments = sys.argv[1:]
    nvml = Nvml(**json.loads(arguments))
    with Path(questions).open() as lines:
        for _ in lines:
            began = time.monotonic()
            found = nvml.read()
            whole = found if isinstance(found, Cards) else None
            answer = {
                "cards": whole and [vars(card) for card in whole.cards],
                "sick": whole and [vars(card) for card in whole.sick],
                "note": whole and whole.note,
                "reason": None if isinstance(found, Cards) else found.reason,
                "took": time.monotonic() - began,
                "threads": threading.active_count(),
            }
            print(json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
