"""Stopping and destroying an instance until a query by its id confirms it. What was decided is asked for again as long
as it is not so; neither does harm twice."""

from __future__ import annotations

import time

from skill.providers.vast import client as vast
from skill.providers.vast.answers import GONE, Done, Gone, Refused, Unknown
from skill.providers.vast.rows import STOPPED, Instance

_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between a request and the look whether it is so."""


def destroy(client: vast.Client, number: int) -> str | None:
    """Destroy an instance. None once it is confirmed to be there no more; else why it is not."""
    why = ""
    for pause in _PAUSES:
        deed = client.destroy(number)
        shown = client.instance(number)
        if not isinstance(shown, Gone):
            time.sleep(pause)  # it may be listed for a moment longer
            shown = client.instance(number)
        if isinstance(shown, Gone):
            return None
        why = _why(deed, shown, "destroy")
        if isinstance(deed, Refused) and deed.kind != GONE:
            break
    return why


def stop(client: vast.Client, number: int) -> str | None:
    """Stop an instance, or take back a start that waits for a card. None once it is confirmed; else why it is not."""
    why = ""
    for pause in _PAUSES:
        deed = client.set_state(number, STOPPED)
        shown = client.instance(number)
        if not _is_stopped(shown):
            time.sleep(pause)
            shown = client.instance(number)
        if _is_stopped(shown):
            return None
        if isinstance(shown, Gone):
            return "it is there no more"
        why = _why(deed, shown, "stop")
        if isinstance(deed, Refused):
            break
    return why


def _is_stopped(shown: Instance | Gone | Unknown) -> bool:
    return isinstance(shown, Instance) and shown.status == STOPPED


def _why(deed: Done | Refused | Unknown, shown: Instance | Gone | Unknown, word: str) -> str:
    if isinstance(deed, Refused):
        return deed.why
    if isinstance(deed, Unknown):
        return deed.reason
    if isinstance(shown, Unknown):
        return f"Vast.ai took the request to {word} it, and whether it is so is unknown: {shown.reason}"
    return f"Vast.ai took the request to {word} it, and shows it as before"
