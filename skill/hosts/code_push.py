"""Push the files of a project into the workspace on a host. Nothing there is ever deleted.

Which files is decided in `code_files`; how they travel is rsync, or tar where rsync is missing on either side. Both put
a file in its place whole, by a rename.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from queue_manager.core.excerpt import excerpt
from skill.common.retry import backoff
from skill.hosts import remote_command, rsync_process, ssh_words, tar_push
from skill.hosts.connection import CommandResult, Host, Unreachable, remote

TRIES = 3
_PAUSE = 1.0
_LIMIT = 3600.0
"""Seconds for one push."""
_STALL = 60
"""Seconds without a byte after which rsync takes the connection for dropped."""
_DROPPED = frozenset({10, 12, 30, 35, 255})
"""Exit codes of rsync, and of ssh below it, that a dropped connection gives."""
_NO_RSYNC = frozenset({1, 2, 4, 23, 127})
"""Exit codes of an rsync that does not do what is asked of it, or is not there. 23: newer ones follow no link that
somebody there put in place of a directory."""
_SSH = 255
"""The exit code of ssh itself, and of rsync above it."""
_IN_VAIN = frozenset({"auth", "host_key", "name"})
"""Kinds of failures of ssh that do not pass by themselves."""
_TORN = 12
"""Exit code of an rsync whose other end broke off: it was cut off, or cannot run."""
_VANISHED = 24
_QUIET: Callable[[str], None] = lambda _: None  # noqa: E731
Report = Callable[[str, int, int], None]
"""Receives of a host how many bytes of how many it has got."""


def no_report(host: str, sent: int, total: int) -> None:
    """Report nothing."""


class _Unusable(NamedTuple):
    """rsync is missing, or does not do what it has to; tar may."""

    why: str


class Pushed(NamedTuple):
    """What was sent: `files` that were new or had changed, their `bytes`, and `how`: rsync, tar or in place."""

    files: int
    bytes: int
    how: str


def push_files(
    host: Host,
    source: Path,
    workspace: str,
    files: Sequence[str],
    say: Callable[[str], None] = _QUIET,
    report: Report = no_report,
) -> Pushed | str | Unreachable:
    """Push these files, relative to `source`, into `workspace` on a host, which is created if it is missing.

    Where all are there already, that is known after one round trip and no connection. `say` is called for each retry,
    `report` of what was sent. Returns what went wrong as text.
    """
    let_second_pass(source, files)
    ready = host.script(_READY + _STAT, remote(workspace), stdin=_names(files), timeout=_LIMIT)
    if isinstance(ready, Unreachable):
        return ready
    place, _, rest = ready.out.partition(b"\n")
    tool, _, there = rest.partition(b"\n")
    if ready.code != 0 or not place:
        return f"the workspace {workspace} cannot be created on {host.name}: {ready.why}"
    folder = os.fsdecode(place)
    if host.ssh_command() is None and os.path.realpath(folder) == os.path.realpath(source):
        return Pushed(0, 0, "in place")
    # rsync cannot tell what a login file writes from what its other end says.
    how = "rsync" if tool == b"rsync" and host.is_quiet and shutil.which("rsync") is not None else "tar"
    changed = _changed(source, files, there)
    if not changed:
        return Pushed(0, 0, how)
    total = sum((source / name).lstat().st_size for name in changed)
    progress: rsync_process.Report = rsync_process.ignore
    if report is not no_report:
        report(host.name, 0, total)
        progress = lambda sent: report(host.name, sent, total)  # noqa: E731
    if how == "rsync":
        done = _by_rsync(host, source, folder, changed, say, progress)
        if not isinstance(done, _Unusable):
            return done
        found = _by_tar(host, source, folder, changed, say, progress)
        return f"{found}; rsync, which was tried first, failed: {done.why}" if isinstance(found, str) else found
    return _by_tar(host, source, folder, changed, say, progress)


_READY = """
umask 077; mkdir -p -- "$1" && cd -- "$1" && pwd -P || exit 1
[ -w . ] || { echo "no write permission" >&2; exit 1; }
if command -v rsync >/dev/null 2>&1; then echo rsync; else echo tar; fi
cd - >/dev/null || exit 1
"""


def _names(files: Iterable[str]) -> bytes:
    return b"".join(os.fsencode(name) + b"\0" for name in files)


def _changed(source: Path, files: Iterable[str], there: bytes) -> list[str]:
    """List those of `files` that differ from the host's, by what `_STAT` printed there."""
    lines = set(there.split(b"\n"))
    every = b"\n" + there

    def is_there(line: bytes) -> bool:
        return b"\n%s\n" % line in every if b"\n" in line else line in lines

    return [name for name in files if not is_there(_stat_line(source, name))]


def let_second_pass(source: Path, files: Iterable[str]) -> None:
    """Wait until the second is over in which the newest of these files was written: at most one.

    What has the size and the second of what is there counts as unchanged. Were a file written, pushed and written again
    within one second, what was written last would never be carried.
    """
    now = time.time()
    times = (int((source / name).lstat().st_mtime) for name in files)
    if int(now) in times:
        time.sleep(int(now) + 1 - now)


def rsh(command: Sequence[str]) -> str:
    """Quote a command for rsync's -e, which splits at blanks and knows quotes, but no backslash."""
    return " ".join(
        "'" + word.replace("'", "''") + "'" if not word or any(sign in word for sign in " \t\n'\"") else word
        for word in command
    )


def build_rsync(ssh: Sequence[str] | None, destination: str, source: Path, workspace: str) -> list[str]:
    """Build the rsync command that sends the files listed on stdin, each ended by a NUL."""
    # Owners are of this machine alone. -S: sparse files stay sparse. -K: a directory that somebody there made a link
    # to another disk stays that.
    options = ["-rlptKS", "--files-from=-", "--from0", "--stats", "--no-human-readable", f"--timeout={_STALL}"]
    if ssh is None:
        return ["rsync", *options, f"{source}/", f"{workspace}/"]
    user, at, machine = destination.rpartition("@")
    machine = f"[{machine}]" if ":" in machine and not machine.startswith("[") else machine
    there = f"--rsync-path={remote_command.command_line(['rsync'])}"
    return ["rsync", *options, "-z", "-s", "-e", rsh(ssh), there, f"{source}/", f"{user}{at}{machine}:{workspace}/"]


def parse_stats(text: str) -> tuple[int, int]:
    """Parse how many files and bytes rsync sent."""
    found = {"Number of regular files transferred": 0, "Total transferred file size": 0}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        digits = "".join(filter(str.isdigit, value.split("bytes")[0]))
        if name in found and digits:
            found[name] = int(digits)
    files, size = found.values()
    return files, size


def _by_rsync(
    host: Host,
    source: Path,
    workspace: str,
    files: Iterable[str],
    say: Callable[[str], None],
    progress: rsync_process.Report,
) -> Pushed | str | Unreachable | _Unusable:
    """Push by rsync. What it has sent before it turned out not to be usable stays."""
    command = build_rsync(host.ssh_command(), host.destination, source, workspace)
    # A line that begins with # or ; would be a comment.
    names = b"".join(b"./" + os.fsencode(name) + b"\0" for name in files)
    reason = ""
    for attempt in range(1, TRIES + 1):
        try:
            done = rsync_process.run(command, names, _LIMIT, progress)
        except FileNotFoundError:
            return _Unusable("it is not installed here")
        except subprocess.TimeoutExpired:
            return Unreachable(f"the code was not copied within {_LIMIT:.0f} s", "timeout")
        if done.returncode == 0:
            return Pushed(*parse_stats(done.stdout.decode(errors="replace")), "rsync")
        errors = done.stderr.decode(errors="replace")
        reason = reason_of(errors)
        if done.returncode == _VANISHED:
            return f"files disappeared here while the code was being copied: {reason}; run the same command again"
        if done.returncode in _NO_RSYNC:
            return _Unusable(f"{reason} (exit code {done.returncode})")
        if done.returncode == _TORN and ssh_words.kind(errors) not in _IN_VAIN:
            there = host.run(["rsync", "--version"])
            if isinstance(there, CommandResult) and there.code != 0:
                return _Unusable(f"it cannot run there: {excerpt(there.err) or reason}")
        # Where ssh was refused, rsync may say itself that the connection was dropped.
        in_vain = done.returncode in (_SSH, _TORN) and ssh_words.kind(errors) in _IN_VAIN
        if done.returncode not in _DROPPED or in_vain:
            return f"rsync to {host.name} failed with exit code {done.returncode}: {reason}"
        _again(host, attempt, reason, say)
    return Unreachable(f"the connection was dropped {TRIES} times while the code was being copied: {reason}", "dropped")


def _again(host: Host, attempt: int, reason: str, say: Callable[[str], None]) -> None:
    if attempt < TRIES:
        say(f"{host.name}: the connection was dropped ({reason}); trying again, {attempt + 1} of {TRIES}")
        time.sleep(backoff(attempt, _PAUSE))


def _by_tar(
    host: Host,
    source: Path,
    workspace: str,
    files: Sequence[str],
    say: Callable[[str], None],
    progress: rsync_process.Report = rsync_process.ignore,
) -> Pushed | str | Unreachable:
    changed, name, reason = None, "", ""
    for attempt in range(1, TRIES + 1):
        asked = host.script(_STAT, workspace, stdin=_names(files), timeout=_LIMIT)
        if isinstance(asked, CommandResult):
            left = _changed(source, files, asked.out)
            if changed is None:  # what is to be sent stays the same, so that another try goes on with it
                changed, name = left, tar_push.token(source, left)
            if not left:
                return Pushed(len(changed), sum((source / one).lstat().st_size for one in changed), "tar")
            sent = tar_push.send_files(host, source, workspace, changed, name, progress)
            if not isinstance(sent, Unreachable):
                return sent if isinstance(sent, str) else Pushed(len(changed), sent, "tar")
            asked = sent
        if asked.kind != "dropped":
            return asked
        reason = asked.reason
        _again(host, attempt, reason, say)
    return Unreachable(f"the connection was dropped {TRIES} times while the code was being copied: {reason}", "dropped")


def _stat_line(source: Path, name: str) -> bytes:
    info = (source / name).lstat()
    return b"%d %d %o %s" % (info.st_size, int(info.st_mtime), stat.S_IMODE(info.st_mode), os.fsencode(name))


# What is there of these files, a line each; nothing where the host's tools are too plain to tell.
_STAT = 'cd -- "$1" && { xargs -0 stat -c "%s %Y %a %n" -- 2>/dev/null; true; }'


def reason_of(text: str) -> str:
    """Say why rsync failed, from its stderr; by ssh's own words if it gave a reason."""
    lines = text.splitlines()
    messages = [
        line for line in lines if not line.startswith(("rsync error: ", "rsync: connection unexpectedly closed"))
    ]
    return excerpt("\n".join(messages)) or _printed(text)


def _printed(text: str) -> str:
    return excerpt(text) or "no output"
