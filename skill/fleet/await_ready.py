"""Waiting for an instance that was rented or started: until it runs, SSH login works and its instance ID matches."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from build_manifest import regular_file
from queue_manager.core.layout import HostPaths
from skill.common.errors import UseError
from skill.common.files import make_directory
from skill.fleet import drift, startup
from skill.fleet.drift import Heard
from skill.fleet.reconcile import who
from skill.fleet.startup import Broken, Wait
from skill.hosts.registry import Ssh, Worker
from skill.providers.vast import client as vast
from skill.providers.vast.ownership import Claim, NotOurs, decide
from skill.providers.vast.records import Instance
from skill.providers.vast.responses import Done, Gone, Unknown

_MOST_KEY = 1 << 16

_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
_SLOWEST, _FASTEST, _SHARE = 10.0, 0.5, 0.05
"""Seconds between looks at an instance, at most and at least; in between a share of the time that it has had."""
Say = Callable[[str], None]


class Key(NamedTuple):
    """How we go in: the text of the public key, and the path of the private one, None where an agent holds it."""

    public: str
    private: str | None


class Arrived(NamedTuple):
    """The instance is ready; what it answered when it was asked who it is."""

    live: Instance
    heard: Heard


def find_key(said: str | None) -> Key:
    """The ssh key to go to rented machines with: `said` in vast.yaml, else the first of ~/.ssh that needs no passphrase
    or that an agent has, else one of our own in ~/.wavequeue, made the first time. Raises UseError."""
    if said is not None:
        key = _read_key(Path(said).expanduser())
        if key is None:
            raise UseError(
                f"vast.yaml names the ssh key {said}, and {said}.pub is not there; make it: ssh-keygen -f {said}"
            )
        if not _opens(Path(said).expanduser(), key.public):
            raise UseError(
                f"the ssh key {said} of vast.yaml cannot be used without its passphrase, and no agent has it; give it "
                f"to one: ssh-add {said}"
            )
        return key
    for name in _KEYS:
        place = Path.home() / ".ssh" / name
        key = _read_key(place)
        if key is not None and _opens(place, key.public):
            return key
    return _own_key()


def _read_key(place: Path) -> Key | None:
    try:
        public = regular_file.read_text(place.with_name(f"{place.name}.pub"), _MOST_KEY).strip()
    except (OSError, UnicodeDecodeError):
        return None
    path = f"~/{place.relative_to(Path.home())}" if place.is_relative_to(Path.home()) else str(place)
    return Key(public, path if place.is_file() else None)


def _own_key() -> Key:
    """The key that we made for rented machines, and make if there is none. Raises UseError."""
    folder = HostPaths.of(Path.home()).root / "rented"
    place = folder / _KEYS[0]
    if not place.exists():
        make_directory(folder.parent)
        new = Path(tempfile.mkdtemp(prefix=".rented-", dir=folder.parent))
        made = _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "wavequeue", "-f", str(new / place.name))
        if made is not None:
            with contextlib.suppress(OSError):  # another process was faster
                new.rename(folder)
        shutil.rmtree(new, ignore_errors=True)
    key = _read_key(place)
    if key is None:
        raise UseError("an ssh key is needed to enter rented machines, and ssh-keygen could not make one")
    return key


def _opens(private: Path, public: str) -> bool:
    """Whether a key can be used by itself, or by an agent: better known before a machine is paid for."""
    if private.is_file() and _run("ssh-keygen", "-y", "-P", "", "-f", str(private)) is not None:
        return True
    return public.split()[1:2] in [line.split()[1:2] for line in (_run("ssh-add", "-L") or "").splitlines()]


def _run(*command: str) -> str | None:
    """What a program of OpenSSH prints; None where it fails."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def come(
    client: vast.Client, claim: Claim, name: str, key: Key, asked: float, ready_within: float, say: Say
) -> Arrived | Broken | Gone | NotOurs:
    """Wait for an instance, and let the key in. `asked`: when it was asked for, in epoch seconds. `say` is told of each
    state that it comes to."""
    number = claim.number
    worker = Worker(name, ssh=Ssh("127.0.0.1", None, "root", key.private), instance_id=number)
    is_let_in, shown, since = False, "", time.monotonic()
    while True:
        live = client.instance(number)
        if isinstance(live, Gone):
            return live
        heard: list[Heard] = []
        if isinstance(live, Instance):
            verdict = decide(claim, live)
            if isinstance(verdict, NotOurs):
                return verdict
            if not is_let_in:  # a young instance may not take it yet
                is_let_in = isinstance(client.attach_key(verdict, key.public), Done)
            live = _with_ports(client, live)
            if live.status != shown:
                shown, since = live.status, time.monotonic()
                say(f"instance {number} is {shown}" + (f": {live.status_msg}" if live.status_msg else ""))
            for way in drift.to_try(worker, live):
                heard.append(who(worker, way))
                if heard[-1].instance_id == number:
                    break
        found = startup.verdict(
            live, _doubt(number, heard), time.time() - asked, time.monotonic() - since, ready_within
        )
        if isinstance(found, Broken):
            return found
        if not isinstance(found, Wait) and isinstance(live, Instance):
            return Arrived(live, heard[-1])
        time.sleep(min(_SLOWEST, max(_FASTEST, _SHARE * (time.time() - asked))))


def _with_ports(client: vast.Client, live: Instance) -> Instance:
    """An instance with its ports: what is told of one alone may lack them."""
    if live.status != "running" or live.ssh_port_direct is not None:
        return live
    listed = client.instances()
    if isinstance(listed, Unknown):
        return live
    return next((one for one in listed if one.id == live.id), live)


def _doubt(number: int, heard: list[Heard]) -> str | None:
    """Why it is not known that SSH login works and the instance ID matches."""
    if not heard:
        return "Vast.ai names no address of it"
    if heard[-1].instance_id == number:
        return None
    return "; ".join(
        f"{one.address.way}: "
        + (
            one.fault or "it does not say which instance it is"
            if one.instance_id is None
            else f"leads to instance {one.instance_id}"
        )
        for one in heard
    )
