"""`python -m queue_manager.remote.check`: load all that a manager may need once it runs, and use what was compiled.

A runtime that does not run on a host is refused by this when it gets there, and not in the middle of a run."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Return 0. Raises ImportError and OSError where it does not run here."""
    from queue_manager import manager as _manager  # noqa: F401
    from queue_manager.adapters import processes
    from queue_manager.slurm import as_job as _as_job  # noqa: F401

    me = processes.look_up(os.getpid())
    if isinstance(me, processes.Stat):
        processes.cpu_seconds(me.proc)
    return 0


if __name__ == "__main__":
    sys.exit(main())
