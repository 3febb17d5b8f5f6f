"""Which keys were typed, from the bytes that a terminal sends for them. Pure."""

from __future__ import annotations

import codecs
import re

_SEQUENCE = re.compile(r"\x1b(?:\[[0-9;]*[A-Za-z~]|O[A-Za-z])")
_BEGUN = re.compile(r"\x1b(?:\[[0-9;]*|O)?\Z")
_LONGEST = 16
"""Characters of a sequence: what is longer is none."""
_LETTERS = {"A": "up", "B": "down", "C": "right", "D": "left", "H": "home", "F": "end", "Z": "backtab", "M": "enter"}
_NUMBERS = {"1": "home", "7": "home", "4": "end", "8": "end", "5": "pageup", "6": "pagedown"}
_CONTROLS = {
    "\r": "enter", "\n": "enter", "\t": "tab", "\x7f": "backspace", "\x08": "backspace", "\x0c": "redraw",
}  # fmt: skip


class Keys:
    """Reads keys from bytes as they come. A key is its character, or a name such as `up`, `pagedown`, `enter`."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        self._rest = ""

    def feed(self, data: bytes) -> list[str]:
        """Take the next bytes; returns the keys that are whole now."""
        text, found = self._rest + self._decoder.decode(data), []
        self._rest = ""
        while text:
            sequence = _SEQUENCE.match(text)
            if sequence is not None:
                found.append(_named(sequence.group()))
                text = text[sequence.end() :]
            elif _BEGUN.match(text) and len(text) <= _LONGEST:
                self._rest, text = text, ""
            else:
                found.append("escape" if text[0] == "\x1b" else _character(text[0]))
                text = text[1:]
        return [key for key in found if key]

    def pause(self) -> list[str]:
        """Nothing more came for a moment: an escape alone is the key of this name."""
        rest, self._rest = self._rest, ""
        return ["escape"] if rest == "\x1b" else []


def _named(sequence: str) -> str:
    last = sequence[-1]
    if last == "~":
        return _NUMBERS.get(sequence[2:-1].partition(";")[0], "")
    return _LETTERS.get(last, "")


def _character(char: str) -> str:
    return _CONTROLS.get(char, char if char.isprintable() else "")
