"""Puts the parts together by which a manager runs its attempts on Slurm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from queue_manager.adapters import evidence
from queue_manager.adapters.distributed import Ports
from queue_manager.adapters.named_values import NamedValues
from queue_manager.adapters.run_dir import RunDir
from queue_manager.code_watch import CodeWatch
from queue_manager.core.boundary import Admitted
from queue_manager.core.layout import HostPaths
from queue_manager.core.model import QueueState
from queue_manager.launch import Launch
from queue_manager.launchers.launcher import Launcher
from queue_manager.launchers.script import Given
from queue_manager.slurm import batches, commands, refill
from queue_manager.slurm.admission import Admission
from queue_manager.slurm.batches import Batches
from queue_manager.slurm.cluster import Cluster, Listing
from queue_manager.slurm.launch import SlurmLaunch
from queue_manager.slurm.pools import Pools
from queue_manager.slurm.shared_listing import SharedListing
from queue_manager.slurm.watch import LOOKS_PER_POLL, SlurmWatch

WINDOW = 1000
"""Attempts that Slurm has at a time, running or waiting, where `max_parallel` does not say."""
_AGAIN = 1.0
"""Seconds between two looks at whether sbatch waits."""


class Engine:
    """The parts of one run. `poll` in seconds; `clock` gives epoch seconds."""

    def __init__(
        self,
        state: QueueState,
        run_dir: RunDir,
        key: str,
        home: HostPaths,
        environment: Mapping[str, str],
        patterns: Callable[[], evidence.Patterns],
        clock: Callable[[], float],
        poll: float,
        cluster: Cluster | None = None,
    ) -> None:
        self.store = Batches(run_dir.paths, key, state.run_id)
        self.cluster = cluster or Cluster(environment, clock, SharedListing(home.squeue, environment))
        self.admission = Admission(state.manifest.max_parallel or WINDOW, state.machine.conditions)
        shown = (poll, lambda: state.paused, self.admission)
        self.pools = Pools(run_dir.paths, self.store, self.cluster, key, *shown)
        self.watch = SlurmWatch(run_dir, self.store, self.cluster, patterns, clock, *shown, self.pools)
        self._state, self._poll, self._clock = state, poll, clock
        self._asks_at = self._reads_at = 0.0
        self._heard: Listing | None = None

    def launch(
        self,
        state: QueueState,
        run_dir: RunDir,
        launcher: Launcher,
        key: str,
        given: Given,
        ports: Ports,
        named: NamedValues,
        code: CodeWatch,
    ) -> Launch:
        """What submits the attempts, see Launch."""
        parts = (state, run_dir, launcher, key, given, ports, named, code)
        return SlurmLaunch(*parts, self.store, self.cluster, self.watch, self.admission, self.pools)

    def look(self, now: float) -> Admitted:
        """Return what Slurm takes of the run now (epoch seconds). Has Slurm asked for what has to be known for that."""
        if self.cluster.configuration is not None:
            self.admission.configured(self.cluster.configuration)
        listing = self.cluster.listing
        if listing is not None and listing is not self._heard:
            self._heard = listing
            self.admission.listed(listing.tasks, now)
        if self.admission.is_silent and now >= self._asks_at:
            self._asks_at = now + self._poll * LOOKS_PER_POLL * self.admission.slower
            self.cluster.configure()
            self.cluster.look()
        sending = self.cluster.sending
        if sending is not None and now >= self._reads_at:
            self._reads_at = now + _AGAIN
            self.admission.waits(commands.is_full(batches.complaint(sending)))
        live, queued = len(self._state.live), self._state.tallies.queued
        found = self.admission.look(live, bool(self._state.ready.needs()), now)
        return replace(found, room=refill.allowed(found.room, self.admission.window.size, live, queued))

    def due(self) -> float | None:
        """Return when to look again though nothing has happened (epoch seconds)."""
        times = [self.admission.due(self._clock()), self._asks_at if self.admission.is_silent else None]
        return min((at for at in times if at is not None), default=None)

    def resumed(self) -> None:
        """A person has resumed the run: nodes that were excluded get tasks again."""
        self.admission.nodes.forgive()
