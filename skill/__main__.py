"""Where the commands `wavequeue` and `wq` begin: nothing is imported here before Ctrl-C is taken care of."""

from __future__ import annotations

import gc
import sys

from skill.cli import interrupt
from skill.hosts import early_ssh


def main() -> int:
    """Run the command of sys.argv. Returns its exit code, see skill.cli.main."""
    interrupt.leave_at_once(early_ssh.abandon)
    early_ssh.begin(sys.argv[1:])
    gc.disable()  # of what is imported nothing is garbage; switched on again for a verb
    from skill.cli import main as cli

    try:
        return cli.main()
    finally:
        early_ssh.end()


if __name__ == "__main__":
    sys.exit(main())
