"""The client of Vast.ai: a method for each thing that is asked or done, over plain HTTP.

Each returns the facts, or `Unknown`; none raises for what the world does. A create is repeated only where it is known
not to have been carried out. What changes an instance takes the proof that it is ours.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from skill.common.errors import UseError
from skill.common.http import NoReply, Reply, Request, Server, without
from skill.providers.instances import RUNNING, STOPPED, Instance, Offer, User
from skill.providers.outcomes import ANSWER, Created, Done, Gone, Refused, Unknown
from skill.providers.ownership import Ours
from skill.providers.provider import Found, Need, NewInstance
from skill.providers.vast import credentials, queries, records, responses

_PAGE = 25
_MOST_PAGES = 200
CAP = 64
"""Vast.ai answers a search with so many offers at most."""
_MOST_SEARCHES = 5
"""It allows ten searches a minute."""
T = TypeVar("T")


class Client:
    """Vast.ai, asked with one key. `sleep`: how it waits before it asks again."""

    name = "Vast.ai"

    def __init__(self, found: credentials.Key, base: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self.source = found.source
        self._key, self._sleep = found, sleep
        self._server = Server(base, {"Authorization": f"Bearer {found.secret}"})

    def close(self) -> None:
        self._server.close()

    # -- what is ----------------------------------------------------------------------------------------------------

    def instances(self) -> tuple[Instance, ...] | Unknown:
        """All instances of the account, by id. Unknown if any page or row of them is."""
        found: list[Instance] = []
        token: str | None = None
        used: set[str] = set()
        for _ in range(_MOST_PAGES):
            page = responses.document(self._ask(list_request(token)))
            if isinstance(page, Unknown):
                return self._clean(page)
            listed = page.get("instances")
            read = [records.instance(row) if isinstance(row, dict) else None for row in _list(listed)]
            if not isinstance(listed, list) or None in read:
                return Unknown("the list of instances cannot be parsed", ANSWER)
            found += [row for row in read if row is not None]
            token = page.get("next_token")
            if token is None:
                return tuple({row.id: row for row in found}.values())
            if not isinstance(token, str) or token in used:
                return Unknown("the list of instances never ends: it names a page twice", ANSWER)
            used.add(token)
        return Unknown(f"the list of instances does not end after {_MOST_PAGES} pages", ANSWER)

    def instance(self, instance_id: int) -> Instance | Gone | Unknown:
        """One instance, without its ports in some answers. Gone only where the answer says so."""
        row = responses.one(self._ask(Request("GET", f"/api/v0/instances/{instance_id}/", {"owner": "me"})))
        if isinstance(row, Unknown):
            return self._clean(row)
        if isinstance(row, Gone):
            return row
        found = records.instance(row)
        if found is None or found.id != instance_id:
            return Unknown(f"the answer is not about instance {instance_id}", ANSWER)
        return found

    def search(self, need: Need) -> Found | Unknown:
        """What can be rented and may fit, the cheapest first."""
        return self.offers(queries.filters(need), need.disk_gb)

    def offer(self, number: int, disk_gb: float) -> Offer | Gone | Unknown:
        """One offer by its number, its price with a disk of `disk_gb`."""
        found = self.offers({"ask_contract_id": {"eq": number}}, disk_gb)
        if isinstance(found, Unknown):
            return found
        return next((one for one in found.offers if one.id == number), Gone())

    def offers(self, filters: Mapping[str, Any], disk_gb: float) -> Found | Unknown:
        """What can be rented, the cheapest first; filters as {"gpu_ram": {"gte": 24000}}, not all of which the server
        may keep. Prices are those with a disk of `disk_gb`."""
        found: dict[int, Offer] = {}
        at_least: float | None = None
        for _ in range(_MOST_SEARCHES):
            page = responses.document(self._ask(search_request(filters, disk_gb, at_least)))
            if isinstance(page, Unknown):
                return self._clean(page)
            listed = page.get("offers")
            if not isinstance(listed, list) or not all(isinstance(row, dict) for row in listed):
                return Unknown("the list of offers cannot be parsed", ANSWER)
            read = [one for row in listed if (one := records.offer(row)) is not None]
            new = [one for one in read if one.id not in found]
            found |= {one.id: one for one in new}
            prices = [one.dph for one in read if one.dph is not None]
            if len(listed) < CAP:
                return Found(tuple(found.values()), complete=True)
            if not new or not prices:
                break
            at_least = max(prices)
        return Found(tuple(found.values()), complete=False)

    def user(self) -> User | Unknown:
        """Whose key this is, and what is left to spend."""
        row = responses.document(self._ask(Request("GET", "/api/v0/users/current/")))
        if isinstance(row, Unknown):
            return self._clean(row)
        found = records.user(row)
        return Unknown("the answer is not a user", ANSWER) if found.id is None else found

    # -- what is done -----------------------------------------------------------------------------------------------

    def create(self, offer_id: int, body: Mapping[str, Any]) -> Created | Refused | Unknown:
        """Rent an offer; sent again only where it was not carried out, as where it was asked too often. Unknown: it may
        have happened; list by its label, and do not create again. A number in the answer is believed once the instance
        shows that label."""
        request = Request("PUT", f"/api/v0/asks/{offer_id}/", body=dict(body), again=False)
        return self._clean(responses.creation(self._ask(request)))

    def rent(self, offer_id: int, new: NewInstance) -> Created | Refused | Unknown:
        """Rent an offer, see `create`."""
        return self.create(offer_id, queries.create_body(new))

    def start(self, ours: Ours) -> Done | Refused | Unknown:
        """Start it, see `set_state`."""
        return self.set_state(ours, RUNNING)

    def stop(self, ours: Ours) -> Done | Refused | Unknown:
        """Stop it, or take back a start that waits for a card."""
        return self.set_state(ours, STOPPED)

    def set_state(self, ours: Ours, state: str) -> Done | Refused | Unknown:
        """Set it to be `running` or `stopped`. A start that is refused as queued stays queued, and would bill later:
        take it back with `stopped`."""
        return self._do(Request("PUT", f"/api/v0/instances/{ours.number}/", body={"state": state}))

    def label(self, ours: Ours, label: str) -> Done | Refused | Unknown:
        """Give it a label."""
        return self._do(Request("PUT", f"/api/v0/instances/{ours.number}/", body={"label": label}))

    def destroy(self, ours: Ours) -> Done | Refused | Unknown:
        """Destroy it, with its disk. One that has gone is refused as gone. Whether it is so, `instance` tells."""
        return self._do(Request("DELETE", f"/api/v0/instances/{ours.number}/", body={}))

    def attach_key(self, ours: Ours, public_key: str) -> Done | Refused | Unknown:
        """Let a public key in."""
        return self._do(Request("POST", f"/api/v0/instances/{ours.number}/ssh/", body={"ssh_key": public_key}))

    # -- how ----------------------------------------------------------------------------------------------------------

    def _do(self, request: Request) -> Done | Refused | Unknown:
        return self._clean(responses.change(self._ask(request)))

    def _ask(self, request: Request) -> Reply | NoReply:
        """Ask, and again after a while where that may help."""
        number = 1
        while True:
            reply = self._server.ask(request)
            pause = responses.wait(reply, number, again=request.again)
            if pause is None:
                return reply
            self._sleep(pause * random.uniform(1.0, 1.2))  # two that got the same time do not meet again
            number += 1

    def _clean(self, outcome: T) -> T:
        """An outcome with the key taken out of its words."""
        plain: Any = outcome
        words = {
            name: without(value, self._key.secret) for name, value in plain._asdict().items() if isinstance(value, str)
        }
        cleaned: T = plain._replace(**words)
        return cleaned


def connect(environment: Mapping[str, str] | None = None) -> Client:
    """A client with the key that there is. Raises UseError where there is none."""
    found = credentials.find(environment)
    if found is None:
        raise UseError(f"there is no Vast.ai key; {credentials.HOW}")
    return Client(found, credentials.server(environment))


def list_request(token: str | None) -> Request:
    """The request for one page of instances."""
    query = {"limit": str(_PAGE), "order_by": json.dumps([{"col": "id", "dir": "asc"}])}
    if token is not None:
        query["after_token"] = token
    return Request("GET", "/api/v1/instances/", query)


def search_request(filters: Mapping[str, Any], disk_gb: float, at_least: float | None) -> Request:
    """The request for one page of offers. `at_least`: the last price of the page before."""
    body: dict[str, Any] = {name: dict(bounds) for name, bounds in filters.items()}
    if at_least is not None:
        body["dph_total"] = {**body.get("dph_total", {}), "gte": at_least}
    order = [["dph_total", "asc"]]
    body |= {"order": order, "type": "on-demand", "limit": CAP, "allocated_storage": float(disk_gb)}
    return Request("POST", "/api/v0/bundles/", body=body)


def _list(found: Any) -> Sequence[Any]:
    return found if isinstance(found, list) else ()
