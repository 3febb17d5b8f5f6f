"""Format and parse points in time and durations. Pure, and light to import."""

from __future__ import annotations

from datetime import datetime, timezone


def iso(at: float | None) -> str | None:
    """Format epoch seconds as ISO 8601 in UTC with milliseconds and a Z."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def epoch(text: str) -> float:
    """Parse what `iso` wrote into epoch seconds."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def duration(seconds: float) -> str:
    """Format seconds for people: 12.3 s, 4 min 05 s, 3 h 07 min."""
    seconds = max(0.0, seconds)
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds + 0.5), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
