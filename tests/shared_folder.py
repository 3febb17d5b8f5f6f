"""A folder for what all workers of the same tests share."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

_VARIABLE = "WAVEQUEUE_TESTS_FOLDER"


def begin() -> Path | None:
    """Make it. None in a worker, which has the one of the process that started it."""
    if os.environ.get(_VARIABLE):
        return None
    folder = Path(tempfile.mkdtemp(prefix="wq-tests-"))
    os.environ[_VARIABLE] = str(folder)
    return folder


def path() -> Path:
    """Return it, once it was made."""
    return Path(os.environ[_VARIABLE])
