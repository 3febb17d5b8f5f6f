"""One host, over SSH or this machine itself: commands, small files, and the same way in for rsync. Owns fabric.

Arguments come as lists and are quoted here. What the world does wrong comes back as `Unreachable`, never as an
exception. Host keys are kept by the worker's name, since a rented machine's address changes and its key does not.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import logging
import os
import secrets
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, Union

from build_manifest import regular_file
from queue_manager.core.terminal_text import one_line
from skill.common.files import append_to, make_directory, write_whole
from skill.hosts import remote_command, ssh_command
from skill.hosts.remote_command import Framed

if TYPE_CHECKING:
    import fabric
    import paramiko

    from skill.hosts.registry import Worker

KNOWN_HOSTS = "known_hosts"
CONNECT = 10.0
"""Seconds for each step of a connection: TCP, the server's greeting, the login."""
LOGIN = 45.0
"""Seconds for all of them and the start of a command, however slowly a host answers."""
BEGIN = 20.0
"""Seconds for a login shell to begin a command that has input; then the input ends, for login files that wait for
more."""
PAUSE = 0.5
"""Seconds before a refused or dropped connection is tried again; doubles."""
_CHUNK = 1 << 16
_MOST_KEYS = 16 << 20
_AGAIN = frozenset({"refused", "dropped"})
T = TypeVar("T")


class Unreachable(NamedTuple):
    """Nothing is known of a host. `kind`: refused, timeout, name, auth, host_key, dropped, shell or other; shell: its
    login shell did not come to our command."""

    reason: str
    kind: str


class Said(NamedTuple):
    """What a command said. `out` and `err` begin where our command does: a shell's greeting is cut off."""

    code: int
    out: bytes
    err: str


_Raw = Union[tuple[int, bytes, bytes], Said, Unreachable]
"""Exit code, stdout and stderr, with what login files wrote before our command."""


class HostKeyError(Exception):
    """The host showed another key than the one that is kept for its name."""


def remote(path: str) -> str:
    """A path on a host as commands take it: they begin in the home directory, so ~/x is x."""
    return "." if path in ("~", "~/") else path[2:] if path.startswith("~/") else path


class Host:
    """A worker that can be reached. Connects when first asked, and again after a drop.

    `known_hosts`: the project's own file. `tries`: how often a refused or dropped connection is tried. One command at
    a time; threads wait for each other.
    """

    def __init__(self, worker: Worker, known_hosts: Path, tries: int = 1) -> None:
        self.worker, self.known_hosts, self.tries = worker, known_hosts, tries
        self.name = worker.name
        self.is_quiet = True
        """Whether, as far as is known, its login files leave stdin and stdout alone."""
        self._connection: fabric.Connection | None = None
        self._lock = threading.Lock()

    @property
    def destination(self) -> str:
        """[USER@]HOST, for OpenSSH and rsync."""
        ssh = self.worker.ssh
        if ssh is None:
            return self.name
        return f"{ssh.user}@{ssh.host}" if ssh.user else ssh.host

    def ssh_command(self) -> list[str] | None:
        """OpenSSH's command with the same key, port and host keys, without the destination; None on this machine.

        Raises UseError for a path that cannot be said to OpenSSH.
        """
        ssh = self.worker.ssh
        if self.worker.kind == "local":
            return None
        config = Path.home() / ".ssh" / "config"  # OpenSSH itself would take the home of the password file
        return ssh_command.build(
            self.name,
            str(self.known_hosts),
            config=str(config) if config.exists() else None,
            port=ssh.port if ssh else None,
            key=os.path.expanduser(ssh.key) if ssh and ssh.key else None,
            connect=CONNECT,
        )

    # -- commands -------------------------------------------------------------------------------------------------

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, limit: int = 64 << 20
    ) -> Said | Unreachable:
        """Run a command in the home directory. `timeout` in seconds for all of it; `limit`: bytes of output taken."""
        with self._lock:
            if self.worker.kind == "local":
                return _run_here(argv, stdin, timeout, limit)
            sent = remote_command.framed(argv, secrets.token_hex(8), takes_input=bool(stdin))
            said = self._run_there(sent, stdin, timeout, limit)
        if isinstance(said, (Unreachable, Said)):
            return said
        found = remote_command.parts(sent, *said)
        if found is None:
            return Unreachable(remote_command.silence(*said), "shell")
        self.is_quiet = self.is_quiet and found.is_quiet
        return Said(said[0], found.out, found.err)

    def script(
        self, text: str, *args: str, stdin: bytes = b"", timeout: float = 30.0, limit: int = 64 << 20
    ) -> Said | Unreachable:
        """Run a text of sh with arguments, as `run` does."""
        return self.run(["sh", "-c", text, "wavequeue", *args], stdin=stdin, timeout=timeout, limit=limit)

    def put(self, path: str, data: bytes, mode: int = 0o600) -> str | Unreachable | None:
        """Write a whole file; directories that are missing are made, for this user alone. Returns what went wrong."""
        said = self.script(_PUT, remote(path), f"{mode:o}", secrets.token_hex(4), str(len(data)), stdin=data)
        if isinstance(said, Unreachable):
            return said
        return None if said.code == 0 else said.err.strip() or f"{path} could not be written (exit code {said.code})"

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.close()
            self._connection = None

    def _run_there(self, sent: Framed, stdin: bytes, timeout: float, limit: int) -> _Raw:
        """Run it, again after a refused connection or one that was dropped before the command began."""
        pause = PAUSE
        for number in range(1, self.tries + 1):
            begun = threading.Event()
            found = self._opened(sent.line)
            if not isinstance(found, Unreachable):
                said = _talk(found, sent, stdin, begun, timeout, limit)
                if not isinstance(said, Unreachable):
                    return said
                found = said
                self.close()
            if begun.is_set() or found.kind not in _AGAIN or number == self.tries:
                break
            time.sleep(pause)
            pause *= 2
        times = f" (tried {number} times)" if number > 1 else ""
        return found._replace(reason=found.reason + times)

    def _opened(self, command: str) -> paramiko.Channel | Unreachable:
        """As `_open`, within LOGIN seconds: a host that answers a byte a second keeps each single step alive."""
        found: list[paramiko.Channel | Unreachable] = []
        attempt = _Attempt(self._connection)
        thread = threading.Thread(target=lambda: found.append(self._open(command, attempt)), daemon=True)
        thread.start()
        thread.join(LOGIN)
        with attempt.lock:
            attempt.is_late = not found
            self._connection = None if attempt.is_late else attempt.connection
        if attempt.is_late:
            attempt.close()
            return Unreachable(f"{self.destination} did not let us in within {LOGIN:g} s", "timeout")
        return found[0]

    def _open(self, command: str, attempt: _Attempt) -> paramiko.Channel | Unreachable:
        """A channel in which the command runs. One that was open may have died unnoticed: it is then made anew."""
        fresh = attempt.connection is None
        try:
            if attempt.connection is None:
                self._connect(attempt)
            assert attempt.connection is not None
            channel: paramiko.Channel = attempt.connection.transport.open_session(timeout=CONNECT)
            channel.exec_command(command)
        except Exception as error:  # paramiko raises nearly anything at a broken server
            attempt.close()
            return Unreachable(*_words(error, self)) if fresh or attempt.is_late else self._open(command, attempt)
        return channel

    def _connect(self, attempt: _Attempt) -> None:
        import fabric  # a fifth of a second that local verbs need not pay
        import paramiko

        logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # what goes wrong is a value here, and no traceback
        ssh = self.worker.ssh
        kwargs: dict[str, Any] = {"banner_timeout": CONNECT, "auth_timeout": CONNECT}
        if ssh is not None and ssh.key:
            kwargs |= {"key_filename": os.path.expanduser(ssh.key), "look_for_keys": False, "allow_agent": False}
        connection = fabric.Connection(
            self.name if ssh is None else ssh.host,
            user=ssh.user if ssh else None,
            port=ssh.port if ssh else None,
            connect_timeout=int(CONNECT),
            connect_kwargs=kwargs,
            forward_agent=False,
        )
        connection.client.set_missing_host_key_policy(_policy(paramiko, self.known_hosts, self.name))
        with attempt.lock:
            if attempt.is_late:
                return
            attempt.connection = connection
        connection.open()
        connection.transport.set_keepalive(15)


class _Attempt:
    """One attempt to begin a command, over a connection that there is or a new one. `is_late`: nobody waits for it any
    more, and its connection is closed under it."""

    def __init__(self, connection: fabric.Connection | None) -> None:
        self.connection = connection
        self.is_late = False
        self.lock = threading.Lock()

    def close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.client.close()  # its own `close` waits for what is going on


def each(hosts: Sequence[Host], act: Callable[[Host], T], patience: float) -> dict[str, T | Unreachable]:
    """Act on all hosts at once, and wait `patience` seconds at most: who has not answered by then is unreachable.

    An error of ours is raised.
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
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    if faults:
        raise faults[0]
    late = Unreachable(f"did not answer within {patience:g} s", "timeout")
    return {host.name: found.get(host.name, late) for host in hosts}


def _run_here(argv: Sequence[str], stdin: bytes, timeout: float, limit: int) -> Said | Unreachable:
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
    return Said(done.returncode, done.stdout, done.stderr.decode(errors="replace"))


def _talk(
    channel: paramiko.Channel, sent: Framed, stdin: bytes, begun: threading.Event, timeout: float, limit: int
) -> _Raw:
    """Give a command its input, once it has begun, and take its output to the end. `begun` is set when it has."""
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
            if left <= 0:  # it may go on for ever, a byte at a time or as fast as it can
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
        return Unreachable("the connection was lost in the middle of a command", "dropped")
    return code, bytes(out), b"".join(err)


def _feed(channel: paramiko.Channel, sent: Framed, stdin: bytes, begun: threading.Event) -> None:
    with contextlib.suppress(OSError, EOFError):  # the command may end before it has read all of it
        if sent.begin:
            channel.sendall(sent.early)
            data = sent.begin + stdin if begun.wait(BEGIN) else b""
            for begin in range(0, len(data), _CHUNK):
                channel.sendall(data[begin : begin + _CHUNK])
        channel.shutdown_write()


def _drain(channel: paramiko.Channel, into: list[bytes]) -> None:
    with contextlib.suppress(OSError, EOFError):
        size = 0
        while data := channel.recv_stderr(_CHUNK):
            size += len(data)
            if size < 1 << 20:  # a host that writes without end fills nothing here
                into.append(data)


def _too_much(limit: int) -> Said:
    return Said(1, b"", f"it wrote more than {limit >> 20} MiB, and nothing of it was taken")


@functools.lru_cache(maxsize=8)
def _lock_of(path: Path) -> threading.Lock:
    del path
    return threading.Lock()


def _policy(paramiko: Any, known_hosts: Path, name: str) -> Any:
    """Compares the key that a host shows with the one kept for its name; the first one is kept."""

    class Policy(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
        def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:  # noqa: ARG002
            with _lock_of(known_hosts):
                kept = known_key(known_hosts, name)
                shown = f"{key.get_name()} {key.get_base64()}"
                if kept is None:
                    _keep(known_hosts, f"{name} {shown}\n")
                elif kept != shown:
                    raise HostKeyError

    return Policy()


def known_key(known_hosts: Path, name: str) -> str | None:
    """The key that is kept for a name, as "TYPE BASE64"; None if none is."""
    try:
        lines = _lines(known_hosts)
    except FileNotFoundError:
        return None
    for line in lines:
        parts = line.split()
        if len(parts) >= 3 and parts[0] == name:
            return f"{parts[1]} {parts[2]}"
    return None


def forget_key(known_hosts: Path, name: str) -> bool:
    """Forget the key that is kept for a name, so that the next one is accepted. Returns whether there was one."""
    if known_key(known_hosts, name) is None:
        return False
    _rewrite(known_hosts, name, "")
    return True


def replace_key(known_hosts: Path, name: str, key: str) -> None:
    """Keep this key, "TYPE BASE64", for a name in the place of the one that was kept. Raises OSError."""
    if known_key(known_hosts, name) is None:
        _keep(known_hosts, f"{name} {key}\n")
    else:
        _rewrite(known_hosts, name, f"{name} {key}\n")


def fingerprint(key: str) -> str:
    """A key, "TYPE BASE64", as OpenSSH shows it: "TYPE SHA256:..."."""
    kind, _, data = key.partition(" ")
    digest = hashlib.sha256(base64.b64decode(data)).digest()
    return f"{kind} SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def _rewrite(known_hosts: Path, name: str, instead: str) -> None:
    """Put a line in the place of all that name `name`."""
    lines = [f"{line}\n" for line in _lines(known_hosts)]
    text = "".join([*(line for line in lines if line.split()[:1] != [name]), instead])
    write_whole(known_hosts, text, errors="surrogateescape")


def _lines(known_hosts: Path) -> list[str]:
    """The lines of the file. What is no text in one of them stays as it is, and names nobody."""
    return regular_file.read_text(known_hosts, _MOST_KEYS, errors="surrogateescape").splitlines()


def _keep(known_hosts: Path, line: str) -> None:
    make_directory(known_hosts.parent)
    with append_to(known_hosts) as file:
        file.write(line.encode())  # one write: two commands that append at once mix no lines


def config_fault() -> str | None:
    """Why no host could be reached with ~/.ssh/config as it is, in one line; None if it can be read."""
    import fabric

    try:
        fabric.Config().base_ssh_config.lookup("localhost")
    except Exception as error:  # paramiko has no one class for what it does not understand
        return one_line(str(error) or type(error).__name__, 300)
    return None


def _words(error: Exception, host: Host) -> tuple[str, str]:
    """What went wrong with a connection, in words and as a kind."""
    import paramiko

    where = host.destination + (f":{host.worker.ssh.port}" if host.worker.ssh and host.worker.ssh.port else "")
    if isinstance(error, HostKeyError):
        text = (
            f"{where} shows another host key than before: somebody else's machine may answer there. Nothing was sent. "
            f"If it was set up anew, accept its key with: wavequeue hosts accept {host.name}"
        )
        return text, "host_key"
    if isinstance(error, socket.gaierror):
        return f"the name {where} is not known ({error.strerror or error})", "name"
    if isinstance(error, (TimeoutError, socket.timeout)):
        return f"{where} did not answer within {CONNECT:g} s", "timeout"
    if isinstance(error, paramiko.ssh_exception.NoValidConnectionsError):
        inner = next(iter(error.errors.values()), error)
        if isinstance(inner, ConnectionRefusedError):
            return f"{where} refused the connection: no SSH server listens there", "refused"
        return f"{where}: {getattr(inner, 'strerror', None) or inner}", "other"
    if isinstance(error, (paramiko.PasswordRequiredException, paramiko.AuthenticationException)):
        key = host.worker.ssh.key if host.worker.ssh else None
        hint = f"the key {key}" if key else "none of your keys (agent, ~/.ssh)"
        return (
            f"{where} did not let us in with {hint}; name the right one in workers.yaml, as ssh: {{key: FILE}}",
            "auth",
        )
    if isinstance(error, FileNotFoundError):
        return f"the key {error.filename} is not there", "auth"
    if isinstance(error, (EOFError, ConnectionResetError, BrokenPipeError)):
        return f"{where} dropped the connection", "dropped"
    if isinstance(error, paramiko.SSHException):
        text = str(error)
        if "banner" in text.lower():
            return f"{where} does not answer as an SSH server does", "dropped"
        dropped = any(word in text.lower() for word in ("eof", "not active", "closed", "reset"))
        return f"{where}: {text}", "dropped" if dropped else "other"
    return f"{where}: {error}", "other"


# The temporary name is told by us, so that two writers never share one. What was cut off is never renamed.
_PUT = """\
umask 077
case $1 in */*) mkdir -p -- "${1%/*}" || exit 1 ;; esac
t=$1.$3.tmp
cat > "$t" && [ "$(wc -c < "$t")" -eq "$4" ] && chmod "$2" "$t" && mv -f -- "$t" "$1" || { rm -f -- "$t"; exit 1; }
"""
