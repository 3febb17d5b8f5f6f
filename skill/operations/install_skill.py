"""Copy SKILL.md to where Claude Code looks for it."""

from __future__ import annotations

from pathlib import Path

from skill.common import shipped
from skill.common.errors import FailedError
from skill.common.files import make_users_directory, write_whole


def install_skill(*, project: bool = False) -> Path:
    """Copy the skill for all projects of this user, or for the present directory (`project`). Returns the file. Raises
    FailedError where this installation lacks it, and OSError."""
    place = (Path.cwd() if project else Path.home()) / ".claude" / "skills" / "wavequeue" / shipped.SKILL
    source = shipped.shipped(shipped.SKILL)
    if not source.is_file():
        raise FailedError(f"this installation has no {shipped.SKILL}; copy it from the checkout to {place}")
    text = source.read_text(encoding="utf-8")
    make_users_directory(place.parent)
    write_whole(place, text, mode=None)
    return place
