"""Which code lies in a folder of this machine, told by a process beside what goes on."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

PATIENCE = 10.0
"""Seconds that are waited for the answer at most; it is bounded by itself."""


class Look:
    """A look at the code in a folder, which begins when this is made."""

    def __init__(self, folder: Path) -> None:
        self._process: subprocess.Popen[str] | None = None
        command = [sys.executable, "-m", "queue_manager.code_identity", str(folder)]
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )

    def name(self) -> str | None:
        """Its name, as queue_manager.code_identity gives it; None where that cannot be told."""
        if self._process is None:
            return None
        try:
            text, _ = self._process.communicate(timeout=PATIENCE)
            name = json.loads(text)["code"]
        except (subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
            self._process.kill()
            self._process.communicate()
            return None
        return name if isinstance(name, str) else None
