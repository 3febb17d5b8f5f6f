"""A run's jobs as this host has them: `~` and `$NAME` expanded, working directories and outputs found."""

from __future__ import annotations

import os
from pathlib import Path

from queue_manager.adapters.evidence import Patterns
from queue_manager.core import shell_paths
from queue_manager.core.layout import RunPaths
from queue_manager.core.manifest import JobSpec
from queue_manager.core.model import Job, QueueState


class HostJobs:
    """Expands what the specs of a run's jobs leave to the host."""

    def __init__(self, paths: RunPaths, state: QueueState, environment: dict[str, str]) -> None:
        self._paths, self._state, self._environment = paths, state, environment
        self.forget_outputs()

    def forget_outputs(self) -> None:
        """Put the outputs of all jobs together anew, since specs have changed."""
        self._outputs, self._known = Patterns(), 0

    def outputs(self) -> Patterns:
        """Every job's output; seldom asked for, so put together when it is."""
        for job in self._state.jobs[self._known :]:
            if job.spec.expected_output is not None:
                self._outputs.add(job.spec.id, self.spec(job).expected_output or "", self.cwd(job))
        self._known = len(self._state.jobs)
        return self._outputs

    def spec(self, job: Job) -> JobSpec:
        """A job's spec, with its paths expanded."""
        return shell_paths.expanded(self._state.manifest, job.spec, self._environment)

    def run_cwd(self) -> str:
        """Where the jobs run: a relative cwd is meant from the manifest's directory, ~ from this user's home."""
        return os.path.normpath(self._paths.manifest.parent / os.path.expanduser(self._state.manifest.cwd))

    def cwd(self, job: Job) -> str:
        """Where one job runs."""
        return os.path.normpath(Path(self.run_cwd()) / os.path.expanduser(job.spec.cwd or "."))
