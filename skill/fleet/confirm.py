"""Stop or destroy one of our instances until a query by its ID confirms it. The request is repeated until it is
confirmed; repeating does no harm."""

from __future__ import annotations

import time
from typing import NamedTuple

from skill.providers.instances import STOPPED, Instance
from skill.providers.outcomes import GONE, Done, Gone, Refused, Unknown
from skill.providers.ownership import Claim, NotOurs, Ours, decide
from skill.providers.provider import Provider

_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between a request and the query for its effect."""


class Ended(NamedTuple):
    """It no longer exists. `by_us`: it was destroyed at our request; else it had disappeared before."""

    by_us: bool


def destroy(client: Provider, ours: Ours) -> Ended | str:
    """Destroy an instance. Returns Ended once it is confirmed that it no longer exists; else why it is not."""
    why = ""
    for number, pause in enumerate(_PAUSES):
        change = client.destroy(ours)
        shown = client.instance(ours.number)
        if not isinstance(shown, Gone):
            time.sleep(pause)  # it may be listed for a moment longer
            shown = client.instance(ours.number)
        if isinstance(shown, Gone):
            return Ended(by_us=number > 0 or not isinstance(change, Refused))
        again = _still_ours(ours, shown)
        if isinstance(again, NotOurs):
            return again.why
        why = _why(client.name, change, shown, "destroy")
        if isinstance(change, Refused) and change.kind != GONE:
            break
    return why


def destroy_claimed(client: Provider, claim: Claim) -> Ended | str:
    """Destroy an instance if it is ours. Returns Ended once it is confirmed that it no longer exists; else why it is
    not."""
    live = client.instance(claim.number)
    if isinstance(live, Gone):
        return Ended(by_us=False)
    if isinstance(live, Unknown):
        return live.reason
    verdict = decide(claim, live)
    return verdict.why if isinstance(verdict, NotOurs) else destroy(client, verdict)


def stop(client: Provider, ours: Ours) -> str | None:
    """Stop an instance, or cancel a start that waits for a GPU. Returns None once it is confirmed; else why it is
    not."""
    why = ""
    for pause in _PAUSES:
        change = client.stop(ours)
        shown = client.instance(ours.number)
        if not _is_stopped(shown):
            time.sleep(pause)
            shown = client.instance(ours.number)
        if _is_stopped(shown):
            return None
        if isinstance(shown, Gone):
            return "it no longer exists"
        again = _still_ours(ours, shown)
        if isinstance(again, NotOurs):
            return again.why
        why = _why(client.name, change, shown, "stop")
        if isinstance(change, Refused):
            break
    return why


def _still_ours(ours: Ours, shown: Instance | Unknown) -> Ours | NotOurs:
    return ours if isinstance(shown, Unknown) else decide(ours.claim, shown)


def _is_stopped(shown: Instance | Gone | Unknown) -> bool:
    return isinstance(shown, Instance) and shown.status == STOPPED


def _why(provider: str, change: Done | Refused | Unknown, shown: Instance | Gone | Unknown, word: str) -> str:
    if isinstance(change, Refused):
        return change.why
    if isinstance(change, Unknown):
        return change.reason
    if isinstance(shown, Unknown):
        return f"{provider} accepted the request to {word} it, but its state is unknown: {shown.reason}"
    return f"{provider} accepted the request to {word} it, but its state has not changed"
