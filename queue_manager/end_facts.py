"""Gathers, once, what is known of an attempt of which nothing runs any more: its output, and what its log says."""

from __future__ import annotations

from collections.abc import Callable

from queue_manager.adapters import evidence
from queue_manager.adapters.clock_skew import ClockSkew, written_ns
from queue_manager.adapters.run_dir import RunDir
from queue_manager.core.boundary import Ended, ExitRecord, Output
from queue_manager.core.manifest import JobSpec


class EndFacts:
    """Reads the ends of a run's attempts. `patterns`: the outputs of all its jobs."""

    def __init__(self, run_dir: RunDir, patterns: Callable[[], evidence.Patterns]) -> None:
        self._run_dir, self._patterns = run_dir, patterns
        self._skew = ClockSkew(run_dir.paths.root)

    def now_ns(self) -> int:
        """The time, by the clock of the file server that the run's directory is on. Raises OSError."""
        return written_ns(str(self._run_dir.paths.root))

    def since(self, spec: JobSpec, cwd: str, at_ns: int) -> int:
        """When an attempt with the claim of `at_ns` began, by the clock of the file server that its outputs are on."""
        return at_ns + self._skew.of(spec.expected_output or "", cwd)

    def gather(
        self, spec: JobSpec, cwd: str, n: int, since: int, exit_record: ExitRecord | None, oom_kill: Callable[[], bool]
    ) -> Ended:
        """Read what attempt `n` has left. `since`: see `since`; `oom_kill` tells whether the kernel ended something for
        want of memory."""
        output = None
        code = exit_record.code if exit_record else None
        if spec.expected_output is not None:
            output = evidence.find_output(spec.expected_output, cwd, since)
        recovered, environment = self._run_dir.recovered(spec.id, n), self._run_dir.environment(spec.id, n)
        if code == 0 and (output is None or output.fresh):
            return Ended(output, recovered=recovered, environment=environment)
        if output is not None and output.fresh:
            output = Output(output.path, True, self._is_shared(spec, cwd, since))
        finding, last_line = evidence.scan_log(self._run_dir.paths.log(spec.id), code)
        return Ended(output, finding, last_line, oom_kill(), recovered, environment)

    def _is_shared(self, spec: JobSpec, cwd: str, since: int) -> bool:
        """Whether every new file that the job's pattern matches may be another job's."""
        found = evidence.fresh_outputs(spec.expected_output or "", cwd, since)
        patterns = self._patterns()
        return all(patterns.others_match(spec.id, path) for path in found)
