"""Run git for campaigns. No hook of the user's is run, no setting of a surrounding git is inherited, and nothing is
signed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from queue_manager.core.terminal_text import one_line
from skill.common.errors import FailedError

_OPTIONS = (
    "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "commit.gpgSign=false", "-c", "gc.auto=0",
    "-c", "advice.detachedHead=false", "-c", "core.quotePath=false",
)  # fmt: skip
AUTHOR = {
    "GIT_AUTHOR_NAME": "wavequeue", "GIT_AUTHOR_EMAIL": "wavequeue@localhost",
    "GIT_COMMITTER_NAME": "wavequeue", "GIT_COMMITTER_EMAIL": "wavequeue@localhost",
}  # fmt: skip


class GitError(FailedError):
    """git failed; the text says what it printed."""


def run(*arguments: str, cwd: Path, environment: Mapping[str, str] | None = None, given: bytes = b"") -> bytes:
    """What a git command prints. Raises GitError."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        ended = subprocess.run(
            ["git", *_OPTIONS, *arguments],
            cwd=cwd,
            env={**inherited, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", **(environment or {})},
            input=given,
            capture_output=True,
        )
    except FileNotFoundError as error:
        missing = "git is not installed" if error.filename == "git" else f"{cwd} does not exist"
        raise GitError(missing) from None
    if ended.returncode != 0:
        lines = [line for line in ended.stderr.decode(errors="replace").splitlines() if line.strip()]
        raise GitError(f"git {arguments[0]} failed: {one_line(lines[-1] if lines else 'it printed nothing', 300)}")
    return ended.stdout


def text(*arguments: str, cwd: Path, environment: Mapping[str, str] | None = None) -> str:
    """The same as text, without the last line's end. Raises GitError."""
    return run(*arguments, cwd=cwd, environment=environment).decode(errors="surrogateescape").rstrip("\n")


def paths(*arguments: str, cwd: Path, environment: Mapping[str, str] | None = None) -> list[str]:
    """The paths that a command with -z prints. Raises GitError."""
    listed = run(*arguments, cwd=cwd, environment=environment).decode(errors="surrogateescape")
    return [path for path in listed.split("\0") if path]
