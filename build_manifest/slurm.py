"""What a spec asks of Slurm, checked for its shape; it counts where Slurm runs the jobs.

It stands at the top, in a phase, and in a template or a job; of two with one key the inner one wins. What the manager
asks for, where it is a job itself, stands at the top alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from build_manifest.faults import Faults, Mark
from build_manifest.fields import Fields
from build_manifest.forms import Slurm
from build_manifest.nodes import ListNode, Node
from build_manifest.values import integer
from queue_manager.core import slurm_manager, slurm_needs

MANAGER = "manager"


def read_slurm(fields: Fields, node: Node | None) -> Slurm:
    """The settings of one level. What cannot be read is noted and left out."""
    return {} if node is None else _settings(fields, node, "slurm", slurm_needs.KEYS)


def read_top_slurm(fields: Fields, node: Node | None) -> tuple[Slurm, Slurm | None]:
    """The settings at the top of a spec, and those of the manager as a job; None where there are none."""
    found = {} if node is None else dict(_settings(fields, node, "slurm", (*slurm_needs.KEYS, MANAGER)))
    return found, found.pop(MANAGER, None)


def _settings(
    fields: Fields,
    node: Node,
    what: str,
    keys: tuple[str, ...],
    judge: Callable[[Slurm], str | None] = slurm_needs.fault,
) -> Slurm:
    found: dict[str, Any] = {}
    for key, value in fields.table(node, what, keys).items():
        before = len(fields.faults.found)
        read = _value(fields, key, value, f"{key} of {what}")
        fault = None if read is None else judge({key: read}) if key != MANAGER else None
        if key == "time" and read is not None and fault is None:
            fault = slurm_needs.time_fault(read)
        if fault is not None and len(fields.faults.found) == before:
            fields.faults.add(value.mark, *_parted(fault))
        elif read is not None and len(fields.faults.found) == before:
            found[key] = read
    return found


def _value(fields: Fields, key: str, node: Node, what: str) -> Any:
    if key in slurm_needs.COUNTS:
        return fields.number(node, what, lambda text: integer(text, 1))
    if key == "requeue_on_timeout":
        return fields.switch(node, what, "true or false")
    if key == "extra":
        return [one.text for one in fields.texts(node, what)]
    if key == "oom":
        keys = tuple(one for one in slurm_needs.KEYS if one not in slurm_needs.OF_ALL)
        items = node.items if isinstance(node, ListNode) else (node,)
        return [dict(_settings(fields, item, "an entry of oom of slurm", keys)) for item in items]
    if key == MANAGER:
        return _settings(fields, node, "manager of slurm", slurm_manager.KEYS, slurm_manager.fault)
    scalar = fields.text(node, what)
    return None if scalar is None else scalar.text


def check_bundle(faults: Faults, mark: Mark, settings: Slurm, *, has_timeout: bool) -> None:
    """Note that a bundle lacks the time of its jobs."""
    fault = slurm_needs.bundle_fault(settings, 0.0 if has_timeout else None)
    if fault is not None:
        faults.add(mark, *_parted(fault))


def _parted(fault: str) -> tuple[str, str]:
    """A fault and what to write instead, as `Faults.add` takes them."""
    for sign in ("; ", ", such as "):
        what, found, hint = fault.partition(sign)
        if found:
            return what, hint if sign == "; " else f"such as {hint}"
    return fault, "see: slurm in the documentation of the spec"
