"""Rows of Vast.ai, read into types: instances, offers, the user. Pure.

All but an id may be missing, null or of a wrong type: it is then None, which means unknown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from skill.providers.instances import HOURS_PER_MONTH, Instance, Offer, User
from skill.providers.vast.responses import line


def instance(row: Mapping[str, Any]) -> Instance | None:
    """An instance; None where the row has no id."""
    number = _id(row.get("id"))
    if number is None:
        return None
    disk, monthly, hourly = amount(row, "disk_space"), amount(row, "storage_cost"), amount(row, "storage_total_cost")
    if hourly is None and disk is not None and monthly is not None:
        hourly = disk * monthly / HOURS_PER_MONTH
    return Instance(
        number,
        machine_id=whole(row.get("machine_id")),
        host_id=whole(row.get("host_id")),
        label=text(row, "label"),
        num_gpus=whole(row.get("num_gpus")),
        gpu_name=text(row, "gpu_name"),
        gpu_ram_mib=amount(row, "gpu_ram"),
        actual_status=text(row, "actual_status"),
        cur_state=text(row, "cur_state"),
        intended_status=text(row, "intended_status"),
        next_state=text(row, "next_state"),
        status_msg=text(row, "status_msg"),
        is_bid=flag(row, "is_bid"),
        ssh_host=text(row, "ssh_host"),
        ssh_port=_port(row.get("ssh_port")),
        public_ipaddr=text(row, "public_ipaddr"),
        ssh_port_direct=_direct(row.get("ports")),
        runtype=text(row, "image_runtype"),
        dph=amount(row, "dph_total"),
        storage_dph=hourly,
        disk_gb=disk,
        dlperf=amount(row, "dlperf"),
        start_date=amount(row, "start_date"),
        end_date=amount(row, "end_date"),
        geolocation=text(row, "geolocation"),
    )


def offer(row: Mapping[str, Any]) -> Offer | None:
    """An offer; None where the row has no id."""
    number = _id(row.get("ask_contract_id"))
    number = _id(row.get("id")) if number is None else number
    if number is None:
        return None
    reliability = amount(row, "reliability")
    return Offer(
        number,
        machine_id=whole(row.get("machine_id")),
        host_id=whole(row.get("host_id")),
        num_gpus=whole(row.get("num_gpus")),
        gpu_name=text(row, "gpu_name"),
        gpu_ram_mib=amount(row, "gpu_ram"),
        cpu_cores=amount(row, "cpu_cores_effective"),
        cpu_ram_mib=amount(row, "cpu_ram"),
        cpu_arch=text(row, "cpu_arch"),
        disk_gb=amount(row, "disk_space"),
        dph=amount(row, "dph_total"),
        dph_base=amount(row, "dph_base"),
        storage_dph=amount(row, "storage_total_cost"),
        storage_cost=amount(row, "storage_cost"),
        inet_up=amount(row, "inet_up"),
        inet_down=amount(row, "inet_down"),
        inet_up_cost=amount(row, "inet_up_cost"),
        inet_down_cost=amount(row, "inet_down_cost"),
        dlperf=amount(row, "dlperf"),
        reliability=amount(row, "reliability2") if reliability is None else reliability,
        verification=text(row, "verification"),
        rentable=flag(row, "rentable"),
        duration=amount(row, "duration"),
        cuda=amount(row, "cuda_max_good"),
        direct_ports=whole(row.get("direct_port_count")),
        static_ip=flag(row, "static_ip"),
        geolocation=text(row, "geolocation"),
    )


def user(row: Mapping[str, Any]) -> User:
    """Whose key it is."""
    credit = amount(row, "credit")
    return User(whole(row.get("id")), text(row, "email"), amount(row, "balance") if credit is None else credit)


def _direct(ports: Any) -> int | None:
    places = ports.get("22/tcp") if isinstance(ports, dict) else None
    if not isinstance(places, list):
        return None
    found = (_port(place.get("HostPort")) for place in places if isinstance(place, dict))
    return next((port for port in found if port is not None), None)


def _port(value: Any) -> int | None:
    found = whole(value)
    return found if found is not None and 1 <= found <= 65535 else None


def _id(value: Any) -> int | None:
    """A number by which something can be asked for."""
    found = whole(value)
    return found if found is not None and 0 < found < 1 << 63 else None


def whole(value: Any) -> int | None:
    """A whole number, also where it is written as text."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def amount(row: Mapping[str, Any], key: str) -> float | None:
    """A finite number that is not below 0."""
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) and found >= 0 else None


def text(row: Mapping[str, Any], key: str) -> str | None:
    """A text in one line that harms no terminal; None where it says nothing."""
    value = row.get(key)
    return (line(value) or None) if isinstance(value, str) else None


def flag(row: Mapping[str, Any], key: str) -> bool | None:
    value = row.get(key)
    return value if isinstance(value, bool) else None
