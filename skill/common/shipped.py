"""Files for users that lie beside the packages in a checkout, and in a folder of ours in a wheel."""

from __future__ import annotations

from pathlib import Path

FOLDER = "shipped"
"""Where the build puts them, below `skill`."""
SKILL, MANIFESTS = "SKILL.md", "manifests"
AUTO_SKILL = Path(__file__).resolve().parents[1] / "auto" / SKILL
"""The instructions of an agent that supervises a campaign; they lie in a package."""


def shipped(name: str) -> Path:
    """Return where a file or directory lies, SKILL or MANIFESTS. It may be missing."""
    ours = Path(__file__).resolve().parents[1]
    in_wheel = ours / FOLDER / name
    return in_wheel if in_wheel.exists() else ours.parent / name
