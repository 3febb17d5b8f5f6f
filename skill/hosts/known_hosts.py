"""Host keys: the project's own file, which keeps them by worker name, and those that ssh knows already."""

from __future__ import annotations

import base64
import functools
import hashlib
import subprocess
import threading
from pathlib import Path
from typing import NamedTuple

from build_manifest import regular_file
from queue_manager.core.excerpt import excerpt
from skill.common.files import append_to, make_directory, write_whole
from skill.hosts.ssh_settings import Settings

KNOWN_HOSTS = "known_hosts"
_MOST_KEYS = 16 << 20
_PATIENCE = 30.0
_NOT_FOUND = 1
"""The exit code of ssh-keygen -F where no line is about the host."""
REVOKED = "your known_hosts marks it as revoked (@revoked)"


class HostKeyError(Exception):
    """The host showed another key than the one that is kept for its name, or an unknown one where only known ones are
    taken. Its text says which; empty: it is the one that is kept here."""


@functools.lru_cache(maxsize=8)
def _lock_of(path: Path) -> threading.Lock:
    del path
    return threading.Lock()


class Known(NamedTuple):
    """What ssh's own files say of a host's keys, each "TYPE BASE64". `is_signed`: they name an authority that signs
    them (@cert-authority)."""

    keys: tuple[str, ...] = ()
    revoked: tuple[str, ...] = ()
    is_signed: bool = False


NOTHING = Known()


def check(known_hosts: Path, name: str, shown: str, known: Known = NOTHING, *, is_strict: bool = False) -> None:
    """Compare the key that a host shows, "TYPE BASE64", with the one kept for its name. The first one is kept, if ssh
    knows no other: `known` is what its files say; `is_strict`: it takes none but those.

    Raises HostKeyError, and OSError where the file cannot be written.
    """
    if shown in known.revoked:
        raise HostKeyError(REVOKED)
    with _lock_of(known_hosts):
        kept = known_key(known_hosts, name)
        if kept == shown:
            return
        if kept is not None:
            raise HostKeyError
        types = {key.partition(" ")[0] for key in known.keys}
        if shown not in known.keys and shown.partition(" ")[0] in types:
            raise HostKeyError("your ~/.ssh/known_hosts has another key for it")
        if shown not in known.keys and is_strict:
            raise HostKeyError("none of its keys is known, and your ssh configuration says StrictHostKeyChecking yes")
        _keep(known_hosts, f"{name} {shown}\n")


def known_to_ssh(settings: Settings, *, marked: bool = False) -> Known:
    """What the files of UserKnownHostsFile and GlobalKnownHostsFile say of a host. `marked`: only if they mark any key
    as revoked or as that of an authority, which most do not. Raises HostKeyError where they cannot be asked."""
    if marked and not has_marks(settings):
        return Known()
    port, host = settings.first("port"), settings.first("hostname")
    name = settings.first("hostkeyalias") or (host if port in ("", "22") else f"[{host}]:{port}")
    keys: dict[str, None] = {}
    revoked: dict[str, None] = {}
    is_signed = False
    for line in (line for path in _files(settings) for line in _found(name, path)):
        mark, *parts = line.split() if line.startswith("@") else ("", *line.split())
        if len(parts) < 3:
            continue
        if mark == "@cert-authority":
            is_signed = True
        else:
            (revoked if mark else keys)[f"{parts[1]} {parts[2]}"] = None
    return Known(tuple(keys), tuple(revoked), is_signed)


def has_marks(settings: Settings) -> bool:
    """Tell whether ssh's own files mark any key as revoked or as an authority's, for any host."""

    def has(path: str) -> bool:
        try:
            return any(line.startswith("@") for line in _lines(Path(path)))
        except OSError:
            return True  # ssh-keygen will say why

    return any(map(has, _files(settings)))


def _files(settings: Settings) -> list[str]:
    return [*files_in(settings.first("userknownhostsfile")), *files_in(settings.first("globalknownhostsfile"))]


def _found(name: str, path: str) -> list[str]:
    """List the lines of one of ssh's files about a host, whether its name is hashed there or not."""
    try:
        done = subprocess.run(
            ["ssh-keygen", "-F", name, "-f", path], stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8",
            errors="replace", timeout=_PATIENCE, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostKeyError(f"{path} could not be searched for it: {error}") from None
    if done.returncode not in (0, _NOT_FOUND):
        output = excerpt(done.stderr) or f"exit code {done.returncode}"
        raise HostKeyError(f"{path} could not be searched for it: ssh-keygen says {output}")
    return [line for line in done.stdout.splitlines() if not line.startswith("#")]


def files_in(text: str) -> list[str]:
    """List the existing files in one value of `ssh -G`, which puts no quotes around blanks."""
    paths: list[str] = []
    for word in text.split(" "):
        if word.startswith("/") or not paths:
            paths.append(word)
        else:
            paths[-1] += f" {word}"
    return [path for path in paths if path.startswith("/") and Path(path).is_file()]


def known_key(known_hosts: Path, name: str) -> str | None:
    """Return the key that is kept for a name, as "TYPE BASE64"; None if there is none."""
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
    """Keep this key, "TYPE BASE64", for a name in place of the one that was kept. Raises OSError."""
    if known_key(known_hosts, name) is None:
        _keep(known_hosts, f"{name} {key}\n")
    else:
        _rewrite(known_hosts, name, f"{name} {key}\n")


def fingerprint(key: str) -> str:
    """Format a key, "TYPE BASE64", as OpenSSH does: "TYPE SHA256:..."."""
    kind, _, data = key.partition(" ")
    digest = hashlib.sha256(base64.b64decode(data)).digest()
    return f"{kind} SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def _rewrite(known_hosts: Path, name: str, instead: str) -> None:
    """Replace all lines that name `name` by one line."""
    lines = [f"{line}\n" for line in _lines(known_hosts)]
    text = "".join([*(line for line in lines if line.split()[:1] != [name]), instead])
    write_whole(known_hosts, text, errors="surrogateescape")


def _lines(known_hosts: Path) -> list[str]:
    """Read the lines of the file. Bytes that are not text stay as they are, and name no host."""
    return regular_file.read_text(known_hosts, _MOST_KEYS, errors="surrogateescape").splitlines()


def _keep(known_hosts: Path, line: str) -> None:
    make_directory(known_hosts.parent)
    with append_to(known_hosts) as file:
        file.write(line.encode())  # one write: two commands that append at once mix no lines
