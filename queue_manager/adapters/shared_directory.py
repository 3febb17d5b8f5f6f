"""The directory that all users of a host share, with a folder for each: its owner says whose it is, not its name.

It is owned by root and has the sticky bit, so nobody can remove or replace files of others. It is chosen by facts that
every user sees alike, so that all choose the same.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from queue_manager.adapters import files
from queue_manager.core import layout
from queue_manager.core.layout import LOCK_DIR_VARIABLE, SHARED_PLACES, SharedPaths

MOST_ENTRIES = 10_000
"""So many entries are looked at: whoever makes more of them must not keep others busy."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class Folder(NamedTuple):
    """A user's folder, open for as long as it is looked at."""

    uid: int
    fd: int
    path: Path

    def names(self) -> Iterator[str]:
        """What lies there. Raises OSError."""
        with os.scandir(self.fd) as entries:
            for _, entry in zip(range(MOST_ENTRIES), entries):
                yield entry.name

    def has(self, name: str) -> bool:
        """Whether this user has a file of this name."""
        try:
            found = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except OSError:
            return False
        return stat.S_ISREG(found.st_mode) and found.st_uid == self.uid

    def open(self, name: str, most: int) -> int | None:
        """The descriptor of a regular file of this user's of at most `most` bytes; None for all else."""
        try:
            fd = os.open(name, _FILE, dir_fd=self.fd)
        except OSError:
            return None
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode) and found.st_uid == self.uid and found.st_size <= most:
            return fd
        os.close(fd)
        return None


class SharedDirectory:
    """Where runs of all users of this host tell each other what they have. `fault`: why there is none, in words."""

    def __init__(self, root: Path, uid: int | None = None, fault: str | None = None) -> None:
        self.root, self.paths, self.fault = root, SharedPaths(root), fault
        self.uid = os.geteuid() if uid is None else uid
        self._own: Path | None = None

    @classmethod
    def find(cls, environment: Mapping[str, str]) -> SharedDirectory:
        """The one that is named in `environment`, else the first of those that hosts have and that is fit."""
        named = environment.get(LOCK_DIR_VARIABLE)
        places = [Path(named)] if named else [Path(place) for place in SHARED_PLACES]
        faults = []
        for place in places:
            fault = unfit(place, bool(named), os.geteuid())
            if fault is None:
                return cls(place)
            faults.append(f"{place} {fault}")
        how = (
            "fix it"
            if named
            else f"create one owned by root with mode 1777 and name it in {LOCK_DIR_VARIABLE} for all users"
        )
        return cls(places[0], fault=f"no directory shared by all users can be used: {'; '.join(faults)}; {how}")

    def folders(self) -> Iterator[Folder]:
        """The users' folders, one after the other. Raises OSError where the directory cannot be read."""
        with os.scandir(self.root) as entries:
            for _, entry in zip(range(MOST_ENTRIES), entries):
                uid = layout.uid_of_folder(entry.name)
                fd = None if uid is None else self._open(entry.name)
                if uid is None or fd is None:
                    continue
                try:
                    if os.fstat(fd).st_uid == uid:
                        yield Folder(uid, fd, self.root / entry.name)
                finally:
                    os.close(fd)

    def _open(self, name: str) -> int | None:
        try:
            return os.open(self.root / name, _FOLDER)
        except OSError:
            return None

    def own(self, make: bool = True) -> Path | None:
        """This user's folder; None where there is none and it is not to be made, or no directory. Raises OSError."""
        if self.fault is not None:
            return None
        if self._own is None:
            mine = sorted(folder.path for folder in self.folders() if folder.uid == self.uid)
            if not mine and not make:
                return None
            self._own = mine[0] if mine else self._make()
        return self._own

    def forget_own(self) -> None:
        """Look for it anew: somebody has cleaned up."""
        self._own = None

    def _make(self) -> Path:
        path = self.root / layout.shared_folder(self.uid)
        try:
            files.make_shown_directory(path)
        except FileExistsError:  # somebody else has taken the name
            path = self.root / layout.shared_folder(self.uid, os.urandom(4).hex())
            files.make_shown_directory(path)
        return path


def unfit(path: Path, named: bool, uid: int) -> str | None:
    """Why a directory cannot be the one that all users share, in words; None if it can. `named`: somebody has chosen
    it, and it may be this user's (`uid`) alone."""
    if not path.is_absolute():
        return "is not an absolute path"
    try:
        found = os.stat(path)
        read_only = os.statvfs(path).f_flag & os.ST_RDONLY
    except OSError as error:
        return f"cannot be used ({error.strerror})"
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISDIR(found.st_mode):
        return "is not a directory"
    if found.st_uid != 0 and not (named and found.st_uid == uid):
        return f"belongs to uid {found.st_uid}, who could replace what others make there"
    if mode & _OTHERS and not mode & stat.S_ISVTX:
        return f"lets users replace what others make there (mode {mode:04o})"
    if not named and not mode & stat.S_IWOTH:
        return f"is not open to all users (mode {mode:04o})"
    return "is read-only" if read_only else None
