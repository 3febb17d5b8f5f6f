"""What the double of Vast.ai holds: offers, instances, money; how they change, and their rows. No HTTP.

Facts are those of the official description and of the official command's own requests. An instance goes through its
plan, a state further each time it is shown, so that no test waits for a clock.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

CAP = 64
PAGE = 25
LIVE = ("provisioning", "loading", "running")
_BROKEN = "Error response from daemon: failed to create task for container: OCI runtime create failed\n"


class State(NamedTuple):
    """What a row says of an instance's state."""

    actual_status: str | None
    cur_state: str
    intended_status: str
    status_msg: str | None = None


STATES = {
    "provisioning": State(None, "running", "running"),
    "loading": State("loading", "running", "running", "pulling the image\n"),
    "running": State("running", "running", "running", "success, running image/ssh\n"),
    "stopped": State("exited", "stopped", "stopped"),
    "scheduling": State("exited", "stopped", "running"),
    "exited": State("exited", "running", "running"),
    "broken": State("created", "stopped", "running", _BROKEN),
    "offline": State("offline", "running", "running"),
    "unknown": State("unknown", "running", "running"),
    "frozen": State("frozen", "running", "frozen"),
}


class Hosts(Protocol):
    """Real hosts behind the instances. `start` says where the instance listens, by `Box.listens`."""

    def start(self, box: Box) -> None: ...

    def stop(self, box: Box) -> None: ...

    def destroy(self, box: Box) -> None: ...

    def authorize(self, box: Box, public_key: str) -> None: ...


class Box:
    """One instance. `plan`: states still to come; the first is the one it is in. `fields` go over those of its row."""

    def __init__(self, number: int, offer: Mapping[str, Any], plan: Iterable[str], **fields: Any) -> None:
        self.id, self.offer, self.plan = number, dict(offer), deque(plan)
        self.fields = fields
        self.api_key = f"container-key-of-{number}-0123456789abcdef"
        self.label: str | None = None
        self.body: dict[str, Any] = {}
        self.disk = 10.0
        self.keys: list[str] = []
        self.is_up = False
        self.starts = 0
        self.is_card_taken = False
        """Whether a start waits for the card."""
        self.lingers: int | None = None
        """After it was destroyed: how often it is still shown."""
        self.start_date = time.time()
        self.listens: dict[str, Any] = {}

    @property
    def state(self) -> str:
        return self.plan[0]

    def row(self) -> dict[str, Any]:
        """The row that Vast.ai shows now."""
        state = STATES[self.state]
        storage = self.offer["storage_cost"] * self.disk / 720
        port = self.listens.get("port")
        ports = None
        if self.state == "running" and port is not None:
            ports = {"22/tcp": [{"HostIp": ip, "HostPort": str(port)} for ip in ("0.0.0.0", "::")]}
        env = self.body.get("env") or {}
        shown = {
            name: self.offer[name]
            for name in (
                "machine_id", "host_id", "num_gpus", "gpu_name", "gpu_ram", "cpu_cores", "cpu_cores_effective",
                "cpu_ram", "dph_base", "min_bid", "storage_cost", "inet_up", "inet_down", "inet_up_cost",
                "inet_down_cost", "reliability2", "static_ip", "geolocation", "verification", "direct_port_count",
            )
        }  # fmt: skip
        return {
            **shown, **state._asdict(), "next_state": state.cur_state, "id": self.id, "label": self.label,
            "gpu_totalram": self.offer["gpu_ram"] * self.offer["num_gpus"], "gpu_util": None, "gpu_temp": None,
            "disk_space": self.disk, "disk_usage": -1, "disk_util": -1, "is_bid": self.body.get("price") is not None,
            "dph_total": self.offer["dph_base"] + storage, "storage_total_cost": storage, "dlperf": None,
            "dlperf_per_dphtotal": None, "score": None, "ssh_host": self.listens.get("ssh_host"), "ssh_idx": "5",
            "ssh_port": self.listens.get("ssh_port"), "public_ipaddr": self.listens.get("public_ipaddr"),
            "ports": ports, "image_uuid": self.body.get("image", "an/image"),
            "image_runtype": self.body.get("runtype", "ssh_proxy"),
            "extra_env": [[key, value] for key, value in env.items()], "onstart": self.body.get("onstart"),
            "start_date": self.start_date, "end_date": self.start_date + 86400, "duration": 86400.0,
            "uptime_mins": None, "template_id": None, "volume_info": [], **self.fields,
        }  # fmt: skip


class World:
    """All of it. Numbers of new instances and of made-up addresses only grow."""

    def __init__(self, hosts: Hosts | None = None) -> None:
        self.hosts = hosts
        self.offers: dict[int, dict[str, Any]] = {}
        self.boxes: dict[int, Box] = {}
        self.plans: list[Sequence[str]] = []
        """Plans of the instances that are created next; then they come up."""
        self.credit = 25.0
        self.ignored: set[str] = set()
        """Filters of a search that are not kept."""
        self.no_such_ask = 404
        """How an offer that has gone is said: 400, 404 or 410."""
        self._numbers = itertools.count(1_234_501)
        self._moves = itertools.count(1)

    # -- to set the scene -------------------------------------------------------------------------------------------

    def offer(self, **fields: Any) -> dict[str, Any]:
        """One more offer: a common card, unless said otherwise."""
        number = fields.pop("id", 9_000_001 + len(self.offers))
        row = {
            "id": number, "ask_contract_id": number, "machine_id": number % 100_000, "host_id": 7, "bundle_id": number,
            "num_gpus": 1, "gpu_name": "RTX 4090", "gpu_ram": 24564, "gpu_frac": 1.0, "gpu_arch": "nvidia",
            "compute_cap": 890, "cuda_max_good": 12.8, "driver_version": "570.00.00", "cpu_name": "a CPU",
            "cpu_cores": 32, "cpu_cores_effective": 16.0, "cpu_ghz": 3.0, "cpu_ram": 64000, "cpu_arch": "amd64",
            "disk_space": 500.0, "disk_bw": 2000.0, "inet_up": 500.0, "inet_down": 800.0, "inet_up_cost": 0.002,
            "inet_down_cost": 0.001, "direct_port_count": 20, "dlperf": 80.0, "total_flops": 82.0, "score": 300.0,
            "dph_base": 0.30, "min_bid": 0.1, "storage_cost": 0.15, "reliability": 0.995, "reliability2": 0.995,
            "verification": "verified", "rentable": True, "rented": False, "is_bid": False, "hosting_type": 0,
            "static_ip": False, "public_ipaddr": "203.0.113.1", "geolocation": "Texas, US", "duration": 2_000_000.0,
            "start_date": 1.7e9, "end_date": 1.9e9, "vms_enabled": False, "resource_type": "gpu", "external": False,
            **fields,
        }  # fmt: skip
        self.offers[number] = row
        return row

    def box(self, plan: Sequence[str] = ("running",), **fields: Any) -> Box:
        """One more instance, as if it had been rented before. `fields`: what its row says instead."""
        offer = self.offer(rentable=False)
        box = Box(fields.pop("id", None) or next(self._numbers), offer, plan, **fields)
        self.boxes[box.id] = box
        self._enter(box)
        return box

    # -- what is asked ----------------------------------------------------------------------------------------------

    def search(self, query: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Offers for a search, priced with the disk that it names."""
        storage = float(query.get("allocated_storage", 8))
        rows = [_priced(row, storage) for row in self.offers.values()]
        for name, bounds in query.items():
            if isinstance(bounds, dict) and name not in self.ignored:
                rows = [row for row in rows if _keeps(row, name, bounds)]
        for field, way in reversed(query.get("order") or []):
            rows.sort(key=lambda row: (row.get(field) is None, row.get(field) or 0), reverse=way == "desc")
        return rows[: min(CAP, int(query.get("limit") or CAP))]

    def shown(self, box: Box) -> dict[str, Any]:
        """The row of an instance; by being shown it goes on."""
        row = box.row()
        if box.lingers is not None:
            box.lingers -= 1
            if box.lingers <= 0:
                del self.boxes[box.id]
        elif len(box.plan) > 1:
            box.plan.popleft()
            self._enter(box)
        return row

    def labels(self) -> dict[str, int]:
        return dict(Counter(box.label or "" for box in self.boxes.values()))

    # -- what is done -----------------------------------------------------------------------------------------------

    def create(self, offer_id: int, body: Mapping[str, Any]) -> Box | tuple[int, str, str]:
        """Rent an offer; else status, error and words of the refusal."""
        offer = self.offers.get(offer_id)
        if offer is None or not offer["rentable"]:
            words = f"error {self.no_such_ask}/3603: no_such_ask Instance type by id {offer_id} is not available."
            return self.no_such_ask, "no_such_ask" if self.no_such_ask == 410 else "invalid_args", words
        if self.credit <= 0:
            return 400, "insufficient_credit", "your account has no credit"
        if body.get("price") is not None and body["price"] < offer["min_bid"]:
            return 400, "invalid_price", "the bid is below the lowest that is taken"
        offer["rentable"] = False
        plan = self.plans.pop(0) if self.plans else LIVE
        box = Box(next(self._numbers), offer, plan)
        box.body, box.label, box.disk = dict(body), body.get("label"), float(body.get("disk") or 10)
        self.boxes[box.id] = box
        self._enter(box)
        return box

    def stop(self, box: Box) -> None:
        """It ends: its disk stays and is billed, its ports go."""
        box.plan = deque(["stopped"])
        self._leave(box)

    def start(self, box: Box) -> bool:
        """It comes up elsewhere: other ports, another address. False: its card is taken, and the start waits."""
        if box.is_card_taken:
            box.plan = deque(["scheduling"])
            return False
        if not box.is_up:
            box.plan = deque(["scheduling", "running"])
        return True

    def outbid(self, box: Box) -> None:
        """Somebody pays more: it is stopped, though nobody here asked for it."""
        self.stop(box)

    def destroy(self, box: Box) -> None:
        """It goes, with its disk; it is shown once more."""
        self._leave(box)
        if self.hosts is not None:
            self.hosts.destroy(box)
        box.lingers = 1

    def attach(self, box: Box, public_key: str) -> None:
        box.keys.append(public_key)
        if self.hosts is not None:
            self.hosts.authorize(box, public_key)

    def _enter(self, box: Box) -> None:
        if box.state == "running" and not box.is_up:
            box.is_up = True
            box.starts += 1
            move = next(self._moves)
            if self.hosts is None:
                port = 30000 + 7 * move
                box.listens = {
                    "public_ipaddr": f"203.0.113.{move % 200 + 1}", "port": port, "ssh_host": f"ssh{move % 9}.vast.ai",
                    "ssh_port": 10000 + move,
                }  # fmt: skip
            else:
                self.hosts.start(box)
        elif box.state not in ("running", "frozen", "unknown") and box.is_up:
            self._leave(box)

    def _leave(self, box: Box) -> None:
        if box.is_up:
            box.is_up = False
            if self.hosts is not None:
                self.hosts.stop(box)


def _priced(row: Mapping[str, Any], storage: float) -> dict[str, Any]:
    per_hour = row["storage_cost"] * storage / 720 if row["storage_cost"] is not None else None
    total = row["dph_base"] + (per_hour or 0.0)
    worth = None if row["dlperf"] is None else row["dlperf"] / total
    return {**row, "storage_total_cost": per_hour, "dph_total": total, "dlperf_per_dphtotal": worth}


_OPS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda has, wants: has == wants,
    "neq": lambda has, wants: has != wants,
    "gt": lambda has, wants: has > wants,
    "gte": lambda has, wants: has >= wants,
    "lt": lambda has, wants: has < wants,
    "lte": lambda has, wants: has <= wants,
    "in": lambda has, wants: has in wants,
    "notin": lambda has, wants: has not in wants,
}


def _keeps(row: Mapping[str, Any], name: str, bounds: Mapping[str, Any]) -> bool:
    if name == "id":  # seen at the real one: only ask_contract_id finds an offer by its number
        return False
    has = row.get({"verified": "verification"}.get(name, name))
    if name == "verified":
        has = has == "verified"
    for op, wants in bounds.items():
        like = [_like(has, one) for one in wants] if isinstance(wants, list) else _like(has, wants)
        if has is None or not _OPS[op](has, like):
            return False
    return True


def keeps(row: Mapping[str, Any], filters: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a row passes all of some filters."""
    return all(
        _keeps(row, name, bounds) if name != "id" else _keeps_id(row, bounds) for name, bounds in filters.items()
    )


def _keeps_id(row: Mapping[str, Any], bounds: Mapping[str, Any]) -> bool:
    return all(_OPS[op](row["id"], wants) for op, wants in bounds.items())


def _like(has: Any, wants: Any) -> Any:
    """What is compared with: the official command sends numbers as text, and blanks as underscores."""
    if isinstance(has, bool) or not isinstance(wants, str):
        return wants
    if isinstance(has, (int, float)):
        try:
            return float(wants)
        except ValueError:
            return wants
    return wants.replace("_", " ")
