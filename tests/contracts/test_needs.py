"""What a home lacks is found by trying it, on file systems that lack it."""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from queue_manager.remote import needs

Mount = Callable[[str], Path]


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mount]:
    """Mounts a tmpfs with options, and takes it away again. Who may not mount gets the errors alone."""
    place = tmp_path / "home"
    place.mkdir()

    def made(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(place)]
        try:
            mounted = subprocess.run(command, capture_output=True).returncode == 0
        except FileNotFoundError:
            mounted = False
        if not mounted and "noexec" in options:
            monkeypatch.setattr(mmap, "mmap", fails(errno.EPERM))
        elif not mounted:
            monkeypatch.setattr(os, "posix_fallocate", fails(errno.ENOSPC))
        return place

    yield made
    if os.path.ismount(place):
        subprocess.run(["umount", str(place)], check=True)


def fails(number: int) -> Callable[..., Any]:
    def call(*_arguments: Any, **_named: Any) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return call


def test_a_home_that_serves_has_no_fault_and_is_left_as_it_was(tmp_path: Path) -> None:
    found = needs.describe(tmp_path, str(tmp_path))
    assert found["home"] == []
    assert found["shm_mib"] > 0
    assert list(tmp_path.iterdir()) == []
    assert needs.describe(tmp_path, str(tmp_path / "none"))["shm_mib"] is None


def test_a_home_that_is_mounted_noexec_is_named(mount: Mount) -> None:
    (fault,) = needs.home_faults(mount("noexec,size=64m"))
    assert fault.startswith("its home is mounted noexec")


def test_a_home_without_room_is_named(mount: Mount) -> None:
    (fault,) = needs.home_faults(mount("size=4m"))
    assert fault.startswith("its home has no room for 32 MiB: No space left on device")


def test_a_quota_is_reported_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", fails(errno.EDQUOT))
    (fault,) = needs.home_faults(tmp_path)
    assert fault.startswith("its home has no room for 32 MiB: Disk quota exceeded")


def test_what_a_file_system_cannot_try_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", fails(errno.EOPNOTSUPP))
    monkeypatch.setattr(os, "link", fails(errno.EPERM))  # an attempt is claimed without
    assert needs.home_faults(tmp_path) == []


def test_a_home_that_cannot_be_written_into_is_named(tmp_path: Path) -> None:
    (fault,) = needs.home_faults(tmp_path / "none")
    assert fault.startswith(f"nothing can be written into {tmp_path / 'none'}: ")
