"""The outcomes of a request to a provider of rented machines: done, refused, gone, or unknown. Pure.

Unknown is not absent: whatever cannot be had or understood is `Unknown`, and no conclusion is drawn from it.
"""

from __future__ import annotations

from typing import NamedTuple

AUTH, THROTTLED, UNREACHABLE, SERVER, ANSWER = "auth", "throttled", "unreachable", "server", "answer"
"""Why nothing is known: the key was rejected; asked too often; no answer; the server failed; not understood."""
NO_OFFER, QUEUED, GONE, OTHER = "no_offer", "queued", "gone", "other"
"""Why something was refused: the offer has gone; the start waits for a card and is still queued; there is no such
instance; for another reason."""


class Unknown(NamedTuple):
    """Nothing is known, for the reason given. `kind`: auth, throttled, unreachable, server or answer."""

    reason: str
    kind: str


class Done(NamedTuple):
    """The request was carried out. `note`: the server's text."""

    note: str = ""


class Refused(NamedTuple):
    """The request was not carried out. `kind`: no_offer, queued, gone, auth, throttled, unreachable (never sent) or
    other.

    `instance_id`: an instance that was made all the same, and has to be destroyed.
    """

    why: str
    kind: str
    instance_id: int | None = None


class Created(NamedTuple):
    """An instance was created, by the answer; only its label shows that it is ours."""

    instance_id: int


class Gone(NamedTuple):
    """The instance does not exist, by an answer that says so."""
