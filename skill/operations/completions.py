"""What a word on the command line may become: names of runs, jobs, phases, hosts. Nothing is asked of a host, and what
cannot be read gives no names."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Container
from pathlib import Path
from typing import Any

from build_manifest import regular_file
from skill.common.errors import FailedError, UseError
from skill.common.files import append_to, make_users_directory, write_whole
from skill.common.project import locate_workers
from skill.runs import directory
from skill.runs.directory import MOST_STATE, Run

_RUNS = 50
_HOST = re.compile(r"^  ([A-Za-z0-9][\w.-]*):", re.MULTILINE)
_POOL = re.compile(r"^    pool: *([\w.-]+)", re.MULTILINE)
_SSH_HOST = re.compile(r"^\s*Host\s+(.+)$", re.MULTILINE | re.IGNORECASE)
_MARK = "# wavequeue completion"


def runs() -> list[str]:
    """Return the ids of the newest runs that can be meant from here."""
    with contextlib.suppress(OSError):
        return [run.id for run in itertools.islice(directory.known(Path.cwd(), Path.home()), _RUNS)]
    return []


def jobs(run_name: str | None, statuses: Container[str] = ()) -> list[str]:
    """Return the ids of a run's jobs (None: of the newest run), those with one of `statuses` if any have."""
    rows = _document(run_name).get("jobs", ())
    chosen = [row["id"] for row in rows if row.get("status") in statuses]
    return chosen or [row["id"] for row in rows]


def phases(run_name: str | None) -> list[str]:
    """Return the names of a run's phases."""
    return [row["name"] for row in _document(run_name).get("phases", ())]


def hosts() -> list[str]:
    """Return the names of registered hosts, then those of ~/.ssh/config."""
    known = _HOST.findall(_workers())
    config = " ".join(_SSH_HOST.findall(_text(Path.home() / ".ssh" / "config")))
    return list(dict.fromkeys([*known, *(name for name in config.split() if not set(name) & set("*?!"))]))


def pools() -> list[str]:
    """Return the names of the pools of hosts."""
    return list(dict.fromkeys(_POOL.findall(_workers())))


def _workers() -> str:
    return _text(locate_workers()).partition("workers:")[2]


def _text(path: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return regular_file.read_text(path, 4 << 20)
    return ""


def _document(run_name: str | None) -> dict[str, Any]:
    """The state of a run, or its manifest where the state is on hosts: both have phases and jobs."""
    try:
        run = directory.find(run_name, Path.cwd(), Path.home())
    except (UseError, FailedError, OSError):
        return {}
    for path in _files(run):
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(regular_file.read(path, MOST_STATE, follow=False))
            if isinstance(found, dict):
                return found
    return {}


def _files(run: Run) -> tuple[Path, ...]:
    return run.paths.state, run.paths.manifest


def install(shell: str, script: str, names: tuple[str, ...]) -> list[Path]:
    """Have a shell load a completion script from now on. Returns the files that were written. Raises OSError."""
    home = Path.home()
    if shell == "fish":
        written = [home / ".config" / "fish" / "completions" / f"{name}.fish" for name in names]
        for path in written:
            make_users_directory(path.parent)
            write_whole(path, script, mode=None)
        return written
    path = home / ".wavequeue" / f"completion.{shell}"
    make_users_directory(path.parent)
    write_whole(path, script, mode=None)
    startup = home / f".{shell}rc"
    if _MARK not in _text(startup):
        with append_to(startup) as file:
            file.write(f'\n[ -r "{path}" ] && . "{path}"  {_MARK}\n'.encode())
        return [path, startup]
    return [path]
