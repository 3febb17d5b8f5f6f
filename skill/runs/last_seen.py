"""How a run stands as far as this machine knows by itself: no host is asked."""

from __future__ import annotations

import time
from typing import NamedTuple

from skill.runs import assignment, directory, local_manager, state_cache
from skill.runs.assignment import Assigned
from skill.runs.directory import Document, Run
from skill.runs.merge import Look, merge

NOT_ASKED = "it was not asked"


class LastSeen(NamedTuple):
    """The state of a run. `alive`: whether a manager was running; `assigned`: its hosts, None for this machine.
    `age_s`: seconds since the state was read of the host whose state is the oldest, None where one never was."""

    document: Document
    alive: bool
    assigned: Assigned | None
    age_s: float | None


def last_seen(run: Run) -> LastSeen:
    """Return the state of a run: of this machine as it is now, of hosts as last read. Raises UseError and FailedError
    where it cannot be read."""
    assigned = assignment.read(run)
    if assigned is None:
        document, alive = local_manager.look(run)
        return LastSeen(document, alive, None, 0.0)
    now = time.time()
    looks = []
    for part in assigned.parts:
        kept = state_cache.recall(assignment.host_folder(run, part.host))
        look = Look(part.host, None, reason=NOT_ASKED)
        looks.append(look if kept is None else look._replace(document=kept.document, at=kept.at))
    document = merge(assigned, directory.read_manifest(run), looks, now)
    times = [None if look.at is None else max(0.0, now - look.at) for look in looks]
    known = [one for one in times if one is not None]
    age_s = max(known) if known and len(known) == len(times) else None
    return LastSeen(document, document["meta"]["manager"] == "running", assigned, age_s)
