"""A provider of rented machines that lives in memory: the second row of what the port can be, and a double for tests
that need no HTTP."""

from __future__ import annotations

import itertools

from skill.providers.instances import RUNNING, STOPPED, Instance, Offer, User
from skill.providers.outcomes import (
    GONE,
    NO_OFFER,
    QUEUED,
    UNREACHABLE,
    Created,
    Done,
    Gone,
    Refused,
    Unknown,
)  # fmt: skip
from skill.providers.ownership import Ours
from skill.providers.provider import Found, Need, NewInstance

_HOURLY_GB = 0.0002


class MemoryProvider:
    """Machines that come up at once. `away`: it cannot be reached; `full`: a start waits for a GPU."""

    name = "Memory"

    def __init__(self) -> None:
        self.market: dict[int, Offer] = {}
        self.machines: dict[int, Instance] = {}
        self.keys: dict[int, list[str]] = {}
        self.away = self.full = False
        self._numbers = itertools.count(501)

    def put_on_market(self, number: int, dph: float = 0.3) -> Offer:
        """One more offer with one GPU, at so many $ per hour without its disk."""
        made = Offer(
            number, machine_id=number + 1000, num_gpus=1, gpu_name="RTX 4090", gpu_ram_mib=24564, cpu_cores=16,
            cpu_ram_mib=64000, disk_gb=500, dph_base=dph, storage_cost=_HOURLY_GB * 720, inet_up_cost=0.0,
            inet_down_cost=0.0, inet_down=800, dlperf=80, reliability=0.99, verification="verified", rentable=True,
            duration=1e6, cuda=12.8, direct_ports=5,
        )  # fmt: skip
        self.market[number] = made
        return made

    def close(self) -> None:
        pass

    # -- what is ----------------------------------------------------------------------------------------------------

    def instances(self) -> tuple[Instance, ...] | Unknown:
        return _UNREACHED if self.away else tuple(self.machines.values())

    def instance(self, instance_id: int, /) -> Instance | Gone | Unknown:
        return _UNREACHED if self.away else self.machines.get(instance_id, Gone())

    def search(self, need: Need, /) -> Found | Unknown:
        if self.away:
            return _UNREACHED
        fits = [
            _priced(one, need.disk_gb)
            for one in self.market.values()
            if one.machine_id not in need.banned and (one.gpu_ram_mib or 0) >= need.gpu_ram_mib
        ]
        return Found(tuple(sorted(fits, key=lambda one: one.dph or 0.0)), complete=True)

    def offer(self, number: int, disk_gb: float, /) -> Offer | Gone | Unknown:
        if self.away:
            return _UNREACHED
        return _priced(self.market[number], disk_gb) if number in self.market else Gone()

    def user(self) -> User | Unknown:
        return _UNREACHED if self.away else User(1, "a@example.com", 25.0)

    # -- what is done -----------------------------------------------------------------------------------------------

    def rent(self, offer_id: int, new: NewInstance, /) -> Created | Refused | Unknown:
        if self.away:
            return Refused("no way there", UNREACHABLE)
        if offer_id not in self.market:
            return Refused(f"offer {offer_id} is not available", NO_OFFER)
        offer = _priced(self.market.pop(offer_id), new.disk_gb)
        number = next(self._numbers)
        self.machines[number] = Instance(
            number, machine_id=offer.machine_id, label=new.label, num_gpus=offer.num_gpus, gpu_name=offer.gpu_name,
            actual_status=RUNNING, cur_state=RUNNING, intended_status=RUNNING, public_ipaddr="203.0.113.9",
            ssh_port_direct=30000 + number, dph=offer.dph, storage_dph=new.disk_gb * _HOURLY_GB, disk_gb=new.disk_gb,
        )  # fmt: skip
        return Created(number)

    def start(self, ours: Ours, /) -> Done | Refused | Unknown:
        if self.full and not self.away and ours.number in self.machines:
            self._set(ours.number, intended_status=RUNNING)
            return Refused("the start is queued", QUEUED)
        return self._change(ours, actual_status=RUNNING, cur_state=RUNNING, intended_status=RUNNING)

    def stop(self, ours: Ours, /) -> Done | Refused | Unknown:
        return self._change(ours, actual_status="exited", cur_state=STOPPED, intended_status=STOPPED)

    def destroy(self, ours: Ours, /) -> Done | Refused | Unknown:
        done = self._change(ours)
        self.machines.pop(ours.number if isinstance(done, Done) else 0, None)
        return done

    def attach_key(self, ours: Ours, public_key: str, /) -> Done | Refused | Unknown:
        done = self._change(ours)
        if isinstance(done, Done):
            self.keys.setdefault(ours.number, []).append(public_key)
        return done

    def _change(self, ours: Ours, **fields: str) -> Done | Refused | Unknown:
        if self.away:
            return _UNREACHED
        if ours.number not in self.machines:
            return Refused("there is no such instance", GONE)
        self._set(ours.number, **fields)
        return Done()

    def _set(self, number: int, **fields: str) -> None:
        self.machines[number] = self.machines[number]._replace(**fields)  # type: ignore[arg-type]


_UNREACHED = Unknown("no way there", UNREACHABLE)


def _priced(offer: Offer, disk_gb: float) -> Offer:
    return offer._replace(dph=(offer.dph_base or 0.0) + disk_gb * _HOURLY_GB)
