"""How attempts are looked at: what a scan of the processes may be used for."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any, cast

import pytest

from queue_manager.adapters.run_dir import RunDir
from queue_manager.core.events import Proc
from queue_manager.core.layout import TAG_VARIABLE, RunPaths, tag
from queue_manager.core.readings import Unreadable
from queue_manager.watch import Watch, _Look
from tests.e2e.runs import wait_for


class _Scan:
    """Processes that come between one scan and the next."""

    def __init__(self, *scans: dict[str, list[Proc]]) -> None:
        self._left = list(scans)

    def tagged(self) -> dict[str, list[Proc]]:
        return self._left.pop(0)


def test_what_a_command_began_at_its_end_is_looked_for_after_it() -> None:
    """One scan serves all attempts, but none of which the command ended after it: that may have begun more."""
    late = Proc(7, 7)
    scan = _Scan({}, {tag("run", "b", 1): [late]})
    look = _Look("run", cast(Any, scan), cast(Any, None))
    over = time.monotonic()
    assert look.procs("a", 1, after=over) == []
    assert look.procs("b", 1, after=over) == []
    assert look.procs("b", 1, after=time.monotonic() + 1.0) == [late]
    assert look.procs("b", 1) == [late]


@pytest.mark.parametrize(
    ("is_new", "has_attempt", "sees"), [(True, False, False), (True, True, True), (False, False, True)]
)
def test_only_before_the_first_attempt_all_processes_are_others(
    tmp_path: Path, is_new: bool, has_attempt: bool, sees: bool
) -> None:
    key = f"r{os.getpid()}"
    mark = tag(key, "a", 1)
    paths = RunPaths.of(tmp_path)
    paths.attempts.mkdir()
    if has_attempt:
        paths.attempt("a", 1).root.mkdir()
    with subprocess.Popen(["sleep", "1000"], env={**os.environ, TAG_VARIABLE: mark}) as process:
        try:
            wait_for(lambda: mark.encode() in Path(f"/proc/{process.pid}/environ").read_bytes(), say="its exec")
            watch = Watch(RunDir(paths), cast(Any, None), key, "boot", lambda: cast(Any, {}), is_new)
            watch.selector.close()
            found = watch._scan.tagged()
            assert not isinstance(found, Unreadable)
            assert (mark in found) is sees
        finally:
            process.kill()
