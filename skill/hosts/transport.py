"""What all transports share: a command starts in a channel, or the host is unreachable."""

from __future__ import annotations

import threading
from typing import NamedTuple, Protocol

from queue_manager.core.excerpt import excerpt

CONNECT = 10.0
"""Seconds for each step of a connection where the ssh configuration has no ConnectTimeout: TCP, greeting, login."""
LOGIN = 45.0
"""Seconds for all of them and the start of a command, however slowly a host answers."""


class Unreachable(NamedTuple):
    """Nothing is known of a host, for the reason given. `kind`: refused, timeout, name, auth, host_key, dropped, shell
    (its login shell does not run our commands) or other."""

    reason: str
    kind: str


class CommandResult(NamedTuple):
    """The result of a command. `out` and `err` start where our command does: a shell's greeting is cut off."""

    code: int
    out: bytes
    err: str

    @property
    def why(self) -> str:
        """Say why it failed, by the first and last lines of its message; else by its exit code."""
        return excerpt(self.err) or f"exit code {self.code}"


class Channel(Protocol):
    """A command that runs on a host. `recv` raises TimeoutError where nothing came within the timeout that was set, and
    returns b"" at the end of the output; `recv_exit_status` is negative where the connection was lost."""

    status_event: threading.Event

    def settimeout(self, timeout: float | None, /) -> None: ...
    def recv(self, nbytes: int, /) -> bytes: ...
    def recv_stderr(self, nbytes: int, /) -> bytes: ...
    def sendall(self, s: bytes, /) -> None: ...
    def shutdown_write(self) -> None: ...
    def recv_exit_status(self) -> int: ...
    def close(self) -> None: ...


class Transport(Protocol):
    """A connection to one host. It logs in when a command is first opened, and again after a drop.

    `through`: why it is not fabric's, None where it is. `beyond`: why OpenSSH may come in where this could not, as it
    turned out.
    """

    through: str | None
    beyond: str | None

    def open(self, command: str, /) -> Channel | Unreachable:
        """Start a command line in the host's login shell."""

    def socket_path(self) -> str | None:
        """Return the socket by which other ssh commands share this login, None if there is none."""

    def close(self) -> None:
        """Log out."""


def changed_key(where: str, name: str, why: str) -> str:
    """Say that a host shows another key. `why`: which one was expected; empty: the one kept here."""
    if why:
        return f"{where} has a host key that is not accepted: {why}. Nothing was sent. See what ssh says: ssh {name}"
    return (
        f"{where} has another host key than before: another machine may be answering there. Nothing was sent. "
        f"If it was reinstalled, accept its key with: wavequeue hosts accept {name}"
    )
