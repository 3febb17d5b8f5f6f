"""The launchers that a spec may name, by which an attempt is started and outlives its manager. Facts only; their code
is in queue_manager/launchers."""

from __future__ import annotations

from typing import NamedTuple


class Facts(NamedTuple):
    """`program`: what has to be installed on the host, None: nothing. `has_terminal`: whether a person can attach.
    `is_engine`: it places the jobs itself, and is chosen by `submit --engine`, not by a spec."""

    program: str | None
    has_terminal: bool
    is_engine: bool = False


DEFAULT = "screen"
SLURM = "slurm"
LAUNCHERS = {
    DEFAULT: Facts("screen", has_terminal=True),
    "process": Facts(None, has_terminal=False),
    SLURM: Facts("sbatch", has_terminal=False, is_engine=True),
}
OF_SPECS = tuple(name for name, facts in LAUNCHERS.items() if not facts.is_engine)
"""What a spec's `launcher` may be."""

ENGINE_LIMIT = "slurm_limit"
"""The kind of the condition that an engine takes no more jobs for a limit. Jobs that end make room, so nobody is told
who has not asked."""
CANNOT_START = "screen"
"""The kind of the condition that nothing can be started; alerts and journals use it for every launcher."""
