"""What is shown of a push while it goes on."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from skill.hosts import rsync_process
from skill.terminal.transfer_bars import TransferBars

MIB = 1 << 20


def test_elsewhere_than_on_a_terminal_lines_tell_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    now = [0.0]
    lines_shown: list[str] = []
    with TransferBars(lines_shown.append, lambda: now[0]) as bars:
        bars.report("tiny", 0, MIB)
        bars.report("gpu-a", 0, 300 * MIB)
        bars.report("gpu-a", 100 * MIB, 300 * MIB)
        now[0] = 21.0
        bars.report("gpu-a", 200 * MIB, 300 * MIB)
        bars.report("gpu-b", 0, 5 * MIB)
        now[0] = 50.0
        bars.report("gpu-a", 300 * MIB, 300 * MIB)
    assert lines_shown == [
        "gpu-a: sending 300.0 MiB of code",
        "gpu-a: 200.0 MiB of 300.0 MiB sent",
        "gpu-b: sending 5.0 MiB of code",
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_each_host_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stderr", shown)
    with TransferBars(lambda _: pytest.fail("a line beside a bar")) as bars:
        bars.report("gpu-a", 0, 300 * MIB)
        bars.report("gpu-b", 10 * MIB, 20 * MIB)
        bars.report("gpu-a", 300 * MIB, 300 * MIB)
    text = shown.getvalue()
    assert "gpu-a" in text
    assert "gpu-b" in text
    assert "300.0/300.0 MiB" in text
    assert text.rstrip("\n").endswith("\x1b[?25h"), "the cursor is shown again"


def test_rsync_tells_how_much_it_has_sent(tmp_path: Path) -> None:
    for name in ("from", "to"):
        (tmp_path / name).mkdir()
    for number in range(4):
        (tmp_path / "from" / f"{number}.bin").write_bytes(bytes([number]) * MIB)
    names = b"".join(b"%d.bin\0" % number for number in range(4))
    command = ["rsync", "-r", "--files-from=-", "--from0", "--stats", "--no-human-readable"]
    told: list[int] = []
    done = rsync_process.run([*command, f"{tmp_path}/from/", f"{tmp_path}/to/"], names, 60.0, told.append)
    assert done.returncode == 0
    assert told == sorted(told)
    assert told[-1] == 4 * MIB
    assert b"Total transferred file size: 4194304" in done.stdout
    failed = rsync_process.run([*command, f"{tmp_path}/from/", f"{tmp_path}/to/"], b"no\0", 60.0, told.append)
    assert failed.returncode == 23
    assert b"No such file" in failed.stderr


def test_an_rsync_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "rsync"
    slow.write_text("#!/bin/sh\nexec sleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(subprocess.TimeoutExpired):
        rsync_process.run([str(slow)], b"", 0.05)
