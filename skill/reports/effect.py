"""The effect of a change: a difference of two means, with its confidence interval by Welch's t. Pure.

The quantile of Student's t comes from its distribution function, the regularized incomplete beta function, whose
continued fraction is exact to the last digits of a float for all that is asked here. That is twenty lines beside the
35 MB of scipy, the only well-kept library that has it; a test holds it against published tables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from skill.reports.cells import Cell, Table, stat

CONFIDENCE = 0.95
_ROUNDS = 500
_TINY = 1e-300


class Effect(NamedTuple):
    """`difference`: of the means, treated minus control. `low`, `high`: its 95 % confidence interval; None where one
    side has a single value, so that nothing is known of how it varies, or values too large for a float's square."""

    difference: float
    low: float | None
    high: float | None


def effect(treated: Sequence[float], control: Sequence[float]) -> Effect:
    """Compare two groups of at least one value each, whose variances may differ (Welch)."""
    sides = [stat(values) for values in (treated, control)]
    difference = sides[0].mean - sides[1].mean
    try:
        parts = [one.sd**2 / one.n for one in sides if one.sd is not None]
    except OverflowError:
        parts = []
    if len(parts) < 2:
        return Effect(difference, None, None)
    error = sum(parts)
    if error == 0.0:
        return Effect(difference, difference, difference)
    freedom = error**2 / sum(
        part**2 / (len(values) - 1) for part, values in zip(parts, (treated, control), strict=True)
    )
    half = t_quantile(0.5 + CONFIDENCE / 2, freedom) * math.sqrt(error)
    return Effect(difference, difference - half, difference + half)


def control_of(cell: Cell, table: Table, control: Mapping[str, str]) -> Cell | None:
    """The cell that one is compared with: the same but for the keys of `control`. None where there is no such cell, and
    for a cell that is a control itself."""
    wanted = {**cell.key, **control}
    if wanted == cell.key:
        return None
    return next((one for one in table.cells if one.key == wanted), None)


def t_quantile(p: float, freedom: float) -> float:
    """The value that Student's t with so many degrees of freedom stays below with probability `p`, of 0.5 to below 1.

    By Newton's method from 0. The distribution function is concave there, so that each step stays below the value.
    """
    found = 0.0
    for _ in range(_ROUNDS):
        step = (p - t_distribution(found, freedom)) / t_density(found, freedom)
        if step <= 1e-14 * found:
            break
        found += step
    return found


def t_density(t: float, freedom: float) -> float:
    """The density of Student's t with so many degrees of freedom at `t`."""
    logarithm = math.lgamma((freedom + 1.0) / 2.0) - math.lgamma(freedom / 2.0) - math.log(freedom * math.pi) / 2.0
    return math.exp(logarithm - (freedom + 1.0) / 2.0 * math.log1p(t * t / freedom))


def t_distribution(t: float, freedom: float) -> float:
    """The probability that Student's t with so many degrees of freedom is below `t`, which is not negative."""
    return 1.0 - 0.5 * _incomplete_beta(freedom / (freedom + t * t), freedom / 2.0, 0.5)


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function I_x(a, b), for x from 0 to 1."""
    if x in (0.0, 1.0):
        return x
    if x > (a + 1.0) / (a + b + 2.0):  # where the fraction of the other end converges quickly
        return 1.0 - _incomplete_beta(1.0 - x, b, a)
    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(logarithm) * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    """Its continued fraction (Abramowitz and Stegun 26.5.8), by Lentz's method."""
    c, d = 1.0, 1.0 / _apart(1.0 - (a + b) * x / (a + 1.0))
    found = d
    for m in range(1, _ROUNDS):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / _apart(1.0 + numerator * d)
            c = _apart(1.0 + numerator / c)
            found *= d * c
        if abs(d * c - 1.0) < 1e-15:
            break
    return found


def _apart(value: float) -> float:
    """The value, and not zero."""
    return value if abs(value) > _TINY else _TINY
