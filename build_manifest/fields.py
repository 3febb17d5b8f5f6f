"""Read single fields off nodes: text, lists, numbers, mappings. What does not fit is noted and read as None."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from build_manifest.faults import Faults, listed, nearest
from build_manifest.forms import JOB_KEYS, OTHER_WORDS, PHASE_KEYS, TOP_KEYS
from build_manifest.names import is_template
from build_manifest.nodes import ListNode, MapNode, Node, Scalar
from build_manifest.secrets import warn_of_secret
from build_manifest.values import NULLS

_T = TypeVar("_T")
Table = Mapping[str, Node]
_PLACES = (("the top of the spec", TOP_KEYS), ("a phase", PHASE_KEYS), ("a template or a job", JOB_KEYS))
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_EXPANDS = re.compile(r"\$[A-Za-z_]\w*|\$\(|`")
_SWITCH = {"true": True, "on": True, "false": False, "off": False}


class Fields:
    """Reads the fields of a spec, and notes their faults."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults

    def table(self, node: Node, what: str, keys: Collection[str]) -> dict[str, Node]:
        """Read the entries of a mapping that may have `keys`; unknown ones are noted and left out."""
        if not isinstance(node, MapNode):
            self.faults.add(node.mark, f"{what} must be a mapping of keys to values", f"its keys: {listed(keys, 40)}")
            return {}
        known = {}
        for key, value in node.entries:
            if key.text in keys:
                known[key.text] = value
            else:
                self.faults.add(key.mark, f"unknown key {key.text!r} in {what}", self._hint(key.text, keys))
        return known

    def _hint(self, name: str, keys: Collection[str]) -> str:
        meant = OTHER_WORDS.get(name)
        if meant in keys:
            return f"did you mean {meant!r}?"
        for place, others in _PLACES:
            if name in others:
                return f"it belongs in {place}" if not place.startswith("the") else f"it belongs at {place}"
        close = nearest(name, keys)
        if close:
            return f"did you mean {close!r}?"
        if f"${{{name}}}" in self.faults.text:
            return f"values for ${{{name}}} belong under grid or args"
        for place, others in _PLACES:
            close = nearest(name, others)
            if close and keys in (TOP_KEYS, PHASE_KEYS, JOB_KEYS):
                return f"did you mean {close!r}? It belongs {'at' if place.startswith('the') else 'in'} {place}"
        return f"known keys: {listed(keys, 40)}"

    def text(self, node: Node | None, what: str, *, required: bool = False) -> Scalar | None:
        """Read a scalar that is not empty, as it was written."""
        hint = "write one" if required else "write one, or remove the key"
        if node is None:
            return None
        if not isinstance(node, Scalar):
            kind = "a list" if isinstance(node, ListNode) else "a mapping"
            self.faults.add(node.mark, f"{what} must be a single value, not {kind}", "write it as one text, in quotes")
            return None
        if node.plain and node.text in NULLS:
            self.faults.add(node.mark, f"{what} has no value", hint)
            return None
        if not node.text.strip():
            self.faults.add(node.mark, f"{what} is empty", hint)
            return None
        return node

    def texts(self, node: Node | None, what: str) -> tuple[Scalar, ...]:
        """Read a list of scalars; a single one is a list of one."""
        if node is None:
            return ()
        items = node.items if isinstance(node, ListNode) else (node,)
        found = [self.text(item, what) for item in items]
        return tuple(item for item in found if item is not None)

    def number(self, node: Node | None, what: str, read: Callable[[str], _T]) -> _T | None:
        """Read a number by `read`, which raises ValueError with what to write instead."""
        scalar = self.text(node, what)
        if scalar is None:
            return None
        try:
            value = read(scalar.text)
            if scalar.plain or not scalar.text[-1:].isdigit():
                return value
            self.faults.add(scalar.mark, f"{what} is {scalar.text!r}, a text", f"write {scalar.text}, without quotes")
        except ValueError as error:
            self.faults.add(scalar.mark, f"{what} is {scalar.text!r}", str(error))
        return None

    def number_or_template(self, node: Node | None, what: str, read: Callable[[str], object]) -> Scalar | None:
        """Read a number as `number` does, or a text in which one is substituted."""
        if isinstance(node, Scalar) and is_template(node.text):
            return node
        if isinstance(node, Scalar):
            return None if self.number(node, what, read) is None else node
        if what == "gpus" and isinstance(node, ListNode):
            hint = f"write {len(node.items)}, the number it needs; the allowed GPUs are listed at the top of the spec"
            self.faults.add(node.mark, "gpus of a job must be a number of GPUs, not a list", hint)
        else:
            self.text(node, what)
        return None

    def choice(self, node: Node | None, what: str, words: Collection[str]) -> str | None:
        """Read one of a few words."""
        scalar = self.text(node, what)
        if scalar is None or scalar.text in words:
            return None if scalar is None else scalar.text
        close = nearest(scalar.text, words)
        hint = f"did you mean {close!r}?" if close else f"write one of: {listed(words)}"
        self.faults.add(scalar.mark, f"{what} is {scalar.text!r}", hint)
        return None

    def switch(self, node: Node | None, what: str, words: str) -> bool | None:
        """Read true or false, on or off. `words`: how the message names them."""
        scalar = self.text(node, what)
        if scalar is None or (scalar.text.lower() in _SWITCH and (scalar.plain or scalar.text in ("on", "off"))):
            return None if scalar is None else _SWITCH[scalar.text.lower()]
        self.faults.add(scalar.mark, f"{what} is {scalar.text!r}", f"write {words}")
        return None

    def env(self, node: Node | None) -> tuple[tuple[str, Scalar], ...]:
        """Read variables and their values, as written."""
        if node is None:
            return ()
        if not isinstance(node, MapNode):
            self.faults.add(node.mark, "env must be a mapping of names to values", "write env: {NAME: value}")
            return ()
        found = []
        for key, value in node.entries:
            if not _VARIABLE.fullmatch(key.text):
                hint = "use letters, digits and _, and do not begin with a digit"
                self.faults.add(key.mark, f"{key.text!r} cannot be the name of a variable", hint)
            elif isinstance(value, MapNode):
                named = self._from(key.text, value)
                if named is not None:
                    found.append((key.text, named))
            elif not isinstance(value, Scalar):
                self.faults.add(value.mark, f"env {key.text} must be a single value", "put quotes around it")
            elif value.plain and value.text in NULLS:
                self.faults.add(value.mark, f"env {key.text} has no value", 'write "" for the empty text')
            else:
                if _EXPANDS.search(value.text):
                    what = f"env {key.text} is exported as it is written: no shell expands {value.text!r}"
                    self.faults.warn(value.mark, f"{what} (export it in cmd, where it should)")
                warn_of_secret(self.faults, key.text, value)
                found.append((key.text, value))
        return tuple(found)

    def _from(self, key: str, node: MapNode) -> Scalar | None:
        """Convert `{from: NAME}` to the text with the same meaning."""
        entries = {one.text: value for one, value in node.entries}
        value = entries.get("from")
        hint = f"write {key}: {{from: NAME}} for what NAME is where the job runs, or put quotes around a text"
        if list(entries) != ["from"] or not isinstance(value, Scalar):
            self.faults.add(node.mark, f"env {key} is a mapping that is not {{from: NAME}}", hint)
        elif not _VARIABLE.fullmatch(value.text):
            self.faults.add(
                value.mark, f"env {key} is taken from {value.text!r}, which is not a valid variable name", hint
            )
        else:
            return value._replace(text=f"${{env:{value.text}}}")
        return None
