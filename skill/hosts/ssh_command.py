"""OpenSSH's command to a host, with paths quoted for what ssh itself does with them. Pure.

ssh splits the value of an option that names files at blanks, knows double quotes with a backslash before them, and then
expands %h and the like, ~ and ${NAME}.
"""

from __future__ import annotations

from skill.common.errors import UseError


def file_value(path: str) -> str:
    """A path as the value of an option such as IdentityFile or UserKnownHostsFile, which then means just that file.

    Raises UseError for a path that cannot be said to ssh.
    """
    if "${" in path or "\n" in path:
        what = "${...}, which ssh expands" if "${" in path else "a line end, which ssh takes for another option"
        raise UseError(f"the path {path!r} holds {what}; move what it names into a directory with another name")
    escaped = path.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def build(
    alias: str,
    known_hosts: str,
    *,
    config: str | None = None,
    port: int | None = None,
    key: str | None = None,
    connect: float = 10.0,
) -> list[str]:
    """The command up to its destination: nothing is asked, forwarded or taken for granted.

    `alias`: the name under which `known_hosts` has the key of the host; `config`: a file of settings, None for none but
    the system's; `connect`: seconds for a connection. Raises UseError, see `file_value`.
    """
    options = {
        "BatchMode": "yes", "StrictHostKeyChecking": "yes", "UserKnownHostsFile": file_value(known_hosts),
        "HostKeyAlias": alias, "ForwardAgent": "no", "ClearAllForwardings": "yes", "CheckHostIP": "no",
        "ConnectTimeout": f"{connect:.0f}", "ServerAliveInterval": "15", "RemoteCommand": "none", "RequestTTY": "no",
        "LogLevel": "INFO",
    }  # fmt: skip
    if key is not None:
        options |= {"IdentityFile": file_value(key), "IdentitiesOnly": "yes"}
    command = ["ssh", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]
    if config is not None:
        command += ["-F", config]
    return [*command, "-p", str(port)] if port else command


_FINAL = (
    "permission denied", "host key verification failed", "bad configuration option", "name or service not known",
    "no supported authentication methods", "too many authentication failures", "bad owner or permissions",
    "remote host identification has changed", "no matching ",
)  # fmt: skip


def is_final(said: str) -> bool:
    """Whether by ssh's own words a connection fails for a reason that does not pass by itself."""
    return any(words in said.lower() for words in _FINAL)
