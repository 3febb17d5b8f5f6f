"""Parse the address of a host: [USER@]HOST[:PORT], an ssh:// URL, or a pasted ssh command. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import NamedTuple

from skill.common.errors import UseError

_EXAMPLE = "write it as USER@HOST:PORT, as in root@1.2.3.4:40022"
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?\.?")
_SIX = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9._-]+)?")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+\\-]*\$?")
_TAKEN = {"-p": "port", "-i": "key", "-l": "user"}
_PASSED_OVER = frozenset({"-L", "-R", "-D", "-o"})
"""Options with a value that rented machines' pages show, and that say nothing about where the host is."""


class Address(NamedTuple):
    """The parts of an address; None where it leaves one to ssh."""

    host: str
    port: int | None = None
    user: str | None = None
    key: str | None = None


def parse(text: str) -> Address:
    """Read an address. Raises UseError that says what is wrong and what to write."""
    text = text.strip()
    if not text:
        raise UseError(f"the address is empty; {_EXAMPLE}")
    if text == "ssh" or text.startswith("ssh "):
        return _command(text)
    rest = text
    if "://" in text:
        scheme, _, rest = text.partition("://")
        if scheme.lower() != "ssh":
            raise UseError(f"the address {text!r} begins with {scheme}://; only ssh:// leads to a host")
        rest, _, path = rest.partition("/")
        if path:
            raise UseError(f"the address {text!r} continues after the host; give a path with --workspace /{path}")
    return _one(rest, text)


def _one(text: str, whole: str) -> Address:
    """Parse [USER@]HOST[:PORT]; `whole` is what was typed."""
    user, at, rest = text.rpartition("@")
    if at and ":" in user:
        raise UseError("an address cannot contain a password; log in by key: --key FILE")
    if at:
        _check(user, whole, "user")
    if rest.startswith("["):
        host, closed, port = rest[1:].partition("]")
        if not closed or (port and not port.startswith(":")):
            raise UseError(f"the address {whole!r} is not [ADDRESS]:PORT; {_EXAMPLE}")
        port = port[1:]
        bare = not rest.endswith("]:")
    elif rest.count(":") > 1:  # IPv6 without brackets has no port
        host, port, bare = rest, "", True
    else:
        host, _, port = rest.partition(":")
        bare = not rest.endswith(":")
    if not bare:
        raise UseError(f"the address {whole!r} ends where its port should be; {_EXAMPLE}")
    _check(host, whole, "host")
    return Address(host, _port(port) if port else None, user or None)


def _command(text: str) -> Address:
    """Parse a whole ssh command."""
    try:
        words = shlex.split(text)[1:]
    except ValueError:
        raise UseError(f"the ssh command {text!r} has an unclosed quote") from None
    options: dict[str, str] = {}
    places = []
    while words:
        word = words.pop(0)
        name, value = word[:2], word[2:]
        if not word.startswith("-"):
            places.append(word)
        elif name in _TAKEN or name in _PASSED_OVER:
            if not value and not words:
                raise UseError(f"the ssh command ends after {name}; give its value, too")
            value = value or words.pop(0)
            if name in _TAKEN:
                options[_TAKEN[name]] = value
        else:
            raise UseError(
                f"the option {word} of the ssh command is not known here; put it into ~/.ssh/config under a name, and "
                "register that name"
            )
    if len(places) != 1:
        raise UseError(f"the ssh command names {len(places) or 'no'} hosts; give it as 'ssh -p PORT USER@HOST'")
    found = parse(places[0])
    if "user" in options:
        _check(options["user"], text, "user")
    port = _port(options["port"]) if "port" in options else found.port
    return Address(found.host, port, options.get("user", found.user), options.get("key"))


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise UseError(f"{text!r} is not a port; give a number from 1 to 65535")
    return int(text)


def _check(text: str, whole: str, what: str) -> None:
    fits: Callable[[str], object] = _USER.fullmatch
    if what == "host":
        fits = _SIX.fullmatch if ":" in text else _NAME.fullmatch
    if not fits(text):
        raise UseError(f"{text!r} in the address {whole!r} is not the name of a {what}; {_EXAMPLE}")
