"""The launcher `screen`: start attempts in detached sessions, list and close them. Sessions are addressed by their full
PID.NAME."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from queue_manager.adapters import files
from queue_manager.adapters.files import append_to, make_directory
from queue_manager.adapters.processes import Stat, parent_of
from queue_manager.core.events import Proc
from queue_manager.core.layout import HostPaths, RunPaths
from queue_manager.core.readings import Unreadable

_log = logging.getLogger(__name__)

_LINE = re.compile(r"^\t(\d+)\.(.*?)\t.*?(\((?:Dead \?\?\?|Removed)\))?[ \r]*$", re.MULTILINE)
_NONE = re.compile(r"No Sockets found", re.IGNORECASE)
_COUNT = re.compile(r"^(\d+) Sockets? in ", re.MULTILINE)


def build_start(screenrc: Path, session: str, argv: Sequence[str]) -> list[str]:
    """The command that starts `argv` in a detached session."""
    return ["screen", "-c", str(screenrc), "-dmS", session, *argv]


def build_quit(pid: int, session: str) -> list[str]:
    """The command that closes a session. By name alone, screen would match prefixes: seed1 closes seed10."""
    return ["screen", "-S", f"{pid}.{session}", "-X", "quit"]


def build_environment(base: Mapping[str, str], log: Path) -> dict[str, str]:
    """The environment for `build_start`: the log's name for our screenrc, and nothing of a session we are in."""
    environment = {key: value for key, value in base.items() if key not in ("STY", "WINDOW")}
    environment.setdefault("TERM", "xterm")
    # screen expands % and ^ in a log's name, and our screenrc takes it from here.
    environment["WAVEQUEUE_LOG"] = str(log).replace("%", "%%").replace("^", "^^")
    return environment


def parse_sessions(output: str) -> dict[str, int] | Unreadable:
    """Read `screen -ls`: process id by session name. A socket whose session was killed is none."""
    lines = _LINE.findall(output)
    count = _COUNT.search(output)
    if _NONE.search(output) and not lines:
        return {}
    if count and int(count.group(1)) == len(lines):
        return {name: int(pid) for pid, name, dead in lines if not dead}
    return Unreadable(f"screen -ls says: {output.strip()[:200]!r}")


def parse_dead(output: str) -> list[str]:
    """Read `screen -ls`: PID.NAME of every socket whose session was killed."""
    return [f"{pid}.{name}" for pid, name, dead in _LINE.findall(output) if dead == "(Dead ???)"]


class Screen:
    """The launcher of a run. `screenrc` must exist; jobs inherit `environment`."""

    def __init__(self, screenrc: Path, environment: Mapping[str, str]) -> None:
        self._screenrc, self.environment = screenrc, environment

    @classmethod
    def of(cls, paths: RunPaths, home: HostPaths, environment: Mapping[str, str]) -> Screen:
        """Where screen's own directory cannot be used, one in the home serves."""
        found = dict(environment)
        fault = directory_fault(environment)
        if fault is not None:
            directory = home.root / "screens"
            make_directory(directory)
            _log.warning("screen keeps its sockets in %s, since by default it cannot: %s", directory, fault)
            found["SCREENDIR"] = str(directory)
        return cls(paths.screenrc, found)

    def start(
        self,
        session: str,
        argv: Sequence[str],
        log: Path,
        complaint: Path,
        extra: Mapping[str, str] = MappingProxyType({}),
    ) -> subprocess.Popen[bytes]:
        """Begin to start a session; the returned process ends at once, and says in `complaint` why if it failed.
        `extra`: more that it inherits, which stands in no command line and no file.
        Raises OSError where screen is not installed."""
        with append_to(complaint, files.PRIVATE) as file:
            return subprocess.Popen(
                build_start(self._screenrc, session, argv),
                env=build_environment({**self.environment, **extra}, log),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                umask=files.LOG_UMASK,
            )

    def sessions(self) -> dict[str, int] | Unreadable:
        """Process id of every session of this user, by name."""
        try:
            return parse_sessions(_listed(self.environment))
        except (OSError, subprocess.TimeoutExpired) as error:
            return Unreadable(f"screen -ls: {error}")

    def leader(self, command: Stat) -> Proc:
        """The screen that began the command."""
        return parent_of(command)

    def close(self, pid: int, session: str) -> None:
        """Ask a session to close; whether it did is seen by its process."""
        self._run(build_quit(pid, session))

    def clean_up(self, is_ours: Callable[[str], bool]) -> None:
        """Remove the sockets of sessions that were killed, of those alone whose names are ours: `screen -wipe` by
        itself would take everybody's."""
        if not self._may_have_sockets(is_ours):
            return
        try:
            listed = _listed(self.environment)
        except (OSError, subprocess.TimeoutExpired):
            return
        for socket in parse_dead(listed):
            if is_ours(socket.partition(".")[2]):
                self._run(["screen", "-wipe", socket])

    def _may_have_sockets(self, is_ours: Callable[[str], bool]) -> bool:
        """Whether a session of ours may have a socket. Where screen's directory is named, it need not be asked."""
        directory = self.environment.get("SCREENDIR")
        try:
            return not directory or any(is_ours(name.partition(".")[2]) for name in os.listdir(directory))
        except OSError:
            return True

    def _run(self, argv: list[str]) -> None:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(argv, env=dict(self.environment), capture_output=True, timeout=10, check=False)


def _listed(environment: Mapping[str, str]) -> str:
    """What `screen -ls` says, on stderr, too, where it fails. Raises OSError and TimeoutExpired."""
    done = subprocess.run(["screen", "-ls"], env=dict(environment), capture_output=True, timeout=10)
    return (done.stdout + done.stderr).decode(errors="replace")


def directory_fault(environment: Mapping[str, str]) -> str | None:
    """Why screen cannot keep its sockets where it does by default; None if it can."""
    if environment.get("SCREENDIR"):
        return None
    try:
        sessions = parse_sessions(_listed(environment))
    except FileNotFoundError:
        return None
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return sessions.reason if isinstance(sessions, Unreadable) else None
