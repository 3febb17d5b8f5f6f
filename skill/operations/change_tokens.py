"""Tokens that a preview gives and a change needs: each is good for one change, once, for a quarter of an hour.

A token is a file, so that it outlives the process that gave it, and of two processes that use it one succeeds.
"""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path
from typing import Any, NamedTuple

from queue_manager.core.layout import HostPaths
from queue_manager.core.manifest import sha256
from skill.common import files
from skill.common.errors import UseError

LIFE = 15 * 60.0
"""Seconds for which a token is good."""
_TOKEN = re.compile(r"[0-9a-f]{16}")
_AGAIN = "preview the change again"


class Previewed(NamedTuple):
    """A change as it was shown: what was asked for, and what it was shown for, such as the jobs of a spec."""

    asked: Any
    seen: Any


def give(change: Previewed, now: float, home: Path) -> str:
    """Return a new token for a change. `now` in epoch seconds. Raises OSError."""
    folder = _folder(home)
    files.make_directory(folder)
    for path in folder.iterdir():  # of changes that nobody made
        if now - path.stat().st_mtime > 2 * LIFE:
            path.unlink(missing_ok=True)
    token = secrets.token_hex(8)
    document = {"asked": _digest(change.asked), "seen": _digest(change.seen), "until": now + LIFE}
    files.write_whole(folder / token, json.dumps(document))
    return token


def check(token: str, asked: Any, now: float, home: Path) -> Any:
    """Return what the token of a change was given for. Raises UseError where it was given for none, or for another
    change than `asked`."""
    if not token:
        raise UseError("this needs the token that the preview of the same change gives: call preview first")
    if _TOKEN.fullmatch(token) is None:
        raise UseError(f"{token} is not a token; {_AGAIN}")
    path = _folder(home) / token
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        was = "was used already" if _used(path).exists() else "is unknown here"
        raise UseError(f"the token {token} {was}; {_AGAIN}") from None
    if now > known["until"]:
        raise UseError(f"the token {token} is more than {LIFE / 60:.0f} minutes old; {_AGAIN}")
    if known["asked"] != _digest(asked):
        raise UseError(f"the token {token} is for another change; preview this one")
    return known["seen"]


def use(token: str, change: Previewed, now: float, home: Path) -> None:
    """Use up the token of a change. Raises UseError where it is not good for it."""
    if check(token, change.asked, now, home) != _digest(change.seen):
        raise UseError(f"what the preview showed has changed since, such as the spec or the jobs; {_AGAIN}")
    path = _folder(home) / token
    try:
        path.rename(_used(path))
    except FileNotFoundError:  # somebody else was faster
        raise UseError(f"the token {token} was used already; {_AGAIN}") from None


def _used(path: Path) -> Path:
    return path.with_name(f"{path.name}.used")


def _folder(home: Path) -> Path:
    return HostPaths.of(home).root / "tokens"


def _digest(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode())
