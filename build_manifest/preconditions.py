"""Read the preconditions of a spec, a phase or a job."""

from __future__ import annotations

from collections.abc import Mapping

from build_manifest.faults import listed
from build_manifest.fields import Fields
from build_manifest.forms import PRECONDITION_KEYS, PreconditionForm
from build_manifest.nodes import ListNode, MapNode, Node
from build_manifest.paths import each_path, has_braces
from build_manifest.values import quantity


def read_preconditions(fields: Fields, node: Node | None) -> tuple[PreconditionForm, ...]:
    """Read the preconditions, one for each path that braces name."""
    if node is None:
        return ()
    items = node.items if isinstance(node, ListNode) else (node,)
    found = [_precondition(fields, item) for item in items]
    return tuple([each for one in found if one is not None for each in _each_path(fields, one)])


def _each_path(fields: Fields, form: PreconditionForm) -> list[PreconditionForm]:
    """Make a precondition for each path that the shell would make of its braces."""
    path = form.path
    if path is None or not has_braces(path.text):
        return [form]
    return [form._replace(path=path._replace(text=text)) for text in each_path(fields.faults, path)]


def _precondition(fields: Fields, node: Node) -> PreconditionForm | None:
    all_keys = dict.fromkeys(key for keys in PRECONDITION_KEYS.values() for key in keys)
    table: Mapping[str, Node] = {}
    if isinstance(node, MapNode):
        table = {key.text: value for key, value in node.entries}
    if "type" not in table:
        hint = "such as {type: file_exists, path: data.csv}; types: " + listed(PRECONDITION_KEYS)
        fields.faults.add(node.mark, "a precondition must be a mapping with a type", hint)
        return None
    kind = fields.choice(table["type"], "type", PRECONDITION_KEYS)
    keys = PRECONDITION_KEYS[kind] if kind else tuple(all_keys)
    table = fields.table(node, f"a precondition of type {kind}" if kind else "a precondition", keys)
    if kind is None:
        return None
    for key in keys:
        if key not in table and not (kind == "disk_free_gib" and key == "path"):
            fields.faults.add(node.mark, f"a precondition of type {kind} lacks {key!r}", f"add {key}: …")
    return PreconditionForm(
        kind,
        fields.text(table.get("path"), "path"),
        fields.text(table.get("command"), "command"),
        fields.number_or_template(table.get("gib"), "gib", quantity),
    )
