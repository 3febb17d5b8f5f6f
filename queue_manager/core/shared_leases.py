"""What a run tells all users of its host: which cards it has given away, and by whom that can be seen. Pure.

Names of the run and its jobs, and what they do, are left out. What other users wrote is read with distrust: it is a
whole document within bounds, or nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from queue_manager.core.events import Proc
from queue_manager.core.state_types import Attempt

MOST_BYTES = 65536
_MOST_MIB = 2**31
_MOST_PID = 2**32
_MOST_TICKS = 2**63
_CARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./:-]{0,127}")
_VIEW_MAX = 200


class Row(NamedTuple):
    """What one attempt has. `mib` None: the cards to itself. `wrapper`: its process, None while nobody knows it."""

    cards: tuple[str, ...]
    mib: int | None
    wrapper: Proc | None


class PublishedLeases(NamedTuple):
    """`view`: where the pids are meant, see `host_leases.view_of_processes`. `manager`: its pid there."""

    view: str
    manager: int
    rows: tuple[Row, ...]


def encode(view: str, manager: int, attempts: Iterable[Attempt]) -> bytes:
    """The document of a run whose attempts have these cards."""
    rows = [{"cards": one.cards, "mib": one.mib, "wrapper": one.wrapper} for one in attempts]
    return json.dumps({"view": view, "manager": manager, "leases": rows}).encode()


def decode(data: bytes) -> PublishedLeases:
    """Read a document. Raises ValueError for everything that is none."""
    try:
        document = json.loads(data)
        view, manager = document["view"], document["manager"]
        if not isinstance(view, str) or len(view) > _VIEW_MAX:
            raise ValueError("view")
        rows = tuple([_row(row) for row in document["leases"]])
        return PublishedLeases(view, _whole(manager, _MOST_PID), rows)
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None


def _row(row: Any) -> Row:
    cards = row["cards"]
    if not isinstance(cards, list) or not all(isinstance(card, str) and _CARD.fullmatch(card) for card in cards):
        raise ValueError("cards")
    mib, wrapper = row["mib"], row["wrapper"]
    if wrapper is not None:
        pid, ticks = wrapper
        wrapper = Proc(_whole(pid, _MOST_PID), _whole(ticks, _MOST_TICKS))
    return Row(tuple(cards), None if mib is None else _whole(mib, _MOST_MIB), wrapper)


def _whole(number: Any, below: int) -> int:
    if type(number) is not int or not 0 <= number < below:
        raise ValueError("number")
    return number
