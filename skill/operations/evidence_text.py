"""What evidence says, in lines for people. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from queue_manager.core.terminal_text import one_line
from skill.common.units import count_text
from skill.reports import results_text
from skill.reports.cells import Table
from skill.research.evidence import NULL, UNKNOWN, Aggregate, Comparison
from skill.research.macros import number_text

_NAMED = 6


def table(made: Table) -> tuple[int, list[list[str]]]:
    """The table of a phase with its head, each row with the runs that it rests on; and how many of its columns are
    keys."""
    keys, rows = results_text.rows(made)
    runs = [", ".join(_short([one.id for one in cell.jobs])) for cell in made.cells]
    return keys, [[*row, run] for row, run in zip(rows, ["runs", *runs], strict=True)]


def _short(ids: Sequence[str]) -> list[str]:
    return [*ids[:_NAMED], *([f"and {len(ids) - _NAMED} more"] if len(ids) > _NAMED else [])]


def effects(made: Aggregate) -> list[str]:
    """A line for each comparison with a control; null results first, and named so."""
    return [_effect(one) for one in made.comparisons]


def _effect(one: Comparison) -> str:
    key = ", ".join(f"{name}={value}" for name, value in one.key.items())
    found, counts = one.effect, f"n={one.n[0]} and {one.n[1]}"
    if found.low is None or found.high is None:
        interval = f"no interval, {counts}: more seeds are needed to tell"
    else:
        interval = f"95% interval {number_text(found.low)} to {number_text(found.high)}, {counts}"
    says = {NULL: "no effect found", UNKNOWN: "unknown"}.get(one.says, one.says)
    return one_line(f"{one.metric}, {key}: {says}; difference {number_text(found.difference)}, {interval}")


def missing(made: Aggregate) -> list[str]:
    """The runs that lack a number, with the reason."""
    return [
        one_line(f"{one.id}: {one.why or 'has no number'}")
        for table in made.tables.values()
        for cell in table.cells
        for one in cell.missing
    ]


def summary(made: Aggregate, count: int) -> str:
    """One line about all of it."""
    null = sum(one.says == NULL for one in made.comparisons)
    comparisons = f", {count_text(len(made.comparisons), 'comparison')} with {null} null" if made.comparisons else ""
    return f"{count_text(count, 'run')} in {count_text(len(made.tables), 'phase')}{comparisons}"
