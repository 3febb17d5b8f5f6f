"""Ask OpenSSH's client what it would do for a host (`ssh -G`): the only reader of ~/.ssh/config.

`ask` runs ssh; the rest is pure. Each command is run once in a process, unless the file of settings has changed.
"""

from __future__ import annotations

import functools
import os
import pwd
import re
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from queue_manager.core.terminal_text import one_line
from skill.hosts.ssh_files import SYSTEM

NO_FILE = ("-F", "none")
"""The option by which ssh reads no file of settings."""
_PATIENCE = 45.0
"""Seconds: names may be looked up, and `Match exec` runs commands."""
_OF_THE_NAME = ("host", "controlpath")
"""The name itself, and a path that may hold a hash of it."""
_NOISE = ("Pseudo-terminal will not be allocated",)
_TOKEN = re.compile(r"%(.?)|\$\{([A-Za-z_][A-Za-z0-9_]*)\}", re.DOTALL)


class Settings(NamedTuple):
    """Options as `ssh -G` prints them, by their names in small letters: each with all its lines, in order.

    `original`: the name that was asked for.
    """

    original: str
    values: Mapping[str, tuple[str, ...]]

    def first(self, name: str) -> str:
        """Return the value of an option; empty if it has none."""
        return self.values.get(name, ("",))[0]

    def all(self, name: str) -> tuple[str, ...]:
        return self.values.get(name, ())

    def is_set(self, name: str) -> bool:
        """Tell whether an option names something: it is there, and is not `none`."""
        return self.first(name).lower() not in ("", "none")

    @property
    def seconds(self) -> float | None:
        """Return ConnectTimeout in seconds; None if it is not set."""
        text = self.first("connecttimeout")
        return float(text) if text.isdigit() and int(text) > 0 else None


class Fault(NamedTuple):
    """Why ssh gave no settings, in its own words. `is_missing`: ssh is not installed on this machine."""

    reason: str
    is_missing: bool = False


def home() -> str:
    """Return the home directory as ssh finds it: in the user database, whatever HOME says."""
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return os.path.expanduser("~")


def config_file() -> str | None:
    """The file that `ssh -F` needs, since HOME is not the home of the user database; None where ssh finds its
    files by itself."""
    own = Path.home() / ".ssh" / "config"
    return str(own) if own.exists() and os.path.realpath(Path.home()) != os.path.realpath(home()) else None


def settings_files() -> list[Path]:
    """The files that ssh reads, by `config_file` where that names one; any may be missing."""
    own = config_file()
    return [Path(home()) / ".ssh" / "config", SYSTEM] if own is None else [Path(own)]


def ask(command: Sequence[str], destination: str) -> Settings | Fault:
    """Return the settings of `command` (ssh with its options) for a destination, [USER@]HOST."""
    return _ask((*command, "-G", destination), _state(command))


def ask_all(command: Sequence[str], destinations: Sequence[str]) -> list[Settings | Fault]:
    """Do the same for several destinations at once."""
    found: dict[str, Settings | Fault] = {}
    threads = [threading.Thread(target=lambda to=to: found.update({to: ask(command, to)})) for to in destinations]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[to] for to in destinations]


def _state(command: Sequence[str]) -> tuple[object, ...]:
    """What settings depend on besides the command, as far as can be seen cheaply."""
    if tuple(command[1:3]) == NO_FILE:
        return (os.environ.get("PATH"),)
    found: list[object] = [os.environ.get(name) for name in ("HOME", "PATH", "SSH_AUTH_SOCK")]
    for path in (Path(home()) / ".ssh" / "config", Path.home() / ".ssh" / "config"):
        try:
            status = path.stat()
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
        except OSError:
            found.append(None)
    return tuple(found)


@functools.lru_cache(maxsize=4096)
def _ask(argv: tuple[str, ...], _depends_on: tuple[object, ...]) -> Settings | Fault:
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="surrogateescape",
            timeout=_PATIENCE, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        return Fault("OpenSSH's client is not installed here: sudo apt-get install -y openssh-client", is_missing=True)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Fault(f"ssh could not be asked for its settings: {one_line(str(error), 200)}")
    if done.returncode != 0:
        return Fault(f"your ssh configuration cannot be read: {words(done.stderr) or 'ssh printed nothing'}")
    return parse(argv[-1], done.stdout)


def words(text: str) -> str:
    """Return the first of ssh's own messages, in one line: it names the file and the line."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(_NOISE)]
    return one_line(lines[0], 300) if lines else ""


def parse(destination: str, text: str) -> Settings:
    """Parse what `ssh -G` printed for a destination."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        found.setdefault(name.lower(), []).append(value.strip())
    return Settings(destination.rpartition("@")[2], {name: tuple(lines) for name, lines in found.items()})


def differences(mine: Settings, other: Settings) -> list[str]:
    """Options that differ, but for those that follow from the name that was asked for. `other`: of a name that is found
    in no value by chance."""
    names = dict.fromkeys((*mine.values, *other.values))
    return [name for name in names if name not in _OF_THE_NAME and mine.all(name) != _as_asked(other, mine, name)]


def _as_asked(other: Settings, mine: Settings, name: str) -> tuple[str, ...]:
    """Values of an option as they were if the other name had been asked for."""
    return tuple(value.replace(other.original, mine.original) for value in other.all(name))


def expand(text: str, settings: Settings, environment: Mapping[str, str]) -> str:
    """A value as ssh means it: ~, %h and the like, ${NAME}. Raises ValueError where it cannot be known here."""
    if text == "~" or text.startswith("~/"):
        text = home() + text[1:]
    elif text.startswith("~"):
        text = os.path.expanduser(text)

    host = settings.first("hostname")
    tokens = {
        "%": "%", "h": host, "n": settings.original, "p": settings.first("port"), "r": settings.first("user"),
        "d": home(), "i": str(os.getuid()), "l": socket.gethostname(), "L": socket.gethostname().split(".")[0],
        "k": settings.first("hostkeyalias") or settings.original, "u": _user(),
    }  # fmt: skip

    def meant(found: re.Match[str]) -> str:
        sign, variable = found.groups()
        if variable is not None:
            if variable not in environment:
                raise ValueError(f"the variable {variable} is not set")
            return environment[variable]
        if sign not in tokens:
            raise ValueError(f"%{sign} is not known here")
        return tokens[sign]

    return _TOKEN.sub(meant, text)


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
