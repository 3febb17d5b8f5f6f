"""What an agent's output says: its text, its cost, its error. One reader for each kind of output. Pure.

`claude` is what `claude -p --output-format json` or `stream-json` prints, `codex` what `codex exec --json` prints,
`raw` any text. A cost that is not in the output is unknown (None), and never 0.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Contents(NamedTuple):
    """The text of an agent's last message, what the call cost in USD, and the error that the output reports."""

    text: str
    cost_usd: float | None = None
    error: str | None = None


def read(envelope: str, output: str) -> Contents:
    """Read the output of an agent. Output that does not have the form of the envelope counts as text: an agent that
    fails early prints plain words."""
    return ENVELOPES[envelope](output)


def _raw(output: str) -> Contents:
    return Contents(output)


def _claude(output: str) -> Contents:
    results = [one for one in _messages(output) if one.get("type") == "result"]
    if not results:
        return Contents(output)
    last = results[-1]
    text = last.get("result")
    text = text if isinstance(text, str) else ""
    failed = last.get("is_error") is True or str(last.get("subtype", "success")).startswith("error")
    error = (text or f"the agent stopped: {last.get('subtype')}") if failed else None
    return Contents(text, _usd(last.get("total_cost_usd")), error)


def _codex(output: str) -> Contents:
    text, error, seen = "", None, False
    for one in _messages(output):
        kind = one.get("type")
        seen = seen or isinstance(kind, str)
        if kind == "item.completed":
            item = one.get("item")
            item = item if isinstance(item, dict) else {}
            if item.get("type") == "agent_message" and isinstance(item.get("text"), str):
                text = item["text"]
        elif kind == "turn.completed":
            error = None  # an error before it was retried
        elif kind in ("turn.failed", "error"):
            inner = one.get("error")
            message = inner.get("message") if isinstance(inner, dict) else one.get("message")
            error = message if isinstance(message, str) and message else "the turn failed"
    return Contents(text, None, error) if seen else Contents(output)


def _messages(output: str) -> Iterator[dict[str, Any]]:
    """The JSON objects of an output: the whole of it, the items of a list, or one on each line."""
    try:
        whole = json.loads(output)
    except (ValueError, RecursionError):
        whole = [_object(line) for line in output.splitlines()]
    for one in whole if isinstance(whole, list) else [whole]:
        if isinstance(one, dict):
            yield one


def _object(line: str) -> Any:
    if not line.lstrip().startswith("{"):
        return None
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _usd(value: Any) -> float | None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    return float(value) if good else None


ENVELOPES: dict[str, Callable[[str], Contents]] = {"claude": _claude, "codex": _codex, "raw": _raw}
"""By the name that config.json gives."""
