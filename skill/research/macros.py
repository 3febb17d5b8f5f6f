r"""The numbers of a paper as LaTeX macros: one for each number of the evidence, with the runs that it rests on. Pure.

A name is made of what the number is, so that it stays the same when more runs come: `\resAccLamZeroDotFive` is acc at
lam=0.5. Two numbers that would get one name get a few letters more each, made of what they are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from queue_manager.core.terminal_text import one_line
from skill.reports.cells import Stat, constant, stat_text
from skill.reports.effect import Effect
from skill.research.evidence import Aggregate, runs

PREFIX = "res"
NAME = re.compile(rf"\\({PREFIX}[A-Z][A-Za-z]*)")
"""A macro of ours in a text."""
DEFINITION = re.compile(rf"\\newcommand{{\\({PREFIX}[A-Z][A-Za-z]*)}}{{(.*?)}}%(.*)")
"""A line that defines one: its name, its value, and what it says of itself."""
_DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
_SIGNS = {".": "Dot", "-": "Minus", "+": "Plus", "%": "Percent"}
_PARTS = re.compile(r"[A-Za-z]+|[0-9]|[.+%-]")


class Number(NamedTuple):
    """A number of the evidence. `of`: what it is, from which its name is made; `value`: as LaTeX sets it; `about`: the
    same in words; `runs`: the ids that it rests on."""

    of: tuple[str, ...]
    value: str
    about: str
    runs: tuple[str, ...]


class Macros(NamedTuple):
    """Macros by their names, and the name of each number by what it is."""

    numbers: Mapping[str, Number]
    names: Mapping[tuple[str, ...], str]


def macros(made: Aggregate) -> Macros:
    """A macro for each number of the evidence, in its order."""
    numbers = [*_stats(made), *_effects(made)]
    counts: dict[str, int] = {}
    for one in numbers:
        counts[_plain(one.of)] = counts.get(_plain(one.of), 0) + 1
    names = {one.of: _plain(one.of) + (_letters(one.of) if counts[_plain(one.of)] > 1 else "") for one in numbers}
    return Macros({names[one.of]: one for one in numbers}, names)


def text(made: Macros, head: str) -> str:
    """The file that defines them. `head`: its first line, without its sign."""
    lines = [f"% {head}"]
    for name, one in made.numbers.items():
        lines.append(rf"\newcommand{{\{name}}}{{{one.value}}}%{about(one)}")
    return "\n".join(lines) + "\n"


def about(one: Number) -> str:
    """What the line that defines a number says of it, after its sign of a comment."""
    return f" {one.about}; runs: {' '.join(one.runs)}"


def cell_of(phase: str, metric: str, key: Mapping[str, str]) -> tuple[str, ...]:
    """What the number of a cell is."""
    return ("stat", phase, metric, *(part for pair in key.items() for part in pair))


def number_text(value: float) -> str:
    """A number alone, in four digits."""
    return f"{value:.4g}"


def stat_value(one: Stat) -> str:
    """Mean and deviation, as LaTeX sets them."""
    return rf"\ensuremath{{{_math(stat_text(one))}}}"


def _math(shown: str) -> str:
    """A number in math, its exponent as one is written there."""
    shown = shown.replace("±", r"\pm")
    return re.sub(r"e([+-])0*(\d+)", lambda found: rf"\cdot 10^{{{found[1].strip('+')}{found[2]}}}", shown)


def _stats(made: Aggregate) -> Iterator[Number]:
    several = len(made.tables) > 1
    for phase, table in made.tables.items():
        same = constant(table)
        for cell in table.cells:
            shown = {name: value for name, value in cell.key.items() if name not in same}
            for metric, one in cell.stats.items():
                what = cell_of(phase, metric, cell.key)
                about = ", ".join([metric, *([phase] if several else []), *(f"{k}={v}" for k, v in shown.items())])
                found = runs(cell, metric)
                yield Number(what, stat_value(one), f"{one_line(about)}: {_told(one)}", found)
                yield Number((*what, "N"), str(one.n), f"{one_line(about)}: how many runs", found)


def _told(one: Stat) -> str:
    return "one run" if one.n == 1 else f"mean and sample standard deviation of {one.n} runs"


def _effects(made: Aggregate) -> Iterator[Number]:
    for one in made.comparisons:
        what = ("effect", *cell_of(one.phase, one.metric, one.key)[1:])
        key = ", ".join(f"{k}={v}" for k, v in one.key.items())
        about = f"effect on {one.metric} of {key}: {one.says}, n={one.n[0]} and {one.n[1]}"
        yield Number(what, effect_value(one.effect), one_line(about), (*one.runs, *one.control_runs))


def effect_value(found: Effect) -> str:
    """A difference with its interval, as LaTeX sets it."""
    if found.low is None or found.high is None:
        return rf"\ensuremath{{{_math(number_text(found.difference))}}}"
    low, high = _math(number_text(found.low)), _math(number_text(found.high))
    return rf"\ensuremath{{{_math(number_text(found.difference))}\;[{low}, {high}]}}"


def _plain(of: tuple[str, ...]) -> str:
    kind, _, *rest = of
    words = [*(["effect"] if kind == "effect" else []), *rest]
    return PREFIX + "".join(map(_camel, words))


def _camel(word: str) -> str:
    """A text in letters alone, each part with a capital."""
    found = []
    for part in _PARTS.findall(word):
        found.append(_DIGITS[int(part)] if part.isdigit() else _SIGNS.get(part) or part[0].upper() + part[1:])
    return "".join(found)


def _letters(of: tuple[str, ...]) -> str:
    """Six letters that stand for what a number is."""
    digest = hashlib.sha256("\0".join(of).encode()).digest()
    return "X" + "".join(chr(ord("a") + byte % 26) for byte in digest[:5])
