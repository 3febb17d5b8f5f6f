"""The health of a spec: what counts as unhealthy while a job runs, checked for its shape.

It stands at the top, in a phase, and in a template or a job; of two with one key the inner one wins.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from build_manifest.faults import Faults, listed, nearest
from build_manifest.fields import Fields, Table
from build_manifest.forms import Health, HealthValue
from build_manifest.metrics import check_regex
from build_manifest.names import is_template
from build_manifest.nodes import ListNode, MapNode, Node, Scalar
from build_manifest.values import integer, number, quantity, seconds
from queue_manager.core.health_policy import BOUND_KEYS, EARLY_STOP_KEYS, KEYS, LOSS, LOW_UTIL_KEYS, THEN

_STEP = r"put ( ) around the step, such as 'step (\d+)/(\d+)'"
_VALUE = "put ( ) around the number, such as 'loss=([0-9.eE+-]+)'"
_EXAMPLE = {
    "low_util": "write {below: 10, for: 10m}",
    "bounds": "write [{metric: loss, above: 10, after_step: 500}]",
    "early_stop": "write {metric: val_loss, patience: 5, min_delta: 0.001}",
}


def read_health(fields: Fields, node: Node | None) -> Health:
    """Read the health of one level. What cannot be read is noted and left out."""
    if node is None:
        return {}
    table = fields.table(node, "health", KEYS)
    found = {}
    for key, value in table.items():
        before = len(fields.faults.found)
        read = _READ[key](fields, value, f"{key} of health")
        if len(fields.faults.found) == before and read is not None:
            found[key] = HealthValue(value.mark, read)
    return found


def check_health(faults: Faults, health: Health, metrics: Mapping[str, Any]) -> None:
    """Note metrics that a job's health uses and the job does not have. `metrics`: its rules by name."""
    for key in ("bounds", "early_stop"):
        if key not in health:
            continue
        mark, value = health[key]
        for one in value if key == "bounds" else [value]:
            name = one["metric"]
            if name != LOSS and name not in metrics:
                close = nearest(name, (LOSS, *metrics))
                guess = f"did you mean {close!r}? " if close else ""
                hint = f"{guess}names there are: {listed((LOSS, *metrics))}; {LOSS} is that of the log"
                faults.add(mark, f"{key} of health: no metric is called {name!r}", hint, once=("health", mark, name))
            elif key == "early_stop" and name in metrics and "goal" not in metrics[name].values:
                what = f"early_stop of health: it is unknown whether a lower or a higher {name} is better"
                faults.add(mark, what, f"add goal: min or goal: max to metric {name!r}", once=("goal", mark))


def _regex(fields: Fields, node: Node, what: str, hint: str) -> str | None:
    scalar = _plain(fields, node, what)
    if scalar is not None:
        check_regex(fields.faults, scalar, what, scalar.text, hint=hint)
    return None if scalar is None else scalar.text


def _plain(fields: Fields, node: Node | None, what: str) -> Scalar | None:
    """Read a single value; nothing is expanded in it."""
    if isinstance(node, Scalar) and is_template(node.text):
        fields.faults.add(node.mark, f"{what} is not expanded: {node.text!r}", "write it out")
        return None
    return fields.text(node, what)


def _number(fields: Fields, node: Node, what: str, read: Callable[[str], Any] = quantity) -> Any:
    return None if _plain(fields, node, what) is None else fields.number(node, what, read)


def _any_number(text: str) -> float:
    value = number(text)
    if value is None:
        raise ValueError("write a number")
    return value


def _not_below_0(text: str) -> float:
    value = number(text)
    if value is None or value < 0:
        raise ValueError("write a number of 0 or more")
    return value


def _percent(text: str) -> float:
    value = quantity(text.rstrip("% ") if text.endswith("%") else text)
    if value > 100:
        raise ValueError("write percent, from above 0 to 100")
    return value


def _stall(fields: Fields, node: Node, what: str) -> float | str | None:
    if isinstance(node, Scalar) and node.text == "off":
        return "off"
    found: float | None = _number(fields, node, what, seconds)
    return found


def _table(fields: Fields, node: Node, what: str, keys: Collection[str], must: Collection[str]) -> Table:
    """Read the entries of a mapping; empty, with the fault noted, if a required one is missing."""
    hint = _EXAMPLE[what.split(maxsplit=1)[0]]
    if not isinstance(node, MapNode):
        fields.faults.add(node.mark, f"{what} must be a mapping", hint)
        return {}
    table = fields.table(node, what, keys)
    lacking = [key for key in must if key not in table]
    if lacking:
        fields.faults.add(node.mark, f"{what} has no {listed(lacking)}", hint)
        return {}
    return table


def _low_util(fields: Fields, node: Node, what: str) -> dict[str, float] | None:
    table = _table(fields, node, what, LOW_UTIL_KEYS, LOW_UTIL_KEYS)
    if not table:
        return None
    return {
        "below": _number(fields, table["below"], f"below of {what}", _percent),
        "for": _number(fields, table["for"], f"for of {what}", seconds),
    }


def _bounds(fields: Fields, node: Node, what: str) -> list[dict[str, Any]] | None:
    items = node.items if isinstance(node, ListNode) else (node,)
    found = [_bound(fields, item, what) for item in items]
    return [one for one in found if one] or None


def _bound(fields: Fields, node: Node, what: str) -> dict[str, Any]:
    table = _table(fields, node, what, BOUND_KEYS, ("metric",))
    if table and "above" not in table and "below" not in table:
        fields.faults.add(node.mark, f"{what} has neither above nor below", _EXAMPLE["bounds"])
        return {}
    found: dict[str, Any] = {}
    for key, value in table.items():
        if key == "metric":
            name = _plain(fields, value, f"metric of {what}")
            found[key] = None if name is None else name.text
        else:
            read = partial(integer, minimum=0) if key == "after_step" else _any_number
            found[key] = _number(fields, value, f"{key} of {what}", read)
    return found


def _early_stop(fields: Fields, node: Node, what: str) -> dict[str, Any] | None:
    table = _table(fields, node, what, EARLY_STOP_KEYS, ("metric", "patience"))
    if not table:
        return None
    name = _plain(fields, table["metric"], f"metric of {what}")
    found: dict[str, Any] = {"metric": None if name is None else name.text}
    found["patience"] = _number(fields, table["patience"], f"patience of {what}", partial(integer, minimum=1))
    if "min_delta" in table:
        found["min_delta"] = _number(fields, table["min_delta"], f"min_delta of {what}", _not_below_0)
    return found


def _then(fields: Fields, node: Node, what: str) -> str | None:
    return fields.choice(node, what, THEN)


_READ: dict[str, Callable[[Fields, Node, str], Any]] = {
    "progress": partial(_regex, hint=_STEP),
    "loss": partial(_regex, hint=_VALUE),
    "stall": _stall,
    "low_util": _low_util,
    "slow": partial(_number, read=_percent),
    "bounds": _bounds,
    "min_steps": partial(_number, read=partial(integer, minimum=1)),
    "early_stop": _early_stop,
    "then": _then,
}
