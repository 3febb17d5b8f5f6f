"""Read the grid of a spec: `grid`, `zip`, `exclude` and `include`, and the values of their keys."""

from __future__ import annotations

import re

from build_manifest import grid as grids
from build_manifest.faults import Faults, Mark
from build_manifest.fields import Table
from build_manifest.forms import GRID_KEYS
from build_manifest.grid import Entry, GridForm, Values
from build_manifest.names import KEY, RESERVED
from build_manifest.nodes import ListNode, MapNode, Node, Scalar
from build_manifest.ranges import RangeError, from_mapping, from_text, may_be_meant
from build_manifest.values import Written, written, written_list

_SUBSTITUTION = re.compile(r"\$\{[A-Za-z_]\w*\}|\{\{.*\}\}")


def read_grid(faults: Faults, table: Table) -> GridForm:
    """Read the grid of a phase, or of a spec that is one; without a key it has one cell."""
    present = [table[key] for key in GRID_KEYS if key in table]
    mark = present[0].mark if present else Mark(1, 1)
    grid = GridForm(
        mark,
        _values(faults, table.get("grid"), "grid"),
        _values(faults, table.get("zip"), "zip"),
        _entries(faults, table.get("exclude"), "exclude"),
        _entries(faults, table.get("include"), "include"),
    )
    for key in ("grid", "zip"):
        node = table.get(key)
        if isinstance(node, MapNode) and not node.entries:
            faults.add(node.mark, f"{key} is empty", "name a key and its values, or leave it out")
    grids.check(faults, grid)
    return grid


def _entries(faults: Faults, node: Node | None, what: str) -> tuple[Entry, ...]:
    if node is None:
        return ()
    items = node.items if isinstance(node, ListNode) else (node,)
    return tuple(Entry(item.mark, _values(faults, item, f"an entry of {what}")) for item in items)


def _values(faults: Faults, node: Node | None, what: str) -> tuple[Values, ...]:
    if node is None:
        return ()
    if not isinstance(node, MapNode):
        faults.add(node.mark, f"{what} must be a mapping of names to values", "write {seed: [1, 2], lr: [0.1]}")
        return ()
    found = []
    for key, value in node.entries:
        if not KEY.fullmatch(key.text):
            hint = "use letters, digits and _, with . or - between them, and begin with no digit"
            faults.add(key.mark, f"{key.text!r} cannot be the name of a key in {what}", hint)
        elif key.text in RESERVED:
            faults.add(key.mark, f"{key.text} is filled in at launch, and cannot be a key", "choose another name")
        items = value.items if isinstance(value, ListNode) else (value,)
        if not items:
            faults.add(value.mark, f"{key.text!r} in {what} has no values", "write at least one")
        values = [one for item in items for one in _values_of(faults, key.text, item, len(items) == 1)]
        found.append(Values(key.text, key.mark, tuple(values)))
    return tuple(found)


def _values_of(faults: Faults, key: str, node: Node, alone: bool) -> list[Written]:
    """Read one value, one of several words, or those of a range."""
    try:
        made = None
        if isinstance(node, MapNode):
            made = from_mapping(node)
        elif isinstance(node, Scalar) and node.plain:
            made = from_text(node.text)
            if made is None and alone and may_be_meant(node.text):
                what = f"{node.text} is a single text, not a range"
                faults.warn(node.mark, f'{what} (write 0..4 for a range, or "{node.text}" for the text)')
        if made is not None:
            return [written(text, True) for text in made]
    except RangeError as error:
        shown = node.text[:80] if isinstance(node, Scalar) else "this"
        faults.add(node.mark, f"{shown} in {key!r} looks like a range but is not one", str(error))
        return []
    if isinstance(node, ListNode) and node.items:
        words = [_value(faults, key, item) for item in node.items]
        known = [one for one in words if one is not None]
        return [written_list(known)] if len(known) == len(words) else []
    one = _value(faults, key, node)
    return [] if one is None else [one]


def _value(faults: Faults, key: str, node: Node) -> Written | None:
    if not isinstance(node, Scalar):
        kind = "a list" if isinstance(node, ListNode) else "a mapping"
        hint = "write single values, and quote texts with , : [ {"
        faults.add(node.mark, f"a value of {key!r} is {kind}", hint)
        return None
    if node.plain and not node.text:
        faults.add(node.mark, f"a value of {key!r} is missing", 'write "" for the empty text')
        return None
    if _SUBSTITUTION.search(node.text):
        faults.warn(node.mark, f"values of a grid are not expanded: {node.text!r} stays as it is")
    return written(node.text, node.plain)
