"""Processes: identity, life, tags, signals, activity. The only owner of psutil and of pidfd.

A process is identified by pid and start time (proc(5), stat field 22), so that a reused pid is never mistaken for it.
The processes of an attempt are found by an environment variable that all of them inherit: they are screen's children,
not ours, and may have left their session.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from queue_manager.core.events import Proc
from queue_manager.core.layout import TAG_VARIABLE
from queue_manager.core.readings import Unreadable

_TAG = f"{TAG_VARIABLE}=".encode()
_CARD = re.compile(r"/dev/(?:nvidia\d|dri/renderD)")
_KERNEL_THREAD = 0x00200000
_ZOMBIE = ("Z", "X")
_INIT = "1"
"""No attempt begins it, and it may hide its memory, so that it always looks as if it were in exec(2)."""


class Stat(NamedTuple):
    """The part of /proc/PID/stat that identity needs. `parent`: the pid of the process that began it."""

    proc: Proc
    state: str
    parent: int


class Activity(NamedTuple):
    """What an attempt's processes have done so far: CPU time in seconds, that of what they began and has ended
    included, and bytes handed to write(2)."""

    cpu: float
    written: int


def parse_stat(line: str) -> Stat | None:
    """Read a line of /proc/PID/stat; None if it is cut off. The command's name may hold spaces and parentheses."""
    pid, _, rest = line.partition(" ")
    fields = rest[rest.rfind(")") + 1 :].split()
    if not pid.isdigit() or len(fields) < 20 or not fields[1].isdigit() or not fields[19].isdigit():
        return None
    return Stat(Proc(int(pid), int(fields[19])), fields[0], int(fields[1]))


def look_up(pid: int) -> Stat | Unreadable | None:
    """What runs under a pid now; None if nothing does."""
    try:
        return parse_stat(Path(f"/proc/{pid}/stat").read_text(errors="replace"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError as error:
        return Unreadable(f"/proc/{pid}/stat: {error.strerror}")


def alive(proc: Proc) -> bool | Unreadable:
    """Whether this very process lives; a zombie does not."""
    stat = look_up(proc.pid)
    if isinstance(stat, Unreadable):
        return stat
    return stat is not None and stat.proc == proc and stat.state not in _ZOMBIE


def owner(pid: int) -> int | None:
    """The user (uid) whose process this is; None where there is none."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def leaders(uid: int) -> list[int] | Unreadable:
    """The processes of a user (uid) that lead a session of the kernel's, as setsid(2) makes it."""
    try:
        names = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError as error:
        return Unreadable(f"/proc: {error.strerror}")
    return [int(name) for name in names if _leads(name) and owner(int(name)) == uid]


def _leads(pid: str) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read(1024).rpartition(b")")[2].split()
    except OSError:
        return False
    return len(fields) > 3 and fields[3] == pid.encode() and fields[0].decode() not in _ZOMBIE


def words_of(pid: int) -> list[str]:
    """The command line of a process; empty where there is none."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [word.decode(errors="replace") for word in words.split(b"\0")[:-1]]


def parent_of(stat: Stat) -> Proc:
    """Who began a process, as its stat was then. What runs under that pid now and is younger is somebody else; the
    parent is then returned as one that is not alive."""
    now = look_up(stat.parent)
    if isinstance(now, Stat) and now.proc.ticks <= stat.proc.ticks:
        return now.proc
    return Proc(stat.parent, 0)


def open_pidfd(proc: Proc) -> int | None:
    """A descriptor that becomes readable when the process ends; None where it has ended. Raises OSError where the
    kernel has no pidfd, or this Python."""
    try:
        fd = _pidfd(proc.pid)
    except ProcessLookupError:
        return None
    if alive(proc) is False:
        os.close(fd)
        return None
    return fd


def _pidfd(pid: int) -> int:
    # A Python that was built for an old kernel lacks these functions on a new one, too.
    if not (hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal")):
        raise OSError(errno.ENOSYS, "this Python has no pidfd")
    return os.pidfd_open(pid)


class TagScan:
    """Finds the processes of a run by their tag.

    A process seen without one is not read again: /proc's inode numbers tell it from a later one of the same pid. Only
    in the moment between fork and exec does a process of ours look like another, so it is believed after a while.
    """

    _BELIEVED_AFTER = 0.5
    _EXEC_LOOKS = 40
    _EXEC_PAUSE = 0.0005
    """While it execs another program, a process has no environment for a moment: it is looked at so often, with so many
    seconds between."""

    def __init__(self, key: str) -> None:
        """`key`: of the run, see layout.run_key."""
        self._wanted = _TAG + key.encode() + b"/"
        self._others: dict[tuple[str, int], tuple[float, float]] = {}

    def pass_over_present(self) -> None:
        """Take all processes of this moment for others', unread: nothing of the run has begun yet."""
        with contextlib.suppress(OSError):  # each scan lists them anew, and says why it cannot
            self._others = dict.fromkeys(_all_processes(), (-math.inf, 0.0))

    def tagged(self) -> dict[str, list[Proc]] | Unreadable:
        """All living processes of the run, by tag."""
        found: dict[str, list[Proc]] = {}
        now = time.monotonic()
        others: dict[tuple[str, int], tuple[float, float]] = {}
        try:
            names = _all_processes()
        except OSError as error:
            return Unreadable(f"/proc: {error.strerror}")
        in_exec = []
        for key in names:
            since, read = self._others.get(key, (now, now))
            if read - since < self._BELIEVED_AFTER:
                read = now
                environment = _settled_environment(key[0])
                if environment is None:
                    in_exec.append(key)  # by the time that the others are read, it has done
                elif self._note(key[0], environment, found):
                    continue
            others[key] = (since, read)
        for look in range(self._EXEC_LOOKS):
            if not in_exec:
                break
            time.sleep(self._EXEC_PAUSE if look else 0)
            settled = [(key, _settled_environment(key[0])) for key in in_exec]
            for key, environment in settled:
                if environment is not None and self._note(key[0], environment, found):
                    others.pop(key, None)
            in_exec = [key for key, environment in settled if environment is None]
        self._others = others
        return found

    def _note(self, pid: str, environment: bytes, found: dict[str, list[Proc]]) -> bool:
        """Whether a process is of this run, by its environment; it is noted if it lives. Other users' processes cannot
        be read, nor be ours."""
        environment = b"\0" + environment
        start = environment.find(b"\0" + self._wanted)
        if start < 0:
            return False
        tag = environment[start + 1 + len(_TAG) :].split(b"\0", 1)[0].decode(errors="replace")
        stat = look_up(int(pid))
        if isinstance(stat, Stat) and stat.state not in _ZOMBIE:
            found.setdefault(tag, []).append(stat.proc)
        return True


def _all_processes() -> list[tuple[str, int]]:
    """Every process but the first: its pid, and the inode number that tells it from a later one of that pid. Raises
    OSError."""
    with os.scandir("/proc") as entries:
        return [(one.name, one.inode()) for one in entries if one.name.isdigit() and one.name != _INIT]


def _environment(pid: str) -> bytes:
    """The environment that a process began with; empty where it cannot be read."""
    try:
        fd = os.open(f"/proc/{pid}/environ", os.O_RDONLY)
    except OSError:
        return b""
    try:
        return _read_all(fd)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _settled_environment(pid: str) -> bytes | None:
    """The environment that a process began with; None while it execs another program, when it has none for a moment."""
    environment = _environment(pid)
    if environment:
        return environment
    end = _environment_end(pid)
    if end is None:
        return b""
    if end:  # it has none for good, unless an exec ended or began between two looks
        environment = _environment(pid)
        if environment or _environment_end(pid) == end:
            return environment
    return None


def _environment_end(pid: str) -> int | None:
    """Where in its memory a process's environment ends (proc(5), stat field 51): 0 while it execs another program, or
    where it does not tell. None for one that is dead, of the kernel, or somebody else's."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return None
    try:
        if os.fstat(fd).st_uid != os.geteuid():
            return None
        fields = os.read(fd, 1024).rpartition(b")")[2].split()
        if fields[0].decode() in _ZOMBIE or int(fields[6]) & _KERNEL_THREAD:
            return None
        return int(fields[48])
    except (OSError, IndexError, ValueError):
        return None
    finally:
        os.close(fd)


def _read_all(fd: int) -> bytes:
    parts = []
    while part := os.read(fd, 65536):
        parts.append(part)
    return b"".join(parts)


def send(procs: Iterable[Proc], number: signal.Signals) -> None:
    """Signal each process, if it is still that process."""
    for proc in procs:
        try:
            fd = _pidfd(proc.pid)
        except ProcessLookupError:
            continue
        except OSError:
            _send_by_pid(proc, number)
            continue
        try:
            if alive(proc) is True:
                signal.pidfd_send_signal(fd, number)
        except OSError:
            continue
        finally:
            os.close(fd)


def _send_by_pid(proc: Proc, number: signal.Signals) -> None:
    if alive(proc) is True:
        try:
            os.kill(proc.pid, number)
        except OSError:
            return


def cpu_seconds(proc: Proc) -> float:
    """CPU time that a process has used so far; 0 where it has ended or does not tell."""
    import psutil  # see activity

    try:
        times = psutil.Process(proc.pid).cpu_times()
    except (psutil.Error, OSError):
        return 0.0
    return float(times.user + times.system)


def holds_card(proc: Proc) -> bool:
    """Whether a process has a card open: /dev/nvidia0 and so on, which NVML need not list in a container."""
    return any(_CARD.match(name) for name in open_files(str(proc.pid)))


def holding(path: Path) -> list[Proc]:
    """The processes that have a file open, as far as they can be read."""
    wanted, found = os.path.realpath(path), []
    for pid in [name for name in os.listdir("/proc") if name.isdigit()]:
        if wanted in open_files(pid):
            stat = look_up(int(pid))
            found += [stat.proc] if isinstance(stat, Stat) and stat.state not in _ZOMBIE else []
    return found


def open_files(pid: str) -> set[str]:
    found: set[str] = set()
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:  # it has ended, or is somebody else's
        return found
    for name in names:
        try:
            found.add(os.readlink(f"{folder}/{name}"))
        except OSError:
            continue
    return found


def describe(proc: Proc) -> str:
    """A process by its command line, at most 60 characters of it."""
    try:
        words = Path(f"/proc/{proc.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        words = ""
    text = "".join(c for c in words if c.isprintable()).strip() or f"process {proc.pid}"
    return text if len(text) <= 60 else text[:57] + "..."


def activity(procs: Iterable[Proc]) -> Activity | Unreadable:
    """What these processes have done together. What has ended counts in the one that waited for it, if at all."""
    import psutil  # it takes a tenth of the start of a manager, and who looks at a host needs none of it

    cpu, written = 0.0, 0
    for proc in procs:
        try:
            process = psutil.Process(proc.pid)
            times = process.cpu_times()
            cpu += times.user + times.system + times.children_user + times.children_system
            written += process.io_counters().write_chars
        except psutil.NoSuchProcess:
            continue
        except (psutil.AccessDenied, OSError, AttributeError) as error:
            # psutil has no io_counters where the kernel does not count them.
            return Unreadable(f"process {proc.pid}: {error}")
    return Activity(cpu, written)
