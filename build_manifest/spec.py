"""Text to nodes, with the place of each and the traps of YAML named. The only module that knows PyYAML.

JSON is read by the same reader. Nodes are built from the parser's events and not by a loader, so that scalars stay as
they were written, and neither deep nesting nor aliases of aliases can exhaust the machine.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from build_manifest.faults import Faults, Mark, SpecErrors
from build_manifest.nodes import ListNode, MapNode, Node, Scalar

_DEPTH = 60
_ALIASED, _ALIASED_TO_WRITTEN = 100_000, 20
"""So many values may come of aliases, and so many more for each that was written: aliases of aliases stop soon."""
_STRING = "tag:yaml.org,2002:str"
# Among them what YAML takes for the end of a line and no editor does: every line named below it would be a wrong one.
_UNPRINTABLE = re.compile("\r(?!\n)|[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# JSON writes characters beyond U+FFFF as two escapes, which YAML does not put together.
_SURROGATES = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_HALF = re.compile("[\ud800-\udfff]")
# Two characters that nobody assigns: what is hidden is as long as before.
_OPEN, _CLOSE = "\ue0f0", "\ue0f1"
_NAMES = re.compile(r"\$\{([A-Za-z_][\w.-]*)\}")
_HIDDEN = re.compile(rf"\${_OPEN}([^{_CLOSE}]*){_CLOSE}")
_DEEPER_OPTION = re.compile(r"\n[ \t]+(?=-)")
_BARE_EXPRESSION = re.compile(r"(?:^|:|-|\[|,)\s*(\{\{)")
_QUOTE_IT = "YAML reads {{ as the beginning of a mapping"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read(faults: Faults) -> MapNode:
    """Read the text of `faults`. Raises SpecErrors where it is no YAML, or no mapping of one document."""
    if faults.text.lstrip().startswith("{"):
        faults.text = _SURROGATES.sub(_join_surrogates, faults.text)
    strange = _UNPRINTABLE.search(faults.text)
    if strange:
        what = f"the character U+{ord(strange[0]):04X} is not allowed in a spec"
        faults.add(faults.mark_at(strange.start()), what, 'write it in double quotes as an escape, such as "\\x07"')
        raise SpecErrors(faults.found)
    builder = _Builder(faults)
    try:
        for event in yaml.parse(_hide_names(faults.text), Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        _explain(faults, error)
    except yaml.YAMLError as error:
        faults.add(Mark(1, 1), f"YAML cannot read this: {error}")
    except _GiveUp:
        pass
    root = builder.root
    if faults.found and root is None:
        raise SpecErrors(faults.found)
    if isinstance(root, MapNode):
        return root
    empty = root is None or (isinstance(root, Scalar) and not root.text)
    mark = Mark(1, 1) if root is None else root.mark
    what = "the spec is empty" if empty else "a spec must be a mapping of keys to values"
    faults.add(mark, what, "begin with: project: NAME")
    raise SpecErrors(faults.found)


def _hide_names(text: str) -> str:
    """The text with `${name}` written so that YAML sees no braces in it, and every place where it was."""
    return text if _OPEN in text or _CLOSE in text else _NAMES.sub(rf"${_OPEN}\1{_CLOSE}", text)


def _show_names(text: str) -> str:
    """What `_hide_names` hid."""
    return _HIDDEN.sub(r"${\1}", text) if _OPEN in text else text


def _join_surrogates(match: re.Match[str]) -> str:
    high, low = int(match[2], 16), int(match[3], 16)
    return match[1] + chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))


class _GiveUp(Exception):
    """Reading on would make no sense; the fault has been noted."""


class _Open:
    """A collection whose end has not come yet. `children` of a mapping: keys and values in turn."""

    def __init__(self, event: Any, mark: Mark) -> None:
        self.event = event
        self.mark = mark
        self.children: list[Node] = []
        self.size = 1


class _Builder:
    """Takes the parser's events, one after the other."""

    def __init__(self, faults: Faults) -> None:
        self.root: Node | None = None
        self._faults = faults
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._documents = 0
        self._written = 0
        self._aliased = 0

    def take(self, event: Any) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self._stop(event, "a second document begins here", "keep one spec in a file")
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._begin(event)
        elif isinstance(event, yaml.MappingEndEvent):
            top = self._open.pop()
            self._put(MapNode(self._entries(top), top.mark), top.event.anchor, top.size)
        elif isinstance(event, yaml.SequenceEndEvent):
            top = self._open.pop()
            self._put(ListNode(tuple(top.children), top.mark), top.event.anchor, top.size)
        elif isinstance(event, yaml.ScalarEvent):
            self._put(self._scalar(event), event.anchor, 1)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)

    def _begin(self, event: Any) -> None:
        mark = _mark(event.start_mark)
        top = self._open[-1] if self._open else None
        key = top is not None and isinstance(top.event, yaml.MappingStartEvent) and len(top.children) % 2 == 0
        if key and self._faults.text.startswith("{{", event.start_mark.index - 1):
            self._stop(event, _QUOTE_IT, 'put quotes around the value: "{{ … }}"', shift=-1)
        if key:
            self._stop(event, "a key has to be a name, not a list or a mapping", "write KEY: VALUE")
        if len(self._open) >= _DEPTH:
            self._stop(event, f"this is nested more than {_DEPTH} deep", "nest it less deeply")
        self._check_tag(event)
        self._open.append(_Open(event, mark))

    def _scalar(self, event: Any) -> Scalar:
        plain = not event.style and event.tag != _STRING
        self._check_tag(event)
        if "\0" in event.value:
            self._faults.add(_mark(event.start_mark), "the character U+0000 is not allowed in a value", "leave it out")
        half = _HALF.search(event.value)
        if half:
            what = f"\\u{ord(half[0]):04x} is half of a character (a lone surrogate), which is not allowed in a value"
            self._faults.add(_mark(event.start_mark), what, "write the whole character, or remove it")
        text = _show_names(event.value)
        if event.style == ">":  # YAML keeps the ends of lines that are indented deeper: options would be commands
            text = _DEEPER_OPTION.sub(" ", text)
        return Scalar(text, plain, _mark(event.start_mark), event.start_mark.index, event.end_mark.index)

    def _check_tag(self, event: Any) -> None:
        if event.tag not in (None, "!", _STRING):
            what = f"{event.tag!r} is a YAML tag, which has no meaning in a spec"
            self._faults.add(_mark(event.start_mark), what, "put quotes around the value, if it begins with !")

    def _alias(self, event: Any) -> None:
        if event.anchor not in self._anchors:
            inside = any(one.event.anchor == event.anchor for one in self._open)
            what = (
                f"*{event.anchor} refers to the value that it is part of"
                if inside
                else f"there is no anchor &{event.anchor}"
            )
            self._stop(event, what, "put quotes around the value, if it begins with *")
        node, size = self._anchors[event.anchor]
        self._aliased += size
        if self._aliased > _ALIASED + _ALIASED_TO_WRITTEN * self._written:
            self._stop(event, f"aliases make more than {_ALIASED:,} values of this spec", "use fewer aliases")
        self._put(node, None, size)

    def _put(self, node: Node, anchor: str | None, size: int) -> None:
        self._written += 1
        if anchor is not None:
            self._anchors[anchor] = (node, size)
        if not self._open:
            self.root = node
            return
        self._open[-1].children.append(node)
        self._open[-1].size += size

    def _entries(self, top: _Open) -> tuple[tuple[Scalar, Node], ...]:
        """A mapping's keys and values; those that `<<` merges in come first and give way to its own."""
        own: dict[str, tuple[Scalar, Node]] = {}
        merged: dict[str, tuple[Scalar, Node]] = {}
        for key, value in zip(top.children[::2], top.children[1::2]):
            if not isinstance(key, Scalar):  # an alias of a collection
                self._faults.add(key.mark, "a key has to be a name, not a list or a mapping", "write KEY: VALUE")
            elif key.plain and key.text == "<<":
                for name, entry in self._merge(value).items():
                    merged.setdefault(name, entry)
            elif key.text in own:
                what = f"the key {key.text!r} is repeated; it is already on line {own[key.text][0].mark.line}"
                self._faults.add(key.mark, what, "keep one of them")
            else:
                own[key.text] = (key, value)
        return tuple({**merged, **own}.values())

    def _merge(self, value: Node) -> dict[str, tuple[Scalar, Node]]:
        sources = value.items if isinstance(value, ListNode) else (value,)
        merged: dict[str, tuple[Scalar, Node]] = {}
        for source in sources:
            if isinstance(source, MapNode):
                for key, node in source.entries:
                    merged.setdefault(key.text, (key, node))
            else:
                self._faults.add(value.mark, "<< merges mappings only", "write <<: *NAME of a mapping")
        return merged

    def _stop(self, event: Any, what: str, instead: str, shift: int = 0) -> None:
        mark = _mark(event.start_mark)
        self._faults.add(Mark(mark.line, mark.column + shift), what, instead)
        raise _GiveUp


def _mark(mark: Any) -> Mark:
    return Mark(mark.line + 1, mark.column + 1)


def _explain(faults: Faults, error: yaml.MarkedYAMLError) -> None:
    """Say in plain words what YAML's parser has met."""
    problem = f"{error.problem or ''}"
    context = f"{error.context or ''}"
    at: Any = error.problem_mark or error.context_mark
    mark = _mark(at) if at is not None else Mark(1, 1)
    opened = error.context_mark.line + 1 if error.context_mark is not None else mark.line
    lines = faults.text.splitlines()
    line = lines[mark.line - 1] if mark.line <= len(lines) else ""
    char = line[mark.column - 1 : mark.column]
    indent = line[: len(line) - len(line.lstrip())]
    for number in dict.fromkeys((mark.line, opened, mark.line - 1)):
        bare = _BARE_EXPRESSION.search(lines[number - 1]) if 0 < number <= len(lines) else None
        if bare:
            faults.add(Mark(number, bare.start(1) + 1), _QUOTE_IT, 'put quotes around the value: "{{ … }}"')
            return
    if "\t" in indent or char == "\t" or "'\\t'" in problem:
        column = indent.find("\t") + 1 if "\t" in indent else mark.column
        faults.add(Mark(mark.line, column), "a tab, where YAML allows only spaces", "indent with spaces")
    elif "mapping values are not allowed" in problem:
        if re.search(r":\s", line[: mark.column - 1]):
            faults.add(mark, "a second ': ' in one value", "put quotes around the value")
        else:
            what = "this line is indented deeper than the one before it allows"
            faults.add(mark, what, "line it up with its siblings")
    elif "scalar" in context and "end of stream" in problem:
        faults.add(Mark(opened, _mark(error.context_mark).column), "a quote opens here and is never closed", "close it")
    elif "flow" in context:
        where = "" if opened == mark.line else f" on line {opened}"
        faults.add(mark, f"a bracket or brace that opens{where} is not closed here", "look for a missing , ] or }")
    elif "alias" in context or "anchor" in context:
        faults.add(mark, "a leading * or & has a special meaning in YAML", "put quotes around the value")
    elif "cannot start any token" in problem:
        faults.add(mark, f"a value cannot begin with {char!r}", "put quotes around it")
    elif "Unicode" in problem and "escape" in problem:
        what = "this escape is not a character: half of one (a lone surrogate), or beyond the last"
        faults.add(mark, what, "write the character itself")
    elif "escape" in problem:
        faults.add(mark, 'an unknown escape in "…"', "double the backslash, or use '…'")
    elif "expected ':'" in problem:
        faults.add(Mark(opened, 1), "this line is not `key: value`", "write a colon and a space after the key")
    elif "expected key" in problem or "'-' indicator" in problem or "document start" in problem:
        hint = "check the indentation, and quote values with : # { [ \" '"
        faults.add(mark, "this does not fit the lines above", hint)
    else:
        faults.add(mark, f"YAML cannot read this: {problem or context}")
