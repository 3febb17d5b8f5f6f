"""Ports that runs of all users of a host have: each user's are files in a folder of theirs, made before the others' are
looked at, so that of two who want one port at least one sees the other. What is claimed keeps nobody from all ports:
see `distributed.Ports`.
"""

from __future__ import annotations

import contextlib

from queue_manager.adapters import files
from queue_manager.adapters.shared_directory import SharedDirectory
from queue_manager.core import layout


class SharedPorts:
    """This user's ports among those of all. `boot`: of the host; no port is held after the end of its kernel's life."""

    def __init__(self, directory: SharedDirectory, boot: str) -> None:
        self._directory, self._kernel = directory, boot.partition(".")[0]
        with contextlib.suppress(OSError):
            folder = directory.own(make=False)
            for path in () if folder is None else folder.glob(layout.shared_port("*")):
                if path.read_text(errors="replace").partition(" ")[0] != self._kernel:
                    path.unlink()

    def claim(self, port: int, key: str) -> bool:
        """Take a port for a run (`key`: see layout.run_key), unless somebody has it. True also where that is
        unknown."""
        try:
            folder = self._directory.own()
            if folder is None:
                return True
            files.write_new(folder / layout.shared_port(port), self._words(key), files.SHOWN)
            others = (one for one in self._directory.folders() if one.uid != self._directory.uid)
            taken = any(one.has(layout.shared_port(port)) for one in others)
        except FileExistsError:
            return False
        except OSError:
            self._directory.forget_own()
            return True
        if taken:
            self.give_back(port, key)
        return not taken

    def give_back(self, port: int, key: str) -> None:
        """The run no longer has a port."""
        with contextlib.suppress(OSError):
            folder = self._directory.own(make=False)
            path = None if folder is None else folder / layout.shared_port(port)
            if path is not None and path.read_text(errors="replace") == self._words(key):
                path.unlink()

    def _words(self, key: str) -> str:
        return f"{self._kernel} {layout.shared_name(key)}"
