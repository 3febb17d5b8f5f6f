"""A command as a user starts it: a process of its own. (Tests run most commands in their own process.)"""

from __future__ import annotations

from tests.laptop import Laptop


def run(laptop: Laptop, *arguments: str) -> str:
    """Run `wavequeue` with these arguments to its end, and return what it printed."""
    process = laptop.start(*arguments)
    out, err = process.communicate()
    assert process.returncode == 0, (arguments, err)
    return out
