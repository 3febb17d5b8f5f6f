"""The runtime that a host got by a submit, kept for later hosts of all workers of the same tests: to unpack, compile
and try it anew takes each of them some seconds, and is the subject of other tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

_RUNTIME = Path(".wavequeue") / "runtime"
_VARIABLE = "WAVEQUEUE_KEPT_RUNTIME"


def begin() -> Path | None:
    """Make the folder that workers which begin after this share. None in a worker, which has one from whoever began."""
    if os.environ.get(_VARIABLE):
        return None
    folder = Path(tempfile.mkdtemp(prefix="wq-runtime-"))
    os.environ[_VARIABLE] = str(folder)
    return folder


def keep(home: Path) -> None:
    """Keep the runtime of a host that has one, if none is kept yet."""
    if _kept().exists() or not any(place.name[0] != "." for place in _there(home)):
        return
    copy = Path(tempfile.mkdtemp(dir=_kept().parent)) / "runtime"
    shutil.copytree(home / _RUNTIME, copy, ignore=shutil.ignore_patterns(".new-*"))
    with contextlib.suppress(OSError):  # another worker was first
        copy.rename(_kept())


def give(home: Path) -> None:
    """Give a new host the runtime that is kept, and what was tried there before. Times are kept as well, by which
    compiled files are known."""
    (home / ".wavequeue").mkdir(mode=0o700)
    life = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (home / ".wavequeue" / "survival").write_text(f"{life} plain\n")
    if _kept().exists():
        shutil.copytree(_kept(), home / _RUNTIME)


def _kept() -> Path:
    return Path(os.environ[_VARIABLE]) / "kept"


def _there(home: Path) -> list[Path]:
    return list((home / _RUNTIME).iterdir()) if (home / _RUNTIME).is_dir() else []
