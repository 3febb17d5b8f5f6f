"""Which code lies in a folder of this machine."""

from __future__ import annotations

from pathlib import Path

from queue_manager.adapters import code_identity


def is_commit(name: str) -> bool:
    """Whether a name is that of a commit, which a copy without the repository cannot know by itself."""
    return not name.startswith(code_identity.FILES)


def name(folder: Path) -> str | None:
    """The name of the code, see queue_manager.adapters.code_identity; None where it is unknown, or git fails."""
    try:
        return code_identity.identify(str(folder), lambda _path: False)
    except code_identity.UnknownCodeError:
        return None
