"""A command as a user starts it: an interpreter of its own. (Tests run commands in their own process, or fork them.)"""

from __future__ import annotations

import subprocess
import sys

from tests.laptop import Laptop


def run(laptop: Laptop, *arguments: str) -> str:
    """Run `wavequeue` with these arguments to its end, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "skill", *arguments],
        cwd=laptop.project, env=laptop.variables(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout
