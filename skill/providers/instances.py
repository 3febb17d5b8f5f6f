"""Offers and instances, for every provider. Pure.

All but an id may be unknown: it is then None.
"""

from __future__ import annotations

from typing import NamedTuple

from skill.common.errors import UseError
from skill.hosts import address

HOURS_PER_MONTH = 720
"""By which a monthly price of storage is divided."""
STOPPED, RUNNING, OFFLINE = "stopped", "running", "offline"


class Instance(NamedTuple):
    """What is rented. Prices in $ per hour, `disk_gb` in GB, times in seconds since 1970.

    `dph`: of all of it while it runs; `storage_dph`: of its disk, which is billed in every state but offline.
    `ssh_port_direct`: where its port 22 is on `public_ipaddr`, while it runs.
    """

    id: int
    machine_id: int | None = None
    host_id: int | None = None
    label: str | None = None
    num_gpus: int | None = None
    gpu_name: str | None = None
    gpu_ram_mib: float | None = None
    actual_status: str | None = None
    cur_state: str | None = None
    intended_status: str | None = None
    next_state: str | None = None
    status_msg: str | None = None
    is_bid: bool | None = None
    ssh_host: str | None = None
    ssh_port: int | None = None
    public_ipaddr: str | None = None
    ssh_port_direct: int | None = None
    runtype: str | None = None
    dph: float | None = None
    storage_dph: float | None = None
    disk_gb: float | None = None
    dlperf: float | None = None
    start_date: float | None = None
    end_date: float | None = None
    geolocation: str | None = None

    @property
    def status(self) -> str:
        """Its state in one word: that of the provider, but `scheduling` where it waits for a GPU, and `stopped` for
        all that bills its disk alone."""
        if self.cur_state == STOPPED:
            if self.intended_status != RUNNING:
                return STOPPED
            return "created" if self.actual_status == "created" else "scheduling"
        if self.actual_status is None:
            return "provisioning"
        return STOPPED if self.actual_status == "exited" and self.intended_status == STOPPED else self.actual_status

    @property
    def burn(self) -> float | None:
        """$ per hour that it costs now, without traffic; None where that is not known."""
        status = self.status
        if status == OFFLINE:
            return 0.0
        return self.storage_dph if status in _DISK_ONLY else self.dph

    @property
    def cards(self) -> str:
        """Its GPUs in words, as 2x RTX 4090."""
        if self.num_gpus == 0:
            return "no GPU"
        return f"{self.num_gpus}x {self.gpu_name}" if self.num_gpus and self.gpu_name else self.gpu_name or "?"


_DISK_ONLY = frozenset({STOPPED, "scheduling", "provisioning", "created", "loading"})


class Offer(NamedTuple):
    """What can be rented. Prices in $ per hour, of storage in $ per GB and month, of traffic in $ per GB; `dph_base`
    is without the disk. `dlperf` is that of all its cards; `duration` seconds for which it can be had."""

    id: int
    machine_id: int | None = None
    host_id: int | None = None
    num_gpus: int | None = None
    gpu_name: str | None = None
    gpu_ram_mib: float | None = None
    cpu_cores: float | None = None
    cpu_ram_mib: float | None = None
    cpu_arch: str | None = None
    disk_gb: float | None = None
    dph: float | None = None
    dph_base: float | None = None
    storage_dph: float | None = None
    storage_cost: float | None = None
    inet_up: float | None = None
    inet_down: float | None = None
    inet_up_cost: float | None = None
    inet_down_cost: float | None = None
    dlperf: float | None = None
    reliability: float | None = None
    verification: str | None = None
    rentable: bool | None = None
    duration: float | None = None
    cuda: float | None = None
    direct_ports: int | None = None
    static_ip: bool | None = None
    geolocation: str | None = None

    @property
    def cards(self) -> str:
        """Its GPUs in words, as 2x RTX 4090."""
        if self.num_gpus == 0:
            return "no GPU"
        return f"{self.num_gpus}x {self.gpu_name}" if self.num_gpus and self.gpu_name else self.gpu_name or "?"


class User(NamedTuple):
    """The owner of the key. `credit` in $."""

    id: int | None = None
    email: str | None = None
    credit: float | None = None


class Address(NamedTuple):
    """Where an instance listens for ssh. `way`: direct, or proxy by a server of the provider."""

    way: str
    host: str
    port: int


def addresses(found: Instance) -> tuple[Address, ...]:
    """Where an instance may be entered: direct first. Empty where the provider does not say."""
    ways = []
    if found.public_ipaddr and found.ssh_port_direct:
        ways.append(Address("direct", found.public_ipaddr, found.ssh_port_direct))
    if found.ssh_host and found.ssh_port:
        # The port beside the reported one is Jupyter's.
        port = found.ssh_port + ("jupyter" in (found.runtype or ""))
        ways.append(Address("proxy", found.ssh_host, port))
    return tuple(way for way in ways if _is_host(way))


def _is_host(way: Address) -> bool:
    host = f"[{way.host}]" if ":" in way.host else way.host
    try:
        return address.parse(f"root@{host}:{way.port}").host == way.host
    except UseError:
        return False
