"""Copy the checkpoint helper beside the code of an experiment."""

from __future__ import annotations

from pathlib import Path

from skill.common.errors import UseError
from skill.common.files import read_text, write_whole
from skill.research import checkpoint_helper

NAME = "checkpoint.py"


def copy_checkpoint_helper(folder: Path) -> tuple[Path, bool]:
    """Put the helper into a directory; its path, and whether it was not there as it is. One of an earlier version is
    replaced. Raises UseError where the directory is missing, or another file has its name."""
    if not folder.is_dir():
        raise UseError(f"{folder} is not a directory; create it, or name the directory of the experiment's code")
    text, path = read_text(Path(checkpoint_helper.__file__)), folder / NAME
    try:
        there = read_text(path)
    except FileNotFoundError:
        there = None
    if there == text:
        return path, False
    if there is not None and there.partition("\n")[0] != text.partition("\n")[0]:
        raise UseError(f"{path} is another file; rename it, or copy the helper into another directory")
    write_whole(path, text, mode=None)
    return path, True
