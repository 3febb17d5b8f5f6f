"""Classify ssh's error output: the kind of failure, and the words that name it. Pure."""

from __future__ import annotations

import re

from queue_manager.core.terminal_text import one_line

_KINDS = {
    "host_key": r"host key verification failed|host identification has changed|no .* host key is known for|revoked",
    "name": r"could not resolve hostname|name or service not known",
    "auth": r"permission denied(?: \(|, please try again)|too many authentication failures|"
    r"no (more|supported) authentication",
    "refused": r"connection refused",
    "timeout": r"timed out|timeout, server .* not responding",
    "dropped": r"connection (closed|reset)|closed by remote host|broken pipe|kex_exchange_identification|banner "
    r"exchange|read from master failed|mux_client",
}
_NOISE = re.compile(
    r"pseudo-terminal will not|warning: permanently added|authenticated (to|using)|^debug|^transferred:|^bytes per|"
    r"^@+$|control socket connect|^\*\* |^$",
    re.IGNORECASE,
)
PARTIAL = re.compile(r'authenticated using "([a-z-]+)" with partial success', re.IGNORECASE)
_METHODS = re.compile(r"permission denied \(([a-z,-]+)\)", re.IGNORECASE)
_MOST = 3


def kind(text: str) -> str:
    """The kind of a failure, as `Unreachable` has it; other where no words are known. The first line that is known
    decides, since what went wrong at a jump host ends the connection behind it, too."""
    for line in text.splitlines():
        for name, pattern in _KINDS.items():
            if re.search(pattern, line, re.IGNORECASE):
                return name
    return "other"


def telling(text: str) -> str:
    """Join the lines that say what is wrong."""
    lines = dict.fromkeys(line.strip() for line in text.splitlines() if not _NOISE.search(line.strip()))
    return " / ".join(one_line(line, 200) for line in list(lines)[:_MOST])


def methods(text: str) -> tuple[str, ...]:
    """List the ways to log in that a host named when it refused."""
    found = _METHODS.search(text)
    return tuple(found.group(1).split(",")) if found else ()


def needs_more(where: str, name: str, asked: str) -> str:
    """Say that a host accepts a key but wants more, which cannot be typed here, and what to do."""
    return f"{where} accepts the key but also asks for {asked}, which cannot be typed here: {_share(name)}"


def takes_no_key(where: str, name: str, ways: tuple[str, ...]) -> str:
    """Say that a host lets nobody in by key, and the ways out."""
    asked = _human(ways) or "nothing else"
    return f"{where} accepts no keys, only {asked}, which cannot be typed here; have a key accepted, or {_share(name)}"


def _share(name: str) -> str:
    return (
        "open a connection that is shared: put ControlMaster auto, ControlPath ~/.ssh/%C and ControlPersist 8h under "
        f"Host {name} in ~/.ssh/config, log in once with: ssh {name}, and register {name} without an address"
    )


def _human(ways: tuple[str, ...]) -> str:
    names = {"password": "a password", "keyboard-interactive": "a password or a code"}
    return " or ".join(dict.fromkeys(names.get(way, way) for way in ways))


def asked_for(ways: tuple[str, ...]) -> str:
    """Say what is required beside a key."""
    return _human(tuple(way for way in ways if way != "publickey")) or "another key"
