"""Puts the parts together by which a manager runs its attempts on Slurm."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from queue_manager.adapters import evidence
from queue_manager.adapters.distributed import Ports
from queue_manager.adapters.named_values import NamedValues
from queue_manager.adapters.run_dir import RunDir
from queue_manager.code_watch import CodeWatch
from queue_manager.core.model import QueueState
from queue_manager.launch import Launch
from queue_manager.launchers.launcher import Launcher
from queue_manager.launchers.script import Given
from queue_manager.slurm.batches import Batches
from queue_manager.slurm.cluster import Cluster
from queue_manager.slurm.launch import SlurmLaunch
from queue_manager.slurm.watch import SlurmWatch

WINDOW = 1000
"""Attempts that Slurm has at a time, running or waiting, where `max_parallel` does not say."""


class Engine:
    """The parts of one run. `poll` in seconds; `clock` gives epoch seconds."""

    def __init__(
        self,
        state: QueueState,
        run_dir: RunDir,
        key: str,
        environment: Mapping[str, str],
        patterns: Callable[[], evidence.Patterns],
        clock: Callable[[], float],
        poll: float,
    ) -> None:
        self.store = Batches(run_dir.paths, key, state.run_id)
        self.cluster = Cluster(environment, clock)
        self.watch = SlurmWatch(run_dir, self.store, self.cluster, patterns, clock, poll, lambda: state.paused)

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
        return SlurmLaunch(*parts, self.store, self.cluster, self.watch)
