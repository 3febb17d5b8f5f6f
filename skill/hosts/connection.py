"""Run commands and write small files on one host, over SSH or on this machine; rsync uses the same connection options.

Arguments come as lists and are quoted here. What the world does wrong comes back as `Unreachable`, never as an
exception. Host keys are kept by the worker's name, since a rented machine's address changes and its key does not.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, Union

from skill.common.errors import UseError
from skill.common.retry import backoff
from skill.hosts import early_ssh, remote_command, ssh_way
from skill.hosts.known_hosts import KNOWN_HOSTS, fingerprint, forget_key, known_key, replace_key
from skill.hosts.remote_command import Framed
from skill.hosts.transport import Channel, CommandResult, Transport, Unreachable

if TYPE_CHECKING:
    from skill.hosts.registry import Worker

__all__ = (
    "KNOWN_HOSTS",
    "CommandResult",
    "Host",
    "Unreachable",
    "each",
    "fingerprint",
    "forget_key",
    "known_key",
    "remote",
    "replace_key",
)  # fmt: skip
LOGINS = 3
"""How often a login that is cut off is tried, at least."""
PAUSE = 0.5
"""Seconds before a refused or dropped connection is tried again; doubles."""
_CHUNK = 1 << 16
_TURN = 0.0002
_AGAIN = frozenset({"refused", "dropped"})
T = TypeVar("T")


_Raw = Union[tuple[int, bytes, bytes], CommandResult, Unreachable]
"""Exit code, stdout and stderr, with what login files wrote before our command."""


def remote(path: str) -> str:
    """Write a path on a host for commands, which start in the home directory: ~/x is x."""
    return "." if path in ("~", "~/") else path[2:] if path.startswith("~/") else path


class Host:
    """A worker that can be reached. Connects when first asked, and again after a drop.

    `known_hosts`: the project's own file. `tries`: how often a refused or dropped connection is tried. `once`: hardly
    more than one command is expected, so the first one goes by an ssh of its own. Where that has no stdin, it only
    reads, and the next process may start it early. One command at a time; threads wait for each other.
    """

    def __init__(self, worker: Worker, known_hosts: Path, tries: int = 1, *, once: bool = False) -> None:
        self.worker, self.known_hosts, self.tries = worker, known_hosts, tries
        self.name = worker.name
        self.is_quiet = True
        """Whether, as far as is known, its login files leave stdin and stdout alone."""
        self._transport: Transport | None = None
        self._once = once
        self._lock = threading.Lock()

    @property
    def destination(self) -> str:
        """[USER@]HOST, for OpenSSH and rsync."""
        return ssh_way.destination(self.worker)

    def ssh_command(self) -> list[str] | None:
        """OpenSSH's command with the same key, port and host keys, without the destination; None on this machine.

        Raises UseError for a path that OpenSSH cannot take.
        """
        if self.worker.kind == "local":
            return None
        command = ssh_way.command(ssh_way.find(self.worker), self.name, self.known_hosts)
        shared = None if self._transport is None else self._transport.socket_path()
        return command if shared is None else [*command, "-S", shared]

    def through(self) -> str | None:
        """Why OpenSSH itself goes to this host, in words; None where fabric does, or nothing was asked yet."""
        return None if self._transport is None else self._transport.through

    def shares_login(self) -> bool:
        """Whether OpenSSH itself goes to this host: once a command was run, `ssh_command` goes by the same login."""
        if self.worker.kind == "local":
            return False
        with self._lock:
            if self._transport is None:
                found = self._chosen()
                self._transport = None if isinstance(found, Unreachable) else found
        return self.through() is not None

    # -- commands -------------------------------------------------------------------------------------------------

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        shown: str = "",
        timeout: float = 30.0,
        limit: int = 64 << 20,
    ) -> CommandResult | Unreachable:
        """Run a command in the home directory. `timeout` in seconds for all of it; `limit`: bytes of output taken.

        `shown`: input in place of `stdin` that other users of the host may see, since it is a part of the command
        line: that saves a round trip.
        """
        with self._lock:
            if self.worker.kind == "local":
                return _run_here(argv, stdin or shown.encode(), timeout, limit)
            mark = early_ssh.MARK if self._once and not stdin else secrets.token_hex(8)
            sent = remote_command.framed(argv, mark, takes_input=bool(stdin), shown=shown)
            result = self._run_there(sent, stdin, timeout, limit)
        if isinstance(result, (Unreachable, CommandResult)):
            return result
        found = remote_command.parts(sent, *result)
        if found is None:
            return Unreachable(remote_command.silence(*result), "shell")
        self.is_quiet = self.is_quiet and found.is_quiet
        return CommandResult(result[0], found.out, found.err)

    def script(
        self, text: str, *args: str, stdin: bytes = b"", timeout: float = 30.0, limit: int = 64 << 20
    ) -> CommandResult | Unreachable:
        """Run a text of sh with arguments, like `run`."""
        return self.run(["sh", "-c", text, "wavequeue", *args], stdin=stdin, timeout=timeout, limit=limit)

    def put(self, path: str, data: bytes, mode: int = 0o600) -> str | Unreachable | None:
        """Write a whole file; missing directories are created, for this user alone. Returns what went wrong."""
        result = self.script(_PUT, remote(path), f"{mode:o}", secrets.token_hex(4), str(len(data)), stdin=data)
        if isinstance(result, Unreachable):
            return result
        return None if result.code == 0 else f"{path} could not be written: {result.why}"

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _run_there(self, sent: Framed, stdin: bytes, timeout: float, limit: int) -> _Raw:
        """Run it, and again after a refused connection or one that was dropped before the command began."""
        for number in itertools.count(1):
            begun = threading.Event()
            found = self._opened(sent.line)
            if not isinstance(found, Unreachable):
                result = _talk(found, sent, stdin, begun, timeout, limit)
                if not isinstance(result, Unreachable):
                    return result
                found = result
                self.close()
            # A server that is busy drops logins, however many there are to be of the whole.
            tries = max(self.tries, LOGINS) if found.kind == "dropped" else self.tries
            if begun.is_set() or found.kind not in _AGAIN or number >= tries:
                times = f" (tried {number} times)" if number > 1 else ""
                return found._replace(reason=found.reason + times)
            time.sleep(backoff(number, PAUSE))
        raise AssertionError("the counting has no end")

    def _opened(self, command: str) -> Channel | Unreachable:
        """Start a command by the transport that is chosen once for this host."""
        if self._once:
            from skill.hosts import ssh_once  # not needed by who stays

            self._once = False
            begun = ssh_once.begin(self.worker, self.known_hosts, command)
            if begun is not None:
                return begun
        if self._transport is None:
            found = self._chosen()
            if isinstance(found, Unreachable):
                return found
            self._transport = found
        opened = self._transport.open(command)
        if isinstance(opened, Unreachable) and self._transport.beyond is not None:
            found = self._chosen(self._transport.beyond)
            if not isinstance(found, Unreachable):
                self._transport = found
                return found.open(command)
        return opened

    def _chosen(self, reason: str | None = None) -> Transport | Unreachable:
        """Choose the transport: OpenSSH if there is a reason for it, else fabric."""
        try:
            way = ssh_way.find(self.worker)
        except UseError as error:
            return Unreachable(str(error), "other")
        if way.problem is not None:
            return Unreachable(way.problem, "other")
        is_alias = self.worker.ssh is None
        if reason is None and ssh_way.open_master(way) is not None:
            reason = "over the connection that you have opened (ControlPath)"
        if reason is None:
            from skill.hosts import fabric_transport  # a fifth of a second that others need not pay

            held, _ = fabric_transport.agent_holds(way.agent)
            reason = ssh_way.openssh_reason(way, held, is_alias=is_alias)
            if reason is None:
                return fabric_transport.FabricTransport(way, self.name, self.known_hosts, is_alias=is_alias)
        from skill.hosts import openssh_transport

        return openssh_transport.OpenSshTransport(way, self.name, self.known_hosts, reason, is_alias=is_alias)


def each(
    hosts: Sequence[Host], act: Callable[[Host], T], patience: float, meanwhile: Callable[[], object] | None = None
) -> dict[str, T | Unreachable]:
    """Act on all hosts at once, and wait `patience` seconds at most: a host that has not answered by then is
    unreachable.

    `meanwhile` is done in this thread while they are waited for. An error of ours is raised.
    """
    found: dict[str, T | Unreachable] = {}
    faults: list[BaseException] = []

    def one(host: Host) -> None:
        try:
            found[host.name] = act(host)
        except BaseException as error:  # raised below, in the thread that asked
            faults.append(error)

    threads = [threading.Thread(target=one, args=(host,), daemon=True) for host in hosts]
    for thread in threads:
        thread.start()
    until = time.monotonic() + patience
    if meanwhile is not None:
        _do_meanwhile(meanwhile)
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    if faults:
        raise faults[0]
    late = Unreachable(f"did not answer within {patience:g} s", "timeout")
    return {host.name: found.get(host.name, late) for host in hosts}


def _do_meanwhile(act: Callable[[], object]) -> None:
    """Act, and let the other threads run often: what they start is waited for."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_TURN)
    try:
        act()
    finally:
        sys.setswitchinterval(usual)


def _run_here(argv: Sequence[str], stdin: bytes, timeout: float, limit: int) -> CommandResult | Unreachable:
    try:
        done = subprocess.run(
            ["sh", "-c", f"exec {shlex.join(argv)}"],
            input=stdin, capture_output=True, timeout=timeout, cwd=Path.home(), check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Unreachable(f"a command has not ended within {timeout:g} s", "timeout")
    except OSError as error:
        return Unreachable(str(error), "other")
    if len(done.stdout) > limit:
        return _too_much(limit)
    return CommandResult(done.returncode, done.stdout, done.stderr.decode(errors="replace"))


def _talk(channel: Channel, sent: Framed, stdin: bytes, begun: threading.Event, timeout: float, limit: int) -> _Raw:
    """Send a command its input, once it has begun, and read its output to the end. `begun` is set when it has begun."""
    until = time.monotonic() + timeout
    err: list[bytes] = []
    helpers = [
        threading.Thread(target=_feed, args=(channel, sent, stdin, begun), daemon=True),
        threading.Thread(target=_drain, args=(channel, err), daemon=True),
    ]
    for helper in helpers:
        helper.start()
    out = bytearray()
    try:
        while True:
            left = until - time.monotonic()
            if left <= 0:  # it may go on forever, a byte at a time or as fast as it can
                raise socket.timeout
            channel.settimeout(left)
            data = channel.recv(_CHUNK)
            if not data:
                break
            out += data
            if not begun.is_set() and out.find(sent.mark, max(0, len(out) - len(data) - len(sent.mark))) >= 0:
                begun.set()
            if len(out) > limit:
                channel.close()
                return _too_much(limit)
        if not channel.status_event.wait(max(0.001, until - time.monotonic())):
            raise socket.timeout
        helpers[1].join(max(0.001, until - time.monotonic()))
    except socket.timeout:  # what it is called in Python 3.9
        channel.close()
        if not begun.is_set():
            return Unreachable(remote_command.delay(timeout, bytes(out), b"".join(err)), "timeout")
        return Unreachable(f"did not answer within {timeout:g} s", "timeout")
    except OSError as error:
        return Unreachable(f"the connection was lost: {error}", "dropped")
    code = channel.recv_exit_status()
    channel.close()
    if code < 0:
        return Unreachable("the connection was lost while a command was running", "dropped")
    return code, bytes(out), b"".join(err)


def _feed(channel: Channel, sent: Framed, stdin: bytes, begun: threading.Event) -> None:
    with contextlib.suppress(OSError, EOFError):  # the command may end before it has read all of it
        if sent.begin:
            channel.sendall(sent.early)
            data = sent.begin + stdin if begun.wait(remote_command.BEGIN) else b""
            for begin in range(0, len(data), _CHUNK):
                channel.sendall(data[begin : begin + _CHUNK])
        channel.shutdown_write()


def _drain(channel: Channel, into: list[bytes]) -> None:
    with contextlib.suppress(OSError, EOFError):
        size = 0
        while data := channel.recv_stderr(_CHUNK):
            size += len(data)
            if size < 1 << 20:  # a host that writes without end fills nothing here
                into.append(data)


def _too_much(limit: int) -> CommandResult:
    return CommandResult(1, b"", f"it wrote more than {limit >> 20} MiB, and all of it was discarded")


# The temporary name is given by us, so that two writers never share one. What was cut off is never renamed.
_PUT = """\
umask 077
case $1 in */*) mkdir -p -- "${1%/*}" || exit 1 ;; esac
t=$1.$3.tmp
cat > "$t" && [ "$(wc -c < "$t")" -eq "$4" ] && chmod "$2" "$t" && mv -f -- "$t" "$1" || { rm -f -- "$t"; exit 1; }
"""
