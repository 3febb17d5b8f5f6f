"""A host by fabric, the usual way: with just the keys, in just the order, and through just the route that OpenSSH would
take. Owns fabric and paramiko.

What the world does wrong comes back as `Unreachable`, never as an exception.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import logging
import os
import shlex
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fabric
import paramiko
from paramiko.agent import AgentKey, AgentSSH
from paramiko.auth_strategy import AuthResult, AuthStrategy

from skill.hosts import known_hosts, ssh_route, ssh_words, transport
from skill.hosts.known_hosts import HostKeyError
from skill.hosts.ssh_settings import Settings, expand
from skill.hosts.ssh_way import Way, missing_keys
from skill.hosts.transport import Unreachable

logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # what goes wrong is a value here, and no traceback
_ALIVE = 15
_AGENT_PATIENCE = 30.0
_MOST_WORDS = 1 << 16


class LoginError(Exception):
    """The host accepted none of the keys, or requires more than a key; the text says so."""


class CutError(Exception):
    """The connection ended during the login."""


class BeyondFabricError(Exception):
    """There is a key with which only OpenSSH can sign; the text says why."""


class FabricTransport:
    """A connection of fabric, made when first used. `name`: of the worker, by which its host key is kept."""

    through: str | None = None
    beyond: str | None = None
    """Why the last login needs OpenSSH, as it turned out on the way; None where it does not."""

    def __init__(self, way: Way, name: str, known_hosts: Path, *, is_alias: bool) -> None:
        self._way, self._name, self._known_hosts, self._is_alias = way, name, known_hosts, is_alias
        self._connection: fabric.Connection | None = None

    def socket_path(self) -> str | None:
        return None

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.close()
            self._connection = None

    def open(self, command: str, /) -> paramiko.Channel | Unreachable:
        """As `_open`, within LOGIN seconds: a host that answers a byte a second keeps each single step alive."""
        found: list[paramiko.Channel | Unreachable] = []
        attempt = _Attempt(self._connection)
        thread = threading.Thread(target=lambda: found.append(self._open(command, attempt)), daemon=True)
        thread.start()
        thread.join(transport.LOGIN)
        with attempt.lock:
            attempt.is_late = not found
            self._connection = None if attempt.is_late else attempt.connection
        if attempt.is_late:
            attempt.close()
            return Unreachable(
                f"{self._way.destination} did not complete the login within {transport.LOGIN:g} s", "timeout"
            )
        return found[0]

    def _open(self, command: str, attempt: _Attempt) -> paramiko.Channel | Unreachable:
        """A channel in which the command runs. One that was open may have died unnoticed: it is then made anew."""
        fresh = attempt.connection is None
        try:
            if attempt.connection is None:
                self._connect(attempt)
            assert attempt.connection is not None
            channel: paramiko.Channel = attempt.connection.transport.open_session(timeout=transport.CONNECT)
            sent = _environment(self._way)
            if sent:
                channel.update_environment(sent)
            channel.exec_command(command)
        except Exception as error:  # paramiko raises nearly anything at a broken server
            output = attempt.output()
            attempt.close()
            if not fresh and not attempt.is_late:
                return self._open(command, attempt)
            if isinstance(error, BeyondFabricError):
                self.beyond = str(error)
            return Unreachable(*self._words(error, output))
        return channel

    def _connect(self, attempt: _Attempt) -> None:
        settings = self._way.settings
        seconds = settings.seconds or transport.CONNECT
        host, port = settings.first("hostname"), int(settings.first("port") or 22)
        kept = known_hosts.known_key(self._known_hosts, self._name)
        known = known_hosts.known_to_ssh(settings, marked=kept is not None) if self._is_alias else known_hosts.NOTHING
        kwargs: dict[str, Any] = {
            "banner_timeout": seconds, "auth_timeout": seconds, "channel_timeout": seconds,
            "transport_factory": functools.partial(_Transport, [kept] if kept is not None else known.keys),
        }  # fmt: skip
        strategy = functools.partial(_Keys, self._way)
        config = fabric.Config(
            ssh_config=paramiko.SSHConfig(), overrides={"authentication": {"strategy_class": strategy}}
        )
        connection = fabric.Connection(
            host, user=settings.first("user"), port=port, config=config, connect_timeout=max(1, round(seconds)),
            connect_kwargs=kwargs, forward_agent=False,
        )  # fmt: skip
        is_strict = self._is_alias and settings.first("stricthostkeychecking") in ("yes", "true")
        connection.client.set_missing_host_key_policy(_policy(self._known_hosts, self._name, known, is_strict))
        with attempt.lock:
            if attempt.is_late:
                return
            attempt.connection = connection
        pipe = attempt.through(self._way)
        if pipe is not None:
            connection.connect_kwargs["sock"] = pipe
        connection.open()
        connection.transport.set_keepalive(int(settings.first("serveraliveinterval") or 0) or _ALIVE)

    def _words(self, error: Exception, output: str) -> tuple[str, str]:
        """Say what went wrong with a connection, with its kind. `output`: of the command that leads there, if any."""
        settings, name = self._way.settings, self._name
        port = settings.first("port")
        where = self._way.destination + (f":{port}" if port not in ("", "22") else "")
        if isinstance(error, HostKeyError):
            return transport.changed_key(where, name, str(error)), "host_key"
        if isinstance(error, LoginError):
            return str(error).replace("@WHERE@", where).replace("@NAME@", name), "auth"
        telling = ssh_words.telling(output)
        if telling:  # of the way there: a jump host that is down, a command that is not there
            return f"{where} cannot be reached by the route in ~/.ssh/config: {telling}", ssh_words.kind(output)
        if isinstance(error, socket.gaierror):
            return f"the name {where} cannot be resolved ({error.strerror or error})", "name"
        if isinstance(error, (TimeoutError, socket.timeout)):
            return f"{where} did not answer within {settings.seconds or transport.CONNECT:g} s", "timeout"
        if isinstance(error, paramiko.ssh_exception.NoValidConnectionsError):
            inner = next(iter(error.errors.values()), error)
            if isinstance(inner, ConnectionRefusedError):
                return f"{where} refused the connection: no SSH server listens there", "refused"
            return f"{where}: {getattr(inner, 'strerror', None) or inner}", "other"
        if isinstance(error, CutError):
            return f"{where} dropped the connection during the login", "dropped"
        if isinstance(error, (EOFError, ConnectionResetError, BrokenPipeError)):
            return f"{where} dropped the connection", "dropped"
        if isinstance(error, paramiko.SSHException):
            text = str(error)
            if "banner" in text.lower():
                return f"{where} does not answer as an SSH server does", "dropped"
            dropped = any(word in text.lower() for word in ("eof", "not active", "closed", "reset", "no existing"))
            return f"{where}: {text}", "dropped" if dropped else "other"
        return f"{where}: {error}", "other"


class _Attempt:
    """One attempt to begin a command, over a connection that there is or a new one. `is_late`: nobody waits for it any
    more, and its connection is closed under it."""

    def __init__(self, connection: fabric.Connection | None) -> None:
        self.connection = connection
        self.is_late = False
        self.lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._output = tempfile.TemporaryFile()  # noqa: SIM115

    def through(self, way: Way) -> socket.socket | None:
        """Start the command that leads to the host, if there is one; returns a socket to it."""
        argv = _between(way)
        if argv is None:
            return None
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                argv, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=self._output, start_new_session=True
            )
        process = self._process
        threading.Thread(target=process.wait, daemon=True).start()  # nobody else waits for its end
        return ours

    def output(self) -> str:
        """Return what the command that leads there has printed, if it has ended or does so within a moment."""
        if self._process is None:
            return ""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2.0)
        self._output.seek(0)
        return self._output.read(_MOST_WORDS).decode(errors="replace")

    def close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.client.close()  # its own `close` waits for what is going on
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()


def _between(way: Way) -> list[str] | None:
    """Return the command that leads to the host; None if nothing is between."""
    settings = way.settings
    if settings.is_set("proxyjump"):
        return ssh_route.as_jump(
            settings.first("proxyjump"), way.config, settings.first("hostname"), settings.first("port")
        )
    if settings.is_set("proxycommand"):
        line = expand(settings.first("proxycommand"), settings, _kept_variables(settings))
        return [os.environ.get("SHELL") or "/bin/sh", "-c", f"exec {line}"]
    return None


def _kept_variables(settings: Settings) -> dict[str, str]:
    """Keep variables of a ProxyCommand for the shell to expand."""
    return {name: f"${{{name}}}" for name in _names(settings.first("proxycommand"))}


def _names(text: str) -> Iterator[str]:
    for part in text.split("${")[1:]:
        name, closed, _ = part.partition("}")
        if closed:
            yield name


def _environment(way: Way) -> dict[str, str]:
    """Collect the variables that SetEnv and SendEnv send."""
    patterns = [pattern for line in way.settings.all("sendenv") for pattern in line.split()]
    wanted = [pattern for pattern in patterns if not pattern.startswith("-")]
    found = {name: value for name, value in os.environ.items() if any(fnmatch.fnmatchcase(name, one) for one in wanted)}
    for line in way.settings.all("setenv"):
        name, equals, value = line.partition("=")
        if equals:
            found[name] = value
    return found


class _Transport(paramiko.Transport):  # type: ignore[misc]
    """Asks first for a host key of the known kinds, as ssh does. Keeps the message of a host that disconnects."""

    def __init__(self, known: Sequence[str], sock: Any, **options: Any) -> None:
        super().__init__(sock, **options)
        self.last_words = ""
        types = {key.partition(" ")[0] for key in known}
        usual = self.get_security_options().key_types
        first = [name for name in usual if (name if "rsa" not in name else "ssh-rsa") in types]
        self.get_security_options().key_types = [*first, *(name for name in usual if name not in first)]

    def _parse_disconnect(self, m: Any) -> None:
        m.get_int()
        self.last_words = m.get_text()


class _Keys(AuthStrategy):  # type: ignore[misc]
    """Offers keys as ssh does: those of the agent that a file names, the agent's others, those that only a file has."""

    def __init__(self, way: Way, ssh_config: Any, fabric_config: Any, username: str) -> None:  # noqa: ARG002
        super().__init__(ssh_config=ssh_config)
        self._way, self._user = way, username
        self._passed_over: list[str] = []

    def authenticate(self, transport: Any) -> AuthResult:
        ways = self._begin(transport)
        if ways is None:
            return AuthResult(strategy=self)
        if "publickey" not in ways:
            raise LoginError(ssh_words.takes_no_key("@WHERE@", "@NAME@", ways))
        tried = 0
        for key in self._offered():
            tried += 1
            try:
                more = transport.auth_publickey(self._user, key)
            except paramiko.BadAuthenticationType as error:
                raise LoginError(ssh_words.takes_no_key("@WHERE@", "@NAME@", tuple(error.allowed_types))) from None
            except (paramiko.SSHException, EOFError, OSError) as error:
                if isinstance(key, AgentKey) and "cannot be used for signing" in str(error):
                    raise BeyondFabricError("the agent does not sign for others with a key that it holds") from None
                _see_whether_cut(transport, tried)
                continue
            if more:
                raise LoginError(ssh_words.needs_more("@WHERE@", "@NAME@", ssh_words.asked_for(tuple(more))))
            return AuthResult(strategy=self)
        raise LoginError(self._refused())

    def _begin(self, transport: Any) -> tuple[str, ...] | None:
        """Return the ways to log in that the host names; None if it asks for none at all."""
        try:
            transport.auth_none(self._user)
        except paramiko.BadAuthenticationType as error:
            return tuple(error.allowed_types)
        except (paramiko.SSHException, EOFError, OSError):
            _see_whether_cut(transport, 0)
            return ("publickey",)
        return None

    def _offered(self) -> Iterator[Any]:
        way = self._way
        held, fault = agent_keys(way.agent)
        if fault is not None:
            self._passed_over.append(fault)
        named = {identity.blob for identity in way.identities if identity.blob is not None}
        yield from (key for key in held if key.blob in named)
        if way.settings.first("identitiesonly") != "yes":
            yield from (key for key in held if key.blob not in named)
        blobs = {key.blob for key in held}
        for identity in way.identities:
            if not identity.is_private or identity.blob in blobs:
                continue
            if identity.is_open:
                self._passed_over.append(f"{identity.path} can be read by others: chmod 600 it")
            elif identity.is_locked:
                self._passed_over.append(
                    f"{identity.path} has a passphrase and no agent holds it: ssh-add {shlex.quote(identity.path)}"
                )
            else:
                try:
                    yield paramiko.PKey.from_path(identity.path)
                except Exception as error:  # of three libraries
                    raise BeyondFabricError(f"the key {identity.path} cannot be read otherwise ({error})") from None

    def _refused(self) -> str:
        missing = [f"the key {path} does not exist" for path in missing_keys(self._way)]
        names = [identity.path for identity in self._way.identities]
        if self._way.settings.first("identitiesonly") == "yes" and names:
            what = f"the key {names[0]} was not" if len(names) == 1 else f"none of the keys {', '.join(names)} was"
        else:
            what = "no key was"
        notes = "; ".join([*missing, *self._passed_over])
        hint = (
            notes or "name the right one in workers.yaml, as ssh: {key: FILE}, or under IdentityFile in ~/.ssh/config"
        )
        return f"authentication failed at @WHERE@: {what} accepted; {hint}"


def _see_whether_cut(transport: Any, tried: int) -> None:
    """Raise CutError if the connection has ended, and LoginError if the host refuses further attempts."""
    if transport.is_active():
        return
    words = transport.last_words
    if words and tried:
        raise LoginError(f"authentication failed at @WHERE@: none of {tried} keys was accepted; it said: {words}")
    raise CutError


def _policy(path: Path, name: str, known: known_hosts.Known, is_strict: bool) -> Any:
    """Compares the key that a host shows with the one kept for its name; the first one is kept."""

    class Policy(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
        def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:  # noqa: ARG002
            shown = f"{key.get_name()} {key.get_base64()}"
            known_hosts.check(path, name, shown, known, is_strict=is_strict)

    return Policy()


class _Agent(AgentSSH):  # type: ignore[misc]
    """The agent at a socket. Raises OSError and SSHException."""

    def __init__(self, path: str) -> None:
        super().__init__()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(_AGENT_PATIENCE)
        try:
            connection.connect(path)
            self._connect(connection)
        except BaseException:
            connection.close()
            raise


def agent_keys(path: str | None) -> tuple[list[AgentKey], str | None]:
    """List the keys that an agent holds, in its order, and say why it could not be asked; like ssh, a login then
    continues without it. Neither if ssh asks no agent."""
    if path is None:
        return [], None
    try:
        return list(_Agent(path).get_keys()), None
    except OSError as error:
        why = error.strerror or str(error)
    except Exception as error:  # it breaks off, or says what no agent says
        why = str(error) or type(error).__name__
    return [], f"the agent at {path} could not be asked for its keys ({why}); see: ssh-add -l"


def agent_holds(path: str | None) -> tuple[list[tuple[str, bytes]], str | None]:
    """List type and public half of each key that an agent holds, and say why it could not be asked."""
    keys, fault = agent_keys(path)
    return [(key.get_name(), key.blob) for key in keys], fault
