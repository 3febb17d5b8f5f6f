"""The hosts of a project: register, list, check and remove them, and accept a new host key."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from build_manifest.faults import listed
from queue_manager.core.layout import id_fault
from skill.common.errors import FailedError, UseError
from skill.common.project import ProjectPaths, locate_workers
from skill.hosts import health, probe, registry
from skill.hosts.address import parse
from skill.hosts.connection import fingerprint, forget_key, known_key, replace_key
from skill.hosts.registry import Registry, Ssh, Worker
from skill.runs import directory

# -- add ----------------------------------------------------------------------------------------------------------


class Added(NamedTuple):
    """A host that was registered in `where`. `key`: the fingerprint of its host key, None where none is known. `fault`:
    why login failed, None where it worked or the host is this machine."""

    where: Path
    key: str | None
    fault: str | None


def add_host(
    name: str,
    address: str | None = None,
    key: str | None = None,
    *,
    pool: str | None = None,
    workspace: str | None = None,
    notes: str | None = None,
    local: bool = False,
) -> Added:
    """Register a host in workers.yaml, and log in once. A host that is unreachable now is registered as well.

    `address`: [USER@]HOST[:PORT], ssh://… or a whole ssh command; None for a name of ~/.ssh/config. `key`: the path of
    a private key. `local`: the host is this machine. Raises UseError.
    """
    where = locate_workers()
    fault = id_fault(name)
    if fault:
        raise UseError(f"the name {name!r} {fault}")
    if local and (address is not None or key is not None):
        raise UseError("--local registers this machine: leave out ADDRESS and --key")
    if name in Registry.load(where).workers:
        raise UseError(f"{name} is registered already; first: wavequeue hosts remove {name}")
    ssh = None if local else _ssh(name, address, key)
    worker = Worker(name, "local" if local else "ssh", pool=pool, ssh=ssh, workspace=workspace, notes=notes)
    refused = None if local else probe.try_login(registry.connect(worker, where, probe.TRIES), by_rsync=True)
    with registry.changed(where) as known:
        known.add(worker)
    kept = None if local else known_key(ProjectPaths.of(where).known_hosts, name)
    return Added(where, None if kept is None else fingerprint(kept), refused)


def _ssh(name: str, address: str | None, key: str | None) -> Ssh | None:
    """Return the address of a host; None for a name of ~/.ssh/config. Raises UseError."""
    from skill.hosts import ssh_way

    if address is None:
        if name not in registry.ssh_aliases(_ssh_config()) and not ssh_way.is_alias(name):
            raise UseError(
                f"say where {name} is: wavequeue hosts add {name} USER@HOST:PORT (~/.ssh/config has no host {name})"
            )
        if key is not None:
            raise UseError(
                f"the key of {name} is chosen by ~/.ssh/config; write IdentityFile there, or give an ADDRESS"
            )
        return None
    found = parse(address)
    if key is not None and found.key is not None and key != found.key:
        raise UseError("two keys are given, by --key and in the address; give one")
    key = key if key is not None else found.key
    return Ssh(*found._replace(key=None if key is None else _key_file(key)))


def _ssh_config() -> Path:
    return Path.home() / ".ssh" / "config"


def _key_file(key: str) -> str:
    """Return the path of a key in a form that is valid from every directory. Raises UseError."""
    path = Path(os.path.abspath(os.path.expanduser(key)))
    if not path.is_file():
        raise UseError(f"the key {key} does not exist")
    if path.suffix == ".pub":
        raise UseError(f"{key} is the public half of a key; give the private one: {key.removesuffix('.pub')}")
    return f"~/{path.relative_to(Path.home())}" if path.is_relative_to(Path.home()) else str(path)


# -- list ---------------------------------------------------------------------------------------------------------


class Registered(NamedTuple):
    """The content of workers.yaml (`where`). `keys`: fingerprints of host keys by name; `aliases`: names of
    ~/.ssh/config, which can be used as hosts as well."""

    where: Path
    workers: tuple[Worker, ...]
    keys: dict[str, str]
    aliases: tuple[str, ...]


def list_hosts() -> Registered:
    """List the hosts of this project without contacting them. Raises UseError."""
    where = locate_workers()
    workers = tuple(Registry.load(where).workers.values())
    known = ProjectPaths.of(where).known_hosts
    keys = {one.name: fingerprint(key) for one in workers if (key := known_key(known, one.name)) is not None}
    return Registered(where, workers, keys, tuple(registry.ssh_aliases(_ssh_config())))


# -- how they are -------------------------------------------------------------------------------------------------


def probe_hosts(names: Sequence[str] = (), pool: str | None = None) -> list[health.Row]:
    """Check hosts, all at once: those in `names`, of `pool`, or all that are enabled. Leaves nothing on them. Raises
    UseError."""
    where = locate_workers()
    meant = _meant(Registry.load(where), names, pool)
    ways = [registry.connect(worker, where, probe.TRIES) for worker in meant]
    return [health.row(name, one) for name, one in probe.probe_all(ways).items()]


def _meant(known: Registry, names: Sequence[str], pool: str | None) -> list[Worker]:
    if names and pool is not None:
        raise UseError("give NAME... or --pool, not both")
    if names:
        return [known.named(name) for name in dict.fromkeys(names)]
    if pool is not None:
        return known.in_pool(pool)
    found = [worker for worker in known.workers.values() if worker.enabled]
    if not found:
        what = "no host is enabled" if known.workers else "no host is registered yet"
        raise UseError(f"{what}; register one: wavequeue hosts add NAME USER@HOST:PORT, or name one of ~/.ssh/config")
    return found


# -- remove -------------------------------------------------------------------------------------------------------


class Removed(NamedTuple):
    """A host that was removed from `where`. `forgot_key`: whether its host key was known and was removed too."""

    where: Path
    forgot_key: bool


def remove_host(name: str, *, force: bool = False) -> Removed:
    """Remove a host from workers.yaml, and forget its host key. Changes nothing on the host.

    Raises UseError where it is not registered, and FailedError where a run has unfinished jobs on it, unless `force`.
    """
    from skill.runs import remote

    where = locate_workers()
    known = Registry.load(where)
    if name in known.workers and not force:
        way = registry.connect(known.workers[name], where)
        try:
            known_runs = directory.of_project(where.parent, Path.cwd())
            open_runs = [run.id for run in known_runs if remote.is_unfinished(run, way)]
        finally:
            way.close()
        if open_runs:
            raise FailedError(
                f"{name} still has jobs of {listed(open_runs, 5)} that may not have ended; wait for them, "
                f"move them (wavequeue rescue RUN --from {name}), or add --force"
            )
    with registry.changed(where) as known:
        known.remove(name)
    return Removed(where, forget_key(ProjectPaths.of(where).known_hosts, name))


# -- accept -------------------------------------------------------------------------------------------------------


class HostKey(NamedTuple):
    """The key of a host: the known one (None if there is none), and the one that it shows now. `fault`: why login
    failed."""

    name: str
    kept: str | None
    shown: str
    fault: str | None

    @property
    def fingerprints(self) -> tuple[str | None, str]:
        """The fingerprints of the known key and of the shown one."""
        return None if self.kept is None else fingerprint(self.kept), fingerprint(self.shown)


def look_at_key(name: str) -> HostKey:
    """Ask a host for its key. Changes nothing. Raises UseError for this machine, and FailedError where the host is
    unreachable."""
    where = locate_workers()
    worker = Registry.load(where).named(name)
    if worker.kind == "local":
        raise UseError(f"{name} is this machine, and has no host key")
    shown, fault = probe.shown_key(worker)
    if shown is None:
        raise FailedError(f"{name} is unreachable, and nothing was changed: {fault}")
    return HostKey(name, known_key(ProjectPaths.of(where).known_hosts, name), shown, fault)


def accept_key(key: HostKey) -> None:
    """Keep the key that a host showed instead of the known one."""
    replace_key(ProjectPaths.of(locate_workers()).known_hosts, key.name, key.shown)
