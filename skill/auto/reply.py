"""Find an agent's reply, the last JSON object in its text, and check it against the schema of its role. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

from skill.auto.replies import OF_ROLE, Reply, Role
from skill.common import typed_json

MOST = 1 << 20
"""Characters of a reply, at most. Only the end of a longer text is searched."""
_MOST_FAILURES = 2000
"""Beginnings that turn out to be no JSON, at most: each costs as much time as the text before it is long."""
_BEGIN = re.compile(r'\{\s*["}]')


class ReplyError(ValueError):
    """The reply cannot be used; the text says why, for the agent to read."""


def read(role: Role, text: str) -> Reply:
    """The reply in a text. Raises ReplyError."""
    found = last_object(text)
    try:
        return typed_json.into(found, OF_ROLE[role])
    except typed_json.DocumentError as error:
        raise ReplyError(f"the JSON object does not fit the schema: {error}") from None


def schema_text(role: Role) -> str:
    """The JSON Schema of a role's reply."""
    return typed_json.pretty(typed_json.schema(OF_ROLE[role]))


def last_object(text: str) -> dict[str, Any]:
    """The last JSON object in a text that may hold prose and other objects as well. Raises ReplyError."""
    if not text.strip():
        raise ReplyError("the reply is empty; reply with one JSON object")
    cut = len(text) > MOST
    text = text[-MOST:]
    decoder = json.JSONDecoder()
    best: tuple[int, int] | None = None
    begin, failures = _BEGIN.search(text), 0
    while begin and failures < _MOST_FAILURES:
        at = begin.start()
        try:
            _, end = decoder.raw_decode(text, at)
        except RecursionError:
            raise ReplyError("the JSON object is nested too deeply") from None
        except json.JSONDecodeError as error:
            if not cut and _is_half(error, text):
                raise ReplyError(f"the JSON object ends in the middle: {error}") from None
            failures += 1
            begin = _BEGIN.search(text, at + 1)
        except ValueError as error:  # a number of thousands of digits
            raise ReplyError(str(error)) from None
        else:
            best = (at, end)
            begin = _BEGIN.search(text, end)
    if best is None:
        size = f" in the last {MOST >> 20} MiB of it" if cut else ""
        raise ReplyError(f"the reply holds no JSON object{size}; reply with one JSON object of at most 1 MiB")
    try:
        found: dict[str, Any] = typed_json.decode(text[slice(*best)], MOST)
    except typed_json.DocumentError as error:
        raise ReplyError(f"the JSON object {error}") from None
    return found


def _is_half(error: json.JSONDecodeError, text: str) -> bool:
    """Whether an object began well and only its end is missing."""
    return error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
