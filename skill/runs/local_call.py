"""A command of queue_manager.remote, run on this machine for the JSON document that it prints."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from queue_manager.core.excerpt import excerpt
from skill.common.errors import FailedError


def call(module: str, *arguments: str, stdin: str = "", patience: float | None = None) -> dict[str, Any]:
    """The document of `queue_manager.remote.MODULE`. `patience` in seconds.

    Raises FailedError, in its own words where it printed no document.
    """
    command = [sys.executable, "-m", "queue_manager.remote", module, *arguments]
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=patience, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FailedError(f"queue_manager.remote.{module} could not be run: {error}") from None
    try:
        found = json.loads(done.stdout)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        output = excerpt(done.stderr) or f"it ended with exit code {done.returncode} and printed nothing"
        raise FailedError(f"queue_manager.remote.{module} gave no answer: {output}")
    return found
