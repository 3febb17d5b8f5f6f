"""Read the `recover` of a spec: what is tried when a job fails, checked for its shape, and made for each job.

It stands at the top, in a phase, and in a template or a job; the innermost one counts, as a whole.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from build_manifest.faults import Faults, listed, nearest
from build_manifest.fields import Fields
from build_manifest.forms import Health, RecoverForm, RungForm
from build_manifest.nodes import ListNode, MapNode, Node, Scalar
from build_manifest.values import seconds
from queue_manager.core.recover_policy import ARGS, IN_ALL, OTHER_HOST, RERUN, RUN, RUN_SECONDS

RECOVER = "recover"
_RUNGS = "write rerun, {run: COMMAND}, {args: {NAME: VALUE}} or other_host"


def read_recover(fields: Fields, node: Node | None) -> RecoverForm | None:
    """The ladder of one level; None where it says nothing. What cannot be a rung is noted and left out."""
    if node is None:
        return None
    if isinstance(node, Scalar) and node.text == "off":
        return RecoverForm(node.mark, ())
    items = node.items if isinstance(node, ListNode) else (node,)
    if not items:
        fields.faults.add(node.mark, "recover is an empty list", f"{_RUNGS}; or recover: off")
    if len(items) > IN_ALL:
        fields.faults.add(node.mark, f"recover has {len(items)} rungs", f"at most {IN_ALL} are possible")
    found = [_rung(fields, item) for item in items]
    return RecoverForm(node.mark, tuple([one for one in found if one is not None]))


def _rung(fields: Fields, node: Node) -> RungForm | None:
    faults = fields.faults
    if isinstance(node, Scalar):
        if node.text in (RERUN, OTHER_HOST):
            return RungForm(node.text, node.mark)
        close = nearest(node.text, (RERUN, OTHER_HOST))
        hint = {RUN: "write {run: COMMAND}", ARGS: "write {args: {NAME: VALUE}}"}.get(node.text)
        faults.add(
            node.mark,
            f"a rung of recover is {node.text!r}",
            hint or (f"did you mean {close!r}?" if close else _RUNGS),
        )
        return None
    if not isinstance(node, MapNode):
        faults.add(node.mark, "a rung of recover is a list", _RUNGS)
        return None
    table = fields.table(node, "a rung of recover", (RUN, "timeout", ARGS))
    if (RUN in table) == (ARGS in table):
        if RUN in table:
            faults.add(node.mark, "a rung of recover has run and args", "make two rungs: one change at a time")
        elif len(table) == len(node.entries):
            faults.add(node.mark, "a rung of recover has neither run nor args", _RUNGS)
        return None
    return _command(fields, node, table) if RUN in table else _args(faults, node, table)


def _command(fields: Fields, node: MapNode, table: Mapping[str, Node]) -> RungForm | None:
    command = fields.text(table[RUN], "run of recover", required=True)
    timeout = fields.number(table.get("timeout"), "timeout of recover", seconds)
    return None if command is None else RungForm(RUN, node.mark, command, RUN_SECONDS if timeout is None else timeout)


def _args(faults: Faults, node: MapNode, table: Mapping[str, Node]) -> RungForm | None:
    changes = table[ARGS]
    if "timeout" in table:
        faults.add(table["timeout"].mark, "timeout of recover belongs to a rung with run", "remove it")
    if not isinstance(changes, MapNode) or not changes.entries:
        faults.add(changes.mark, "args of recover must name an arg and its new value", "write {args: {batch_size: 16}}")
        return None
    if len(changes.entries) > 1:
        names = [key.text for key, _ in changes.entries]
        hint = "make a rung of each: " + ", ".join(f"{{args: {{{name}: …}}}}" for name in names[:3])
        faults.add(changes.entries[1][0].mark, f"a rung of recover changes {listed(names)} at once", hint)
        return None
    key, value = changes.entries[0]
    return RungForm(ARGS, node.mark, arg=key, value=value)


def check_recover(faults: Faults, form: RecoverForm | None, health: Health, where: str) -> None:
    """Note that a job is to recover when it is unhealthy, and has no steps for it."""
    then = health.get("then")
    if then is not None and then.value == RECOVER and not (form and form.rungs):
        what = f"then of health is {RECOVER!r}, but {where} has no rungs in recover"
        faults.add(then.mark, what, "add recover: [rerun], or write stop", once=("then", then.mark))


def check_arg(
    faults: Faults,
    key: Scalar,
    args: Collection[str],
    grid: Collection[str],
    where: str,
    *,
    has_cmd: bool,
) -> bool:
    """Tell whether a step may change an arg; what is wrong is noted. `args`: those of the job."""
    name = key.text
    if name in grid:
        others = [one for one in args if one not in grid]
        what = f"recover changes {name!r}, which is a key of the grid: with another value it is another job"
        faults.add(key.mark, what, "change an arg" + (f": {listed(others)}" if others else ""))
    elif name not in args:
        close = nearest(name, args)
        if close:
            hint = f"did you mean {close!r}?"
        elif args:
            hint = f"its args are: {listed(args)}"
        else:
            use = f" and use ${{{name}}} in cmd" if has_cmd else ""
            hint = f"give it args: {{{name}: VALUE}}{use}"
        faults.add(key.mark, f"recover changes the arg {name!r}, which {where} does not have", hint)
    else:
        return True
    return False
