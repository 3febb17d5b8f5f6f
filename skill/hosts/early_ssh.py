"""Start the ssh of a look at hosts before anything else is imported: the login takes longer than the imports.

A command that looks at hosts with one ssh each (`ssh_once`) records the command lines of these. When the same command
is called again, and none of the files has changed from which the lines were built, their ssh starts at once. It is used
only if the command then builds the very same line (`take`); otherwise it is ended, and nothing else differs.

Every command pays for what this module imports.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from typing import Any

MARK = os.urandom(8).hex()
"""What the first command of a host that is asked once prints when it begins."""
_ANY_MARK = "@MARK@"
_MOST, _MOST_BYTES = 16, 1 << 20
"""Commands that are remembered, and the size of the file that remembers them."""
_VARIABLES = ("HOME", "PATH", "SSH_AUTH_SOCK")


class Started:
    """An ssh with pipes for its streams. Its own messages go to the file `log`."""

    def __init__(self, argv: list[str]) -> None:
        import subprocess

        folder = os.environ.get("TMPDIR") or "/tmp"
        if not os.access(folder, os.W_OK | os.X_OK):
            import tempfile

            folder = tempfile.gettempdir()
        self.log = os.path.join(folder, f"wqssh-{os.urandom(8).hex()}")
        os.close(os.open(self.log, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        try:
            self.process: subprocess.Popen[bytes] = subprocess.Popen(
                [argv[0], "-E", self.log, *argv[1:]],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
        except BaseException:
            self._forget()
            raise

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self._forget()

    def _forget(self) -> None:
        try:
            os.unlink(self.log)
        except OSError:
            pass


class _Command:
    """What this command started early, and what it leaves for the next. `key` is empty if there is no command, as in a
    test."""

    key = ""

    def __init__(self) -> None:
        self.waiting: list[tuple[list[str], Started]] = []
        self.known: dict[str, Any] | None = None
        self.files: dict[str, list[int] | None] = {}
        self.words: list[list[str]] = []


_this = _Command()


def begin(arguments: list[str]) -> None:
    """Start what the same command used last time in this directory. `arguments`: those of the command."""
    try:
        words = [os.getcwd(), *arguments, *(os.environ.get(name, "") for name in _VARIABLES)]
        _this.key = os.fsencode("\0".join(words)).hex()
        data = _read()
        if _this.key.encode() not in data:
            return
        import json

        _this.known = known = json.loads(data)[_this.key]
        if all(_stamp(path) == at for path, at in known["files"].items()):
            for command in known["words"]:
                argv = [word.replace(_ANY_MARK, MARK) for word in command]
                _this.waiting.append((argv, Started(argv)))
    except Exception:  # whatever is wrong with it, the ordinary way does not need it
        abandon()


def take(argv: list[str]) -> Started:
    """Return the ssh with this command line: the one started early, or else a new one. Raises OSError."""
    for one in tuple(_this.waiting):
        if one[0] == argv:
            _this.waiting.remove(one)
            return one[1]
    return Started(argv)


def made_from(*paths: str | os.PathLike[str]) -> None:
    """Record which files decide about the command line of an ssh; call this before they are read."""
    for path in paths:
        _this.files.setdefault(os.fspath(path), _stamp(path))


def remember(argv: list[str]) -> None:
    """Have this ssh started early next time: it has logged in, and only looks."""
    if MARK in argv[-1]:
        _this.words.append([word.replace(MARK, _ANY_MARK) for word in argv])


def end() -> None:
    """End what was started early and not used, and record what the next command may start."""
    abandon()
    found = {"files": _this.files, "words": sorted(_this.words)}
    if _this.words and found != _this.known:
        try:
            _write(_this.key, found)
        except Exception:  # the next command starts later
            pass


def abandon() -> None:
    """End what was started early and not used."""
    while _this.waiting:
        _this.waiting.pop()[1].close()


def _path() -> str:
    return os.path.join(os.path.expanduser("~"), ".wavequeue", "early_ssh.json")


def _read() -> bytes:
    """Read the file, if only this user can have written it: its command lines are run."""
    fd = os.open(_path(), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o077:
            return b""
        return os.read(fd, _MOST_BYTES)
    finally:
        os.close(fd)


def _stamp(path: str | os.PathLike[str]) -> list[int] | None:
    """Return what changes whenever a file changes; None if there is no file."""
    try:
        info = os.stat(path)
    except OSError:
        return None
    return [info.st_mtime_ns, info.st_size, info.st_ino]


def _write(key: str, found: dict[str, Any]) -> None:
    """Add the newest entry to the file, but only if the directory exists already."""
    import json
    from pathlib import Path

    from skill.common.files import write_whole

    path = Path(_path())
    if not path.parent.is_dir():
        return
    try:
        entries = dict(json.loads(_read()))
    except (OSError, ValueError, TypeError):
        entries = {}
    entries.pop(key, None)
    kept = dict([*entries.items(), (key, found)][-_MOST:])
    write_whole(path, json.dumps(kept), durable=False)
