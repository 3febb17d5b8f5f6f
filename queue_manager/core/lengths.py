"""How long jobs of a run take, by those of the same run that ended or run, and by the values of their grid. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from queue_manager.core.params import is_seed

LONGER = 1.2
"""A job that has run for longer than all others like it is taken to end after so many times what it has run for."""
_MOST = 200
"""Jobs of a phase by which the others are judged: the last ones."""

Cell = tuple[tuple[str, str], ...]


def cell_of(params: Mapping[str, str]) -> Cell:
    """What tells a job's experiment from others: its params without seeds."""
    return tuple(sorted([one for one in params.items() if not is_seed(one[0])]))


class Lengths:
    """The jobs of one run, by phase."""

    def __init__(self) -> None:
        self._phases: dict[str, deque[tuple[Cell, float]]] = {}
        self._cells: dict[str, dict[Cell, list[float]]] = {}
        self._known: dict[tuple[str, Cell], float | None] = {}

    def add(self, phase: str, params: Mapping[str, str], seconds: float) -> None:
        """Record what a job took, or is sure to take."""
        self._phases.setdefault(phase, deque(maxlen=_MOST)).append((cell_of(params), seconds))
        self._cells.clear()
        self._known.clear()

    def likely(self, phase: str, params: Mapping[str, str]) -> float | None:
        """What a job takes by those of its phase that share most of its params; None where there are none."""
        key = phase, cell_of(params)
        if key not in self._known:
            self._known[key] = self._likely(*key)
        return self._known[key]

    def _likely(self, phase: str, cell: Cell) -> float | None:
        cells = self._of(phase)
        if not cells:
            return None
        wanted = set(cell)
        shared = {one: len(wanted.intersection(one)) for one in cells}
        most = max(shared.values())
        lengths = [length for one, found in cells.items() if shared[one] == most for length in found]
        return sum(lengths) / len(lengths)

    def lasting(self, phase: str, elapsed: float) -> float:
        """What a job takes in all that has run for so long, longer than was likely."""
        longer = [seconds for _, seconds in self._phases.get(phase, ()) if seconds > elapsed]
        return sum(longer) / len(longer) if longer else elapsed * LONGER

    def _of(self, phase: str) -> Mapping[Cell, Sequence[float]]:
        if phase not in self._cells:
            found: dict[Cell, list[float]] = {}
            for cell, seconds in self._phases.get(phase, ()):
                found.setdefault(cell, []).append(seconds)
            self._cells[phase] = found
        return self._cells[phase]
