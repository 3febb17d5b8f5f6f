"""The runtime as a host gets it by a submit, for the hosts of all workers of the same tests: to unpack, compile and try
it anew takes each of them some seconds, and is the subject of other tests."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path

from skill.hosts import bootstrap, runtime_bundle
from tests import shared_folder

_RUNTIME = Path(".wavequeue") / "runtime"


def give(home: Path, *, tried: bool = True) -> None:
    """Give a new host the runtime, as a link to what all hosts have and nobody writes to. `tried`: and what is known of
    a host that has been used, that processes outlive their session."""
    (home / ".wavequeue").mkdir(mode=0o700)
    if tried:
        life = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        known = home / ".wavequeue" / "survival"
        known.write_text(f"{life} plain\n")
        known.chmod(0o600)
    (home / _RUNTIME).mkdir(mode=0o700)
    for kept in _kept():
        (home / _RUNTIME / kept.name).symlink_to(kept)


def _kept() -> list[Path]:
    """The runtime, which whoever needs it first unpacks and compiles."""
    folder = shared_folder.path()
    kept = folder / _RUNTIME
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            made = runtime_bundle.bundle(platform.machine(), " ".join(platform.libc_ver()))
            words = ("-I", "-S", "-B", "-c", bootstrap.UNPACK, made.digest, hashlib.sha256(made.data).hexdigest())
            python = os.path.realpath(sys.executable)
            subprocess.run([python, *words], input=made.data, env={"HOME": str(folder)}, check=True)
    return list(kept.iterdir())
