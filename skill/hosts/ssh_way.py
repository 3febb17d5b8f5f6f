"""How a worker is entered: the command of OpenSSH with its options, the settings that follow, and who logs in.

Names of ~/.ssh/config mean what they mean to ssh. A host that workers.yaml gives in full (host, port, user and key) is
that, and no line of ~/.ssh/config touches it, unless one names its address. A rented machine has an address that nobody
could name beforehand, so lines for all hosts hold for it, such as the jump host that leads out of a network.
"""

from __future__ import annotations

import functools
import getpass
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from skill.common.errors import UseError
from skill.hosts import known_hosts, ssh_command, ssh_files, ssh_keys, ssh_route
from skill.hosts.known_hosts import HostKeyError
from skill.hosts.ssh_keys import Identity
from skill.hosts.ssh_settings import (
    NO_FILE,
    Fault,
    Settings,
    ask,
    ask_all,
    config_file,
    differences,
    expand,
    settings_files,
)

if TYPE_CHECKING:
    from skill.hosts.registry import Worker

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_NOBODY = "host.that.no.line.names.invalid"
_PATIENCE = 30.0
_LONGEST_SOCKET = 104 if sys.platform == "darwin" else 108
_USUAL = {"identityfile": tuple(f"~/.ssh/id_{name}" for name in ("rsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk"))}
"""What ssh does where it cannot be asked."""


class Way(NamedTuple):
    """How a host is entered. `config`: ssh's option that names its file of settings. `identities`: the key files that
    there are, in ssh's order; `agent`: the socket of the agent to ask, or None. `problem`: why it cannot be entered."""

    destination: str
    config: tuple[str, ...]
    options: tuple[str, ...]
    settings: Settings
    identities: tuple[Identity, ...] = ()
    agent: str | None = None
    problem: str | None = None


def destination(worker: Worker) -> str:
    """[USER@]HOST, for OpenSSH and rsync."""
    ssh = worker.ssh
    if ssh is None:
        return worker.name
    return f"{ssh.user}@{ssh.host}" if ssh.user else ssh.host


def find(worker: Worker) -> Way:
    """The way to a worker, by ssh's own reading of its files. Raises UseError for a path that ssh cannot be given."""
    ssh, to = worker.ssh, destination(worker)
    options = tuple(_options(worker))
    config = _config(worker)
    found = _given(worker) if config == NO_FILE else ask(("ssh", *config, *options), to)
    if isinstance(found, Fault):
        usual = Settings(to.rpartition("@")[2], _USUAL)
        if ssh is None or not found.is_missing:
            return Way(to, config, options, usual, problem=found.reason)
        found = _given(worker)
    path = os.fsencode(found.first("controlpath"))
    if found.is_set("controlpath") and len(path) >= _LONGEST_SOCKET:
        why = f"ControlPath too long ({len(path)} bytes; a socket has {_LONGEST_SOCKET - 1} at most)"
        return Way(to, config, options, found, problem=f"your ssh configuration cannot be followed: {why}")
    try:
        return Way(to, config, options, found, tuple(_identities(found)), agent_socket(found))
    except ValueError as error:
        return Way(to, config, options, found, problem=f"your ssh configuration cannot be followed: {error}")


def plain(worker: Worker) -> Way | None:
    """The way to a worker as far as ssh needs it; without its keys, which ssh finds by itself. None where
    `find` has something to say, host keys are marked, or a connection to be shared is there. Raises UseError as `find`
    does."""
    to, options, config = destination(worker), tuple(_options(worker)), _config(worker)
    if config == NO_FILE:
        assert worker.ssh is not None
        return Way(to, config, options, Settings(worker.ssh.host, {"port": (str(worker.ssh.port),)}))
    found = ask(("ssh", *config, *options), to)
    if isinstance(found, Fault) or (found.is_set("controlpath") and _is_busy(found.first("controlpath"))):
        return None
    if worker.ssh is None and known_hosts.has_marks(found):
        return None
    return Way(to, config, options, found)


def _is_busy(path: str) -> bool:
    """Whether something lies where connections are shared, or nothing can."""
    return len(os.fsencode(path)) >= _LONGEST_SOCKET or os.path.exists(path)


def _options(worker: Worker) -> list[str]:
    ssh = worker.ssh
    if ssh is None:
        return []
    options = [] if ssh.port is None else ["-p", str(ssh.port)]
    if ssh.key:
        key = ssh_command.file_value(os.path.expanduser(ssh.key))
        options += ["-o", f"IdentityFile={key}", "-o", "IdentitiesOnly=yes"]
    return options


def config_option() -> tuple[str, ...]:
    """The option of ssh that names its file of settings, where it would not find it by itself."""
    file = config_file()
    return () if file is None else ("-F", file)


def _config(worker: Worker) -> tuple[str, ...]:
    config, ssh = config_option(), worker.ssh
    if ssh is None or worker.instance_id is not None or not (ssh.port and ssh.user and ssh.key):
        return config
    may_be_named = ssh_files.may_name(ssh.host, _NOBODY, settings_files())
    return config if may_be_named and _is_named(ssh.host) is True else NO_FILE


def _is_named(name: str) -> bool | Fault:
    mine, other = ask_all(("ssh", *config_option()), (name, _NOBODY))
    if isinstance(mine, Fault) or isinstance(other, Fault):
        return mine if isinstance(mine, Fault) else Fault("")
    return bool(differences(mine, other))


def is_alias(name: str) -> bool:
    """Whether a line of ~/.ssh/config, or of a file that it includes, says anything of this name alone.

    Raises UseError, in ssh's own words, where ssh cannot read its files.
    """
    if not _NAME.fullmatch(name):
        return False
    found = _is_named(name)
    if isinstance(found, Fault):
        if found.is_missing:
            return False
        raise UseError(found.reason)
    return found


def _given(worker: Worker) -> Settings:
    """The settings of a host that ssh need not be asked about, or cannot be."""
    ssh = worker.ssh
    assert ssh is not None
    values = {
        **_USUAL, **defaults().values,
        "hostname": (ssh.host,), "port": (str(ssh.port or 22),), "user": (ssh.user or getpass.getuser(),),
    }  # fmt: skip
    if ssh.key:
        values |= {"identityfile": (os.path.expanduser(ssh.key).replace("%", "%%"),), "identitiesonly": ("yes",)}
    return Settings(ssh.host, values)


def _identities(settings: Settings) -> list[Identity]:
    """The key files that exist. A value without a meaning here names none, as for ssh."""
    paths = [expand(text, settings, os.environ) for text in settings.all("identityfile") if text.lower() != "none"]
    found = (ssh_keys.read(path) for path in dict.fromkeys(paths))
    return [identity for identity in found if identity is not None]


def missing_keys(way: Way) -> list[str]:
    """Key files that the settings name and that are not there, but for those that every user might have."""
    usual = {text for texts in (_USUAL["identityfile"], ("~/.ssh/id_dsa", "~/.ssh/id_xmss")) for text in texts}
    there = {identity.path for identity in way.identities}
    named = [text for text in way.settings.all("identityfile") if text not in usual and text.lower() != "none"]
    try:
        return [path for text in named if (path := expand(text, way.settings, os.environ)) not in there]
    except ValueError:
        return []


def agent_socket(settings: Settings) -> str | None:
    """The socket of the agent that IdentityAgent names; None for none."""
    value = settings.first("identityagent")
    if value.lower() == "none":
        return None
    if value in ("", "SSH_AUTH_SOCK"):
        return os.environ.get("SSH_AUTH_SOCK") or None
    if value.startswith("$") and not value.startswith("${"):
        return os.environ.get(value[1:]) or None
    return expand(value, settings, os.environ)


def command(way: Way, name: str, keys: Path) -> list[str]:
    """OpenSSH's command up to its destination, for rsync and terminals, with the host keys of the project (`keys`)."""
    return ssh_command.build(name, str(keys), way.settings, (*way.config, *way.options))


def defaults() -> Settings:
    """What ssh does for a host that no file says anything of."""
    found = ask(("ssh", *NO_FILE), _NOBODY)
    return Settings(_NOBODY, {}) if isinstance(found, Fault) else found


def open_master(way: Way) -> str | None:
    """The socket of a connection that somebody has opened to be shared, if it still lives; else None."""
    path = way.settings.first("controlpath")
    if not way.settings.is_set("controlpath") or not os.path.exists(path):
        return None
    return path if master_lives(way, path) else None


def master_lives(way: Way, path: str) -> bool:
    """Whether the connection that is shared by this socket still serves."""
    argv = ["ssh", *way.config, *way.options, "-S", path, "-O", "check", way.destination]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


@functools.lru_cache(maxsize=1)
def has_ticket() -> bool:
    """Whether there is a Kerberos ticket, by which ssh would log in first."""
    klist = shutil.which("klist")
    if klist is None:
        return False
    try:
        done = subprocess.run(
            [klist, "-s"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def openssh_reason(way: Way, agent: list[tuple[str, bytes]], *, is_alias: bool) -> str | None:
    """Why OpenSSH itself has to go, or None. `agent`: what the agent holds, see `ssh_route.by_keys`; `is_alias`: the
    host is a name of the ssh configuration, whose keys ssh's own files may know."""
    settings = way.settings
    needs_ticket = settings.first("gssapiauthentication") == "yes"
    only = settings.first("identitiesonly") == "yes"
    return (
        ssh_route.by_options(settings, defaults(), has_ticket=needs_ticket and has_ticket())
        or ssh_route.by_keys(way.identities, agent, identities_only=only)
        or ("its host key is signed by an authority (@cert-authority)" if is_alias and _is_signed(settings) else None)
    )


def _is_signed(settings: Settings) -> bool:
    try:
        return known_hosts.known_to_ssh(settings, marked=True).is_signed
    except HostKeyError:  # whoever goes there says so
        return False
