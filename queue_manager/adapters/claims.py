"""The claim of an attempt: by its wrapper, or by the manager that revoked it. Whoever creates the file `claim` (O_EXCL)
has it for good; its line says who that is.

Before that, each candidate writes its identity into a file of its own: a wrapper into `wrapper.PID`, the manager into
`revoking`. So where the claim's line is cut off, because its writer was killed or the disk was full, the possible
writers are known. While one of them lives, the answer is unknown; once none does, nobody has the attempt, and nobody
ever will.
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
"""Seconds after which a candidate has certainly claimed the attempt, unless it was stopped. It takes microseconds."""
_BLOCK = 1 << 16
_REVOKED = "revoked\n"
LINKED = "slurm "
"""How the claim of a wrapper begins that appeared whole, by link(2); see queue_manager/slurm."""


Leader = Callable[[Stat], Proc]
"""Returns the process that ends with a wrapper's session, see Launcher.leader."""


def read(files: AttemptPaths, leader: Leader = parent_of) -> Claim | Revoked | Unreadable | None:
    """Return who claimed an attempt; None if nobody has, or the claimant died before it wrote its identity."""
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
    """Claim an attempt for the manager, unless a wrapper has it or may be about to. Raises OSError."""
    write_whole(files.revoking, [_REVOKED.encode()])
    try:
        _take(files)
    except FileExistsError:
        if isinstance(text := _claim_of(files, parent_of), str) and text.startswith(LINKED):
            return
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
    """Return whether the wrapper of an attempt had started, and its session no longer lives."""
    wrappers = (parse_stat(line) for line in _candidates(files))
    return any(processes.alive(one) is False for stat in wrappers if stat for one in (stat.proc, leader(stat)))


def read_text(path: Path) -> tuple[str, int]:
    """Return the text of a small file in a job's directory, and when it was written (ns). Raises OSError."""
    with open_regular(path) as file:
        return file.read(_BLOCK).decode(errors="replace"), os.fstat(file.fileno()).st_mtime_ns


def _claim_of(files: AttemptPaths, leader: Leader) -> Claim | Revoked | Unreadable | str | None:
    """Return what the claim says: who has it, nothing where there is none, or an incomplete text."""
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
    """Return the identity lines of all candidates."""
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir(files.root):
            if name.startswith("wrapper.") or name == files.revoking.name:
                with contextlib.suppress(OSError):
                    found.append(read_text(files.root / name)[0])
    return [line for line in found if line.endswith("\n")]


_OTHER = "it was not this one"


def _fault(line: str, cut: str) -> str | None:
    """Return why a candidate with this `line` may still complete a claim that reads `cut` now; None if it never
    will."""
    if not line.startswith(cut) or line == cut:
        return _OTHER
    wrapper = parse_stat(line)
    if not isinstance(wrapper, Stat):
        return None if line == _REVOKED else _OTHER  # the manager that began it is over, or is this one
    alive = processes.alive(wrapper.proc)
    if isinstance(alive, Unreadable):
        return alive.reason
    return f"process {wrapper.proc.pid} is about to claim it" if alive else None
