"""One listing of Slurm's queue for all runs of a user on a machine: what one has just asked, others need not ask again.

A listing carries when it was asked, and what is concluded from it rests on that. So an older one is never wrong, and
whether one is young enough is the reader's to say. Whatever goes wrong with the file, Slurm is asked.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from queue_manager.adapters.files import make_directory, write_whole
from queue_manager.adapters.host import boot_id
from queue_manager.adapters.regular import read_regular

_MOST = 64 << 20


class SharedListing:
    """The listing in the file `path`. `environment`: the one in which squeue is called: it chooses the cluster."""

    def __init__(self, path: Path, environment: Mapping[str, str]) -> None:
        names = ("SLURM_CONF", "SLURM_CLUSTERS")
        squeue = shutil.which("squeue", path=environment.get("PATH"))
        self._path, self._cluster = path, [squeue, *map(environment.get, names)]

    def read(self, since: float) -> tuple[float, str] | None:
        """Return when Slurm was asked (epoch seconds) and what squeue printed, where that was `since` then or later;
        None where nobody has asked since."""
        try:
            head, _, text = read_regular(self._path, _MOST).decode().partition("\n")
            found = json.loads(head)
            # Times of another machine, whose clock may differ, say nothing here.
            if (found["cluster"], found["boot"]) != (self._cluster, boot_id()) or not since <= found["asked"]:
                return None
            return float(found["asked"]), text
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def write(self, asked: float, text: str) -> None:
        """Let others have a listing, if that can be written."""
        head = json.dumps({"asked": asked, "boot": boot_id(), "cluster": self._cluster})
        with contextlib.suppress(OSError):
            make_directory(self._path.parent)
            write_whole(self._path, [f"{head}\n{text}".encode()], durable=False)
