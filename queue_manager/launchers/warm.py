"""Start sessions before their attempts where jobs are short: their wrappers wait for a signal of the manager.

To start a session takes longer than all else between two jobs, so while short jobs run the sessions of those that come
next are started ahead. Such a session has nothing and claims nothing: its wrapper waits at a FIFO (`go`) that it opens
by way of this manager's own descriptor. The word goes in when the attempt is in the journal, and the wrapper then takes
the claim as any other does. Without the word it ends, as soon as the last who could give it has: the manager may be
killed at any moment.
"""

from __future__ import annotations

import os
import subprocess
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from queue_manager.adapters.files import open_fifo
from queue_manager.adapters.run_dir import RunDir
from queue_manager.core.layout import AttemptPaths
from queue_manager.core.model import Job, QueueState

SHORT = 5.0
"""Seconds that jobs take at most for it to be worth while."""
JUDGED_BY = 4
"""So many attempts that ended last have to have been short."""
MOST = 4
"""Sessions at a time."""
WORD = b"go\n"

Start = Callable[[Job, int, AttemptPaths, "tuple[str, str]"], "subprocess.Popen[bytes]"]


class _Waiting(NamedTuple):
    n: int
    files: AttemptPaths
    frontend: subprocess.Popen[bytes]
    fd: int


class Warm:
    """The sessions of one manager that wait. `start` begins the session of a job's attempt; its last argument says
    where its wrapper is to wait: at this manager's descriptor, if that is of the FIFO of that name by then. None:
    nothing can be started ahead."""

    def __init__(self, state: QueueState, run_dir: RunDir, start: Start | None) -> None:
        self._state, self._run_dir, self._start = state, run_dir, start
        self._waiting: dict[int, _Waiting] = {}
        self._given: dict[int, int] = {}
        self._begun = 0
        self._lasted: deque[float] = deque(maxlen=JUDGED_BY)

    def ended(self, job: Job) -> None:
        """Take note of an attempt that has ended."""
        if job.started is not None and job.attempt_ended is not None:
            self._lasted.append(job.attempt_ended - job.started)
        fd = self._given.pop(job.order, None)
        if fd is not None:
            os.close(fd)

    def keep(self, has_room: bool) -> bool:
        """Drop what is not wanted any more, and start one session that is, but none while what was launched has not
        begun. Returns whether more are to be started. `has_room`: on the disk."""
        state = self._state
        wanted = state.ready.first(MOST) if has_room and self._is_worth_while() else []
        for order in [order for order in self._waiting if order not in wanted]:
            self._drop(order)
        if any(attempt.wrapper is None for attempt in state.live.values()):
            return False
        soon = wanted[: len(state.live)]
        missing = [order for order in soon if order not in self._waiting and self._fits(state.jobs[order])]
        try:
            for order in missing[:1]:
                self._begin(state.jobs[order])
        except OSError:  # its start will say why
            return False
        return len(missing) > 1

    def _is_worth_while(self) -> bool:
        state = self._state
        if (
            self._start is None
            or len(self._lasted) < JUDGED_BY
            or max(self._lasted) > SHORT
            or state.manifest.wave == "barrier"
        ):
            return False
        return not state.paused and state.machine.closed is None and state.machine.launch_retry_at is None

    def _fits(self, job: Job) -> bool:
        """Whether only a job's script is still to be written at its start: values that are looked up then stand in the
        session's environment, and what an earlier session has left would have to be put aside."""
        if job.n or job.spec.env_from or job.spec.preconditions:
            return False
        paths = self._run_dir.paths
        return not (paths.attempt(job.spec.id, 1).root.exists() or paths.log(job.spec.id).exists())

    def _begin(self, job: Job) -> None:
        assert self._start is not None
        n = job.n + 1
        files = self._run_dir.prepare_attempt(job.spec.id, n, "", self._state.order_of)
        self._begun += 1
        go = files.go(self._begun)
        fd = open_fifo(go)
        try:
            frontend = self._start(job, n, files, (f"/proc/{os.getpid()}/fd/{fd}", go.name))
        except OSError:
            os.close(fd)
            raise
        self._waiting[job.order] = _Waiting(n, files, frontend, fd)

    def launch(self, job: Job, n: int) -> subprocess.Popen[bytes] | None:
        """Have the session that waits for an attempt begin it; its front end, None where none waits."""
        one = self._waiting.pop(job.order, None)
        if one is None:
            return None
        if one.n != n or self._run_dir.has_lost_wrapper(one.files):
            os.close(one.fd)
            return None
        os.write(one.fd, WORD)
        self._given[job.order] = one.fd
        return one.frontend

    def _drop(self, order: int) -> None:
        one = self._waiting.pop(order)
        os.close(one.fd)
        one.frontend.poll()
        job = self._state.jobs[order]
        if job.n < one.n:  # never begun: as if it had not been
            self._run_dir.forget(job.spec.id, one.n)

    def close(self) -> None:
        """Let all that waits end."""
        for order in list(self._waiting):
            self._drop(order)
