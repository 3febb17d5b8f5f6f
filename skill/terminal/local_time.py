"""Times of day for people at a terminal: local ones beside UTC, which is what files and logs have."""

from __future__ import annotations

from datetime import datetime, timedelta

from skill.runs import digest


def beside_utc(text: str | None) -> str:
    """Format an ISO time as `14:00:03 (12:00:03Z)`; where the local time is UTC, as UTC alone; empty for none."""
    utc = digest.clock(text)
    if text is None:
        return utc
    local = datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone()
    return f"{local:%H:%M:%S} ({utc})" if local.utcoffset() != timedelta() else utc
