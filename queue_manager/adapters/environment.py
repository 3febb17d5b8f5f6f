"""The environment that a run was started with: kept once for all its attempts, whoever restarts its manager.

It is in ~/.wavequeue/environments, with mode 0600 and outside the run's directory, since it contains the user's keys:
as JSON for the manager, and as exports for the attempts. A setuid screen drops LD_LIBRARY_PATH and TMPDIR, and a
screenrc of the machine may change others.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import NamedTuple

from queue_manager.adapters import files
from queue_manager.core.layout import LOCK_DIR_VARIABLE, HostPaths

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# screen's own, and what bash sets by itself or lets nobody set.
_NOT_EXPORTED = frozenset({
    "TERM", "TERMCAP", "STY", "WINDOW", "COLUMNS", "LINES", "PWD", "OLDPWD", "SHLVL", "_", "SHELLOPTS", "BASHOPTS",
    "BASH_VERSINFO", "EUID", "UID", "PPID", "BASH_ENV",
})  # fmt: skip
_OF_A_SHELL = frozenset({
    *_NOT_EXPORTED, "DISPLAY", "XAUTHORITY", "DBUS_SESSION_BUS_ADDRESS", "INVOCATION_ID", "JOURNAL_STREAM",
})  # fmt: skip
_OF_A_SESSION = ("SSH_", "XDG_SESSION_", "WAVEQUEUE_", "VSCODE_", "TMUX")
_OF_THE_MACHINE = ("CONTAINER_", "VAST_", "PUBLIC_IPADDR", LOCK_DIR_VARIABLE)
"""Variables that describe the machine: a rented one may move, so the newest value is right."""


class Kept(NamedTuple):
    """A run's environment. `differ`: names that this manager was started with other values of; those are ignored.
    `script`: the file with exports, None where it cannot be kept; `fault`: why."""

    umask: int
    differ: tuple[str, ...]
    script: Path | None
    fault: str | None = None


def adopt(host: HostPaths, key: str, run_dir: Path, mine: MutableMapping[str, str], umask: int, begun: bool) -> Kept:
    """Return the environment that the run was started with; `mine` where none is kept.

    `key`: see layout.run_key. `begun`: the run had a manager before.
    """
    path, script = host.environments / f"{key}.json", host.environments / f"{key}.sh"
    kept = _read(path) if begun else None
    differ: tuple[str, ...] = ()
    if kept is not None:
        variables, umask = kept
        differ = tuple(differing(variables, mine))
        variables = {name: value for name, value in variables.items() if not name.startswith(_OF_THE_MACHINE)}
        variables.update((name, value) for name, value in mine.items() if name.startswith(_OF_THE_MACHINE))
        mine.clear()
        mine.update(variables)
    try:
        files.make_directory(host.environments)
        _forget_deleted_runs(host.environments)
        if kept is None:
            document = {"run_dir": str(run_dir), "umask": umask, "variables": dict(mine)}
            files.write_whole(path, [json.dumps(document).encode()])
        files.write_whole(script, [exports(mine).encode(errors="surrogateescape")], durable=False)
    except OSError as error:
        return Kept(umask, differ, None, f"the environment of the run cannot be kept: {error}")
    return Kept(umask, differ, script)


def differing(kept: Mapping[str, str], mine: Mapping[str, str]) -> list[str]:
    """Return names with different values, except those that differ in every shell."""
    return sorted(
        name
        for name in kept.keys() | mine.keys()
        if kept.get(name) != mine.get(name)
        and name not in _OF_A_SHELL
        and not name.startswith((*_OF_A_SESSION, *_OF_THE_MACHINE))
    )


def exports(variables: Mapping[str, str]) -> str:
    """Return a bash script that exports variables. Functions and names that bash cannot write are only inherited."""
    lines = [
        f"export {name}={shlex.quote(value)}\n"
        for name, value in sorted(variables.items())
        if _NAME.fullmatch(name) and name not in _NOT_EXPORTED and not name.startswith("WAVEQUEUE_")
    ]
    return "".join(lines)


def _read(path: Path) -> tuple[dict[str, str], int] | None:
    try:
        data = json.loads(path.read_text())
        variables, umask = data["variables"], data["umask"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not isinstance(variables, dict) or not all(isinstance(value, str) for value in variables.values()):
        return None
    return (variables, umask) if type(umask) is int and 0 <= umask <= 0o777 else None


def _forget_deleted_runs(folder: Path) -> None:
    """Remove environments of runs whose directories no longer exist."""
    for path in files.listed(folder, end=".json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if not os.path.isdir(json.loads(path.read_text())["run_dir"]):
                path.with_suffix(".sh").unlink(missing_ok=True)
                path.unlink()
