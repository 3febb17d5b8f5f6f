"""Build OpenSSH's command to a host, with paths quoted for what ssh itself does with them. Pure.

ssh splits the value of an option that names files at blanks, knows double quotes with a backslash before them, and then
expands %h and the like, ~ and ${NAME}.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from skill.common.errors import UseError
from skill.hosts import transport
from skill.hosts.ssh_settings import Settings

ALIVE = 15
"""Seconds after which a silent connection is asked for a sign of life, unless the ssh configuration says."""
_ONLY_IF_SET = {"sessiontype": "default", "stdinnull": "no", "forkafterauthentication": "no", "tunnel": "no"}
"""Options that would keep a command from running, or from having its input; older versions do not know them all."""
_WRITTEN = {
    "sessiontype": "SessionType", "stdinnull": "StdinNull", "forkafterauthentication": "ForkAfterAuthentication",
    "tunnel": "Tunnel",
}  # fmt: skip


def file_value(path: str) -> str:
    """A path as the value of an option such as IdentityFile or UserKnownHostsFile, which then means just that file.

    Raises UseError for a path that ssh cannot take.
    """
    if "${" in path or "\n" in path:
        what = "${...}, which ssh expands" if "${" in path else "a line end, which ssh takes for another option"
        raise UseError(f"the path {path!r} holds {what}; move what it names into a directory with another name")
    escaped = path.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def build(alias: str, known_hosts: str, settings: Settings, where: Sequence[str] = ()) -> list[str]:
    """The command up to its destination: nothing is asked, forwarded or taken for granted.

    `alias`: the name under which `known_hosts` has the key of the host; `settings`: what ssh does for the host by
    itself; `where`: options that say where it is and by which file of settings. Raises UseError, see `file_value`.
    """
    return [*quiet(settings, where), *checked(alias, known_hosts)]


def checked(alias: str, known_hosts: str) -> list[str]:
    """Options that let in only the host whose key is kept. Raises UseError, see `file_value`.

    An authority of the machine's own file would look for the alias among the names that a certificate is made out to.
    """
    return _as_words({
        "StrictHostKeyChecking": "yes", "UserKnownHostsFile": file_value(known_hosts),
        "GlobalKnownHostsFile": file_value(os.devnull), "HostKeyAlias": alias, "CheckHostIP": "no",
        "UpdateHostKeys": "no",
    })  # fmt: skip


def quiet(settings: Settings, where: Sequence[str] = (), other: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """The command as `build` makes it, with host keys checked as the settings say. `other`: options in their place."""
    alive = settings.first("serveraliveinterval")
    options = {
        "BatchMode": "yes", "ForwardAgent": "no", "ClearAllForwardings": "yes", "RemoteCommand": "none",
        "RequestTTY": "no", "ControlMaster": "no", "PermitLocalCommand": "no", "LogLevel": "INFO",
        "ConnectTimeout": f"{settings.seconds or transport.CONNECT:.0f}",
        "ServerAliveInterval": alive if alive not in ("", "0") else str(ALIVE),
    }  # fmt: skip
    options |= {_WRITTEN[name]: usual for name, usual in _ONLY_IF_SET.items() if _differs(settings.first(name), usual)}
    return ["ssh", *where, *_as_words({**options, **other})]


def _differs(value: str, usual: str) -> bool:
    return value not in ("", usual, "false")


def _as_words(options: dict[str, str]) -> list[str]:
    return [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
