"""The services that alerts are sent to: how each wants its messages, and what its answers mean. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from queue_manager.core.notify_messages import FINISHED, Sending, Source, payload, text
from queue_manager.core.terminal_text import one_line

_MOST = {"discord": 2000, "ntfy": 3900}
"""Characters, of ntfy bytes, that one message may have."""
_HOST = re.compile(r"https?://(?:[^/?#@]*@)?([^/:?#]+)", re.IGNORECASE)
_SERVICES = (
    ("slack", re.compile(r"hooks\.slack(?:-gov)?\.com")),
    ("discord", re.compile(r"(?:\w+\.)?discord(?:app)?\.com")),
    ("ntfy", re.compile(r"ntfy\..+")),
    ("feishu", re.compile(r"open\.(?:feishu\.cn|larksuite\.com)")),
)


def shape_of(url: str) -> str:
    """How the service at a URL wants its messages: one of notify_rules.SHAPES."""
    host = _HOST.match(url)
    name = "" if host is None else host[1].lower()
    return next((shape for shape, pattern in _SERVICES if pattern.fullmatch(name)), "json")


def body(shape: str, sending: Sequence[Sending], source: Source, now: float) -> tuple[bytes, dict[str, str]]:
    """What is posted to a service, and its headers."""
    words = text(sending, source, now)
    if shape == "ntfy":
        urgent = any(one.alert.kind != FINISHED for one in sending)
        cut = words.encode(errors="replace")[: _MOST["ntfy"]].decode(errors="ignore")
        headers = {"Title": f"wavequeue {source.project}", "Priority": "high" if urgent else "default"}
        return cut.encode(), {**headers, "Content-Type": "text/plain; charset=utf-8"}
    if shape == "slack":
        document: dict[str, Any] = {"text": words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")}
    elif shape == "discord":
        document = {"content": words[: _MOST["discord"]], "allowed_mentions": {"parse": []}}
    elif shape == "feishu":
        document = {"msg_type": "text", "content": {"text": words}}
    else:
        document = payload(sending, source, now)
    return json.dumps(document).encode(), {"Content-Type": "application/json; charset=utf-8"}


class Answer(NamedTuple):
    """What came of a try. `why` is None where the message has arrived. `later`: it may be tried again, at the earliest
    after `wait` seconds; `lasting`: nothing of the kind will ever arrive there, until the URL is another one."""

    why: str | None = None
    later: bool = False
    lasting: bool = False
    wait: float = 0.0


_AGAIN = (408, 425, 429)
_REFUSED = (401, 403, 404, 405, 410)
_WAIT_MOST = 600.0
_FEISHU_BUSY = (9499, 11232)
"""Codes of Feishu by which a bot was asked too often."""


def judge(shape: str, status: int, body: str, retry_after: str | None) -> Answer:
    """What the answer of a service means. `body`: its beginning."""
    if 200 <= status < 300:
        return _feishu(body) if shape == "feishu" else Answer()
    why = f"it answers {status}" + (f" ({one_line(body, 80)})" if body.strip() and "<" not in body else "")
    if status in _AGAIN or status >= 500:
        wait = float(retry_after) if retry_after and re.fullmatch(r"\d{1,6}(?:\.\d+)?", retry_after) else 0.0
        return Answer(why, later=True, wait=min(wait, _WAIT_MOST))
    return Answer(why, lasting=status in _REFUSED or status < 400)


def _feishu(body: str) -> Answer:
    """Feishu says in the body of a 200 that it took nothing."""
    try:
        document = json.loads(body)
        code = document.get("code", document.get("StatusCode", 0))
    except (ValueError, AttributeError):
        return Answer()
    if not code:
        return Answer()
    why = f"it answers code {one_line(str(code), 12)} ({one_line(str(document.get('msg', '')), 80)})"
    return Answer(why, later=code in _FEISHU_BUSY, lasting=code not in _FEISHU_BUSY)
