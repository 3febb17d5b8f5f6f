"""What Vast.ai is asked for, in its words: the filters of a search and the text of a create. Pure."""

from __future__ import annotations

from typing import Any

from skill.providers.provider import Need, NewInstance
from skill.providers.vast.start_script import ONSTART, guarded

RUNTYPE = "ssh_direc ssh_proxy"
"""As the official command has it: by ssh, directly and by the proxy."""


def filters(need: Need) -> dict[str, dict[str, Any]]:
    """The filters of a search."""
    found: dict[str, dict[str, Any]] = {
        "verified": {"eq": True},
        "rentable": {"eq": True},
        "rented": {"eq": False},
        "external": {"eq": False},
        "direct_port_count": {"gte": 1},
        "disk_space": {"gte": need.disk_gb},
        "reliability": {"gte": need.reliability},
    }
    if need.least_cards is not None:
        found["num_gpus"] = {"gte": need.least_cards}
    elif need.cards is not None:
        found["num_gpus"] = {"eq": need.cards}
    least = {
        "gpu_ram": need.gpu_ram_mib,
        "cpu_ram": need.cpu_ram_gb * 1000,
        "cpu_cores_effective": need.cpu_cores,
        "cuda_max_good": need.cuda,
        "inet_down": need.inet_down,
    }
    found |= {name: {"gte": value} for name, value in least.items() if value}
    if need.gpu_names:
        found["gpu_name"] = {"in": list(need.gpu_names)}
    if need.max_dph is not None:
        found["dph_total"] = {"lte": need.max_dph}
    if need.banned:
        found["machine_id"] = {"notin": sorted(need.banned)}
    return found


def create_body(new: NewInstance) -> dict[str, Any]:
    """What a create says: on demand, with ssh, and rather refused than made stopped."""
    return {
        "client_id": "me",
        "image": new.image,
        "label": new.label,
        "disk": float(new.disk_gb),
        "runtype": RUNTYPE,
        "onstart": guarded() if new.guard else ONSTART,
        "env": {},
        "price": None,
        "target_state": "running",
        "cancel_unavail": True,
    }
