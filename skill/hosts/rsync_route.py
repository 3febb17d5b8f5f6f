"""Test whether rsync reaches a host: it goes by OpenSSH, even where everything else goes by fabric."""

from __future__ import annotations

import shutil
import subprocess

from skill.hosts import ssh_words
from skill.hosts.connection import Host

_PATIENCE = 45.0
_SSH_FAILED = 255
"""The exit code of ssh where it is ssh that failed, and not what ran there."""


def fault(host: Host) -> str | None:
    """Why OpenSSH does not reach a host that was reached before; None if it does, or rsync does not go by it."""
    command = host.ssh_command()
    if command is None or host.through() is not None or not host.is_quiet or shutil.which("rsync") is None:
        return None
    try:
        done = subprocess.run(
            [*command, host.destination, "true"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"code is sent by rsync over ssh, which did not log in within {_PATIENCE:.0f} s"
    except OSError as error:
        return f"code is sent by rsync over ssh, which cannot be started: {error.strerror}"
    if done.returncode != _SSH_FAILED:
        return None
    return f"code is sent by rsync over ssh, whose login fails: {ssh_words.telling(done.stderr) or 'without a message'}"
