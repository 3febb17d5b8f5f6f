"""The commit that this code is of: asked of git in a checkout, written down by the build elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

_CODE = ("skill", "queue_manager", "build_manifest", "manifests", "SKILL.md", "pyproject.toml", "setup.py")
"""What goes into a wheel."""
_FILE = "commit.json"
_PATIENCE = 30.0


def written(root: Path) -> Path:
    """The file in which the build writes the commit, below the directory of the packages."""
    return root / "skill" / _FILE


def commit(root: Path | None = None) -> str | None:
    """Return the commit of the code in a directory (None: of this code), as in `1a2b3c4d5e6f with changes`; None where
    nobody knows."""
    root = Path(__file__).resolve().parents[2] if root is None else root
    if (root / ".git").exists():
        return _of_git(root)
    try:
        found = json.loads(written(root).read_text(encoding="utf-8"))["commit"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def document(root: Path) -> str:
    """Return what the build writes into `written`."""
    return json.dumps({"commit": commit(root)}) + "\n"


def _of_git(root: Path) -> str | None:
    # A hook that calls us names another repository in these.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=True,
        )
        return done.stdout.strip()

    try:
        number = git("rev-parse", "--short=12", "HEAD")
        changed = git("--no-optional-locks", "status", "--porcelain", "--", *_CODE)
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{number} with changes" if changed else number
