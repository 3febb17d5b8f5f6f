"""Submits attempts to Slurm: those of one turn that ask for the same go as one array.

Attempts that run in turn in one task are also gathered over several turns, while others of the run wait for room: as
jobs end one by one, each would have a task of its own otherwise.
"""

from __future__ import annotations

import subprocess
from typing import NamedTuple

from queue_manager.adapters.distributed import Ports
from queue_manager.adapters.named_values import NamedValues
from queue_manager.adapters.run_dir import RunDir
from queue_manager.code_watch import CodeWatch
from queue_manager.core import recovery, slurm_arrays, slurm_needs, slurm_notice
from queue_manager.core.layout import tag
from queue_manager.core.model import Job, QueueState
from queue_manager.core.slurm_asking import Asking
from queue_manager.core.state_types import Attempt
from queue_manager.launch import Launch
from queue_manager.launchers.launcher import Launcher
from queue_manager.launchers.script import Given
from queue_manager.launchers.warm import Warm
from queue_manager.slurm import partitions
from queue_manager.slurm.admission import Admission
from queue_manager.slurm.batches import Batches, Task
from queue_manager.slurm.cluster import Cluster
from queue_manager.slurm.nodes import with_excluded
from queue_manager.slurm.packing import Offer
from queue_manager.slurm.pools import Asked, Pools
from queue_manager.slurm.watch import SlurmWatch

GATHERS = 60.0
"""Seconds for which attempts wait for others to fill their bundle."""


class _Asked(NamedTuple):
    """What the tasks of one array have in common: sbatch's options for one attempt, what their environment has beside
    it, and how many attempts a task may run in turn."""

    options: tuple[str, ...]
    values: tuple[tuple[str, str], ...]
    bundle: int


class _Group:
    """Attempts that are to be submitted, with the orders of their jobs. `since`: the first was prepared then (epoch
    seconds)."""

    def __init__(self, since: float) -> None:
        self.since = since
        self.tasks: list[tuple[int, Task]] = []


class SlurmLaunch(Launch):
    """Submits the attempts of one run."""

    has_gate = False

    def __init__(
        self,
        state: QueueState,
        run_dir: RunDir,
        launcher: Launcher,
        key: str,
        given: Given,
        ports: Ports,
        named: NamedValues,
        code: CodeWatch,
        store: Batches,
        cluster: Cluster,
        watch: SlurmWatch,
        admission: Admission,
        pools: Pools,
    ) -> None:
        super().__init__(state, run_dir, launcher, key, given, ports, named, code)
        self.warm = Warm(state, run_dir, None)
        self._store, self._cluster, self._watch, self._admission = store, cluster, watch, admission
        self._pools = pools
        self._asked: dict[_Asked, _Group] = {}
        self._shared: dict[Asked, list[tuple[int, Offer]]] = {}
        self._asking: Asking | None = None

    def start(self, job: Job, attempt: Attempt, cwd: str, now: float) -> subprocess.Popen[bytes] | None:
        """Prepare an attempt that is in the journal; `flush` submits it. Raises OSError."""
        spec, manifest = recovery.spec_of(job), self._state.manifest
        named = self._named.of(spec)
        self._prepare(job, attempt, spec, None, named, cwd, now)
        task = Task(spec.id, attempt.n, tag(self._key, spec.id, attempt.n))
        values = tuple(sorted(named.values.items()))
        asking = self._asking = self._asking or Asking(manifest, (one.spec for one in self._state.jobs))
        options = asking.options(spec, slurm_needs.Ooms(job.host_ooms, job.gpu_ooms))
        bundle = slurm_needs.bundle(spec.slurm)
        is_alone = spec.gpu_mem_mib is None and bundle == 1  # else the time is one for all that share it
        options += slurm_notice.notice(options, spec.timeout if is_alone else None)
        if spec.gpu_mem_mib is not None:
            end = slurm_needs.latest(spec.timeout, manifest.grace_of(spec))
            rank = (-spec.priority, job.order)
            offer = Offer(task.attempt, spec.id, task.tag, spec.gpu_mem_mib, job.gpu_ooms > 0, end, rank)
            pool = Asked(options, values, slurm_needs.allocations(spec.slurm or {}))
            self._shared.setdefault(pool, []).append((job.order, offer))
            return None
        if bundle > 1:
            self._cluster.look_at_partitions()
        self._asked.setdefault(_Asked(options, values, bundle), _Group(now)).tasks.append((job.order, task))
        return None

    def flush(self, now: float) -> None:
        """Submit what was prepared in this turn."""
        for asked, group in list(self._asked.items()):
            whole = len(group.tasks)
            if asked.bundle > 1 and now - group.since < GATHERS:
                if self._cluster.partitions is None:  # how long a task may run there is not known yet
                    continue
                if self._state.ready.heads():
                    whole -= whole % asked.bundle
            tasks, group.tasks = group.tasks[:whole], group.tasks[whole:]
            if not group.tasks:
                del self._asked[asked]
            if tasks:
                self._submit(asked, tasks, now)
        shared, self._shared = self._shared, {}
        self._asking = None
        for pool, offers in shared.items():
            try:
                self._pools.offer(pool, [offer for _, offer in offers], now)
            except OSError as error:
                for order, _ in offers:
                    self._watch.launched(order, None, str(error))

    def _submit(self, asked: _Asked, tasks: list[tuple[int, Task]], now: float) -> None:
        most = partitions.longest(asked.options, self._cluster.partitions or {})
        options, size = slurm_arrays.cut(asked.options, asked.bundle, len(tasks), most)
        options = with_excluded(options, self._admission.nodes.excluded(now))
        for array in slurm_arrays.arrays(tasks, size, self._admission.array):
            try:
                batch = self._store.make([[task for _, task in one] for one in array], now)
            except OSError as error:
                for order, _ in (each for one in array for each in one):
                    self._watch.launched(order, None, str(error))
                continue
            self._watch.sent(batch)
            self._cluster.submit(batch, options, dict(asked.values))
