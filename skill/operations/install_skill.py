"""Copy the skills to where Claude Code looks for them."""

from __future__ import annotations

from pathlib import Path

from skill.common import shipped
from skill.common.errors import FailedError
from skill.common.files import make_users_directory, write_whole


def install_skills(*, project: bool = False) -> list[Path]:
    """Copy the skills, to run experiments and to supervise a search, for all projects of this user, or for the present
    directory (`project`). Returns the files. Raises FailedError where this installation lacks one, and OSError."""
    folder = (Path.cwd() if project else Path.home()) / ".claude" / "skills"
    written = []
    for name, source in (("wavequeue", shipped.shipped(shipped.SKILL)), ("wavequeue-auto", shipped.AUTO_SKILL)):
        place = folder / name / shipped.SKILL
        if not source.is_file():
            raise FailedError(f"this installation has no {shipped.SKILL}; copy it from the checkout to {place}")
        text = source.read_text(encoding="utf-8")
        make_users_directory(place.parent)
        write_whole(place, text, mode=None)
        written.append(place)
    return written
