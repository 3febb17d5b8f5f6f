"""What a host says of itself and of one run, before any of our code is there. Imports nothing of ours, since it is also
sent over as a text: `PYTHON -c TEXT RUN_ID` prints one JSON document. RUN_ID may be empty.

Every command on a host begins with this, so that it does without pathlib, typing and contextlib: to import them takes
longer than all that it does."""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import sys
import time
from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Union

    Path = Union[str, os.PathLike[str]]

_BEING_TAKEN = 2.0
"""Seconds for which an empty lock file counts as that of a manager that is starting."""
STALE_AFTER = 90.0
"""As core.layout says."""
_HEAD = 1 << 18
"""Bytes of a state file in which its first line, the meta, has to end."""


class Holder(namedtuple("Holder", ("pid", "host"))):
    """Who holds a run: process `pid` (0: unknown which) of the machine `host` (empty: unknown which)."""

    __slots__ = ()
    pid: int
    host: str


def held_by(lock: Path) -> int | None:
    """Return the process of the manager that holds a run, see `holder`: 0 if it is unknown which, or on another
    machine; None if none does."""
    found = holder(lock)
    return None if found is None else found.pid


def holder(lock: Path) -> Holder | None:
    """Return the manager that holds a run, by its lock file; None if none does.

    The lock is tried only where that process may exist: a manager that starts at the same moment would be refused
    because of us. Of a manager on another machine a fresh sign of life counts as well, since a lock may not reach so
    far. Raises OSError where the file exists and cannot be read.
    """
    try:
        file = open(lock, encoding="utf-8", errors="replace")  # noqa: SIM115
    except (FileNotFoundError, NotADirectoryError):
        return None
    with file:
        named = _named(file.readline())
        if named is None and time.time() - os.fstat(file.fileno()).st_mtime < _BEING_TAKEN:
            return Holder(0, "")
        if named is not None and not _exists(named.pid):
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return named or Holder(0, "")
        return named if named is not None and named.pid == 0 and _beats(lock) else None


def _named(text: str) -> Holder | None:
    """The holder that a lock file names; None where it names none."""
    try:
        data = json.loads(text)
        host, pid = str(data["host"]), int(data["pid"])
    except (ValueError, KeyError, TypeError):
        return None
    return Holder(pid if host == os.uname().nodename else 0, host)


def _beats(lock: Path) -> bool:
    """Whether a manager on another machine shows that it lives, see adapters.run_lock. Its time is the file server's,
    which is asked only where ours would call it gone."""
    try:
        # Opened, since NFS keeps what a look at the name has told.
        with open(os.path.splitext(lock)[0] + ".beat", "rb") as file:
            at = os.fstat(file.fileno()).st_mtime
    except OSError:
        return False
    if time.time() - at < STALE_AFTER:
        return True
    import tempfile  # a look at a run on this machine needs none

    try:
        with tempfile.TemporaryFile(dir=os.path.dirname(lock)) as file:
            os.write(file.fileno(), b"x")
            return os.fstat(file.fileno()).st_mtime - at < STALE_AFTER
    except OSError:
        return False


def _exists(pid: int) -> bool:
    if pid <= 0:
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def survival(root: Path, any_life: bool = False) -> str | None:
    """How a process has to be started that is to outlive its session: "plain" or "scope", as was tried in this life of
    the host (`any_life`: or in an earlier one); None if it was not."""
    try:
        life, way = _read(os.path.join(root, "survival"), "ascii").split()
        known = any_life or life == _read("/proc/sys/kernel/random/boot_id", "ascii").strip()
    except (OSError, ValueError):
        return None
    return way if known and way in ("plain", "scope") else None


def _read(path: Path, encoding: str, errors: str = "strict") -> str:
    with open(path, encoding=encoding, errors=errors) as file:
        return file.read()


def host_id(root: Path) -> str | None:
    """Return the identity of this host, from its directory (`root`); None if it has none yet, or a damaged one. Raises
    OSError where it cannot be read."""
    try:
        text = _read(os.path.join(root, "host_id"), "ascii", "replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return text if re.fullmatch("[0-9a-f]{32}", text) else None


def machine() -> str:
    """Identify this machine: its name and its machine-id, a line each; the second may be missing."""
    try:
        number = _read("/etc/machine-id", "ascii", "replace").strip()
    except OSError:
        number = ""
    return f"{os.uname().nodename}\n{number}".rstrip("\n")


def owner(base: Path) -> str:
    """The machine to which ~/.wavequeue (`base`) belongs, as `machine` says; empty where it says nothing. Raises
    OSError where that cannot be read."""
    try:
        return _read(os.path.join(base, "machine"), "utf-8", "surrogateescape").rstrip("\n")
    except (FileNotFoundError, NotADirectoryError):
        return ""


def place(base: Path) -> str:
    """Where all that is this host's own lies: ~/.wavequeue (`base`), unless that belongs to another machine, which has
    the same home; then a directory in it. skill.hosts.bootstrap.PLACE says the same in sh."""
    mine = machine()
    if owner(base) in ("", mine):
        return os.fspath(base)
    name, _, number = mine.partition("\n")
    safe = re.sub(b"[^A-Za-z0-9.-]", b"_", os.fsencode(name)).decode()
    return os.path.join(base, "hosts", f"{safe}-{number[:8]}")


def state_meta(state: Path) -> dict[str, Any]:
    """Return the `meta` of a state file, of which only the beginning is read; {} where there is none."""
    try:
        fd = os.open(state, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO there is not waited for
        with os.fdopen(fd, "rb") as file:
            line = file.readline(_HEAD) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
        meta = json.loads(line.rstrip(b",\n") + b"}")["meta"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return meta if isinstance(meta, dict) else {}


def describe(run_id: str) -> dict[str, Any]:
    """The document. `manager_pid` is None, or as `held_by` tells; `ended`: the run's state says that it has finished.

    `libc`: "glibc 2.36", and empty where it is another one. `place`: as `place` says, below the home; `owner`: the name
    of the machine to which the home belongs, where that is another one; `named`: whether it is written down whose it
    is; `machine_digest`: of what this one is called. Where one of these files cannot be read: {"fault": TEXT}.
    """
    try:
        return _describe(run_id)
    except OSError as error:
        return {"fault": f"{error.filename or '~/.wavequeue'} cannot be read there: {error.strerror or error}"}


def _describe(run_id: str) -> dict[str, Any]:
    import hashlib  # a look at a run needs none

    home = os.path.expanduser("~")
    base = os.path.join(home, ".wavequeue")
    root, whose = place(base), owner(base)
    found: dict[str, Any] = {
        "host_id": host_id(root),
        "place": os.path.relpath(root, home),
        "owner": whose.partition("\n")[0] if root != base else None,
        "named": bool(whose),
        "machine_digest": hashlib.sha256(machine().encode(errors="surrogateescape")).hexdigest()[:32],
        "runtimes": _names(os.path.join(base, "runtime")),
        "libc": _libc(),
        "survival": survival(root),
        "manifest_sha256": None,
        "manager_pid": None,
        "ended": False,
    }
    if run_id:
        run = os.path.join(root, "runs", run_id)
        try:
            with open(os.path.join(run, "manifest.json"), "rb") as file:
                found["manifest_sha256"] = hashlib.sha256(file.read()).hexdigest()
        except OSError:
            pass  # there is none yet
        # First the lock: a manager that ends in between has written its last state before.
        found["manager_pid"] = held_by(os.path.join(run, "manager.lock"))
        found["ended"] = state_meta(os.path.join(run, "queue_state.json")).get("manager") == "finished"
    return found


def _names(folder: Path) -> list[str]:
    """The runtimes that are whole: what is being unpacked has a dot before its name."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError:
        return []


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        return ""


def is_session(pid: int, name: str) -> bool:
    """Whether a process leads the session of this name: after a restart its number may be anybody's. Its command line
    has that name for a word, whatever the launcher."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return name.encode() in file.read().split(b"\0")
    except OSError:
        return False


if __name__ == "__main__":
    print(json.dumps(describe(sys.argv[1] if len(sys.argv) > 1 else "")))
