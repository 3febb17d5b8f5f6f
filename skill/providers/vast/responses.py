"""What an answer of Vast.ai means: a document, a deed done, a refusal, or nothing known. Pure.

Unknown is not absent: whatever cannot be had or understood is `Unknown`, and no conclusion is drawn from it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from queue_manager.core.terminal_text import one_line
from skill.common.http import NoReply, Reply
from skill.common.retry import backoff
from skill.providers.outcomes import (
    ANSWER,
    AUTH,
    GONE,
    NO_OFFER,
    OTHER,
    QUEUED,
    SERVER,
    THROTTLED,
    UNREACHABLE,
    Created,
    Done,
    Gone,
    Refused,
    Unknown,
)  # fmt: skip

_MOST_WAIT = 60.0
_THROTTLE_WAIT = 2.0
_SERVER_WAIT = 1.0
_TRIES = 4
_LONGEST_MESSAGE = 300
_NO_ID = 1 << 63
_MOST_DIGITS = 40


def document(reply: Reply | NoReply) -> dict[str, Any] | Unknown:
    """What a query brought."""
    if isinstance(reply, NoReply):
        return Unknown(reply.reason, UNREACHABLE)
    found = _parsed(reply.body)
    if reply.status == 200 and isinstance(found, dict) and found.get("success", True) is True:
        return found
    return Unknown(_says(reply, found), _kind(reply, found))


def change(reply: Reply | NoReply) -> Done | Refused | Unknown:
    """What came of a change to an instance."""
    if isinstance(reply, NoReply):
        return Unknown(reply.reason, UNREACHABLE) if reply.sent else Refused(reply.reason, UNREACHABLE)
    found = _parsed(reply.body)
    if reply.status == 200 and isinstance(found, dict) and found.get("success") is True:
        return Done(message(found))
    why = _refusal(reply, found)
    return Unknown(_says(reply, found), _kind(reply, found)) if why is None else Refused(_says(reply, found), why)


def creation(reply: Reply | NoReply) -> Created | Refused | Unknown:
    """What came of a create. Unknown: it may have happened, and is settled by listing, never by asking again."""
    if isinstance(reply, NoReply):
        return Unknown(reply.reason, UNREACHABLE) if reply.sent else Refused(reply.reason, UNREACHABLE)
    found = _parsed(reply.body)
    made = found.get("new_contract") if isinstance(found, dict) else None
    made = made if isinstance(made, int) and not isinstance(made, bool) and 0 < made < _NO_ID else None
    if reply.status == 200 and isinstance(found, dict) and found.get("success") is True:
        return Unknown("it reports success but names no instance", ANSWER) if made is None else Created(made)
    if made is not None:
        return Refused(_says(reply, found), OTHER, made)
    why = _refusal(reply, found)
    return Unknown(_says(reply, found), _kind(reply, found)) if why is None else Refused(_says(reply, found), why)


def one(reply: Reply | NoReply) -> dict[str, Any] | Gone | Unknown:
    """The row of one instance."""
    if isinstance(reply, Reply):
        found = _parsed(reply.body)
        if reply.status in (404, 410) and _refusal(reply, found) == GONE:
            return Gone()
    answer = document(reply)
    if isinstance(answer, Unknown):
        return answer
    if "instances" not in answer:
        return Unknown("the answer has no instances in it", ANSWER)
    row = answer["instances"]
    if isinstance(row, list) and len(row) == 1:  # as it was once
        row = row[0]
    if row is None or row == []:
        return Gone()
    return row if isinstance(row, dict) else Unknown("the answer is not an instance", ANSWER)


def wait(reply: Reply | NoReply, number: int, *, again: bool) -> float | None:
    """Seconds until a request is sent again after its try `number`, from 1; None: it is not.

    What was asked too often was not done, and may be asked again. After a failure only what does no harm twice may
    (`again`).
    """
    if isinstance(reply, NoReply):
        return _SERVER_WAIT if number == 1 and (again or not reply.sent) else None
    if number >= _TRIES:
        return None
    if reply.status == 429:
        found = _parsed(reply.body)
        if isinstance(found, dict) and found.get("error") == "search_quota_exceeded":
            return None
        delay = _seconds(reply.headers.get("retry-after"))
        if delay is None and isinstance(found, dict):
            delay = _seconds(found.get("retry_after"))
        return backoff(number, _THROTTLE_WAIT, _MOST_WAIT) if delay is None else min(_MOST_WAIT, delay)
    if reply.status in (502, 503, 504) and again:
        return backoff(number, _SERVER_WAIT, _MOST_WAIT)
    return None


def message(found: Any) -> str:
    """What a document says for people, in one line that harms no terminal."""
    if not isinstance(found, Mapping):
        return ""
    words = [found[key] for key in ("error", "msg", "message", "detail") if isinstance(found.get(key), str)]
    return line(": ".join(dict.fromkeys(words)))


def line(text: str) -> str:
    """A text of the server in one line that harms no terminal."""
    return one_line(" ".join(text.split()), _LONGEST_MESSAGE)


def _refusal(reply: Reply, found: Any) -> str | None:
    """Which refusal this is; None where the request may have been carried out all the same."""
    if reply.status == 429:
        return THROTTLED
    if not isinstance(found, dict) or not (found.get("success") is False or message(found)):
        return None  # who answered may not even have been Vast.ai
    text = message(found).lower()
    if _is_auth(reply, found):
        return AUTH
    if reply.status not in (200, 400, 402, 403, 404, 410, 422):
        return None
    if "queued" in text:
        return QUEUED
    if any(words in text for words in ("no_such_ask", "not available", "no longer available")):
        return NO_OFFER
    if reply.status in (404, 410) and any(words in text for words in ("not_found", "not found", "no_such_instance")):
        return GONE
    return OTHER


def _kind(reply: Reply, found: Any) -> str:
    if _is_auth(reply, found):
        return AUTH
    if reply.status == 429:
        return THROTTLED
    return SERVER if reply.status >= 500 else ANSWER


def _is_auth(reply: Reply, found: Any) -> bool:
    text = message(found).lower()
    return reply.status == 401 or "auth_error" in text or "invalid user key" in text


def _says(reply: Reply, found: Any) -> str:
    text = message(found)
    if not text and not isinstance(found, (dict, list)):
        text = line(reply.body[:2000].decode("utf-8", "replace"))
        text = "" if text.startswith("<") else text  # a page for browsers
    status = "" if reply.status == 200 else f" {reply.status}"
    if _is_auth(reply, found):
        return f"Vast.ai rejected this key ({text or reply.status})"
    if reply.status == 200 and not text:
        text = "its answer cannot be parsed"
    return f"Vast.ai answered{status}" + (f": {text}" if text else "")


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body, parse_int=_whole)
    except (ValueError, RecursionError):
        return None


def _whole(digits: str) -> int | float:
    """A number without a point. One beyond all meaning is infinite: no field takes it, and no other is hidden by it."""
    return int(digits) if len(digits) < _MOST_DIGITS else float(digits)


def _seconds(found: Any) -> float | None:
    try:
        value = float(found)
    except (TypeError, ValueError):
        return None
    return max(0.0, value) if math.isfinite(value) else None
