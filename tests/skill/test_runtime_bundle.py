"""The runtime for hosts: the same bytes from the same files, only what is needed, and for the right machine."""

from __future__ import annotations

import io
import platform
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from skill.common.errors import FailedError
from skill.hosts import runtime_bundle
from skill.hosts.runtime_bundle import MACHINES, Bundle

GLIBC = "glibc 2.31"
HERE = platform.machine()
OTHER = next(name for name in MACHINES if name != HERE)


def unpacked(made: Bundle) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(made.data)) as archive:
        return {info.name: archive.extractfile(info).read() for info in archive}  # type: ignore[union-attr]


def elf(machine: str) -> bytes:
    """The head of a compiled file for a machine."""
    return b"\x7fELF\x02\x01".ljust(18, b"\0") + struct.pack("<H", MACHINES[machine]) + b"rest"


def version() -> str:
    found = runtime_bundle._VERSION.search(runtime_bundle._installed("psutil/__init__.py").read_text())
    assert found
    return found[1]


def wheel(
    cache: Path, machine: str, compiled: bytes, tag: str = "cp36-abi3-manylinux2014_{0}.manylinux_2_17_{0}"
) -> Path:
    """A wheel of psutil as an index has it, in the cache."""
    cache.mkdir(exist_ok=True)
    path = cache / f"psutil-{version()}-{tag.format(machine)}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {
            "psutil/__init__.py": b"made up",
            "psutil/_pslinux.py": b"",
            "psutil/_pswindows.py": b"",
            "psutil/tests/test_all.py": b"",
            "psutil/_psutil_linux.abi3.so": compiled,
            "psutil/_psutil_windows.pyd": b"",
        }.items():
            archive.writestr(name, data)
    return path


def test_the_same_files_give_the_same_bytes_and_others_another_name() -> None:
    one = runtime_bundle.pack({"a.py": b"1", "b/c.py": b"2"})
    again = runtime_bundle.pack({"b/c.py": b"2", "a.py": b"1"})
    assert (again.digest, again.data) == (one.digest, one.data)
    digests = {
        runtime_bundle.pack(files).digest for files in ({"a.py": b"12"}, {"a.py": b"1", "2": b""}, {"a.py1": b"2"})
    }
    assert len(digests | {one.digest}) == 4


def test_it_is_built_once_and_not_packed_before_it_is_sent(tmp_path: Path) -> None:
    made = runtime_bundle.bundle(HERE, GLIBC, tmp_path)
    assert "data" not in vars(made)
    assert made.data is made.data
    assert runtime_bundle.bundle(HERE, GLIBC, tmp_path) is made


def test_only_what_a_host_needs_is_in_it(tmp_path: Path) -> None:
    wheel(tmp_path, OTHER, elf(OTHER))
    for machine in MACHINES:
        names = set(unpacked(runtime_bundle.bundle(machine, GLIBC, tmp_path)))
        assert {"__main__.py", "pynvml.py", "queue_manager/__main__.py", "queue_manager/core/tick.py"} <= names
        assert {"psutil/__init__.py", "psutil/_pslinux.py", "psutil/_psutil_linux.abi3.so"} <= names
        odd = ("__pycache__", "test", "windows", "osx", "bsd", "aix", "sunos", "skill")
        assert [name for name in names if any(word in name for word in odd)] == []


def test_a_python_without_any_library_runs_it(tmp_path: Path) -> None:
    made = runtime_bundle.bundle(HERE, GLIBC, tmp_path / "cache")
    with tarfile.open(fileobj=io.BytesIO(made.data)) as archive:
        archive.extractall(tmp_path / "runtime", filter="data")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", tmp_path / "runtime", "queue_manager", "--help"], capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"--manifest" in done.stdout


def test_for_another_machine_the_wheel_in_the_cache_serves(tmp_path: Path) -> None:
    wheel(tmp_path, OTHER, elf(OTHER))
    files = unpacked(runtime_bundle.bundle(OTHER, GLIBC, tmp_path))
    assert files["psutil/_psutil_linux.abi3.so"] == elf(OTHER)
    assert files["psutil/__init__.py"] == b"made up"
    assert runtime_bundle.bundle(OTHER, GLIBC, tmp_path) != runtime_bundle.bundle(HERE, GLIBC, tmp_path)


def test_a_wheel_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    path = wheel(tmp_path, OTHER, elf(HERE))
    with pytest.raises(FailedError, match=f"contains no psutil for {OTHER}; remove it"):
        runtime_bundle.bundle(OTHER, GLIBC, tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FailedError, match=f"{path.name} cannot be used"):
        runtime_bundle.bundle(OTHER, GLIBC, tmp_path)


def test_without_internet_it_says_what_to_run_where_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    for tag in ("cp36-abi3-musllinux_1_2_{0}", "cp313-cp313-manylinux2014_{0}"):
        wheel(tmp_path, OTHER, elf(OTHER), tag)
    with pytest.raises(FailedError) as caught:
        runtime_bundle.bundle(OTHER, GLIBC, tmp_path)
    assert f"psutil for {OTHER} hosts is not on this machine" in str(caught.value)
    assert f"--dest {tmp_path} psutil=={version()}" in str(caught.value)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("machine", "libc", "says"),
    [("riscv64", GLIBC, "riscv64 are not supported; supported: x86_64, aarch64"), (HERE, "", "has no glibc")],
)
def test_a_host_that_is_not_served_is_named(machine: str, libc: str, says: str) -> None:
    with pytest.raises(FailedError, match=says):
        runtime_bundle.bundle(machine, libc)
