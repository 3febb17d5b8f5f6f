"""Whether this machine goes on by itself: one with a battery may be closed and carried away."""

from __future__ import annotations

from pathlib import Path


def has_battery(supplies: Path = Path("/sys/class/power_supply")) -> bool:
    """Whether this machine runs on a battery once it is carried away. That of a mouse does not count."""
    for kind in supplies.glob("*/type"):
        scope = kind.with_name("scope")
        try:
            is_battery = kind.read_text(encoding="utf-8").strip() == "Battery"
            of_device = scope.exists() and scope.read_text(encoding="utf-8").strip() == "Device"
        except (OSError, ValueError):
            continue
        if is_battery and not of_device:
            return True
    return False
