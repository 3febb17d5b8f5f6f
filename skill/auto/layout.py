"""The file names of a campaign's work directory. Everything but config.json, journal.jsonl, inbox/ and code/ is a view,
which can be deleted and comes back. Pure."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class WorkDir(NamedTuple):
    """A campaign's directory."""

    root: Path

    @classmethod
    def at(cls, root: Path) -> WorkDir:
        return cls(Path(os.path.abspath(root)))

    @property
    def config(self) -> Path:
        return self.root / "config.json"

    @property
    def journal(self) -> Path:
        return self.root / "journal.jsonl"

    @property
    def lock(self) -> Path:
        return self.root / "loop.lock"

    @property
    def inbox(self) -> Path:
        """Requests of a person: steer, pin, kill, boost, stop, extend."""
        return self.root / "inbox"

    @property
    def code(self) -> Path:
        """The worktrees of the nodes, code/NODE; the queue's run is beside them."""
        return self.root / "code"

    @property
    def logs(self) -> Path:
        """Prompts and replies: ASK_ROLE_prompt.md, _output.md, _raw.json."""
        return self.root / "logs"


def hashes_of(worktree: Path) -> Path:
    """Where the hashes of a worktree's protected files lie, for hosts."""
    return worktree.with_name(f"{worktree.name}.sha256")
