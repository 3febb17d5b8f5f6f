"""Whether a state document that a host sent is one: nothing that it says may break what reads it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from queue_manager.core.status import Status
from queue_manager.core.terminal_text import one_line

_NONE = type(None)
_TEXT, _WORDS, _NUMBER, _COUNT = (str,), (str, _NONE), (int, float), (int,)
_STATUSES = frozenset(status.value for status in Status)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")
_TIMES = ("started", "completed", "retry_at")

_Kinds = Mapping[str, tuple[type, ...]]
META: _Kinds = {
    "project": _TEXT, "run_id": _TEXT, "started": _WORDS, "updated": _TEXT, "finished": _WORDS, "host": _WORDS,
    "pid": (int, _NONE), "manager": _TEXT, "cwd": _TEXT, "wave": _TEXT, "current_wave": (int, _NONE), "paused": (bool,),
    "conditions": (list,), "poll": (int, float), "screen_dir": _WORDS, "seq": _COUNT,
}  # fmt: skip
PHASE: _Kinds = {"name": _TEXT, "counts": (dict,), "oom_retries": _COUNT, "started": _WORDS, "completed": _WORDS}
CARD: _Kinds = {
    "index": _COUNT, "uuid": _TEXT, "name": _TEXT, "total_mib": (int, _NONE), "used_mib": (int, _NONE),
    "free_mib": (int, _NONE), "util": (int, _NONE), "jobs": (list,), "promised_mib": _COUNT, "note": _TEXT,
}  # fmt: skip
JOB: _Kinds = {
    "id": _TEXT, "phase": _TEXT, "status": _TEXT, "gpus": (list,), "attempt": _COUNT, "attempts": _COUNT,
    "oom_attempts": _COUNT, "started": _WORDS, "completed": _WORDS, "retry_at": _WORDS, "exit_code": (int, _NONE),
    "expected_output": _WORDS, "error": _WORDS, "warning": _WORDS, "waiting": _WORDS, "log": _TEXT,
    "depends_on": (list,), "cards": _COUNT, "screen_name": _WORDS,
}  # fmt: skip
CONDITION: _Kinds = {"kind": _TEXT, "text": _TEXT, "since": _TEXT}
_MONEY = (int, float, _NONE)
TEARDOWN: _Kinds = {
    "plan": _TEXT, "reason": _WORDS, "waits_for": _WORDS, "since": _WORDS, "confirmed": (bool,),
    "instance_id": (int, _NONE), "cost_usd": _MONEY, "usd_per_hour": _MONEY, "usd_per_day_stopped": _MONEY,
    "bound": _WORDS,
}  # fmt: skip
MANAGER = frozenset({"running", "finished", "halted"})


def fault(document: Mapping[str, Any]) -> str | None:
    """What is wrong with a document, in words; None if it can be used. It is an object with a `meta`, at least."""
    meta = document.get("meta")
    if not isinstance(meta, dict) or (words := _wrong(meta, META)):
        return "meta is not as it has to be" if not isinstance(meta, dict) else f"meta: {words}"
    if meta["manager"] not in MANAGER:
        return f"meta: manager is {str(meta['manager'])[:40]!r}"
    for name in ("started", "updated", "finished"):
        if not _is_time(meta[name]):
            return f"meta: {name} is no time"
    teardown = meta.get("teardown")  # older managers do not tell
    if teardown is not None and (not isinstance(teardown, dict) or _wrong(teardown, TEARDOWN)):
        return "meta: teardown is not as it has to be"
    lists: tuple[tuple[str, Any, _Kinds], ...] = (
        ("conditions", meta["conditions"], CONDITION),
        ("phases", document.get("phases"), PHASE),
        ("gpus", document.get("gpus"), CARD),
        ("jobs", document.get("jobs"), JOB),
    )
    for name, rows, kinds in lists:
        if not isinstance(rows, list):
            return f"{name} is no list"
        for row in rows:
            words = _wrong(row, kinds) if isinstance(row, dict) else "is no object"
            if words:
                return f"{name}: {words}"
    if not all(_is_time(row["since"]) for row in meta["conditions"]):
        return "conditions: since is no time"
    for row in document["phases"]:
        if not all(name in _STATUSES and type(count) is int and count >= 0 for name, count in row["counts"].items()):
            return "phases: counts are not numbers by status"
    for row in document["jobs"]:
        if row["status"] not in _STATUSES:
            return f"jobs: status {row['status'][:40]!r} is none"
        for name in _TIMES:
            if row[name] is not None and not _TIME.fullmatch(row[name]):
                return f"jobs: {name} is no time"
    times = (row[name] for row in document["phases"] for name in ("started", "completed"))
    return None if all(map(_is_time, times)) else "phases: started or completed is no time"


def clean(value: Any) -> Any:
    """The same, with what would command a terminal shown escaped: a host may write into a state whatever it likes."""
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, dict):
        return {clean(key): clean(one) for key, one in value.items()}
    return [clean(one) for one in value] if isinstance(value, list) else value


def _wrong(row: Mapping[str, Any], kinds: _Kinds) -> str | None:
    for name, types in kinds.items():
        if name not in row:
            return f"{name} is missing"
        if type(row[name]) not in types:
            return f"{name} is of another kind"
    return None


def _is_time(value: str | None) -> bool:
    return value is None or _TIME.fullmatch(value) is not None
