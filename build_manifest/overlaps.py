"""Warn of outputs of two jobs that one file can satisfy. Cheap for 100,000 patterns."""

from __future__ import annotations

import posixpath
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from build_manifest.expand import Made
from build_manifest.faults import Faults
from build_manifest.forms import PhaseForm
from queue_manager.core.outputs import escape, is_glob, literal_ends, patterns_overlap, shown

_WARNINGS = 10
_COMPARISONS = 300_000


class _Output(NamedTuple):
    pattern: str
    job: str
    written: str
    phase: PhaseForm
    form: int


def warn_of_overlaps(faults: Faults, cwd: str, phases: Sequence[tuple[PhaseForm, list[Made]]]) -> None:
    """Warn once for each pair of templates or jobs whose outputs can be one file, at most ten times."""
    outputs = [
        _Output(
            posixpath.normpath(posixpath.join(escape(cwd), escape(made.job.cwd or ""), made.job.expected_output)),
            made.job.id,
            made.job.expected_output,
            phase,
            made.form,
        )
        for phase, rows in phases
        for made in rows
        if made.job.expected_output is not None
    ]
    reported: set[tuple[int, int, int, int]] = set()
    for one, other in _pairs(outputs):
        pair = (id(one.phase), one.form, id(other.phase), other.form)
        if pair in reported or len(reported) >= _WARNINGS:
            continue
        reported.add(pair)
        _warn(faults, one, other)


def _warn(faults: Faults, one: _Output, other: _Output) -> None:
    scalar = other.phase.jobs[other.form].expected_output
    mark = other.phase.mark if scalar is None else scalar.mark
    faults.warn(
        mark,
        f"two jobs can write the same output, {one.job!r} ({shown(one.written)}) and "
        f"{other.job!r} ({shown(other.written)}), "
        "so each is judged by its exit code alone; make expected_output differ between them",
    )


def _pairs(outputs: list[_Output]) -> list[tuple[_Output, _Output]]:
    """Find pairs that can be one file: at least one for each two templates."""
    found: list[tuple[_Output, _Output]] = []
    literal: dict[str, _Output] = {}
    for one in outputs:
        if not is_glob(one.pattern):
            first = literal.setdefault(one.pattern, one)
            if first is not one:
                found.append((first, one))
    globs = [one for one in outputs if is_glob(one.pattern)]
    if globs:
        found += _glob_pairs(globs, [*literal.values(), *globs])
    return found


def _glob_pairs(globs: list[_Output], outputs: list[_Output]) -> list[tuple[_Output, _Output]]:
    """Two patterns overlap only if one's beginning, up to the first `*`, begins the other's, and likewise their
    ends: sorted by beginning and by end, the candidates of each glob are one stretch, and the shorter is searched."""
    ends = {one.pattern: literal_ends(one.pattern) for one in outputs}
    order = {one.job: n for n, one in enumerate(outputs)}
    views: list[tuple[list[str], list[_Output]]] = []
    for side in (0, 1):
        rows = sorted(((_key(ends[one.pattern][side], side), n, one) for n, one in enumerate(outputs)), key=_first_two)
        views.append(([row[0] for row in rows], [row[2] for row in rows]))
    found: list[tuple[_Output, _Output]] = []
    settled: set[tuple[int, int, int, int]] = set()
    budget = _COMPARISONS
    for one in globs:
        stretches = []
        for side, (keys, rows_of) in enumerate(views):
            key = _key(ends[one.pattern][side], side)
            stretches.append((rows_of, bisect_left(keys, key), bisect_right(keys, key + "\U0010ffff")))
        rows_of, low, high = min(stretches, key=lambda stretch: stretch[2] - stretch[1])
        for other in rows_of[low:high]:
            budget -= 1
            if budget < 0:
                return found
            pair = (id(one.phase), one.form, id(other.phase), other.form)
            if other is not one and pair not in settled and patterns_overlap(one.pattern, other.pattern):
                settled |= {pair, (pair[2], pair[3], pair[0], pair[1])}
                found.append((one, other) if order[one.job] < order[other.job] else (other, one))
    return found


def _key(end: str, side: int) -> str:
    return end[::-1] if side else end


def _first_two(row: tuple[str, int, _Output]) -> tuple[str, int]:
    return row[:2]
