"""The runtime for a host: our package with psutil and pynvml, as one tar, named by its content.

On the host it is a folder that Python runs: `PYTHON FOLDER MODULE ARGUMENTS`. The path to it is in no environment
variable, which jobs would inherit.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import re
import shlex
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from queue_manager.core import layout
from queue_manager.core.excerpt import excerpt
from skill.common.errors import FailedError
from skill.common.files import make_directory

MACHINES = {"x86_64": 62, "aarch64": 183}
"""What can be served, by `uname -m`, with the number that ELF files have for it."""
_MAIN = '''\
"""Runs a module of this folder: PYTHON FOLDER MODULE ARGUMENTS."""

import gc
import importlib
import os
import sys

del sys.argv[0]
name = sys.argv[0]
# Every version calls the commands of a host `queue_manager.NAME`, wherever a runtime has them.
if name == "queue_manager":
    name = "queue_manager.__main__"
elif not os.path.exists(os.path.join(sys.path[0], *name.split(".")) + ".py"):
    name = name.replace("queue_manager.", "queue_manager.remote.", 1)
# Of what is imported nothing is garbage, and to look for some takes a sixth of the start.
gc.disable()
# runpy would do it as well, and take longer than the command.
main = importlib.import_module(name).main
gc.freeze()
gc.enable()
sys.exit(main())
'''
_PSUTIL = re.compile(r"psutil/(?:__init__|_common|_ntuples|_pslinux|_psposix|_compat)\.py")
_COMPILED = re.compile(r"psutil/_psutil_(?:linux|posix)\.abi3\.so")
_VERSION = re.compile(r"^__version__ = ['\"]([^'\"]+)['\"]", re.MULTILINE)
_PYTHON = "39"
"""The oldest Python of a host, for which compiled parts have to serve."""
_PATIENCE = 120.0
_CANNOT = (
    "psutil for {machine} hosts is not on this machine and could not be downloaded: {why}. On a machine with internet "
    "access, run: {fetch}"
)


@dataclass(frozen=True)
class Bundle:
    """`digest` names it: of what is in it, not of how it is packed. `files`: content by name."""

    digest: str
    files: Mapping[str, bytes]

    @functools.cached_property
    def data(self) -> bytes:
        """A tar.gz. Packed when a host lacks it, which few do: that takes ten times as long as all before."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for name in sorted(self.files):
                info = tarfile.TarInfo(name)
                # The hour at which time began would make compiled files stale where a clock is wrong.
                info.size, info.mode, info.mtime = len(self.files[name]), 0o600, 1_000_000_000
                archive.addfile(info, io.BytesIO(self.files[name]))
        return gzip.compress(buffer.getvalue(), 6, mtime=0)

    @functools.cached_property
    def zipped(self) -> bytes:
        """A zip from which Python runs what needs no compiled part: all that looks at a host and keeps nothing
        there."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in sorted(self.files.items()):
                if not name.startswith("psutil/"):
                    archive.writestr(name, data)
        return buffer.getvalue()


def bundle(machine: str, libc: str, cache: Path | None = None) -> Bundle:
    """Build the runtime for a kind of host. `machine`: as uname -m says; `libc`: "glibc 2.36"; `cache`: folder of
    wheels.

    Raises FailedError where it cannot be had.
    """
    if machine not in MACHINES:
        raise FailedError(f"hosts of the kind {machine} are not supported; supported: {', '.join(MACHINES)}")
    if not libc.startswith("glibc"):
        raise FailedError(
            "it has no glibc (Alpine and other systems with musl have none), for which psutil is built; use an image "
            "with glibc, as Debian's and Ubuntu's are"
        )
    return _built(machine, cache or wheels())


@functools.cache
def _built(machine: str, cache: Path) -> Bundle:
    """Build it once in a process: all hosts get the code that this process has."""
    files = {"__main__.py": _MAIN.encode(), **_queue_manager(), "pynvml.py": _installed("pynvml.py").read_bytes()}
    return pack({**files, **_psutil(machine, cache)})


def wheels() -> Path:
    """Return the directory with wheels for other machines."""
    return Path.home() / ".cache" / "wavequeue" / "wheels"


def pack(files: Mapping[str, bytes]) -> Bundle:
    """Make a bundle of these files, named by their names and content."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    return Bundle(digest.hexdigest()[:32], files)


def _queue_manager() -> dict[str, bytes]:
    folder = Path(layout.__file__).parents[1]
    return {
        path.relative_to(folder.parent).as_posix(): path.read_bytes() for path in folder.rglob("*.py") if path.is_file()
    }


def _installed(name: str) -> Path:
    """Read a file of a library that is installed here. Raises FailedError."""
    for folder in sys.path:
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    raise FailedError(f"{name} is not installed here; reinstall wavequeue: pip install --force-reinstall wavequeue")


def _psutil(machine: str, cache: Path) -> dict[str, bytes]:
    """Find psutil for a machine: the one installed here if it is for that machine and for every Python, or a
    wheel's."""
    folder = _installed("psutil/__init__.py").parent
    here = _needed((f"psutil/{path.name}", path) for path in folder.iterdir())
    if _serves(here, machine):
        return here
    found = _VERSION.search(here["psutil/__init__.py"].decode())
    if found is None:
        raise FailedError(f"{folder} does not say which version of psutil it is; reinstall it")
    wheel = _wheel(cache, found[1], machine) or _fetch(cache, found[1], machine)
    try:
        with zipfile.ZipFile(wheel) as archive:
            files = _needed((name, zipfile.Path(archive, name)) for name in archive.namelist())
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        raise FailedError(f"{wheel} cannot be used ({error}); remove it, and it will be downloaded again") from None
    if not _serves(files, machine):
        raise FailedError(f"{wheel} contains no psutil for {machine}; remove it, and it will be downloaded again")
    return files


def _needed(files: Iterator[tuple[str, Path | zipfile.Path]]) -> dict[str, bytes]:
    """Choose what a Linux host needs of psutil."""
    return {name: path.read_bytes() for name, path in files if _PSUTIL.fullmatch(name) or _COMPILED.fullmatch(name)}


def _serves(files: Mapping[str, bytes], machine: str) -> bool:
    """Tell whether the compiled part is there, and for this machine."""
    compiled = [data for name, data in files.items() if _COMPILED.fullmatch(name)]
    return bool(compiled) and "psutil/__init__.py" in files and all(elf_machine(data) == machine for data in compiled)


def elf_machine(data: bytes) -> str | None:
    """Return the machine that a compiled file is for, as uname -m names it; None for any other."""
    if len(data) < 20 or data[:6] != b"\x7fELF\x02\x01":  # 64 bits, little-endian: both of ours are
        return None
    (number,) = struct.unpack_from("<H", data, 18)
    return next((name for name, known in MACHINES.items() if known == number), None)


def _wheel(cache: Path, version: str, machine: str) -> Path | None:
    """Find a wheel in the cache that works on this machine with any Python."""
    for path in sorted(cache.glob(f"psutil-{version}-*.whl")):
        _, _, _, abi, platforms = path.stem.split("-", 4)
        fits = [name for name in platforms.split(".") if name.startswith("manylinux") and name.endswith(f"_{machine}")]
        if fits and "abi3" in abi.split("."):
            return path
    return None


def build_fetch(folder: Path, version: str, machine: str) -> list[str]:
    """Build the command that downloads psutil's wheel for a machine, without the Python that runs it."""
    return [
        "-m", "pip", "download", "--only-binary=:all:", "--no-deps",
        *(part for tag in ("manylinux2014", "manylinux_2_17", "manylinux2010", "manylinux_2_12", "manylinux_2_28")
          for part in ("--platform", f"{tag}_{machine}")),
        "--python-version", _PYTHON, "--implementation", "cp", "--abi", "abi3",
        "--dest", str(folder), f"psutil=={version}",
    ]  # fmt: skip


def _fetch(cache: Path, version: str, machine: str) -> Path:
    """Download the whole wheel into the cache, or nothing. Raises FailedError that says how to do it by hand."""
    fetch = shlex.join(["python3", *build_fetch(cache, version, machine)])
    try:
        make_directory(cache)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".fetch-") as folder:
            command = [sys.executable, *build_fetch(Path(folder), version, machine), "--disable-pip-version-check"]
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE, check=False
            )
            for path in Path(folder).glob("*.whl"):
                path.replace(cache / path.name)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FailedError(_CANNOT.format(machine=machine, why=error, fetch=fetch)) from None
    found = _wheel(cache, version, machine)
    if found is None:
        why = excerpt(done.stderr) or f"exit code {done.returncode}"
        raise FailedError(_CANNOT.format(machine=machine, why=why, fetch=fetch))
    return found
