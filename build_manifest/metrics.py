"""The metrics of a spec: rules that say where a job's numbers are, checked for their shape, and made for each job.

Rules stand at the top, in a phase, and in a template or a job; of two with one name the inner one wins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from build_manifest.faults import Faults, listed
from build_manifest.fields import Fields
from build_manifest.forms import MetricForm, Metrics
from build_manifest.names import Literal, Text, is_template
from build_manifest.nodes import MapNode, Node, Scalar
from build_manifest.paths import check_path
from build_manifest.values import Written
from queue_manager.core.metric_rules import GOALS, MOST, RULE_KEYS, TAKES, regex_fault, repeats_repeats
from queue_manager.core.outputs import escape, escape_within

METRIC_KEYS = tuple(dict.fromkeys(key for keys in RULE_KEYS.values() for key in keys))
_PATTERN: Literal = (escape, escape_within)
_LITERAL: Mapping[str, Literal] = {"json": _PATTERN, "csv": _PATTERN, "log": (re.escape, re.escape)}
"""How a value is written in what is a glob, or a regular expression."""
_FIELD = {"json": "key", "csv": "column"}
_RULE = "write {json: PATH, key: a.b}, {log: 'acc=([0-9.]+)', take: last} or {csv: PATH, column: NAME}"
_GROUP = "put ( ) around the number, such as 'acc=([0-9.eE+-]+)'"


Compile = Callable[[Scalar, Literal | None], Text | None]


def read_metrics(fields: Fields, node: Node | None) -> Metrics:
    """Read the rules of one level. What cannot be a rule is noted and left out."""
    if node is None:
        return {}
    if not isinstance(node, MapNode):
        fields.faults.add(node.mark, "metrics must be a mapping of names to rules", _RULE)
        return {}
    found = {}
    for key, value in node.entries:
        if is_template(key.text):
            fields.faults.add(key.mark, f"the name of a metric is not expanded: {key.text!r}", "write it out")
        elif not key.text.strip() or len(key.text) > MOST or not key.text.isprintable():
            fields.faults.add(key.mark, f"{key.text[:40]!r} cannot be the name of a metric", "write a short name")
        else:
            form = _read_rule(fields, key.text, value)
            if form is not None:
                found[key.text] = form
    if len(node.entries) > MOST:
        fields.faults.add(node.mark, f"these are {len(node.entries)} metrics", f"at most {MOST} are possible")
    return found


def _read_rule(fields: Fields, name: str, node: Node) -> MetricForm | None:
    what, faults = f"metric {name!r}", fields.faults
    if not isinstance(node, MapNode):
        faults.add(node.mark, f"{what} is not a rule", _RULE)
        return None
    before = len(faults.found)
    table = fields.table(node, what, METRIC_KEYS)
    kinds = [kind for kind in RULE_KEYS if kind in table]
    if not kinds:
        if len(faults.found) == before:
            faults.add(node.mark, f"{what} does not say where its number is", _RULE)
        return None
    if len(kinds) > 1:
        faults.add(table[kinds[1]].mark, f"{what} has {kinds[0]} and {kinds[1]}", "keep one: a rule reads one place")
        return None
    kind = kinds[0]
    for key, value in table.items():
        if key not in RULE_KEYS[kind]:
            others = [one for one in RULE_KEYS if key in RULE_KEYS[one]]
            hint = f"{key} belongs to a rule with {' or '.join(others)}; keys here: {listed(RULE_KEYS[kind])}"
            faults.add(value.mark, f"{what} reads {kind}, where {key} has no meaning", hint)
    if kind in _FIELD and _FIELD[kind] not in table:
        example = "key: eval.loss" if kind == "json" else "column: NAME"
        faults.add(node.mark, f"{what} has no {_FIELD[kind]}", f"add {example}")
    values = {key: fields.text(value, f"{key} of {what}") for key, value in table.items() if key in RULE_KEYS[kind]}
    for key, words in (("take", TAKES), ("goal", GOALS)):
        fields.choice(table.get(key), f"{key} of {what}", words)
    form = MetricForm(kind, node.mark, {key: scalar for key, scalar in values.items() if scalar is not None})
    if kind == "log" and "log" in form.values and not is_template(form.values["log"].text):
        check_regex(faults, form.values["log"], f"log of {what}", form.values["log"].text)
    return form if len(faults.found) == before else None


def check_regex(faults: Faults, scalar: Scalar, what: str, text: str, hint: str = _GROUP) -> None:
    """Note what is wrong with a regular expression, at its place. `text`: what is made of the scalar; `hint`: what to
    write where it has no group."""
    fault = regex_fault(text)
    if fault is None:
        if repeats_repeats(text):
            what = f"{what} repeats what is itself repeated, which may take forever on some lines"
            faults.warn(scalar.mark, f"{what}; write one repeat, such as [a-z ]+ for ([a-z]+ ?)+")
        return
    words, at = fault
    start = faults.text.find(scalar.text, scalar.start, scalar.end) if text == scalar.text else -1
    mark = faults.mark_at(start + at) if start >= 0 else scalar.mark
    if "no group" not in words:
        hint = r"write \( \[ \+ for the characters themselves"
    shown = text if len(text) <= 80 else text[:79] + "…"
    faults.add(mark, f"{what} is {shown!r}, which {words}", hint, once=("regex", scalar.mark))


class MetricTexts:
    """The rules of one template, compiled once and made for each job."""

    def __init__(self, faults: Faults, metrics: Metrics, names: tuple[str, ...], compiled: Compile) -> None:
        self._faults, self._metrics = faults, metrics
        self._texts: dict[str, dict[str, Text]] = {}
        self._templated = [
            name for name, form in metrics.items() if form.kind == "log" and is_template(form.values["log"].text)
        ]
        for name, form in metrics.items():
            texts = {}
            for key, scalar in form.values.items():
                is_path = key in ("json", "csv")
                if not is_path or check_path(faults, scalar, f"{key} of metric {name!r}", names):
                    text = compiled(scalar, _LITERAL.get(key))
                    if text is not None:
                        texts[key] = text
            self._texts[name] = texts

    def make(self, cell: Mapping[str, Written]) -> dict[str, dict[str, str]] | None:
        """Make the rules for one job, as its manifest has them; None if there are none. Raises RenderError."""
        if not self._texts:
            return None
        made = {name: {key: text.render(cell) for key, text in one.items()} for name, one in self._texts.items()}
        for name in self._templated:  # what is substituted is literal: the first job shows it for all
            scalar = self._metrics[name].values["log"]
            check_regex(self._faults, scalar, f"log of metric {name!r}", made[name].get("log", "()"))
        self._templated = []
        return made
