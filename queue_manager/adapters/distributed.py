"""Give jobs an address for their processes, and a name for Weights & Biases.

A port belongs to one attempt at a time, by a file in ~/.wavequeue/ports that only one run can create and another that
runs of other users see, and only while nothing listens there. Variables that the user sets are kept.
"""

from __future__ import annotations

import contextlib
import errno
import json
import re
import shlex
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from queue_manager.adapters import files
from queue_manager.adapters.shared_ports import SharedPorts
from queue_manager.core.manifest import JobSpec, Manifest

FIRST, COUNT = 20_000, 9_000
"""Ports below those that kernels give to clients, and below torch's default 29500, which scripts name literally."""
ADDRESS = "127.0.0.1"
_TRIES = 200
_RUN_ID_MAX = 120
_NOT_IN_RUN_IDS = re.compile(r"[^A-Za-z0-9._=-]")


class Ports:
    """The ports of one run. `key`: see layout.run_key; `boot`: the host's boot ID, after which no port is held;
    `shared`: ports of runs of all users."""

    def __init__(self, folder: Path, key: str, boot: str, shared: SharedPorts) -> None:
        self._folder, self._key, self._boot, self._shared = folder, key, boot, shared
        self._held: dict[tuple[str, int], int] = {}
        for path in files.listed(folder):
            row = _read(path)
            if row is None or row["boot"] != boot:
                if row is not None:
                    shared.give_back(int(path.name), row["key"])
                with contextlib.suppress(OSError):
                    path.unlink()
            elif row["key"] == key:
                self._held[row["job"], row["n"]] = int(path.name)

    def keep(self, live: Collection[tuple[str, int]]) -> None:
        """Release the ports of all attempts but these: the others ended while no manager was running."""
        for attempt in [one for one in self._held if one not in live]:
            self.give_back(*attempt)

    def take(self, job: str, n: int) -> int | None:
        """Reserve a port for an attempt; None where none is free."""
        first = zlib.crc32(f"{self._key}/{job}/{n}".encode())
        tried = [FIRST + (first + step * 7) % COUNT for step in range(_TRIES)]
        for believes in (True, False):  # other users may say that they have all ports
            for port in tried:
                if is_free(port) and self._reserve(port, job, n):
                    if self._shared.claim(port, self._key) or not believes:
                        return port
                    del self._held[job, n]
                    self._remove(port)
        return None

    def _reserve(self, port: int, job: str, n: int) -> bool:
        document = {"key": self._key, "boot": self._boot, "job": job, "n": n}
        try:
            files.make_directory(self._folder)
            files.write_new(self._folder / str(port), json.dumps(document))
        except OSError:
            return False
        self._held[job, n] = port
        return True

    def give_back(self, job: str, n: int) -> None:
        """Release the port of an attempt that ended."""
        port = self._held.pop((job, n), None)
        if port is not None:
            self._shared.give_back(port, self._key)
            self._remove(port)

    def _remove(self, port: int) -> None:
        with contextlib.suppress(OSError):
            (self._folder / str(port)).unlink()


def is_free(port: int) -> bool:
    """Return whether nothing listens on a port of this host."""
    import socket  # who only writes scripts needs none

    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what ended a moment ago is no hindrance
        try:
            one.bind(("", port))
        except OSError as error:
            return error.errno not in (errno.EADDRINUSE, errno.EACCES)
    return True


def _read(path: Path) -> dict[str, Any] | None:
    try:
        row = json.loads(path.read_text())
        texts = (row["key"], row["boot"], row["job"])
        known = path.name.isdigit() and type(row["n"]) is int and all(isinstance(text, str) for text in texts)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return row if known else None


def exports(manifest: Manifest, spec: JobSpec, run_id: str, port: int | None) -> list[str]:
    """Return lines of bash that set unset variables; none for manifests of earlier versions."""
    lines: list[str] = []
    if port is not None and manifest.rendezvous:
        # torchrun reads each option --NAME from PET_NAME where it is not given, and MASTER_… is for plain processes.
        values = {"MASTER_ADDR": ADDRESS, "MASTER_PORT": str(port)}
        values.update({f"PET_{name}": value for name, value in values.items()})
        if "c10d" in spec.cmd and "endpoint" not in spec.cmd:
            values["PET_RDZV_ENDPOINT"] = f"{ADDRESS}:{port}"
        lines += [_default(name, value) for name, value in values.items()]
    if manifest.wandb if spec.wandb is None else spec.wandb:
        lines += [_default("WANDB_RUN_GROUP", run_id), _default("WANDB_NAME", spec.id)]
        # A retry goes on with the run of the attempt before, and a script may name a run of its own.
        own = f"export WANDB_RUN_ID={shlex.quote(wandb_run_id(run_id, spec.id))}; {_default('WANDB_RESUME', 'allow')}"
        lines.append(f'if [ -z "${{WANDB_RUN_ID+set}}" ]; then {own}; fi')
    return lines


def wandb_run_id(run_id: str, job: str) -> str:
    """Return the same ID for all attempts of a job on any host, with characters and length that W&B allows."""
    name = f"{run_id}-{job}"
    clean = _NOT_IN_RUN_IDS.sub("_", name)
    if clean == name and len(name) <= _RUN_ID_MAX:
        return name
    import hashlib  # see core.manifest.sha256

    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{clean[: _RUN_ID_MAX - 13]}-{digest}"


def _default(name: str, value: str) -> str:
    return f'[ -n "${{{name}+set}}" ] || export {name}={shlex.quote(value)}'
