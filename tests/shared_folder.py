"""A folder for what all workers of the same tests share."""

from __future__ import annotations

import atexit
import os
import shutil
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
    """Return it. Outside of tests, where nobody has made it, this process has one of its own."""
    made = begin()
    if made is not None:
        atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(os.environ[_VARIABLE])
