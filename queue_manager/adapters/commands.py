"""Commands of a whole run, `on_complete` and `results_to`: run in its cwd, with its environment."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from queue_manager.adapters.files import append_to
from queue_manager.core.layout import RunPaths
from queue_manager.core.manifest import Manifest
from queue_manager.launchers import script


def run(paths: RunPaths, manifest: Manifest, run_id: str, environment: Mapping[str, str], cwd: str, bash: str) -> int:
    """Run a command to its end. Its exit code; what it prints goes into the manager's log."""
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
