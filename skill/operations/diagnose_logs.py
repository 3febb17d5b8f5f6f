"""Find out from log files alone why jobs failed."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

from build_manifest.faults import nearest
from build_manifest.regular_file import open_regular
from queue_manager.core import diagnosis, failure_advice, log_text

HEALTHY = "healthy"
STDIN = "-"
_BLOCK = 1 << 16
_PACKED = {
    b"\x1f\x8b": "zcat",
    b"BZh": "bzcat",
    b"\xfd7zXZ\x00": "xzcat",
    b"\x28\xb5\x2f\xfd": "zstdcat",
}
_BINARY = 0.05
"""A file with a larger share of control characters is not a log."""
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\x07\x08\x0b\x0c\x1b"))


class Diagnosis(NamedTuple):
    """What one log shows. `name`: the failure class, or `healthy`. `line`: the line that shows it, and `line_no` its
    number in the file; None where there is none, or where the beginning of a large file was not read. `says`: what it
    means and what to do."""

    file: str
    name: str
    line_no: int | None
    line: str | None
    says: str


class Unread(NamedTuple):
    """A log that cannot be read, and why."""

    file: str
    why: str


class _End(NamedTuple):
    """The end of a log. `cut`: the log has more before it."""

    data: bytes
    cut: bool


def diagnose_logs(files: Sequence[str], stdin: BinaryIO | None = None) -> list[Diagnosis | Unread]:
    """Diagnose logs in the order given; `-` is standard input. Reads a limited number of bytes of each."""
    return [_diagnose(name, stdin) for name in files]


def as_json(found: Diagnosis) -> dict[str, object]:
    """Return one row of `wavequeue diagnose --json`."""
    return {"file": found.file, "class": found.name, "line_no": found.line_no, "line": found.line, "says": found.says}


def _diagnose(name: str, stdin: BinaryIO | None) -> Diagnosis | Unread:
    try:
        end = _last_of_stream(stdin or sys.stdin.buffer) if name == STDIN else _last_of_file(name)
    except OSError as error:
        return Unread(name, _why(name, error))
    fault = _no_log(end.data)
    if fault is not None:
        return Unread(name, fault)
    if not end.data.strip():
        return Diagnosis(name, HEALTHY, None, None, "it is empty: nothing has been written so far")
    reading = diagnosis.diagnose(end.data)
    cut = f"; only its last {len(end.data) >> 20} MiB were read" if end.cut else ""
    if reading.reason is None:
        return Diagnosis(name, HEALTHY, None, None, f"no failure found; last line: {reading.last}{cut}")
    reason = reading.reason
    says = failure_advice.of_failure(reason.name, reason.line) or ""
    number = None if end.cut else log_text.line_number(end.data, reason.at)
    return Diagnosis(name, reason.name, number, reason.line, says + cut)


def _last_of_file(name: str) -> _End:
    if stat.S_ISFIFO(os.stat(name).st_mode):  # such as <(zcat LOG) in a shell
        with open(name, "rb") as pipe:
            return _last_of_stream(pipe)
    with open_regular(name) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - diagnosis.LOG_BYTES))
        return _End(file.read(diagnosis.LOG_BYTES), size > diagnosis.LOG_BYTES)


def _last_of_stream(stream: BinaryIO) -> _End:
    """Read a pipe to its end, and keep no more than the last part."""
    data, cut = bytearray(), False
    while block := stream.read(_BLOCK):
        data += block
        if len(data) > 2 * diagnosis.LOG_BYTES:
            del data[: -diagnosis.LOG_BYTES]
            cut = True
    cut = cut or len(data) > diagnosis.LOG_BYTES
    return _End(bytes(data[-diagnosis.LOG_BYTES :]), cut)


def _why(name: str, error: OSError) -> str:
    """Say why a file cannot be read, and what to give instead."""
    if isinstance(error, IsADirectoryError):
        return f"is a directory: give the logs in it, such as {os.path.join(name, '*.log')}"
    if isinstance(error, FileNotFoundError):
        folder = os.path.dirname(name)
        there = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []
        close = nearest(os.path.basename(name), there)
        hint = f"did you mean {os.path.join(folder, close)}?" if close else "see wavequeue logs JOB for a job's log"
        return f"no such file; {hint}"
    return error.strerror or str(error)


def _no_log(data: bytes) -> str | None:
    """Say why some bytes are not a log; None if they may be one."""
    for magic, command in _PACKED.items():
        if data.startswith(magic):
            return f"is compressed: {command} LOG | wavequeue diagnose -"
    text = data.lstrip(b"\x00")  # a log that was truncated while it was written begins with zero bytes
    if len(text) - len(text.translate(None, _CONTROLS)) > _BINARY * len(text) or (data and not text):
        return "is not text: give the log that the job printed"
    return None
