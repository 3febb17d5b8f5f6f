"""Requirements for a machine by kind of work: built-in profiles, and how a file changes them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Profile(NamedTuple):
    """What is asked of an offer, at least; and the work by which its cost is estimated. GB are 10^9 bytes, as
    Vast.ai counts them.

    `cards`: exactly so many; None: any number. `gpu_names`: one of these; empty: any. `inet_down` in Mb/s. The work
    takes `ref_hours` on a machine of `ref_dlp`; None: on any machine alike. `down_gb` and `up_gb`: its traffic.
    `source`: where this is written.
    """

    name: str
    cards: int | None = 1
    gpu_names: tuple[str, ...] = ()
    gpu_ram_gb: float = 0.0
    cpu_cores: float = 0.0
    cpu_ram_gb: float = 0.0
    disk_gb: float = 40.0
    cuda: float = 0.0
    inet_down: float = 100.0
    reliability: float = 0.98
    max_dph: float | None = None
    ref_hours: float = 10.0
    ref_dlp: float | None = 20.0
    down_gb: float = 20.0
    up_gb: float = 5.0
    source: str = "built in"


DEFAULT = "pytorch"
CPU, API = "cpu", "api-only"
BUILT_IN = {
    profile.name: profile
    for profile in (
        Profile(CPU, cards=None, cpu_cores=8, cpu_ram_gb=16, disk_gb=30, ref_dlp=None, down_gb=10, up_gb=2),
        # Jobs that call the interface of a service: the cheapest machine that is reliable will do.
        Profile(API, cards=None, cpu_cores=2, cpu_ram_gb=4, disk_gb=20, ref_dlp=None, down_gb=5, up_gb=2),
        # Cards that are sold with 24 GB show from 22.7 GB on.
        Profile("inference-24g", gpu_ram_gb=22.5, cpu_ram_gb=24, disk_gb=60, cuda=12.1, inet_down=200, down_gb=40),
        Profile(
            "finetune-40g", gpu_ram_gb=40, cpu_ram_gb=48, disk_gb=120, cuda=12.1, inet_down=200, down_gb=80, up_gb=20
        ),
        Profile(DEFAULT, gpu_ram_gb=10, cpu_ram_gb=16, disk_gb=40, cuda=12.1),
    )
}  # fmt: skip
NUMBERS = {
    "cards": (0, 64), "gpu_ram_gb": (0, 10_000), "cpu_cores": (0, 10_000), "cpu_ram_gb": (0, 100_000),
    "disk_gb": (8, 100_000), "cuda": (0, 100), "inet_down": (0, 1_000_000), "reliability": (0, 1),
    "max_dph": (0.001, 10_000), "ref_hours": (0.01, 100_000), "ref_dlp": (0.1, 100_000), "down_gb": (0, 1_000_000),
    "up_gb": (0, 1_000_000),
}  # fmt: skip
"""Fields that are numbers, with the least and the most that each may be."""


def number_fault(name: str, value: Any) -> str | None:
    """Return why a value is invalid for a numeric field; None if it is valid."""
    least, most = NUMBERS[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        return f"has to be a number from {least:g} to {most:g}"
    if name == "cards" and not isinstance(value, int):
        return "has to be a whole number"
    return None


def changed(name: str, fields: Mapping[str, Any], source: str) -> Profile:
    """Return a profile of a file: fields that it lacks are those of the built-in one of the same name, else of
    `pytorch`. The fields are checked before."""
    base = BUILT_IN.get(name, BUILT_IN[DEFAULT])
    values: dict[str, Any] = {key: tuple(value) if key == "gpu_names" else value for key, value in fields.items()}
    return base._replace(name=name, source=source, **values)
