"""How far a rented or started instance has come, and what it costs. Pure.

It is ready when it runs, SSH login works and its instance ID matches. Unknown facts are waited for; it is given up only
because of observed ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from skill.fleet.ledger import Offered, Rental, cost
from skill.providers.instances import Instance
from skill.providers.outcomes import Gone, Unknown

PREFIX = "wq-"
"""Labels that we give begin with it."""
GRACE = 60.0
"""Seconds for which an old state may be shown after a start."""
SCHEDULING = 30.0
"""Seconds for which it may wait for a card: after that it may never get one (Vast.ai's own advice)."""
SILENT = 300.0
"""Seconds for which a machine may be away, or refuse ssh although it runs."""
_GRACES = {"exited": GRACE, "stopped": GRACE, "scheduling": SCHEDULING, "offline": SILENT, "unknown": SILENT}
_IMAGE = ("manifest unknown", "manifest for", "unauthorized", "pull access denied", "repository does not exist")
"""Words that tell of an image that no machine could get."""
_FATAL = (
    *_IMAGE, "error response from daemon", "failed to pull image", "no space left on device", "unexpected eof",
    "pull rate limit", "oci runtime create failed",
)  # fmt: skip
"""Words of a status message after which no instance has come up. Waiting helps against all else: a healthy machine may
show the same words for ten minutes while it loads an image."""


_NUMBERS = re.compile(r"[0-9][0-9.:]*")


class Wait(NamedTuple):
    """It may still start; with the reason why it has not."""

    text: str


class Ready(NamedTuple):
    """It can be used."""


class Broken(NamedTuple):
    """It will not come up, and why. `entry`: it runs, and could not be entered, which may be a fault of this side;
    `ours`: what is known to be one, and would be met at every machine."""

    why: str
    entry: bool = False
    ours: str | None = None


class Bounds(NamedTuple):
    """When to stop trying. `ready_within`: seconds that one instance has; `tries`: instances that may fail;
    `max_waste`: $ that those may cost. All together have twice `ready_within`."""

    ready_within: float = 1800.0
    tries: int = 3
    max_waste: float = 1.0


def verdict(
    live: Instance | Unknown, doubt: str | None, age: float, since: float, ready_within: float
) -> Wait | Ready | Broken:
    """How an instance stands. `doubt`: why it is not known that SSH login works and the instance ID matches; None if
    they do. `age`: seconds since it was asked for; `since`: seconds for which it has shown the same state."""
    if isinstance(live, Unknown):
        return Wait(f"its state is unknown: {live.reason}")
    status = live.status
    if status == "running" and doubt is None:
        return Ready()
    words = f"{status}: {live.status_msg}" if live.status_msg and status != "running" else status
    if status != "running" and any(text in (live.status_msg or "").lower() for text in _FATAL):
        return Broken(words)
    if status == "running":
        words = f"is running, but the login failed: {doubt}"
    patience = min(ready_within, SILENT if status == "running" else _GRACES.get(status, ready_within))
    if since >= patience and (status == "running" or status in _GRACES):
        return Broken(f"{words} (for {since:.0f} s)", entry=status == "running")
    if age >= ready_within:
        so_far = words if status == "running" else f"is {words}"
        return Broken(f"was not ready after {age:.0f} s; it {so_far}", entry=status == "running")
    return Wait(words)


def is_alike(one: str, other: str) -> bool:
    """Whether two machines failed in the same way: in the same words, whatever numbers and addresses are in them."""
    return _NUMBERS.sub("#", one) == _NUMBERS.sub("#", other)


def is_image_fault(why: str) -> bool:
    """Whether an instance failed for its image, which the next one would not get either."""
    return any(text in why.lower() for text in _IMAGE)


def exhausted(chain: list[Rental], bounds: Bounds, began: float, now: float) -> str | None:
    """Why no further offer is to be tried; None if one may be. `chain`: what this wish has taken before; times in epoch
    seconds."""
    failed = [one for one in chain if one.instance_id is not None]
    waste = sum(cost(one, now) for one in failed)
    if len(failed) >= bounds.tries:
        return f"{len(failed)} instances have failed, and `tries` allows no more"
    if failed and waste >= bounds.max_waste:
        return f"instances that failed have cost ${waste:.2f}, and `max_waste` allows no more"
    if now - began >= 2 * bounds.ready_within:
        return f"it has taken {now - began:.0f} s, and `ready_within` allows {2 * bounds.ready_within:.0f} s in all"
    return None


def resources(offered: Offered, gpus: int | None) -> Mapping[str, Any]:
    """Return what workers.yaml says of a rented machine."""
    row: dict[str, Any] = {} if gpus is None else {"gpu": gpus}
    return {**row, "dph": round(offered.dph, 4), "storage_dph": round(offered.storage_dph, 6)}


def billing(number: int, live: Instance | Gone | Unknown) -> str:
    """Describe what an instance costs now."""
    if isinstance(live, Gone):
        return f"instance {number} no longer exists and is not billed"
    if isinstance(live, Unknown):
        return f"whether instance {number} is billed is unknown ({live.reason}); see: wavequeue vast instances"
    burn = "at a price that is not known" if live.burn is None else f"${live.burn:.4f} an hour"
    what = f"instance {number} ({live.cards})"
    if live.status == "stopped":
        day = "" if live.burn is None else f", ${live.burn * 24:.2f} a day"
        return f"{what} is stopped, and its disk is still billed: {burn}{day}; only destroying it ends this"
    return f"{what} is {live.status}, and is still billed: {burn}"
