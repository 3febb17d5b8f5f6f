"""The launchers that a spec may name, by which an attempt is started and outlives its manager. Facts only; their code
is in queue_manager/launchers."""

from __future__ import annotations

from typing import NamedTuple


class Facts(NamedTuple):
    """`program`: what has to be installed on the host, None: nothing. `has_terminal`: whether a person can attach."""

    program: str | None
    has_terminal: bool


DEFAULT = "screen"
LAUNCHERS = {
    DEFAULT: Facts("screen", has_terminal=True),
    "process": Facts(None, has_terminal=False),
}

CANNOT_START = "screen"
"""The kind of the condition that nothing can be started; alerts and journals use it for every launcher."""
