"""Quoting of values for bash, by the place in the command where each stands. Pure; no value is ever run.

`Scanner` is fed the command as the user wrote it, piece by piece, and says at each gap how a value has to be written
there so that bash takes it literally: bare, inside '…', "…", $'…', `…`, ${…}, $(…), $((…)), in a here-document, or
in a comment. (Not followed: `case` patterns with a lone `)` inside `$(…)`.)
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

Quote = Callable[[str], str]

_HEREDOC = re.compile(r"<<(-?)[ \t]*(?:'([^'\n]*)'|\"([^\"\n]*)\"|(\\?)([^\s;&|<>()'\"`\\$]+))")
_PLAIN = re.compile(r"[\w \t.,:=/+@%-]*")
"""Text that opens and closes nothing, which is nearly all of it."""
_FILLED = "\0"
"""Stands for a value within a line, so that the line equals no here-document's end."""


class _Frame:
    """One open construct: its kind, and the line so far for a here-document."""

    def __init__(self, kind: str, end: str = "", strip_tabs: bool = False) -> None:
        self.kind = kind
        self.end = end
        self.strip_tabs = strip_tabs
        self.line = ""


class Scanner:
    """Where in a bash command we are. Kinds of frames: `words` (and `(`), `'`, `"`, `$'`, "`", `${`, `((`, `#`,
    `<<` and `<<'` (a here-document whose end is quoted)."""

    def __init__(self) -> None:
        self._frames = [_Frame("words")]
        self._escaped = False
        self._word_start = True
        self._heredocs: list[_Frame] = []

    @property
    def escaped(self) -> bool:
        """Whether a backslash stands right before this place."""
        return self._escaped

    @property
    def frames(self) -> tuple[_Frame, ...]:
        """What is open here, the innermost last."""
        return tuple(self._frames)

    @property
    def open_quote(self) -> str | None:
        """The quote that is still open here; None if there is none."""
        kinds = [frame.kind for frame in self._frames if frame.kind in ("'", '"', "$'", "`")]
        return kinds[-1] if kinds else None

    def quote(self) -> Quote:
        """How a value is written at this place."""
        inner = self._innermost()
        ticks = sum(frame.kind == "`" for frame in self._frames)
        for frame in self._frames:
            frame.line += _FILLED if frame.end else ""
        self._word_start = False
        if not ticks:
            return inner

        def in_ticks(value: str) -> str:
            text = inner(value)
            for _ in range(ticks):
                text = re.sub(r"([\\$`])", r"\\\1", text)
            return text

        return in_ticks

    def _innermost(self) -> Quote:
        kind = self._frames[-1].kind
        if kind == "'":
            return _in_single
        if kind == "$'":
            return _in_ansi
        if kind in ('"', "(("):
            return _in_double
        if kind == "${":
            return _in_double_braces if self._in_double() else quote_word
        if kind == "#":
            return _in_comment
        if kind == "<<":
            return _in_heredoc
        return str if kind == "<<'" else quote_word

    def _in_double(self) -> bool:
        kinds = [frame.kind for frame in self._frames if frame.kind != "${"]
        return kinds[-1] in ('"', "((", "<<")

    def feed(self, text: str) -> None:
        """Go on over text that the user wrote."""
        at = 0
        if text and len(self._frames) == 1 and not self._escaped and _PLAIN.fullmatch(text):
            self._word_start = text[-1] in " \t"
            return
        while at < len(text):
            at = self.step(text, at)

    def step(self, text: str, at: int) -> int:
        """Take one token of `text`; returns where the next begins."""
        top = self._frames[-1]
        char = text[at]
        if top.end:
            self._heredoc_char(top, char)
            return at + 1
        if self._escaped:
            self._escaped, self._word_start = False, False
            return at + 1
        if top.kind == "'" or (top.kind == "#" and char != "\n"):
            if char == top.kind == "'":
                self._frames.pop()
            return at + 1
        if char == "\\":
            self._escaped = True
            return at + 1
        if top.kind == "$'":
            if char == "'":
                self._frames.pop()
            return at + 1
        if char == "`":
            self._tick()
            return at + 1
        if char == "$":
            return self._dollar(text, at)
        if top.kind == '"':
            if char == '"':
                self._frames.pop()
            return at + 1
        if char == '"':
            self._push('"')
            return at + 1
        if top.kind == "${":
            if char == "}":
                self._frames.pop()
            elif char == "'" and not self._in_double():
                self._push("'")
            return at + 1
        if top.kind == "((":
            return self._arithmetic(text, at)
        return self._word(text, at)

    def _word(self, text: str, at: int) -> int:
        char = text[at]
        start, self._word_start = self._word_start, char in " \t\n;&|()<>"
        if char == "\n":
            if self._frames[-1].kind == "#":
                self._frames.pop()
            self._frames += reversed(self._heredocs)
            self._heredocs.clear()
        elif char == "'":
            self._push("'")
        elif char == "#" and start:
            self._push("#")
        elif char == "(":
            if start and text.startswith("((", at):
                self._push("((")
                return at + 2
            self._push("(")
        elif char == ")" and self._frames[-1].kind == "(":
            self._frames.pop()
        elif text.startswith("<<<", at):
            return at + 3
        elif match := _HEREDOC.match(text, at):
            strip, single, double, slash, bare = match.groups()
            end = next(part for part in (single, double, bare) if part is not None)
            raw = bare is None or bool(slash)
            self._heredocs.append(_Frame("<<'" if raw else "<<", end + "\n", bool(strip)))
            return match.end()
        return at + 1

    def _arithmetic(self, text: str, at: int) -> int:
        if text[at] == "(":
            self._push("((", ")")
        elif self._frames[-1].line:  # a parenthesis within
            if text[at] == ")":
                self._frames.pop()
        elif text.startswith("))", at):
            self._frames.pop()
            return at + 2
        return at + 1

    def _dollar(self, text: str, at: int) -> int:
        self._word_start = False
        for sign, kind in (("$((", "(("), ("$(", "("), ("${", "${")):
            if text.startswith(sign, at):
                self._push(kind)
                return at + len(sign)
        if self._frames[-1].kind in ("words", "(", "`") or (self._frames[-1].kind == "${" and not self._in_double()):
            if text.startswith("$'", at):
                self._push("$'")
                return at + 2
            if text.startswith('$"', at):
                self._push('"')
                return at + 2
        return at + 1

    def _tick(self) -> None:
        kinds = [frame.kind for frame in self._frames]
        if "`" in kinds:
            del self._frames[len(kinds) - 1 - kinds[::-1].index("`") :]
        else:
            self._push("`")

    def _push(self, kind: str, line: str = "") -> None:
        self._word_start = kind in ("(", "`")
        self._frames.append(_Frame(kind))
        self._frames[-1].line = line

    def _heredoc_char(self, top: _Frame, char: str) -> None:
        top.line += char
        if char == "\n":
            line, top.line = top.line, ""
            if (line.lstrip("\t") if top.strip_tabs else line) == top.end:
                self._frames.pop()


def quote_word(value: str) -> str:
    """A value as one literal word of bash, or a part of one."""
    # At launch `${GPU}` is replaced wherever it stands, so a value that has it is taken apart.
    return shlex.quote(value).replace("${GPU", "$''{GPU")


def _in_single(value: str) -> str:
    return value.replace("'", "'\\''").replace("${GPU", "$''{GPU")


def _in_double(value: str) -> str:
    return re.sub(r'([\\"$`])', r"\\\1", value).replace("${GPU", '$""{GPU')


def _in_double_braces(value: str) -> str:
    # bash looks for the other one of a single ' even here.
    return re.sub(r'([\\"$`}])', r"\\\1", value).replace("'", '"\'"')


def _in_ansi(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'").replace("${GPU", "\\x24{GPU")


def _in_comment(value: str) -> str:
    return " ".join(value.splitlines())


def _in_heredoc(value: str) -> str:
    return re.sub(r"([\\$`])", r"\\\1", value)


def bare(text: str) -> str:
    """A command with `q` in place of what is quoted or substituted, without comments and here-documents: the
    operators that are left are bash's own."""
    scanner, found, at = Scanner(), [], 0
    inner: set[int] = set()
    while at < len(text):
        before = scanner.frames
        escaped = scanner.escaped
        end = scanner.step(text, at)
        after = scanner.frames
        if len(after) > len(before) and after[-1].kind == "(" and (text[at] == "$" or text[at - 1 : at] in ("<", ">")):
            inner.add(id(after[-1]))
        kinds = [frame.kind for frame in before]
        if any(kind in ("#", "<<", "<<'") for kind in kinds[-1:]):
            found.append("\n" if text[at] == "\n" else "")
        elif escaped or scanner.escaped:
            found.append(" " if text[at] == "\n" else "q")
        elif all(kind in ("words", "(") for kind in (*kinds, *(f.kind for f in after))) and not (
            inner & {id(frame) for frame in (*before, *after)}
        ):
            found.append(text[at:end])
        elif after[-1].kind not in ("#", "<<", "<<'"):
            found.append("q")
        at = end
    return "".join(found)
