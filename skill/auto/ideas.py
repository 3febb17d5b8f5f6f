"""Ideas that ship with wavequeue, each a text that says what to edit. A person may declare them for a campaign."""

from __future__ import annotations

from pathlib import Path

from build_manifest.faults import listed, nearest
from skill.auto.config import Declared
from skill.common import files
from skill.common.errors import UseError

_FOLDER = Path(__file__).with_name("ideas")


def names() -> list[str]:
    """The names of all ideas."""
    return sorted(path.stem for path in _FOLDER.glob("*.md"))


def declared(name: str) -> Declared:
    """An idea as a node that a person declares. Raises UseError where there is none of this name."""
    if name not in names():
        close = nearest(name, names())
        raise UseError(
            f"there is no idea {name}; " + (f"did you mean {close}?" if close else f"ideas: {listed(names())}")
        )
    title, _, text = files.read_text(_FOLDER / f"{name}.md").partition("\n")
    return Declared(title.removeprefix("# "), edit=text.strip())
