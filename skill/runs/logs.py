"""Logs of jobs: which file, its last lines, terminal output made plain or safe, and following a job to its end."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import time
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from build_manifest import regular_file
from queue_manager.core import terminal_text
from queue_manager.core.layout import RunPaths
from skill.common.errors import FailedError, UseError
from skill.runs.digest import FINAL, Row, reason
from skill.runs.directory import Run

if TYPE_CHECKING:
    from skill.runs.access import RunAccess

_BLOCK = 1 << 16
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]P_^X][^\x07\x1b]*(?:\x07|\x1b\\)|[()*+#%][0-9A-Za-z]|[0-Z\\^-~])")
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
_ERASE = re.compile(r"\x1b\[[0-2]?K")
_REDRAW, _PLAIN_COLOUR = "\r\x1b[K", "\x1b[0m"
_LONGEST = 1 << 20
_MOST = 1 << 26
"""Bytes that are read at most to find the last lines: a progress bar may have written gigabytes without an end."""


def plain_line(line: str) -> str:
    """A line of terminal output as a person sees it in the end: no escapes, and only what the last \\r left."""
    text = _ESCAPES.sub("", line)
    states = [state for state in text.split("\r") if state.strip()]
    return terminal_text.escaped(_CONTROLS.sub("", states[-1] if states else "")).rstrip()


def coloured_line(line: str) -> str:
    """A line of terminal output for a terminal: its colours, and what the last \\r left; the rest is shown escaped."""
    states = [state for state in _ERASE.sub("", line).split("\r") if state.strip()]
    return terminal_text.coloured(states[-1] if states else "").rstrip()


class Plain:
    """Makes terminal output plain as it comes. A line is given once it is whole."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes) -> str:
        """Take the next bytes; returns the lines that are whole now."""
        *lines, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        if len(self._rest) > _LONGEST:  # a progress bar that has been redrawn for days
            self._rest = self._rest[self._rest.rfind("\r", 0, -1) + 1 :][-_LONGEST:]
        return "".join(f"{self._line(line)}\n" for line in lines)

    def end(self) -> str:
        """What is left as a last line without an end."""
        line = self._line(self._rest + self._decoder.decode(b"", True))
        self._rest = ""
        return f"{line}\n" if line else ""

    def _line(self, line: str) -> str:
        return plain_line(line)


class Coloured(Plain):
    """Makes terminal output safe for a terminal as it comes, with its colours.

    `width`: cells of a line; a line that has no end yet is drawn so far, in one row, and again whenever it changes.
    None: it is given once it is whole.
    """

    def __init__(self, width: int | None = None) -> None:
        super().__init__()
        self._width = width
        self._drawn = ""
        self._is_coloured = False

    def feed(self, data: bytes) -> str:
        """Take the next bytes; returns what to write."""
        whole = super().feed(data)
        if self._width is None:
            return whole
        from rich.cells import chop_cells  # a tenth of a second that other output need not pay

        before = self._drawn
        parts = chop_cells(plain_line(self._rest), max(1, self._width - 1))
        self._drawn = parts[0] if parts else ""
        if not whole and self._drawn == before:
            return ""
        return (_REDRAW if before else "") + whole + self._drawn

    def end(self) -> str:
        """What is left as a last line without an end, in the usual colour after it."""
        text = (_REDRAW if self._drawn else "") + super().end() + (_PLAIN_COLOUR if self._is_coloured else "")
        self._drawn, self._is_coloured = "", False
        return text

    def _line(self, line: str) -> str:
        text = coloured_line(line)
        self._is_coloured = self._is_coloured or terminal_text.has_colour(text)
        return text


def plain(data: bytes) -> str:
    """All of some terminal output, made plain."""
    cleaner = Plain()
    return cleaner.feed(data) + cleaner.end()


def last_lines(there: RunAccess, job: str, most: int) -> list[str]:
    """The last lines in the log of a job's newest attempt, `most` at most; none where it has written nothing or the log
    cannot be read. Asks for the log alone, which takes a host a third of what `RunAccess.evidence` takes. Raises
    FailedError, and UseError where there is no such job or attempt."""
    data = b""
    pieces = there.log(job, None, most, follow=False).pieces
    with contextlib.suppress(FailedError):  # cut off in the middle: what came tells something
        for piece in pieces:
            data += piece.data
    return plain(data).splitlines()


def log_path(run: Run, row: Row, attempt: int | None, ids: Container[str]) -> Path:
    """The log of an attempt of a job (None: the newest). Raises UseError where there is no such attempt."""
    check_attempt(row, attempt)
    paths = run.paths
    if not paths.log_dir.is_dir():  # a manager may have been given another directory
        paths = RunPaths(paths.manifest, paths.state, Path(row["log"]).parent)
    if attempt is None or attempt == row["attempt"]:
        return paths.log(row["id"])
    return paths.earlier_log(row["id"], attempt, ids)


def check_attempt(row: Row, attempt: int | None) -> None:
    """Raises UseError where a job has no such attempt (None: any)."""
    newest = row["attempt"]
    if newest == 0 or (attempt is not None and not 1 <= attempt <= newest):
        so_far = {0: "it has not started yet", 1: "it has one, number 1"}.get(newest, f"it has 1 to {newest}")
        asked = f"has no attempt {attempt}: {so_far}" if attempt is not None else "has no log: it has not started yet"
        raise UseError(f"job {row['id']} {asked}" + (f" ({reason(row)})" if newest == 0 and reason(row) else ""))


def tail(path: Path, lines: int) -> bytes:
    """The last lines of a file, or all of it where it has fewer; at most about 64 MiB. Raises OSError."""
    with regular_file.open_regular(path, follow=False) as file:
        return _tail(file, lines)


def last_bytes(path: Path, most: int) -> bytes:
    """The end of a file, from the first line that begins in it where that is not all of the file. Raises OSError."""
    with regular_file.open_regular(path, follow=False) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - most))
        data = file.read(most)
    return data if size <= most else data[data.find(b"\n") + 1 :]


def _tail(file: BinaryIO, lines: int) -> bytes:
    """The last lines of an open file, which is left at its end."""
    end = start = file.seek(0, os.SEEK_END)
    data = b""
    while start > 0 and data.count(b"\n") <= lines and len(data) < _MOST:
        start = max(0, start - max(_BLOCK, len(data)))
        file.seek(start)
        data = file.read(end - start)
    file.seek(end)
    if lines == 0:
        return b""
    # \r alone ends no line.
    *whole, rest = data.split(b"\n")
    kept = [line + b"\n" for line in whole] + ([rest] if rest else [])
    return b"".join(kept[-lines:])


def last_line(path: Path, limit: int = 4096) -> str:
    """The last line of a log that says something, made plain; empty if there is none."""
    try:
        with regular_file.open_regular(path, follow=False) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit))
            data = file.read(limit)
    except OSError:
        return ""
    return last_plain_line(data.decode("utf-8", "replace"))


def last_plain_line(output: str) -> str:
    """The last line of terminal output that says something, made plain; empty if there is none."""
    for line in reversed(output.split("\n")):
        text = plain_line(line).strip()
        if text:
            return text
    return ""


class Followed:
    """What came since the last look: `data` of the log, and `note`, words about the job, not of its log."""

    __slots__ = ("data", "note")

    def __init__(self, data: bytes = b"", note: str = "") -> None:
        self.data, self.note = data, note


def follow(
    path: Path, lines: int | None, look: Callable[[], Row], alive: Callable[[], bool], pause: float = 0.1
) -> Iterator[Followed]:
    """Give a job's log as it comes, over all its attempts, until the job has ended.

    `look` gives the job's row as it is now, `alive` says whether anything of the run still goes on. Begins with the
    last `lines` lines (None: all). Raises FailedError where nobody is left to end the job.
    """
    file: BinaryIO | None = None
    waiting = ""
    begun = False
    number = 0  # of the attempt whose log is open; the state may be a little behind
    try:
        while True:
            row, going = look(), alive()  # before the log is read: what was written until then is in it
            if file is not None and not _is_at(file, path):
                yield Followed(file.read())  # it has another name now, or was written anew without its terminal's \r
                with file:
                    file = _written_anew(file, path)
            if file is None:
                with contextlib.suppress(FileNotFoundError):
                    file = regular_file.open_regular(path, follow=False)
                if file is not None:
                    number = max(row["attempt"], number + 1)
                    if begun:
                        yield Followed(note=f"attempt {number} begins")
                    elif lines is not None:
                        yield Followed(_tail(file, lines))
                    begun = True
            data = file.read() if file is not None else b""
            if data:
                yield Followed(data)
            if row["status"] in FINAL:
                if file is not None:
                    yield Followed(file.read())
                yield Followed(note=ended(row))
                return
            if not going:
                raise FailedError("the manager has died, and this job is not running; continue with: wavequeue resume")
            status = "" if row["status"] == "running" else f"{row['status']}: {reason(row)}"
            if status and status != waiting:
                yield Followed(note=status)
            waiting = status
            if not data:
                time.sleep(pause)
    finally:
        if file is not None:
            file.close()


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Whether an open file is the one that has this name now; also where none has."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return True


def _written_anew(old: BinaryIO, path: Path) -> BinaryIO | None:
    """The log that has replaced one that was read to its end, at its own end; None where it is another attempt's."""
    try:
        new = regular_file.open_regular(path, follow=False)
    except OSError:
        return None
    if os.fstat(new.fileno()).st_mtime_ns != os.fstat(old.fileno()).st_mtime_ns:
        new.close()
        return None
    new.seek(0, os.SEEK_END)
    return new


def ended(row: Row) -> str:
    """How a job ended, in words."""
    code = "" if row["exit_code"] is None else f", exit code {row['exit_code']}"
    return f"{row['status']}{code}" + (f": {reason(row)}" if reason(row) else "")
