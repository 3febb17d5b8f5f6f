"""Recognise why an agent could not answer: its usage limit or something else, and when a limit ends. Pure.

Only what a failed call printed is read: an idea may well speak of rate limits.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from queue_manager.core.terminal_text import one_line

Kind = Literal["usage_limit", "failed"]

UTC = timezone.utc
_LIMIT = re.compile(
    r"usage limit|rate[ _]limit|hit your (\w+ )?limit|limit (has been )?reached|usage_limit_reached|quota exceeded"
    r"|insufficient_quota|out of credits|credit balance is too low|\b429\b|too many requests",
    re.IGNORECASE,
)
_LOGIN = re.compile(
    r"invalid api key|not logged in|please run /login|codex login|\b401\b|unauthorized"
    r"|authentication[_ ](error|failed)",
    re.IGNORECASE,
)
_OUTAGE = re.compile(
    r"overloaded|internal server error|api error: 5\d\d|\b50[0234]\b|\b529\b|service unavailable|bad gateway"
    r"|econnrefused|econnreset|enotfound|eai_again|etimedout|getaddrinfo|name or service not known"
    r"|connection (error|refused|reset|timed out|closed)|network is unreachable|fetch failed|stream disconnected",
    re.IGNORECASE,
)
_EPOCH = re.compile(r"(?:limit reached\||resets_at\"?\s*[:=]\s*\"?)(\d{10,13})")
_SECONDS = re.compile(r"(?:resets_in_seconds\"?|retry[-_ ]after\"?)\s*[:=]?\s*\"?(\d{1,7})", re.IGNORECASE)
_SPAN = re.compile(r"(?:again|resets?|retry) in ((?:[\d.]+ ?[a-z]+[, ]*(?:and )?)+)", re.IGNORECASE)
_PART = re.compile(r"([\d.]+) ?(d|h|ms|m|s)[a-z]*", re.IGNORECASE)
_UNIT = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_CLOCK = re.compile(
    r"(?:again at|resets?(?: at)?)\s+"
    r"(?:(?P<month>[A-Za-z]{3})[a-z]* (?P<day>\d{1,2})(?:st|nd|rd|th)?,?(?: (?P<year>\d{4}))?,? (?:at )?)?"
    r"(?P<hour>\d{1,2})(?::(?P<minute>\d\d))? ?(?P<half>am|pm)(?: \((?P<zone>[\w/+-]+)\))?",
    re.IGNORECASE,
)


class Reason(NamedTuple):
    """Why an agent did not answer, in a line of its output, and when it may answer again, where the output says so."""

    kind: Kind
    message: str
    until: float | None = None


def read(text: str, now: float, local: tzinfo = UTC) -> Reason:
    """What a failed call says. `local`: the time zone of clock times that name none."""
    message = _telling_line(text)
    if _LIMIT.search(text):
        return Reason("usage_limit", message, _resume(text, now, local))
    if _LOGIN.search(text):
        return Reason("failed", f"{message} (log the agent in, or allow its key in agent.env)")
    return Reason("failed", message, _resume(text, now, local) if _OUTAGE.search(text) else None)


def is_trouble(text: str) -> bool:
    """Whether a text without any reply tells of a limit, an outage or a missing login. Longer ones are prose."""
    return len(text) < 2000 and any(pattern.search(text) for pattern in (_LIMIT, _LOGIN, _OUTAGE))


def _telling_line(text: str) -> str:
    """The first line that names the trouble, else the last one."""
    lines = [line for line in text.splitlines() if line.strip()]
    for pattern in (_LIMIT, _LOGIN, _OUTAGE):
        for line in lines:
            if pattern.search(line):
                return one_line(line.strip(), 300)
    return one_line(lines[-1].strip(), 300) if lines else ""


def _resume(text: str, now: float, local: tzinfo) -> float | None:
    """When the limit ends, in seconds since 1970; None where the text does not say, or says a time that is past."""
    found: float | None = None
    if epoch := _EPOCH.search(text):
        found = float(epoch[1]) / (1000 if len(epoch[1]) > 11 else 1)
    elif seconds := _SECONDS.search(text):
        found = now + float(seconds[1])
    elif (span := _SPAN.search(text)) and (parts := _PART.findall(span[1])):
        try:
            found = now + sum(float(number) * _UNIT[unit.lower()] for number, unit in parts)
        except ValueError:
            return None
    elif clock := _CLOCK.search(text):
        found = _next_clock(clock, now, local)
    return found if found is not None and now < found < now + 32 * 86400 else None


def _next_clock(clock: re.Match[str], now: float, local: tzinfo) -> float | None:
    """The next moment at which a clock shows the time that the text names."""
    try:
        zone = ZoneInfo(clock["zone"]) if clock["zone"] else local
    except (KeyError, ValueError, OSError):  # a zone that this machine does not know
        zone = local
    present = datetime.fromtimestamp(now, zone)
    if not 1 <= int(clock["hour"]) <= 12:
        return None
    hour = int(clock["hour"]) % 12 + (12 if clock["half"].lower() == "pm" else 0)
    try:
        moment = present.replace(hour=hour, minute=int(clock["minute"] or 0), second=0, microsecond=0)
        if clock["month"]:
            month = _MONTHS.index(clock["month"].lower()) + 1
            moment = moment.replace(year=int(clock["year"] or present.year), month=month, day=int(clock["day"]))
    except ValueError:
        return None
    if moment <= present and not clock["month"]:
        moment += timedelta(days=1)
    return moment.timestamp()
