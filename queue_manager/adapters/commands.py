"""Run commands of a whole run, `on_complete`, `results_to` and that of `notify`, in its cwd and environment."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping

from queue_manager.adapters.files import append_to
from queue_manager.core.layout import RunPaths
from queue_manager.core.manifest import Manifest
from queue_manager.core.model import QueueState
from queue_manager.core.status import Status
from queue_manager.launchers import script

_MOST_OUTPUT = 2000
"""Bytes of what a command printed that are looked at."""


def told_at_the_end(state: QueueState) -> dict[str, str]:
    """What `on_complete` finds in its environment of how the run has ended."""
    counts = {status.value: state.tallies.counts.get(status, 0) for status in Status}
    all_completed = counts[Status.COMPLETED.value] == sum(counts.values())
    found = {f"WAVEQUEUE_{name.upper()}": str(count) for name, count in counts.items()}
    return {**found, "WAVEQUEUE_STATUS": "completed" if all_completed else "needs_person"}


def run(paths: RunPaths, manifest: Manifest, run_id: str, environment: Mapping[str, str], cwd: str, bash: str) -> int:
    """Run a command to its end. Returns its exit code; its output goes into the manager's log."""
    text = script.complete_script(manifest._replace(on_complete=bash), run_id, str(paths.root), cwd)
    with append_to(paths.manager_log) as log:
        return subprocess.run(
            ["bash", "-c", text],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=False,
        ).returncode


def feed(
    paths: RunPaths,
    manifest: Manifest,
    run_id: str,
    environment: Mapping[str, str],
    cwd: str,
    bash: str,
    data: bytes,
    patience: float,
) -> tuple[int | None, str]:
    """Run a command that gets `data` on its stdin. Its exit code, None where it was killed after `patience` seconds
    with all that it had begun; and the beginning of what it printed. Raises OSError."""
    import tempfile  # of use here alone, and not light

    text = script.complete_script(manifest._replace(on_complete=bash), run_id, str(paths.root), cwd)
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output:
        given.write(data)
        given.seek(0)
        process = subprocess.Popen(
            ["bash", "-c", text],
            env=dict(environment),
            stdin=given,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        code: int | None = None
        try:
            code = process.wait(patience)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        return code, output.read(_MOST_OUTPUT).decode("utf-8", "replace")
