"""`python -m queue_manager --manifest M --state S --log-dir D`: manage a run from start to end."""

from __future__ import annotations

import gc
import sys


def main() -> int:
    """Run the manager of sys.argv, see queue_manager.manager."""
    gc.disable()  # of what is imported nothing is garbage: to look for some takes a fourth of the start
    from queue_manager import manager

    gc.freeze()
    gc.enable()
    return manager.main()


if __name__ == "__main__":
    sys.exit(main())
