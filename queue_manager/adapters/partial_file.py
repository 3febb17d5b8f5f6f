"""Reads how far a running job is from its partial results, again and again: bounded, and never raising."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from queue_manager.adapters import evidence
from queue_manager.adapters.regular import open_regular
from queue_manager.core import partial, shell_paths
from queue_manager.core.manifest import JobSpec, Manifest
from queue_manager.core.partial import Counts

_WHOLE = 1 << 20
"""Bytes of a file that are read whole."""


class PartialFile:
    """The partial results of one attempt of a job."""

    def __init__(self, manifest: Manifest, spec: JobSpec, cwd: str, environment: Mapping[str, str]) -> None:
        output = shell_paths.expanded(manifest, spec, environment).expected_output
        self._patterns = [] if output is None else partial.patterns(output)
        self._cwd = cwd
        self._mark: tuple[str, int, int] | None = None

    def news(self, since_ns: int | None) -> Counts | None:
        """What the newest of them says, if it was written since the last time that this was asked, and since
        `since_ns`."""
        found = [evidence.find_output(one, self._cwd, since_ns or 0) for one in self._patterns]
        there = [one.path for one in found if one.path is not None and one.fresh]
        try:
            path = max(there, key=os.path.getmtime, default=None)
            if path is None:
                return None
            status = os.stat(path)
            mark = (path, status.st_mtime_ns, status.st_size)
            if mark == self._mark:
                return None
            with open_regular(Path(path)) as file:
                data = file.read(_WHOLE + 1 if status.st_size <= _WHOLE else partial.HEAD)
        except OSError:
            return None
        counts = partial.counts(data, len(data) <= _WHOLE and status.st_size <= _WHOLE)
        if counts is not None:  # else it may be half written
            self._mark = mark
        return counts
