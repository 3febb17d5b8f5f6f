"""Reach a host by OpenSSH itself, where fabric cannot do what ssh would: one login, and every command over it.

The login is a connection that is shared (ControlMaster): a person's own where one is open, else one of ours, which ends
with this process. So a key that needs a touch is touched once.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from skill.hosts import known_hosts, ssh_command, ssh_keys, ssh_way, ssh_words, transport
from skill.hosts.early_ssh import Started
from skill.hosts.ssh_way import Way
from skill.hosts.transport import Channel, Unreachable

# Whoever holds the other end of its stdin is gone: then so is the connection. ssh itself would stay forever.
_HELD = """exec 3<&0
"$@" </dev/null 3<&- &
p=$!
{ cat <&3; kill $p; } >/dev/null 2>&1 &
exec 3<&- </dev/null
wait $p"""
_READY = "wavequeue-ready"
_RECORD = 'echo "$2 $3" >> "$1"; shift 3; [ $# = 0 ] || exec "$@"'
"""Notes the host key that is shown, and then asks whom the ssh configuration asks."""
_FAILED = 255
"""The exit code of ssh where it is ssh that failed, and not what ran there."""
_END = 5.0
_MOST_WORDS = 1 << 16


class OpenSshTransport:
    """A connection of OpenSSH, made when first used.

    `name`: of the worker, by which its host key is kept. `through`: why it is not fabric's.
    """

    beyond: str | None = None

    def __init__(self, way: Way, name: str, known_hosts: Path, through: str, *, is_alias: bool) -> None:
        self._way, self._name, self._known_hosts, self._is_alias = way, name, known_hosts, is_alias
        self.through: str | None = through
        self._master: subprocess.Popen[bytes] | None = None
        self._folder: str | None = None
        self._theirs: str | None = None

    def socket_path(self) -> str | None:
        """The socket of the connection that is shared, while it lives."""
        if self._theirs is not None:
            return self._theirs
        if self._folder is None or self._master is None or self._master.poll() is not None:
            return None
        return os.path.join(self._folder, "s")

    def open(self, command: str, /) -> Channel | Unreachable:
        path = self.socket_path()
        if path is None or not os.path.exists(path):
            self.close()
            self._theirs = path = ssh_way.open_master(self._way)
        if path is None:
            failed = self._log_in()
            if failed is not None:
                self.close()
                return failed
            path = self.socket_path()
            if path is None:
                return Unreachable(f"{self._where()} dropped the connection", "dropped")
        argv = [*ssh_command.quiet(self._way.settings, self._where_options()), "-S", path, self._way.destination]
        try:
            return SshProcess(Started([*argv, command]), functools.partial(ssh_way.master_lives, self._way, path))
        except OSError as error:
            return Unreachable(f"ssh could not be started: {error.strerror or error}", "other")

    def close(self) -> None:
        master, self._master = self._master, None
        if master is not None:
            assert master.stdin is not None
            with contextlib.suppress(OSError):
                master.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                master.wait(_END)
            if master.poll() is None:
                master.kill()
            assert master.stdout is not None
            master.stdout.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = self._theirs = None

    def _where_options(self) -> tuple[str, ...]:
        return (*self._way.config, *self._way.options)

    def _where(self) -> str:
        port = self._way.settings.first("port")
        return self._way.destination + (f":{port}" if port not in ("", "22") else "")

    def _log_in(self) -> Unreachable | None:
        """Open a shared connection of its own. Returns why that was not possible."""
        self._folder = tempfile.mkdtemp(prefix="wq", dir=_short_folder())
        path, log, shown = (os.path.join(self._folder, name) for name in ("s", "log", "keys"))
        kept = known_hosts.known_key(self._known_hosts, self._name)
        is_kept = kept is not None
        if kept is not None and self._is_alias and (refusal := self._revoked(kept)) is not None:
            return refusal
        master = {
            "ControlMaster": "yes", "ControlPersist": "no", "LogLevel": "VERBOSE", "PermitLocalCommand": "yes",
            "LocalCommand": f"echo {_READY}",
        }  # fmt: skip
        argv = [
            *ssh_command.quiet(self._way.settings, self._where_options(), master),
            *(ssh_command.checked(self._name, str(self._known_hosts)) if is_kept else self._first_time(shown)),
            "-E", log, "-S", path, "-N", self._way.destination,
        ]  # fmt: skip
        try:
            self._master = subprocess.Popen(
                ["sh", "-c", _HELD, "sh", *argv],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            return Unreachable(f"ssh could not be started: {error.strerror or error}", "other")
        answer = _first_line(self._master, transport.LOGIN)
        output = _text(log)
        refused = answer != _READY
        if not is_kept and not (refused and ssh_words.kind(output) == "host_key"):
            problem = self._keep(_text(shown))
            if problem is not None:
                return problem
        if not refused:
            return None
        if answer is None:
            return Unreachable(f"{self._where()} did not complete the login within {transport.LOGIN:g} s", "timeout")
        return self._words(output)

    def _first_time(self, shown: str) -> list[str]:
        """Return options for a host without a kept key: ssh judges by its own files, and the key is recorded."""
        settings = self._way.settings
        theirs = settings.first("knownhostscommand") if settings.is_set("knownhostscommand") else ""
        command = f"/bin/sh -c {_quoted(_RECORD)} sh {_quoted(shown)} %t %K {theirs}".rstrip()
        options = ["-o", f"KnownHostsCommand={command}", "-o", "UpdateHostKeys=no"]
        if not self._is_alias:
            nothing = ssh_command.file_value(os.devnull)
            return [*options, "-o", f"UserKnownHostsFile={nothing}", "-o", "StrictHostKeyChecking=accept-new"]
        if settings.first("stricthostkeychecking") == "ask":  # nobody can be asked; fabric keeps the first key, too
            options += ["-o", "StrictHostKeyChecking=accept-new"]
        return options

    def _keep(self, shown: str) -> Unreachable | None:
        """Keep the key that was shown, which ssh has accepted."""
        keys = [key for line in shown.splitlines() if (key := ssh_keys.without_certificate(line)) is not None]
        if keys:
            try:
                known_hosts.check(self._known_hosts, self._name, keys[-1])
            except known_hosts.HostKeyError:
                return Unreachable(transport.changed_key(self._where(), self._name, ""), "host_key")
        return None

    def _revoked(self, kept: str) -> Unreachable | None:
        """Say why the kept key is no longer to be trusted, by ssh's own files."""
        try:
            known = known_hosts.known_to_ssh(self._way.settings, marked=True)
            if kept not in known.revoked:
                return None
            why = known_hosts.REVOKED
        except known_hosts.HostKeyError as error:
            why = str(error)
        return Unreachable(transport.changed_key(self._where(), self._name, why), "host_key")

    def _words(self, output: str) -> Unreachable:
        where, name, kind = self._where(), self._name, ssh_words.kind(output)
        ways = ssh_words.methods(output)
        if kind == "host_key":
            why = "" if known_hosts.known_key(self._known_hosts, name) else ssh_words.telling(output)
            return Unreachable(transport.changed_key(where, name, why), kind)
        if kind == "auth" and ssh_words.PARTIAL.search(output):
            return Unreachable(ssh_words.needs_more(where, name, ssh_words.asked_for(ways)), kind)
        if kind == "auth" and ways and "publickey" not in ways:
            return Unreachable(ssh_words.takes_no_key(where, name, ways), kind)
        return Unreachable(
            f"login to {where} failed ({self.through}): {ssh_words.telling(output) or 'ssh printed nothing'}",
            kind,
        )


def _quoted(text: str) -> str:
    """Quote a word of KnownHostsCommand, in which ssh knows double quotes with a backslash and expands %."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def _short_folder() -> str | None:
    """Choose the directory of sockets: some systems limit their paths to 104 characters, and ssh first adds to them."""
    for folder in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir()):
        if folder and len(folder) < 60 and os.access(folder, os.W_OK):
            return folder
    return "/tmp"


def _first_line(process: subprocess.Popen[bytes], seconds: float) -> str | None:
    """Read the first line that a process writes; empty if it ends without one, None if neither happens in time."""
    assert process.stdout is not None
    until, data = time.monotonic() + seconds, b""
    while b"\n" not in data:
        left = until - time.monotonic()
        if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
            return None
        more = os.read(process.stdout.fileno(), 4096)
        if not more:
            return ""
        data += more
    return data.split(b"\n")[0].decode(errors="replace").strip()


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(_MOST_WORDS).decode(errors="replace")
    except OSError:
        return ""


class SshProcess:
    """A command of ssh as a channel. Messages of ssh itself are not output of the command.

    `lives`: tells whether the connection that it shares still serves.
    """

    def __init__(self, started: Started, lives: Callable[[], bool] = lambda: True) -> None:
        self._started, self._process, self._lives = started, started.process, lives
        self._timeout: float | None = None
        self.status_event = threading.Event()
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        self._process.wait()
        self.status_event.set()

    def words(self) -> str:
        """Return ssh's own messages so far."""
        return _text(self._started.log)

    def has_output(self, seconds: float) -> bool:
        """Tell whether the command writes anything within this many seconds, or has closed its output."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        return bool(select.select([self._process.stdout, self._process.stderr], [], [], seconds)[0])

    def settimeout(self, timeout: float | None, /) -> None:
        self._timeout = timeout

    def recv(self, nbytes: int, /) -> bytes:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], self._timeout)[0]:
            raise socket.timeout
        return os.read(self._process.stdout.fileno(), nbytes)

    def recv_stderr(self, nbytes: int, /) -> bytes:
        assert self._process.stderr is not None
        return os.read(self._process.stderr.fileno(), nbytes)

    def sendall(self, s: bytes, /) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(s)
        self._process.stdin.flush()

    def shutdown_write(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def recv_exit_status(self) -> int:
        code = self._process.wait()
        return -1 if code < 0 or (code == _FAILED and not self.has_ended()) else code

    def has_ended(self) -> bool:
        """Tell whether the command has ended by itself, as far as ssh shows; it does not show that a shared connection
        was cut."""
        return not ssh_words.telling(self.words()) and self._lives()

    def close(self) -> None:
        self._started.close()
