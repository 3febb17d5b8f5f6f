"""The ssh key for rented machines, and whether it can be used, which is checked before a machine is paid for."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from build_manifest import regular_file
from queue_manager.core.layout import HostPaths
from queue_manager.core.terminal_text import one_line
from skill.common.errors import UseError
from skill.common.files import make_directory
from skill.hosts import ssh_preflight, ssh_settings, ssh_way

_MOST_KEY = 1 << 16
_PATIENCE = 10.0
_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
_NO_AGENT = 2
"""Exit code of ssh-add where it reaches no agent; 1 is one that holds nothing."""


class Key(NamedTuple):
    """How we go in: the text of the public key, and the path of the private one, None where an agent holds it."""

    public: str
    private: str | None


def find_key(named: str | None) -> Key:
    """Return the ssh key for rented machines.

    `named`: its path in vast.yaml. Without one: the first key of ~/.ssh that needs no passphrase or that an agent
    holds, else a key of our own in ~/.wavequeue, created the first time. Raises UseError.
    """
    if named is not None:
        return _named(named)
    for name in _KEYS:
        place = Path.home() / ".ssh" / name
        key = _read_key(place)
        if isinstance(key, Key) and _unusable(place, key.public) is None:
            return key
    return _own_key()


def _named(named: str) -> Key:
    place = Path(named).expanduser()
    key = _read_key(place)
    # A quoted tilde means no home.
    word = f"~/{shlex.quote(named[2:])}" if named.startswith("~/") else shlex.quote(named)
    if isinstance(key, str):
        raise UseError(f"vast.yaml names the ssh key {named}, and {named}.pub cannot be read: {key}")
    if key is None:
        # ssh-keygen -f of a key that is there would make another one in its place.
        way = f"ssh-keygen -y -f {word} > {word}.pub" if place.exists() else f"ssh-keygen -f {word}"
        raise UseError(f"vast.yaml names the ssh key {named}, and {named}.pub does not exist; create it: {way}")
    why = _unusable(place, key.public)
    if why is not None:
        raise UseError(f"the ssh key {named} of vast.yaml cannot be used: {why}")
    return key


def _read_key(place: Path) -> Key | str | None:
    """A key by its public half; None where that is not there, else why it cannot be read."""
    try:
        public = regular_file.read_text(place.with_name(f"{place.name}.pub"), _MOST_KEY).strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        return getattr(error, "strerror", None) or "it is not text"
    path = f"~/{place.relative_to(Path.home())}" if place.is_relative_to(Path.home()) else str(place)
    return Key(public, path if place.is_file() else None)


def _own_key() -> Key:
    """The key that we made for rented machines, and make if there is none. Raises UseError."""
    folder = HostPaths.of(Path.home()).root / "rented"
    place = folder / _KEYS[0]
    why = ""
    if not place.exists():
        make_directory(folder.parent)
        new = Path(tempfile.mkdtemp(prefix=".rented-", dir=folder.parent))
        made = _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "wavequeue", "-f", str(new / place.name))
        if made.code == 0:
            with contextlib.suppress(OSError):  # another process was faster
                new.rename(folder)
        why = f": {made.words}" if made.code != 0 else ""
        shutil.rmtree(new, ignore_errors=True)
    key = _read_key(place)
    if not isinstance(key, Key):
        raise UseError(f"an ssh key is needed to log in to rented machines, and none could be created{why}")
    return key


def _unusable(private: Path, public: str) -> str | None:
    """Return why a key can be used neither alone nor through an agent, and what to do; None if it can."""
    is_file = private.is_file()
    opened = _run("ssh-keygen", "-y", "-P", "", "-f", str(private)) if is_file else None
    if opened is not None and opened.code == 0:
        return None
    socket, source = _agent()
    held = _run("ssh-add", "-L", agent=socket)
    if held.code == 0 and public.split()[1:2] in [line.split()[1:2] for line in held.out.splitlines()]:
        return None
    agent = "no agent has it" if held.code in (0, 1) else f"no agent is reached{source}"
    if held.code not in (0, 1, _NO_AGENT):
        agent = f"it is unknown whether an agent has it ({held.words})"
    give = f"give it to one: ssh-add {shlex.quote(str(private))}"
    if held.code == _NO_AGENT:
        give = f'start one with: eval "$(ssh-agent)"; then {give}'
    if opened is None:
        return f"its private half does not exist, and {agent}; {give}"
    if opened.code is not None and "passphrase" in opened.words:
        return f"it needs its passphrase, and {agent}; {give}"
    return f"ssh-keygen says: {opened.words}; and {agent}"


def _agent() -> tuple[str | None, str]:
    """The socket of the agent that ssh asks for a rented machine's key, None for none; and what names it, in words,
    where that is not SSH_AUTH_SOCK."""
    usual = os.environ.get("SSH_AUTH_SOCK") or None
    found = ssh_settings.ask(("ssh", *ssh_way.config_option()), f"root@{ssh_preflight.PROBES[0]}")
    if isinstance(found, ssh_settings.Fault):
        return usual, ""
    try:
        socket = ssh_way.agent_socket(found)
    except ValueError:
        return usual, ""
    return socket, "" if socket == usual else f" (IdentityAgent {found.first('identityagent')} of ~/.ssh/config)"


class _ProgramResult(NamedTuple):
    """The result of a program. `code` None: it did not finish, for the reason in `words`."""

    code: int | None
    out: str
    words: str


def _run(*command: str, agent: str | None = None) -> _ProgramResult:
    variables = {name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"}
    if agent is not None:
        variables["SSH_AUTH_SOCK"] = agent
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace",
            timeout=_PATIENCE, check=False, env=variables,
        )  # fmt: skip
    except FileNotFoundError:
        return _ProgramResult(None, "", f"{command[0]} is not installed")
    except subprocess.TimeoutExpired:
        return _ProgramResult(None, "", f"{command[0]} did not end within {_PATIENCE:g} s")
    except OSError as error:
        return _ProgramResult(None, "", f"{command[0]}: {error.strerror}")
    words = one_line(" ".join(done.stderr.split()), 300) or f"{command[0]} ended with code {done.returncode}"
    return _ProgramResult(done.returncode, done.stdout, words)
