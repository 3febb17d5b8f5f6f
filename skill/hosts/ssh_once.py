"""Run a command by a separate ssh, for a host that is asked only once: neither fabric nor a shared connection is worth
its start-up then.

Only the plain case goes this way: a host whose key is kept, and nothing odd in the configuration. All else is left to
the way that Host chooses, which also says what went wrong.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from skill.common.errors import UseError
from skill.hosts import early_ssh, ssh_command, ssh_way, ssh_words, transport
from skill.hosts.known_hosts import known_key
from skill.hosts.openssh_transport import SshProcess
from skill.hosts.ssh_settings import settings_files
from skill.hosts.ssh_way import Way
from skill.hosts.transport import Channel, Unreachable

if TYPE_CHECKING:
    from skill.hosts.registry import Worker

_LOGGED_IN, _HAS_ENDED = "Authenticated to ", "rtype exit-status"
"""What is printed once we are in, and when the command has ended."""
_PAUSE = 0.05


class _Single(SshProcess):
    def has_ended(self) -> bool:
        return _HAS_ENDED in self.words()


def command(way: Way, name: str, known_hosts: Path) -> list[str]:
    """OpenSSH's command up to its destination, as `ssh_way.command`, by a login of its own, and verbose."""
    quiet = ssh_command.quiet(way.settings, (*way.config, *way.options), {"LogLevel": "DEBUG1"})
    return [*quiet, *ssh_command.checked(name, str(known_hosts)), "-S", "none"]


def begin(worker: Worker, known_hosts: Path, line: str) -> Channel | Unreachable | None:
    """Begin a command line of the host's login shell, and wait until it is logged in or has printed something.

    Returns Unreachable for a host that does not answer; None where the host has to be entered in another way, or that
    way has to say why it cannot be.
    """
    early_ssh.made_from(known_hosts, *settings_files())
    try:
        if known_key(known_hosts, worker.name) is None:
            return None
        way = ssh_way.plain(worker)
        if way is None:
            return None
        argv = [*command(way, worker.name, known_hosts), way.destination, line]
        process = _Single(early_ssh.take(argv))
    except (UseError, OSError):
        return None
    until = time.monotonic() + transport.LOGIN
    while time.monotonic() < until:
        has_output = process.has_output(_PAUSE)  # also where it has ended
        if _LOGGED_IN in process.words():
            _remember(argv, way)
            return process
        if process.status_event.wait(_PAUSE if has_output else 0.0):
            return _failed(process, way)
        if has_output:
            return process
    process.close()
    return Unreachable(f"{_where(way)} did not complete the login within {transport.LOGIN:g} s", "timeout")


def _remember(argv: list[str], way: Way) -> None:
    if way.settings.is_set("controlpath"):  # as soon as a connection is shared there, it is the one to use
        early_ssh.made_from(way.settings.first("controlpath"))
    early_ssh.remember(argv)


def _failed(process: SshProcess, way: Way) -> Channel | Unreachable | None:
    output = process.words()
    if _LOGGED_IN in output:
        return process
    output = "\n".join(line for line in output.splitlines() if not line.startswith("debug"))
    process.close()
    if ssh_words.kind(output) != "timeout":
        return None
    seconds = way.settings.seconds or transport.CONNECT
    return Unreachable(f"{_where(way)} did not answer within {seconds:g} s", "timeout")


def _where(way: Way) -> str:
    port = way.settings.first("port")
    return way.destination + (f":{port}" if port not in ("", "22") else "")
