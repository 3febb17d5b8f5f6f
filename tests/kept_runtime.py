"""The runtime that a host got by a submit, kept for later hosts of the same tests: to unpack, compile and try it anew
takes each of them over a second, and is the subject of other tests."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

_RUNTIME = Path(".wavequeue") / "runtime"
_kept: list[Path] = []


def keep(home: Path) -> None:
    """Keep the runtime of a host that has one, if none is kept yet."""
    if _kept or not any(place.name[0] != "." for place in _there(home)):
        return
    folder = Path(tempfile.mkdtemp(prefix="wq-runtime-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shutil.copytree(home / _RUNTIME, folder / "runtime", ignore=shutil.ignore_patterns(".new-*"))
    _kept.append(folder / "runtime")


def give(home: Path) -> None:
    """Give a new host the runtime that is kept, and what was tried there before. Times are kept as well, by which
    compiled files are known."""
    (home / ".wavequeue").mkdir(mode=0o700)
    life = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (home / ".wavequeue" / "survival").write_text(f"{life} plain\n")
    if _kept:
        shutil.copytree(_kept[0], home / _RUNTIME)


def _there(home: Path) -> list[Path]:
    return list((home / _RUNTIME).iterdir()) if (home / _RUNTIME).is_dir() else []
