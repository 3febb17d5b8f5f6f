"""Starts attempts: their files, their script, and a session that runs the wrapper on them."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

from queue_manager.adapters.distributed import Ports
from queue_manager.adapters.named_values import Found, NamedValues
from queue_manager.adapters.run_dir import RunDir
from queue_manager.code_watch import CodeWatch
from queue_manager.core import recovery
from queue_manager.core.layout import SESSION_PREFIX, AttemptPaths, session_name, tag
from queue_manager.core.manifest import JobSpec
from queue_manager.core.model import Job, QueueState
from queue_manager.core.readings import cuda_name
from queue_manager.core.state_types import Attempt
from queue_manager.launchers import script
from queue_manager.launchers.launcher import Launcher
from queue_manager.launchers.script import Given
from queue_manager.launchers.warm import Warm


class Launch:
    """Starts the attempts of one run. `key`: of the run, see layout.run_key; `given`: what all its attempts get."""

    has_gate = True
    """Whether processes that a job leaves running are found by its gate, see RunDir.prepare_attempt."""

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
    ) -> None:
        self._state, self._run_dir, self._launcher, self._key, self._given = state, run_dir, launcher, key, given
        self._ports, self._named, self._code = ports, named, code
        self.warm = Warm(state, run_dir, self._begin_ahead)

    def start(self, job: Job, attempt: Attempt, cwd: str, now: float) -> subprocess.Popen[bytes] | None:
        """Begin an attempt that is in the journal; the front end of its session. Raises OSError.

        `cwd` is absolute; `now`: when its turn began (epoch seconds).
        """
        spec = recovery.spec_of(job)
        names = [cuda_name(index, uuid) for index, uuid in zip(attempt.indices, attempt.cards)]
        named = self._named.of(spec)
        files = self._prepare(job, attempt, spec, names, named, cwd, now)
        waiting = self.warm.launch(job, attempt.n)
        if waiting is not None:
            return waiting
        return self._begin(spec, attempt.n, attempt.session, files, named.values)

    def flush(self, now: float) -> None:
        """Have begun what `start` was asked for in this turn."""

    def _prepare(
        self,
        job: Job,
        attempt: Attempt,
        spec: JobSpec,
        names: Sequence[str] | None,
        named: Found,
        cwd: str,
        now: float,
    ) -> AttemptPaths:
        """Write the script of an attempt. `names`: of its GPUs, see script.job_script. Raises OSError."""
        state = self._state
        port = self._ports.take(spec.id, attempt.n) if state.manifest.rendezvous else None
        given = self._given._replace(
            named=named.aliases,
            missing=named.missing,
            port=port,
            code=self._code.at_launch(now),
            prelude=recovery.prelude(job),
        )
        text = script.job_script(state.manifest, spec, state.run_id, attempt.n, names, cwd, given)
        return self._run_dir.prepare_attempt(spec.id, attempt.n, text, state.order_of, has_gate=self.has_gate)

    def has_session(self, name: str) -> bool:
        """Whether a session of this name is an attempt's of this run."""
        number = name.rpartition(".")[2]
        if not name.startswith(SESSION_PREFIX) or not number.isdigit():
            return False
        n, run_id = int(number), self._state.run_id
        return any(session_name(run_id, job.spec.id, n) == name for job in self._state.jobs if job.n >= n)

    def _begin(
        self, spec: JobSpec, n: int, session: str, files: AttemptPaths, values: Mapping[str, str], *waits: str
    ) -> subprocess.Popen[bytes]:
        wrapper = self._run_dir.paths.wrapper
        argv = ["bash", "-p", str(wrapper), str(files.root), tag(self._key, spec.id, n), *waits]
        return self._launcher.start(session, argv, self._run_dir.paths.log(spec.id), files.complaint, values)

    def _begin_ahead(self, job: Job, n: int, files: AttemptPaths, waits: tuple[str, str]) -> subprocess.Popen[bytes]:
        session = session_name(self._state.run_id, job.spec.id, n)
        return self._begin(job.spec, n, session, files, {}, *waits)
