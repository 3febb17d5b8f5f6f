"""engine/checkpoint.json: the nodes that wait or are measured, for a person to change while nothing works on the
campaign. A node that gets a higher priority is boosted, one that is taken out is killed. Pure."""

from __future__ import annotations

from typing import Any

from skill.auto.campaign import Campaign
from skill.auto.events import Steered

PRIORITY, BOOSTED = 0, 10
_FORMAT = "wavequeue-campaign-checkpoint"


def document(campaign: Campaign) -> dict[str, Any]:
    """The checkpoint of a campaign. `seq`: the line of the journal that it shows."""
    return {
        "format": _FORMAT,
        "seq": campaign.seq,
        "queue": [
            {
                "id": node.id,
                "priority": BOOSTED if node.boosted else PRIORITY,
                "status": node.status,
                "title": node.title,
            }
            for node in campaign.undecided
            if node.kind != "baseline"
        ],
    }


def shows(edited: Any) -> int | None:
    """The line of the journal that a checkpoint shows; None where it is not a checkpoint of wavequeue."""
    if not isinstance(edited, dict) or edited.get("format") != _FORMAT or not isinstance(edited.get("queue"), list):
        return None
    seq = edited.get("seq")
    return seq if isinstance(seq, int) and not isinstance(seq, bool) else None


def edits(then: Campaign, edited: Any) -> list[Steered]:
    """What a person changed in a checkpoint. `then`: the campaign at the line of the journal that it shows."""
    rows = {row["id"]: row for row in edited["queue"] if isinstance(row, dict) and isinstance(row.get("id"), str)}
    found: list[Steered] = []
    for row in document(then)["queue"]:
        name = row["id"]
        if name not in rows:
            found.append(Steered(f"checkpoint-{then.seq}-kill-{name}", "kill", name))
        elif _is_higher(rows[name].get("priority"), row["priority"]):
            found.append(Steered(f"checkpoint-{then.seq}-boost-{name}", "boost", name))
    return found


def _is_higher(given: Any, ours: int) -> bool:
    return isinstance(given, (int, float)) and not isinstance(given, bool) and given > ours
