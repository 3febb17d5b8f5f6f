"""Agents that share a server by AGENT_STATUS.json: who they are, how much memory of a GPU each was promised, and
whether it still lives. Pure.

An agent is whoever works on the server besides the runs of wavequeue: a person, a notebook, another program. A promise
counts while its agent sends heartbeats; one that stopped is kept as stale, for people to see.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from queue_manager.core.boundary import ForeignLease
from queue_manager.core.layout import id_fault
from queue_manager.core.readings import Card
from queue_manager.core.terminal_text import one_line
from queue_manager.core.times import epoch, iso

RUNNING, DONE, STALE = "running", "done", "stale"
STATUSES = (RUNNING, DONE, STALE)
EXPIRES = 900.0
"""Seconds without a heartbeat after which an agent is stale, where it does not say."""
KEPT = 100
"""So many agents that are done or stale are kept."""
MOST_BYTES = 1 << 20
_MIB_A_GB = 1e9 / 2**20
_LONGEST = 200


class Agent(NamedTuple):
    """One agent. `gpu_gb`: promised to it on a GPU, in 10^9 bytes, 0: none; `card` and `gpu`: uuid and index of that;
    `base_mib`: what was used there when it registered. Times in epoch seconds; `expires_s` without a heartbeat."""

    id: str
    experiment: str
    gpu_gb: float = 0.0
    status: str = RUNNING
    started: float = 0.0
    heartbeat: float = 0.0
    expires_s: float = EXPIRES
    card: str | None = None
    gpu: int | None = None
    base_mib: int = 0

    @property
    def mib(self) -> int:
        """What it was promised."""
        return math.ceil(self.gpu_gb * _MIB_A_GB)


class AgentsError(ValueError):
    """The file cannot be used; its text says what is wrong with it."""


def decode(data: bytes) -> list[Agent]:
    """Read the file. Raises AgentsError."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise AgentsError(f"is not JSON: {str(error)[:100]}") from None
    if not isinstance(document, list):
        raise AgentsError("has to be an array of agents")
    return [_agent(row) for row in document]


def encode(agents: Iterable[Agent]) -> str:
    """Write the file: an agent a block, times in ISO 8601."""
    rows = [{**one._asdict(), "started": iso(one.started), "heartbeat": iso(one.heartbeat)} for one in agents]
    return json.dumps(rows, ensure_ascii=False, indent=1) + "\n"


def _agent(row: Any) -> Agent:
    if not isinstance(row, Mapping) or not isinstance(row.get("id"), str) or id_fault(row["id"]):
        raise AgentsError(f"an agent has to be an object with an id, and not {one_line(str(row), 60)}")
    try:
        times = {name: epoch(row[name]) for name in ("started", "heartbeat")}
        numbers = {name: _number(row.get(name, default)) for name, default in (("gpu_gb", 0), ("expires_s", EXPIRES))}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise AgentsError(f"agent {row['id']}: its {error} cannot be read") from None
    status, card, gpu, base = (row.get(name) for name in ("status", "card", "gpu", "base_mib"))
    if status not in STATUSES or not isinstance(card, (str, type(None))) or (numbers["gpu_gb"] and card is None):
        raise AgentsError(f"agent {row['id']}: register it with: wavequeue hosts agents NAME --register ID")
    index = gpu if type(gpu) is int else None
    used = base if type(base) is int and base >= 0 else 0
    words = one_line(str(row.get("experiment", "")), _LONGEST)
    return Agent(row["id"], words, status=status, card=card, gpu=index, base_mib=used, **times, **numbers)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e7:
        raise ValueError(f"number {one_line(str(value), 40)}")
    return float(value)


def is_live(agent: Agent, now: float) -> bool:
    """Whether its promise counts. A heartbeat that is yet to come, by a clock that was wrong, counts as one of now."""
    return agent.status == RUNNING and now - agent.heartbeat < agent.expires_s


def expired(agents: Iterable[Agent], now: float) -> list[Agent]:
    """The agents, those that stopped marked as stale; the oldest of those that have ended are forgotten."""
    found = [one._replace(status=STALE) if one.status == RUNNING and not is_live(one, now) else one for one in agents]
    ended = sorted((one for one in found if one.status != RUNNING), key=lambda one: -one.heartbeat)[:KEPT]
    return [one for one in found if one.status == RUNNING or one in ended]


def leases(agents: Iterable[Agent], now: float, but: str = "") -> list[ForeignLease]:
    """What live agents were promised, as placement sees it. `but`: the id of a run, whose own entry does not count."""
    return [
        ForeignLease(one.card, one.mib, one.id, is_agent=True)
        for one in agents
        if one.card is not None and one.mib and one.id != but and is_live(one, now)
    ]


def registered(
    agents: Sequence[Agent], new: Agent, cards: Sequence[Card], others: Iterable[ForeignLease], now: float
) -> list[Agent]:
    """The agents with a new one, or with one of its id renewed. `others`: what runs have on the cards. One without GPU
    memory may always come; else it gets the GPU that it names, or the one with the most room. Raises AgentsError where
    no room is left."""
    before = next((one for one in agents if one.id == new.id and is_live(one, now)), None)
    rest = [one for one in expired(agents, now) if one.id != new.id]
    made = new._replace(started=now if before is None else before.started, heartbeat=now, status=RUNNING)
    if made.mib:
        made = _placed(made, before, rest, cards, list(others), now)
    return sorted([*rest, made], key=lambda one: one.id)


def _placed(
    new: Agent,
    before: Agent | None,
    rest: Sequence[Agent],
    cards: Sequence[Card],
    others: Sequence[ForeignLease],
    now: float,
) -> Agent:
    live = [one for one in rest if is_live(one, now)]
    found = [card for card in cards if new.gpu in (None, card.index)]
    if not found:
        there = ", ".join(str(card.index) for card in cards)
        raise AgentsError(
            "there is no GPU" if new.gpu is None else f"there is no GPU {new.gpu}; there are: {there or 'none'}"
        )
    mine = before if before is not None and before.mib else None
    rooms = {card.uuid: room(card, live, others, mine if mine and mine.card == card.uuid else None) for card in found}
    # It stays where its memory is, if that will do.
    best = max(found, key=lambda card: (mine is not None and mine.card == card.uuid, rooms[card.uuid]))
    if rooms[best.uuid] < new.mib:
        best = max(found, key=lambda card: rooms[card.uuid])
    left = max(0, rooms[best.uuid])
    if left < new.mib:
        where = f"GPU {best.index}" if len(found) == 1 else f"GPU {best.index}, which has the most room,"
        raise AgentsError(f"{new.gpu_gb:g} GB are not free: {where} has {left / _MIB_A_GB:.1f} GB left")
    base = mine.base_mib if mine is not None and mine.card == best.uuid else best.used_mib
    return new._replace(card=best.uuid, gpu=best.index, base_mib=base)


def room(card: Card, live: Sequence[Agent], others: Iterable[ForeignLease], me: Agent | None) -> int:
    """MiB of a card that may still be promised. `me`: an entry on it that is renewed, whose own memory is its own."""
    mine = [one for one in live if one.card == card.uuid]
    held = [lease for lease in others if lease.card == card.uuid]
    if any(lease.mib is None for lease in held):
        return 0
    promised = sum(one.mib for one in mine) + sum(lease.mib or 0 for lease in held)
    base = min([card.used_mib, *(one.base_mib for one in mine), *([] if me is None else [me.base_mib])])
    used = card.used_mib - (0 if me is None else min(me.mib, card.used_mib - base))
    return card.total_mib - max(used, base + promised)
