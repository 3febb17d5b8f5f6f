"""The directory that all users of a host share: one for each host of the tests, whose cards are called alike."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from queue_manager.adapters.shared_directory import SharedDirectory
from queue_manager.core import layout
from queue_manager.core.layout import LOCK_DIR_VARIABLE

NOBODY = 65534


def make(path: Path) -> dict[str, str]:
    """Make one; what managers on that host need in their environment."""
    path.mkdir(exist_ok=True)
    path.chmod(0o1777)
    return {LOCK_DIR_VARIABLE: str(path)}


def set_for_all() -> Path:
    """Give this process, and what it starts without saying more, one that is not that of this machine."""
    folder = Path(tempfile.mkdtemp(prefix="wq-lock-"))
    os.environ.update(make(folder))
    return folder


def of(root: Path) -> SharedDirectory:
    """One as this user sees it."""
    return SharedDirectory.find(make(root / "lock"))


def put(directory: SharedDirectory, name: str, data: bytes, uid: int = NOBODY, folder_uid: int | None = None) -> Path:
    """Write a file into another user's folder, as that user would. Only root may."""
    folder = directory.root / layout.shared_folder(uid)
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(data)
    os.chown(path, uid, -1)
    os.chown(folder, uid if folder_uid is None else folder_uid, -1)
    return path
