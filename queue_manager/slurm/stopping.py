"""Ends one attempt: by its task, or alone where its task runs others as well."""

from __future__ import annotations

import contextlib

from queue_manager.core.layout import AttemptPaths
from queue_manager.slurm import attempt_files, commands, wrapper
from queue_manager.slurm.cluster import Cluster
from queue_manager.slurm.places import Place

SILENT = 6
"""Heartbeats that are missing, after which an attempt counts as dead although its task runs: over NFS such a sign may
be seen a minute late."""


def stop(cluster: Cluster, place: Place, files: AttemptPaths, kill: bool, killed_for: float) -> None:
    """Ask an attempt to end, or have it killed, which was asked for first `killed_for` seconds ago. Where it does not
    end although its task was told, all of the task is ended."""
    if not place.has_others or (kill and killed_for > SILENT * wrapper.BEAT):
        cluster.tell(commands.end if kill else commands.ask_to_end, [place.task])
        return
    with contextlib.suppress(OSError):  # it is asked again
        attempt_files.ask(files, kill)
        cluster.tell(commands.ask_to_read, [place.task])
