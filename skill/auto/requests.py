"""What a person asks of a running campaign, as files in inbox/: each has an id, and counts once."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from skill.auto.campaign import Campaign
from skill.auto.events import Event, LimitsChanged, Steered, StopRequested
from skill.auto.layout import WorkDir
from skill.common import files, typed_json

_SUFFIX = ".json"
_MOST = 1 << 20
_ASIDE = ".refused"


@dataclass(frozen=True)
class Asked:
    """A request; `changes`: new limits, see config.Limits."""

    id: str
    verb: Literal["note", "pin", "kill", "boost", "stop", "extend"]
    node: str | None = None
    text: str = ""
    changes: Mapping[str, float | None] = field(default_factory=dict)


def new_id(at: float) -> str:
    """An id that sorts by its time. `at`: epoch seconds."""
    return f"{int(at * 1000):014d}-{uuid.uuid4().hex[:8]}"


def send(work: WorkDir, asked: Asked) -> None:
    """Put a request where the loop finds it, now or when it is started again. Raises OSError."""
    files.make_directory(work.inbox)
    files.write_whole(work.inbox / f"{asked.id}{_SUFFIX}", typed_json.pretty(asked))


def waiting(work: WorkDir) -> list[Asked]:
    """The requests that are there, oldest first. What cannot be read is set aside. Raises OSError."""
    found = []
    paths = sorted(work.inbox.glob(f"*{_SUFFIX}")) if work.inbox.is_dir() else []
    for path in paths:
        if path.name.startswith("."):
            continue
        try:
            found.append(typed_json.into(typed_json.decode(path.read_bytes(), _MOST), Asked))
        except ValueError:
            path.replace(path.with_suffix(_ASIDE))
    return found


def done(work: WorkDir, asked: Asked) -> None:
    """Take a request away, once it is in the journal. Raises OSError."""
    (work.inbox / f"{asked.id}{_SUFFIX}").unlink(missing_ok=True)


def event(campaign: Campaign, asked: Asked) -> Event | None:
    """What the journal says of a request; None where it has been taken already, or is about an unknown node."""
    if asked.id in campaign.requests:
        return None
    if asked.verb == "stop":
        return StopRequested(asked.id)
    if asked.verb == "extend":
        return LimitsChanged(asked.id, asked.changes)
    if asked.verb != "note" and asked.node not in campaign.nodes:
        return None
    return Steered(asked.id, asked.verb, asked.node, asked.text)
