"""Metrics of a job: the rules that say where a number is, and the numbers that they find. Pure.

A rule reads one number of a JSON file, of a column of a CSV file, or of a job's log. What cannot be read becomes a text
that says why, and never an exception: a job with a missing metric has still completed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Union

from queue_manager.core.terminal_text import one_line

TAKES = ("first", "last", "min", "max", "mean")
GOALS = ("min", "max")
RULE_KEYS = {
    "json": ("json", "key", "goal"),
    "log": ("log", "take", "goal"),
    "csv": ("csv", "column", "take", "goal"),
}
"""The keys of a rule by its kind; the first key says where the number is."""
MOST = 100
"""Most rules of one job."""
MAX_NUMBERS = 50
_MAX_DEPTH = 3
_MAX_NAME = 100
_MAX_LINE = 2000
"""Characters of a log line that a rule searches."""
_SHOWN = 12


class Rule(NamedTuple):
    """Where a metric is. `kind`: json, log or csv; `source`: a path or glob, or a regular expression; `field`: the key
    or the column; `take`: which of several values; `goal`: min or max, where one is better."""

    kind: str
    source: str
    field: str = ""
    take: str = "last"
    goal: str | None = None


Found = Union[float, str]
"""A number; or why there is none, in words."""


def rules(metrics: Any) -> dict[str, Rule | str]:
    """Return the rules in a job's `metrics`, by name; words for an invalid one.

    Manifests of earlier versions accepted anything there: what is not a mapping has no rules.
    """
    if not isinstance(metrics, Mapping):
        return {}
    return {str(name): _rule(value) for name, value in list(metrics.items())[:MOST]}


def _rule(value: Any) -> Rule | str:
    kinds = [kind for kind in RULE_KEYS if isinstance(value, Mapping) and kind in value]
    if len(kinds) != 1:
        return f"its rule is invalid: exactly one of {', '.join(RULE_KEYS)} says where the number is"
    kind = kinds[0]
    wrong = [key for key in value if key not in RULE_KEYS[kind] or not isinstance(value[key], str)]
    if wrong:
        return f"its rule has {wrong[0]!r}, which is not known"
    rule = Rule(kind, value[kind], value.get("key", value.get("column", "")), value.get("take", "last"))
    if rule.take not in TAKES:
        return f"its rule has take: {rule.take!r}, which is not one of {', '.join(TAKES)}"
    if kind == "log":
        fault = regex_fault(rule.source)
        if fault is not None:
            return f"its rule {fault[0]}"
    return rule._replace(goal=value.get("goal"))


def regex_fault(text: str, groups: int = 1) -> tuple[str, int] | None:
    """Return what is wrong with a regular expression of a rule, and at which character; None if nothing is.

    `groups`: least number of groups.
    """
    try:
        compiled = re.compile(text)
    except re.error as error:
        at = error.pos or 0
        return f"is not a regular expression: {error.msg} at position {at}", at
    except (RecursionError, OverflowError, ValueError):
        return "is too large for a regular expression", 0
    return None if compiled.groups >= groups else ("has no group", 0)


_NO_REPEAT = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_REPEAT = re.compile(r"[*+{]")


_REPEATED_GROUP = re.compile(r"\([^()]*[*+{][^()]*\)[*+{]")


def repeats_repeats(regex: str) -> bool:
    """Whether a regular expression has a repeat inside of a repeat, such as (a+)+b."""
    return _REPEATED_GROUP.search(_NO_REPEAT.sub(".", regex)) is not None


def is_simple(regex: str) -> bool:
    """Whether a regular expression surely takes no longer than some milliseconds for a line: it repeats one thing at
    most. Others may take forever for some lines, such as (a+)+b."""
    return len(_REPEAT.findall(_NO_REPEAT.sub("", regex))) <= 1


# -- JSON -------------------------------------------------------------------------------------------------------------


def from_json(data: Any, key: str) -> Found:
    """Return the number under `key` in a document: names and list positions, joined by dots; names may contain dots
    too."""
    found = list(_at(data, key))
    if not found:
        there = list(numbers(data)) or ([str(one) for one in data] if isinstance(data, Mapping) else [])
        return f"has no key {one_line(key, 80)!r}; " + (f"keys there: {_listed(there)}" if there else "it has no keys")
    value = found[0]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        shown = "a mapping" if isinstance(value, Mapping) else "a list" if isinstance(value, list) else repr(value)
        return f"has no number under {one_line(key, 80)!r}: it is {one_line(shown, 40)}"
    if not _is_finite(value):
        return finite(value) if isinstance(value, float) else "holds a number that is too large"
    return float(value)


def _at(node: Any, key: str) -> Iterator[Any]:
    """Return the value under a key; the longest name that exists comes first."""
    if isinstance(node, list):
        head, _, rest = key.partition(".")
        if re.fullmatch(r"-?\d{1,9}", head) and -len(node) <= int(head) < len(node):
            inner = node[int(head)]
            yield from _at(inner, rest) if rest else [inner]
        return
    if not isinstance(node, Mapping):
        return
    if key in node:
        yield node[key]
    end = key.rfind(".")
    while end > 0:
        if key[:end] in node:
            yield from _at(node[key[:end]], key[end + 1 :])
        end = key.rfind(".", 0, end)


def numbers(value: Any) -> dict[str, float]:
    """Return the finite numbers in a JSON object, at most 50 and three levels deep; lists are not metrics."""
    return dict(pair for pair, _ in zip(_walk(value, "", 0), range(MAX_NUMBERS)))


def _walk(value: Any, name: str, depth: int) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping) and depth < _MAX_DEPTH:
        for key, inner in value.items():
            shown = one_line(str(key), _MAX_NAME)  # it goes into reports and to terminals
            yield from _walk(inner, f"{name}.{shown}" if name else shown, depth + 1)
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and name and _is_finite(value):
        yield name, float(value)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer larger than any float
        return False


def finite(value: float) -> Found:
    """Return the number, or that it cannot be compared."""
    if math.isfinite(value):
        return value
    return f"is {'nan' if math.isnan(value) else 'infinite'}"


# -- many values ------------------------------------------------------------------------------------------------------


class Values:
    """The values of one metric, added one after the other."""

    KEPT = ("count", "_known", "first", "last", "low", "high", "total")

    def __init__(self) -> None:
        self.count = 0
        self._known: tuple[str, ...] = TAKES
        self.first = self.last = math.nan
        self.low, self.high, self.total = math.inf, -math.inf, 0.0

    def add(self, value: float) -> None:
        """Add the next value."""
        if not self.count:
            self.first = value
        self.count += 1
        self.last = value
        self.total += value
        self.low = min(self.low, value)
        self.high = max(self.high, value)

    def leave_gap(self) -> None:
        """Note that some values between the earlier and the next ones were not seen."""
        self._known = ("first", "last") if self.count and "first" in self._known else ("last",)

    def taken(self, take: str) -> Found | None:
        """Return the value that a rule takes; None where there is none yet, or where unseen values may change it."""
        if not self.count or take not in self._known:
            return None
        if take == "mean":
            return finite(self.total / self.count)
        return finite({"first": self.first, "last": self.last, "min": self.low, "max": self.high}[take])


class LogValues:
    """The values that a rule finds in the lines of a log."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.values = Values()
        self.strange = ""
        """The last text that matched and is no number."""
        self._find = re.compile(rule.source).search

    def take(self, line: str) -> float | None:
        """Read a line. Returns its value, if it has one."""
        found = self._find(line[:_MAX_LINE])
        text = None if found is None else next((group for group in found.groups() if group is not None), None)
        if text is None:
            return None
        value = number(text)
        if value is None:
            self.strange = text
        else:
            self.values.add(value)
        return value

    def found(self) -> Found:
        """Return the metric after the whole log has been read."""
        value = self.values.taken(self.rule.take)
        if value is not None:
            return value
        if self.values.count:
            return f"the log is too large for take: {self.rule.take}; take: last reads its end"
        if self.strange:
            return f"the log has {one_line(self.strange, 40)!r} for it, which is not a number"
        return f"no line of the log matches {one_line(self.rule.source, 80)!r}"


def number(text: str) -> float | None:
    """Return the number in a text, with what a log may write around it; None if there is none."""
    try:
        return float(text.strip().strip("'\",;:()[]{}%").rstrip("."))
    except ValueError:
        return None


def from_csv(lines: Iterable[str], column: str, take: str) -> Found:
    """Return a value of a CSV file's column. Empty cells are ignored: loggers leave them."""
    import csv  # few rules are of this kind

    found = iter(lines)
    head = next(found, "").lstrip("\ufeff")
    separator = max(",;\t", key=head.count)
    names = [name.strip() for name in next(csv.reader([head], delimiter=separator), [])]
    if column not in names:
        return f"has no column {one_line(column, 80)!r}; " + (
            f"columns there: {_listed(names)}" if any(names) else "it is empty"
        )
    at, values, strange = names.index(column), Values(), ""
    try:
        for row in csv.reader(found, delimiter=separator):
            cell = row[at].strip() if at < len(row) else ""
            if not cell:
                continue
            value = number(cell)
            if value is None:
                strange = cell
            else:
                values.add(value)
    except csv.Error as error:
        return f"is not CSV: {error}"
    taken = values.taken(take)
    if taken is not None:
        return taken
    what = f"holds {one_line(strange, 40)!r}, which is not a number" if strange else "is empty"
    return f"has a column {one_line(column, 80)!r} that {what}"


def _listed(names: Iterable[str]) -> str:
    shown = [one_line(name, 60) for name in names]
    return ", ".join(shown[:_SHOWN]) + (f", … ({len(shown)} in all)" if len(shown) > _SHOWN else "")
