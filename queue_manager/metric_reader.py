"""Has the metrics of completed jobs read beside the loop, one job after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

from queue_manager.adapters import metric_files
from queue_manager.core.boundary import MetricsFound
from queue_manager.core.layout import RunPaths
from queue_manager.core.model import Job, QueueState

_log = logging.getLogger(__name__)
_MARGIN_NS = 60 * 10**9
"""Before a job's start as the journal has it: what an earlier manager knew of the file server's clock is lost."""


class MetricReader:
    """The metrics of one run's jobs. `cwd` names a job's working directory, `wake` wakes the loop. Without a job that
    has metrics nothing is begun."""

    def __init__(
        self,
        state: QueueState,
        paths: RunPaths,
        environment: Mapping[str, str],
        cwd: Callable[[Job], str],
        wake: Callable[[], None],
    ) -> None:
        self._state, self._paths, self._environment, self._cwd, self._wake = state, paths, environment, cwd, wake
        self._helper: ThreadPoolExecutor | None = None
        self._asked: set[int] = set()
        self._since: dict[int, int] = {}
        self._found: SimpleQueue[tuple[int, MetricsFound]] = SimpleQueue()

    def began(self, order: int, since_ns: int | None) -> None:
        """Take note of when an attempt that has ended began, by the clock of the file server of its outputs."""
        if since_ns is not None and order in self._state.unread:
            self._since[order] = since_ns

    def ask(self) -> None:
        """Have the metrics read of the jobs that have completed."""
        for order in self._state.unread - self._asked:
            self._asked.add(order)
            if self._helper is None:
                self._helper = ThreadPoolExecutor(1, "metrics")
            job = self._state.jobs[order]
            self._helper.submit(self._read, job, self._since.pop(order, None) or _since(job), self._cwd(job))

    def answers(self) -> dict[int, MetricsFound]:
        """What has been found, by the job's order; given once."""
        return dict(self._found.get() for _ in range(self._found.qsize()))

    def _read(self, job: Job, since_ns: int | None, cwd: str) -> None:
        log = self._paths.log(job.spec.id)
        try:
            found = metric_files.read(self._state.manifest, job.spec, cwd, log, since_ns, self._environment)
        except Exception as error:  # the run waits for an answer, whatever a file holds
            _log.exception("the metrics of %s cannot be read", job.spec.id)
            found = MetricsFound({}, {"metrics": f"cannot be read: {error!r}"})
        self._found.put((job.order, found))
        self._wake()

    def close(self) -> None:
        """Begin no further reading."""
        if self._helper is not None:
            self._helper.shutdown(wait=False, cancel_futures=True)


def _since(job: Job) -> int | None:
    # A result that a person accepted counts as it is; only such a job has completed after a failure.
    if job.started is None or job.skipped or job.failure is not None:
        return None
    return int(job.started * 1e9) - _MARGIN_NS
