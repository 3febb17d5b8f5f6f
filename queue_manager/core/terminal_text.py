"""Make text safe for a terminal: of all control sequences only colours remain, the rest is escaped. Pure.

Names, logs and states are written by jobs, hosts and files. Printed unchanged, they could set the clipboard, change the
title, move the cursor over other lines, or reverse the reading direction of what follows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# Control characters (C0, C1), line and paragraph separators, surrogates, and characters of format: direction marks,
# invisible ones, tags. Not U+200C and U+200D, which join letters and emoji.
_COMMANDS = (
    "\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e007f"
)
_COLOUR = re.compile(r"\x1b\[([0-9;:]*)m")
_UNSAFE = re.compile(rf"(?!\n|\t)[{_COMMANDS}]")
_IN_JSON = re.compile(rf"(?!\n)[{_COMMANDS}]")
_SPACES = str.maketrans("\n\r\t", "   ")


def escaped(text: str) -> str:
    """Escape every character that controls a terminal, as in \\x1b or \\u202e; lines and tabs stay. Escaping twice
    changes nothing."""
    return text if text.isascii() and text.isprintable() else _UNSAFE.sub(_written, text)


def one_line(text: str, most: int = 0) -> str:
    """Do the same on one line, for a name or a message. `most`: most characters; longer text is cut, with …; 0: no
    limit."""
    if text.isascii() and text.isprintable() and (not most or len(text) <= most):
        return text
    if most and len(text) > most:
        text = text[: most - 1] + "…"
    line = escaped(text.translate(_SPACES))
    return line if not most or len(line) <= most else line[: most - 1] + "…"


def coloured(text: str) -> str:
    """Do the same, but keep colours and other styles (SGR). Text that they would hide is shown."""
    if "\x1b" not in text:
        return escaped(text)
    return "".join(_pieces(text))


def has_colour(text: str) -> bool:
    """Return whether the text changes the colour, which then has to be reset after it."""
    return _COLOUR.search(text) is not None


def json_escaped(document: str) -> str:
    """Write these characters of a JSON document as JSON escapes (\\u202e), without changing its content."""
    return _IN_JSON.sub(_written_in_json, document)


def _pieces(text: str) -> Iterator[str]:
    at = 0
    for match in _COLOUR.finditer(text):
        yield escaped(text[at : match.start()])
        yield escaped(match.group()) if _conceals(match.group(1)) else match.group()
        at = match.end()
    yield escaped(text[at:])


def _conceals(parameters: str) -> bool:
    """Return whether an SGR sequence makes text invisible (8). The numbers of a colour follow 38, 48 and 58."""
    numbers = iter(parameters.split(";"))
    for number in numbers:
        if number.lstrip("0") == "8":
            return True
        if number in ("38", "48", "58"):
            for _ in range({"5": 1, "2": 3}.get(next(numbers, ""), 0)):
                next(numbers, "")
    return False


def _written(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code == 0x0D:
        return "\\r"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _written_in_json(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
