"""Where a FIFO or a device lies in place of a file of ours, nobody waits for its other end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import queue_manager.adapters.files
import skill.common.files

APPENDERS = [queue_manager.adapters.files.append_to, skill.common.files.append_to]


@pytest.mark.parametrize("append_to", APPENDERS, ids=["on a host", "here"])
def test_a_file_is_made_and_grows(tmp_path: Path, append_to: Callable[[Path], Any]) -> None:
    for _ in range(2):
        with append_to(tmp_path / "log") as file:
            file.write(b"line\n")
    assert (tmp_path / "log").read_bytes() == b"line\nline\n"


@pytest.mark.parametrize("append_to", APPENDERS, ids=["on a host", "here"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, append_to: Callable[[Path], Any]) -> None:
    os.mkfifo(tmp_path / "log")
    with pytest.raises(OSError, match=r"not a regular file|No such device"):
        append_to(tmp_path / "log")
    with pytest.raises(OSError, match="not a regular file"):
        append_to(Path("/dev/null"))
