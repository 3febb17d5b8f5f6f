"""Who has an attempt: its wrapper, or the manager that took it back. Decided once and for all by who makes the file
`claim` (O_EXCL), and told by the line in it.

Whoever is about to make it has said who it is before, in a file of its own: a wrapper in `wrapper.PID`, the manager in
`revoking`. So where the claim's line is cut off, because its writer was killed or had no room, it is known who that may
have been: while one of them lives, nothing can be told yet. Once none does, nobody has the attempt, nor will.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from queue_manager.adapters import processes
from queue_manager.adapters.files import make_link, write_new, write_whole
from queue_manager.adapters.processes import Stat, parent_of, parse_stat
from queue_manager.adapters.regular import open_regular
from queue_manager.core.boundary import Claim, Revoked
from queue_manager.core.events import Proc
from queue_manager.core.layout import AttemptPaths
from queue_manager.core.readings import Unreadable

SETTLES = 2.0
"""Seconds in which who is about to take an attempt surely has, unless it was stopped. It takes microseconds."""
_BLOCK = 1 << 16
_REVOKED = "revoked\n"


Leader = Callable[[Stat], Proc]
"""Tells by a wrapper which process its session ends with, see Launcher.leader."""


def read(files: AttemptPaths, leader: Leader = parent_of) -> Claim | Revoked | Unreadable | None:
    """Who took an attempt; None if nobody has, or somebody who died before it could say so."""
    found = _claim_of(files, leader)
    if not isinstance(found, str):
        return found
    faults = {_fault(line, found) for line in _candidates(files)} - {_OTHER}
    if not faults:
        return Unreadable(f"{files.claim} cannot be parsed")
    if faults != {None}:
        return Unreadable(f"{files.claim}: {', '.join(sorted(filter(None, faults)))}")
    found = _claim_of(files, leader)  # by now its writer has ended: what it says is all that it will
    return None if isinstance(found, str) else found


def revoke(files: AttemptPaths) -> None:
    """Take an attempt's claim, unless a wrapper has it or may be about to. Raises OSError."""
    write_whole(files.revoking, [_REVOKED.encode()])
    try:
        _take(files)
    except FileExistsError:
        until = time.monotonic() + SETTLES
        while isinstance(found := read(files), Unreadable) and time.monotonic() < until:
            time.sleep(0.001)
        if found is None:  # cut off: it stays taken while it is replaced, so that no late wrapper gets it
            write_whole(files.claim, [_REVOKED.encode()])


def _take(files: AttemptPaths) -> None:
    """Raises FileExistsError where the claim is taken."""
    try:
        make_link(files.claim, files.revoking)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        write_new(files.claim, _REVOKED)


def has_lost_wrapper(files: AttemptPaths, leader: Leader = parent_of) -> bool:
    """Whether the wrapper of an attempt has come up, and its session does not live any more."""
    wrappers = (parse_stat(line) for line in _candidates(files))
    return any(processes.alive(one) is False for stat in wrappers if stat for one in (stat.proc, leader(stat)))


def read_text(path: Path) -> tuple[str, int]:
    """The text of a small file that a job's directory holds, and when it was written (ns). Raises OSError."""
    with open_regular(path) as file:
        return file.read(_BLOCK).decode(errors="replace"), os.fstat(file.fileno()).st_mtime_ns


def _claim_of(files: AttemptPaths, leader: Leader) -> Claim | Revoked | Unreadable | str | None:
    """What the claim says: who has it, nothing as there is none, or a text that is cut off."""
    try:
        text, at_ns = read_text(files.claim)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        try:
            text, at_ns = read_text(files.claimed_by)  # of an earlier version, where there are no hard links
        except OSError:
            return Unreadable(f"{files.claim}: {error.strerror}")
    if text == _REVOKED:
        return Revoked()
    wrapper = parse_stat(text) if text.endswith("\n") and text.count("\n") == 1 else None
    return text if wrapper is None else Claim(wrapper.proc, leader(wrapper), at_ns)


def _candidates(files: AttemptPaths) -> list[str]:
    """The lines of all who may have begun to write a claim."""
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir(files.root):
            if name.startswith("wrapper.") or name == files.revoking.name:
                with contextlib.suppress(OSError):
                    found.append(read_text(files.root / name)[0])
    return [line for line in found if line.endswith("\n")]


_OTHER = "it was not this one"


def _fault(line: str, cut: str) -> str | None:
    """Why one who was to write `line` may still finish a claim that says `cut` by now; None if it never will."""
    if not line.startswith(cut) or line == cut:
        return _OTHER
    wrapper = parse_stat(line)
    if not isinstance(wrapper, Stat):
        return None if line == _REVOKED else _OTHER  # the manager that began it is over, or is this one
    alive = processes.alive(wrapper.proc)
    if isinstance(alive, Unreadable):
        return alive.reason
    return f"process {wrapper.proc.pid} is about to claim it" if alive else None
