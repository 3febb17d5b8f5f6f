"""Which code lies in a folder of this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PATIENCE = 10.0
"""Seconds that are waited for the answer at most; it is bounded by itself."""


def name(folder: Path) -> str | None:
    """The name of the code, as queue_manager.adapters.code_identity gives it; None where it is unknown."""
    command = [sys.executable, "-m", "queue_manager.adapters.code_identity", str(folder)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
        found = json.loads(done.stdout)["code"]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None
