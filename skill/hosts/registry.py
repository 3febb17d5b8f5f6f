"""The project's hosts: workers.yaml, read with a line for every fault, edited with its comments and order kept. Owns
ruamel.yaml."""

from __future__ import annotations

import contextlib
import functools
import glob
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from build_manifest import regular_file
from build_manifest.faults import listed, nearest
from queue_manager.core.layout import id_fault
from queue_manager.core.terminal_text import one_line
from skill.common.errors import UseError
from skill.common.files import locked, read_text, write_whole
from skill.common.project import ProjectPaths
from skill.hosts import dotenv, ssh_way
from skill.hosts.connection import Host

_MOST = 1 << 20
"""Bytes of a file that is read here."""
_KINDS = ("local", "ssh")
_MOST_DEPTH = 64
_MOST_INCLUDED = 100
_BRACKETS = re.compile(r"[][{}]")
_DEEP_LINE = re.compile(rf"^ {{{_MOST_DEPTH * 4}}}|(?:[-?] +){{{_MOST_DEPTH}}}", re.MULTILINE)
_WILD = re.compile(r"[*?!]")


class Ssh(NamedTuple):
    """Where a host listens, and as whom and with which key to go there. None: as ~/.ssh/config or ssh itself says."""

    host: str
    port: int | None = None
    user: str | None = None
    key: str | None = None


class Worker(NamedTuple):
    """One host of the project. `ssh` is None for this machine, and for a name of ~/.ssh/config.

    `workspace`: where code goes; None: ~/wavequeue/PROJECT. `instance_id`: of a rented machine. `resources` and
    `health` are kept as they were written.
    """

    name: str
    kind: str = "ssh"
    enabled: bool = True
    pool: str | None = None
    ssh: Ssh | None = None
    workspace: str | None = None
    resources: Mapping[str, Any] = {}
    health: Mapping[str, Any] = {}
    instance_id: int | None = None
    notes: str | None = None


_TYPES: dict[str, tuple[type, str]] = {
    "kind": (str, "local or ssh"),
    "enabled": (bool, "true or false"),
    "pool": (str, "a name"),
    "ssh": (dict, "a mapping with host, port, user, key"),
    "workspace": (str, "a path on the host"),
    "resources": (dict, "a mapping"),
    "health": (dict, "a mapping"),
    "instance_id": (int, "a number"),
    "notes": (str, "text"),
}
_SSH_TYPES: dict[str, tuple[type, str]] = {
    "host": (str, "a name or an address"),
    "port": (int, "a number from 1 to 65535"),
    "user": (str, "a name"),
    "key": (str, "the path of a private key"),
}


def connect(worker: Worker, registry: Path, tries: int = 1, *, once: bool = False) -> Host:
    """Return the connection to a worker, see Host. Nothing is sent before the first command."""
    return Host(worker, ProjectPaths.of(registry).known_hosts, tries, once=once)


class Registry:
    """The workers that a file names, in its order. `env_allow`: more names that .env may bring to them."""

    def __init__(self, path: Path, tree: CommentedMap) -> None:
        self.path, self._tree = path, tree
        self.workers, self.env_allow = _read(path, tree)

    @classmethod
    def load(cls, path: Path) -> Registry:
        """Read a file; a missing one has no workers. To change them, see `changed`. Raises UseError with all its
        faults, each with its line."""
        return cls._of(path, mapping_in(path))

    @classmethod
    def _of(cls, path: Path, tree: CommentedMap | None) -> Registry:
        if tree is None:
            raise UseError(f"{path}:1:1: has to begin with `workers:`, and below it a name for each host")
        return cls(path, tree)

    @classmethod
    def to_change(cls, path: Path) -> Registry:
        """Read a file as `load` does, for a change."""
        return cls._of(path, _mapping(path, _parse))

    def named(self, name: str) -> Worker:
        """Find the worker of this name, or a host of ~/.ssh/config. Raises UseError with the nearest name."""
        if name in self.workers:
            return self.workers[name]
        aliases = ssh_aliases(Path.home() / ".ssh" / "config")
        if name in aliases or ssh_way.is_alias(name):
            return Worker(name)
        close = nearest(name, [*self.workers, *aliases])
        there = f"there are: {listed(self.workers)}" if self.workers else "none is registered yet"
        hint = f"did you mean {close}?" if close else there
        raise UseError(f"there is no host {name}; {hint} Register it with: wavequeue hosts add {name} USER@HOST:PORT")

    def in_pool(self, pool: str) -> list[Worker]:
        """List the enabled workers of a pool. Raises UseError if there are none."""
        found = [worker for worker in self.workers.values() if worker.enabled and worker.pool == pool]
        if found:
            return found
        pools = sorted({worker.pool for worker in self.workers.values() if worker.pool})
        near = f"; there are: {listed(pools)}" if pools else "; no host of this project is in one"
        raise UseError(f"no enabled host is in the pool {pool}{near}")

    def add(self, worker: Worker) -> None:
        """Add a worker. Raises UseError if the name is taken or unsafe."""
        fault = id_fault(worker.name)
        if fault:
            raise UseError(f"the name {worker.name!r} {fault}")
        if worker.name in self.workers:
            raise UseError(f"{worker.name} is registered already; first: wavequeue hosts remove {worker.name}")
        entry = CommentedMap(_entry(worker))
        self._tree.setdefault("workers", CommentedMap())
        if self._tree["workers"] is None:
            self._tree["workers"] = CommentedMap()
        self._tree["workers"][worker.name] = entry
        self.workers[worker.name] = worker

    def remove(self, name: str) -> None:
        """Remove a worker. Raises UseError if it is not registered."""
        if name not in self.workers:
            close = nearest(name, list(self.workers))
            there = f"there are: {listed(self.workers)}" if self.workers else "none is"
            raise UseError(f"{name} is not registered; " + (f"did you mean {close}?" if close else there))
        del self._tree["workers"][name]
        del self.workers[name]

    def patch(self, name: str, values: Mapping[str, Any]) -> None:
        """Set fields of a worker, as {"ssh.port": 1234}; all else in the file stays as it is."""
        for key, value in values.items():
            place = self._tree["workers"][name]
            *above, last = key.split(".")
            for part in above:
                if place.get(part) is None:
                    place[part] = CommentedMap()
                place = place[part]
            place[last] = value
        self.workers, self.env_allow = _read(self.path, self._tree)

    def save(self) -> None:
        """Write the whole file. Raises OSError."""
        text = io.StringIO()
        _yaml().dump(self._tree, text)
        write_whole(self.path, text.getvalue(), mode=None)


@contextlib.contextmanager
def changed(path: Path) -> Iterator[Registry]:
    """Open the registry for a change that is saved; no other command changes it meanwhile. Raises UseError and
    OSError."""
    lock = ProjectPaths.of(path).workers_lock
    with locked(lock):
        registry = Registry.to_change(path)
        yield registry
        registry.save()


def mapping_in(path: Path) -> CommentedMap | None:
    """Read the mapping in a YAML file; empty if the file is missing, None if it contains something else.

    It is shared by all who read the same text, and is not to be changed. Raises UseError where it is no YAML.
    """
    return _mapping(path, _parsed)


def _mapping(path: Path, parse: Callable[[str], Any]) -> CommentedMap | None:
    try:
        text = read_text(path, _MOST)
    except FileNotFoundError:
        text = ""
    if _is_deep(text):
        raise UseError(f"{path}: cannot be read as YAML: it is nested too deeply")
    try:
        tree = parse(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        problem = str(error.problem).splitlines()[0]
        raise UseError(f"{path}{where}: cannot be read as YAML: {problem}") from None
    except RecursionError:
        raise UseError(f"{path}: cannot be read as YAML: it is nested too deeply") from None
    except (YAMLError, ValueError) as error:  # a control character, or a time that there is not
        problem = one_line(str(error).strip().splitlines()[0], 200)
        raise UseError(f"{path}: cannot be read as YAML: {problem}") from None
    if tree is None:
        return CommentedMap()
    return tree if isinstance(tree, CommentedMap) else None


def _parse(text: str) -> Any:
    return _yaml().load(text)


@functools.lru_cache(maxsize=8)
def _parsed(text: str) -> Any:
    """Parse a text once: a command reads workers.yaml a dozen times, and ruamel takes milliseconds for each."""
    return _parse(text)


def _is_deep(text: str) -> bool:
    """Tell whether a text of YAML is nested more deeply than any real one: ruamel would take minutes for it."""
    if _DEEP_LINE.search(text):
        return True
    depth = 0
    for match in _BRACKETS.finditer(text):
        depth = depth + 1 if match.group() in "[{" else max(0, depth - 1)
        if depth > _MOST_DEPTH:
            return True
    return False


def ssh_aliases(config: Path) -> list[str]:
    """The names that ~/.ssh/config and the files that it includes give to hosts; patterns are none.

    To be listed: what a name means, and whether it means anything, is for ssh to say.
    """
    found: dict[str, None] = {}
    _collect(config, config.parent, found, set())
    return list(found)


def _collect(file: Path, folder: Path, into: dict[str, None], seen: set[Path]) -> None:
    if file in seen or len(seen) >= _MOST_INCLUDED:
        return
    seen.add(file)
    try:
        lines = regular_file.read_text(file, _MOST, errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        keyword, *words = line.replace("=", " ", 1).split() or [""]
        if keyword.lower() == "host":
            into.update(dict.fromkeys(word for word in words if not _WILD.search(word)))
        elif keyword.lower() == "include":
            for word in words:
                pattern = folder / os.path.expanduser(word.strip('"'))
                for path in sorted(glob.glob(str(pattern))):
                    _collect(Path(path), folder, into, seen)


def _yaml() -> YAML:
    yaml = YAML()  # round trip: comments, order and quotes stay
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _entry(worker: Worker) -> dict[str, Any]:
    """Build what is written about a worker: only the keys that are set."""
    entry: dict[str, Any] = {"kind": worker.kind}
    if not worker.enabled:
        entry["enabled"] = False
    if worker.ssh is not None:
        entry["ssh"] = CommentedMap({key: value for key, value in worker.ssh._asdict().items() if value is not None})
    for key in ("pool", "workspace", "resources", "health", "instance_id", "notes"):
        value = getattr(worker, key)
        if value not in (None, {}):
            entry[key] = value
    return entry


_TOP: dict[str, tuple[type, str]] = {
    "workers": (dict, "a mapping of names to hosts"),
    "env_allow": (list, "a list of names of variables"),
}


def _read(path: Path, tree: CommentedMap) -> tuple[dict[str, Worker], tuple[str, ...]]:
    """Read the workers of a file, and its env_allow. Raises UseError with all faults at once."""
    faults: list[tuple[int, int, str]] = []
    top = fields_of(tree, _TOP, faults, "the file")
    entries = top.get("workers", {})
    workers = {}
    for name in top.get("env_allow", ()):
        fault = dotenv.name_fault(name) if isinstance(name, str) else "has to be text"
        if fault:
            faults.append((*place_of(tree, "env_allow"), f"the name {name!r} in env_allow {fault}"))
    for name in entries:
        at = place_of(entries, name)
        fault = "has to be text; put it in quotes" if not isinstance(name, str) else id_fault(name)
        if fault:
            faults.append((*at, f"the name {name!r} {fault}"))
        elif not isinstance(entries[name], dict):
            faults.append((*at, f"{name} has to be a mapping, as in: {name}: {{kind: ssh, ssh: {{host: ADDRESS}}}}"))
        else:
            workers[name] = _worker(name, entries[name], at, faults)
    if faults:
        raise UseError("\n".join(f"{path}:{line}:{column}: {text}" for line, column, text in sorted(faults)))
    return workers, tuple(top.get("env_allow", ()))


def _worker(name: str, entry: CommentedMap, at: tuple[int, int], faults: list[tuple[int, int, str]]) -> Worker:
    fields = fields_of(entry, _TYPES, faults, name)
    if fields.get("kind", "ssh") not in _KINDS:
        faults.append((*place_of(entry, "kind"), f"kind of {name} has to be local or ssh, and not {entry['kind']!r}"))
    if "ssh" in fields:
        ssh = fields_of(fields["ssh"], _SSH_TYPES, faults, f"ssh of {name}")
        if "host" not in ssh:
            faults.append((*place_of(entry, "ssh"), f"ssh of {name} needs a host"))
        if not 1 <= ssh.get("port", 22) <= 65535:
            faults.append((*place_of(fields["ssh"], "port"), f"port of {name} has to be a number from 1 to 65535"))
        if any(str(ssh.get(key, "")).startswith("-") for key in ("host", "user")):
            faults.append((*place_of(entry, "ssh"), f"host and user of {name} may not begin with -"))
        fields["ssh"] = Ssh(**{"host": "", **ssh})
    elif fields.get("instance_id") is not None:
        faults.append((*at, f"{name} is a rented machine and needs ssh: {{host: ADDRESS, port: PORT}}"))
    return Worker(name, **fields)


def fields_of(
    found: CommentedMap, types: Mapping[str, tuple[type, str]], faults: list[tuple[int, int, str]], what: str
) -> dict[str, Any]:
    """Return the valid fields of a mapping; the others go to `faults`: line, column, words."""
    fields = {}
    for key, value in found.items():
        if key not in types:
            close = nearest(str(key), list(types))
            hint = f"did you mean {close}?" if close else f"there are: {listed(types)}"
            faults.append((*place_of(found, key), f"{what} has an unknown key {key}; {hint}"))
        elif value is None:
            continue
        elif not isinstance(value, types[key][0]) or (isinstance(value, bool) and types[key][0] is int):
            faults.append((*place_of(found, key), f"{key} of {what} has to be {types[key][1]}, and not {value!r}"))
        else:
            fields[key] = value
    return fields


def place_of(found: Any, key: Any) -> tuple[int, int]:
    """Return line and column of a key, from 1."""
    with contextlib.suppress(AttributeError, KeyError, TypeError):
        line, column = found.lc.key(key)
        return line + 1, column + 1
    return 1, 1
