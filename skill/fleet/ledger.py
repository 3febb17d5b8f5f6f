"""What was rented, what became of it and what it cost: lines of a ledger, folded into rentals. Pure.

A line is written before its request (`intended`), or once the fact is known (all others).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from queue_manager.core.times import epoch, iso
from skill.common import typed_json
from skill.common.errors import UseError
from skill.common.text_table import columns
from skill.common.units import usd

if TYPE_CHECKING:
    from rich.text import Text

INTENDED, CREATED, READY = "intended", "created", "ready"
STOPPED, STARTED, BROKEN = "stopped", "started", "broken"
REFUSED, DESTROYED, GONE = "refused", "destroyed", "gone"
_LONGEST = 1 << 20
"""Characters of a line."""
EVENTS = (INTENDED, CREATED, READY, STOPPED, STARTED, BROKEN, REFUSED, DESTROYED, GONE)
"""What a line can tell: a create is about to be asked for; the instance was made; it was entered, and is a worker;
it was stopped, and started again; it failed to start, and is to be destroyed; nothing was made; it was destroyed; it
was found to exist no longer."""
UP = "up "
"""Prefix of the purpose of what `up` rents: it serves one run."""
_ENDS = frozenset({REFUSED, DESTROYED, GONE})


class Offered(NamedTuple):
    """What was taken. Prices in $ per hour, of the whole with its disk and of the disk alone."""

    offer_id: int
    machine_id: int
    cards: str
    dph: float
    storage_dph: float
    disk_gb: float


class Rental(NamedTuple):
    """One offer that was taken, by its `label`, which no other has. Times in epoch seconds.

    `purpose`: who wanted it. `chain`: the label of the first try of the same wish. `notes`: what the purpose needs to
    know again. `why`: of what is broken, refused or gone. `rates`: since when it has cost how much ($ per hour).
    """

    label: str
    purpose: str
    chain: str
    worker: str
    offered: Offered
    notes: Mapping[str, Any]
    intended: float
    instance_id: int | None = None
    ready: bool = False
    stopped: bool = False
    broken: bool = False
    why: str = ""
    rates: tuple[tuple[float, float], ...] = ()
    ended: float | None = None
    end: str = ""

    @property
    def unfinished(self) -> bool:
        """Whether it was begun, and is neither in use nor ended."""
        return self.ended is None and (self.broken or not self.ready)

    @property
    def state(self) -> str:
        """Its last known state, in one word."""
        if self.end:
            return self.end
        if self.broken:
            return BROKEN
        if self.ready:
            return STOPPED if self.stopped else READY
        return INTENDED if self.instance_id is None else CREATED


def cost(rental: Rental, now: float) -> float:
    """Return its cost in $ until now, or to its end: its price from its creation on, without traffic.

    This is an upper limit: while an image is loaded only the disk is billed.
    """
    ends = [*(at for at, _ in rental.rates[1:]), rental.ended if rental.ended is not None else now]
    spans = zip(rental.rates, ends, strict=False)
    return sum(max(0.0, end - begin) / 3600 * rate for (begin, rate), end in spans)


def spent(rentals: Iterable[Rental], now: float) -> float:
    """Return the cost of all of these in $."""
    return sum(cost(one, now) for one in rentals)


# -- lines ------------------------------------------------------------------------------------------------------------


def line(event: str, label: str, at: float, **fields: Any) -> str:
    """Return one line of the ledger, with its end."""
    return json.dumps({"at": iso(at), "event": event, "label": label, **fields}, ensure_ascii=False) + "\n"


def intent(purpose: str, chain: str, worker: str, offered: Offered, notes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an `intended` line."""
    return {"purpose": purpose, "chain": chain, "worker": worker, **offered._asdict(), "notes": dict(notes)}


def fold(text: str, file: str) -> dict[str, Rental]:
    """Return the rentals of a ledger, by label, the oldest first. An incomplete last line was being written when its
    writer was killed, and is ignored. Raises UseError with the place of an invalid line."""
    found: dict[str, Rental] = {}
    whole = text[: text.rfind("\n") + 1]
    for number, row in enumerate(whole.split("\n"), 1):
        if not row.strip():
            continue
        try:
            fields = typed_json.decode(row, _LONGEST)
            words = typed_json.fits(fields, _Fields)
            if words is not None:
                raise ValueError(words)
            _apply(found, fields)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise UseError(
                f"{file}:{number}: is not a line of a ledger ({type(error).__name__}: {error}); fix or remove it"
            ) from None
    return found


class _Named(TypedDict):
    at: str
    event: str
    label: str


class _Fields(_Named, total=False):
    purpose: str
    chain: str
    worker: str
    notes: dict[str, Any] | None
    offer_id: int
    machine_id: int
    cards: str
    dph: float
    storage_dph: float
    disk_gb: float
    instance_id: int
    why: str | None


def _apply(found: dict[str, Rental], row: Mapping[str, Any]) -> None:
    event, label, at = row["event"], row["label"], epoch(row["at"])
    if event not in EVENTS:
        raise ValueError(f"unknown event {event}")
    if event == INTENDED:
        offered = Offered(*(row[name] for name in Offered._fields))
        found[label] = Rental(label, row["purpose"], row["chain"], row["worker"], offered, row.get("notes") or {}, at)
        return
    one = found[label]
    change: dict[str, Any] = {}
    if event == CREATED:
        change = {"instance_id": _number(row["instance_id"]), "rates": ((at, float(one.offered.dph)),)}
    elif event == READY:
        change = {"ready": True}
    elif event == STOPPED:
        change = {"stopped": True, "rates": (*one.rates, (at, float(one.offered.storage_dph)))}
    elif event == STARTED:
        change = {"stopped": False, "rates": (*one.rates, (at, float(one.offered.dph)))}
    elif event == BROKEN:
        change = {"broken": True, "why": str(row["why"])}
    elif event in _ENDS and one.ended is None:
        change = {"ended": at, "end": event, "why": str(row.get("why") or one.why)}
    found[label] = one._replace(**change)


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ValueError(f"{value!r} is not an instance number")
    return value


# -- what people and programs read ------------------------------------------------------------------------------------


def document(rentals: Sequence[Rental], now: float) -> dict[str, Any]:
    """Return what `vast ledger --json` prints."""
    return {
        "rentals": [
            {
                "label": one.label,
                "purpose": one.purpose,
                "worker": one.worker,
                "instance_id": one.instance_id,
                **one.offered._asdict(),
                "state": one.state,
                "why": one.why or None,
                "begun": iso(one.intended),
                "ended": iso(one.ended),
                "cost_usd": round(cost(one, now), 6),
            }
            for one in rentals
        ],
        "cost_usd": round(spent(rentals, now), 6),
    }


def table(rentals: Sequence[Rental], now: float, width: int) -> list[Text]:
    """Return the rentals for people, the oldest first."""
    rows: list[Sequence[str]] = [["begun", "instance", "worker", "GPU", "$/h", "state", "cost", "for"]]
    for one in rentals:
        state = f"{one.state}: {one.why}" if one.why else one.state
        begun = (iso(one.intended) or "")[:16].replace("T", " ")
        number = "-" if one.instance_id is None else str(one.instance_id)
        price = f"{one.offered.dph:.3f}"
        rows.append([begun, number, one.worker, one.offered.cards, price, state, usd(cost(one, now)), one.purpose])
    return columns(rows, width, right=(4, 6), head=True)
