"""Failure classes: an ordered table. A new class is a row here and a sample log in tests/data/failures.

Sources of the messages: PyTorch c10/cuda/CUDACachingAllocator.cpp and c10/core/impl/alloc_cpu.cpp, XLA's and
TensorFlow's RESOURCE_EXHAUSTED status, cupy.cuda.memory, the cuBLAS and cuDNN status names, NCCL's "Cuda failure",
CUDA's error strings (cudaGetErrorString), bash's report of a child that died of SIGKILL, Linux mm/oom_kill.c.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple


class Rule(Enum):
    """What follows for the job."""

    OOM = "again after oom_retry.delay, at most oom_retry.max_attempts times"
    RETRIES = "again while `retries` allows it"
    CARD = "again on another card, and the card is put aside"
    DISK = "again after a minute, at least three times"


class FailureClass(NamedTuple):
    """A name for users, what in a log line shows it, and what follows. `only_sigkill`: SIGKILL must have ended it.

    `signs`: text in lower case, some of which is in every match of `pattern`: to look for it first is far faster.
    """

    name: str
    rule: Rule
    pattern: re.Pattern[bytes] | None = None
    signs: tuple[bytes, ...] = ()
    only_sigkill: bool = False


class LogFinding(NamedTuple):
    """The last line of a log that shows a failure class."""

    name: str
    line: str


SIGKILL_CODES = (137, -9)


# What begins a line: nothing, or a line break; logs come from a terminal, so \r ends lines as well.
_BOL = r"(?<![^\r\n])"


def _pattern(*alternatives: str) -> re.Pattern[bytes]:
    return re.compile("|".join(f"(?:{one})" for one in alternatives).encode())


LOGGED = (
    FailureClass(
        "oom",
        Rule.OOM,
        _pattern(
            # TensorFlow says of a warning with the same words that it "is not a failure".
            r"(?i:\bout of memory\b)(?![^\r\n]*not a failure)",
            r"OutOfMemoryError",
            r"(?:CUBLAS|CUDNN|CUSOLVER|CUFFT)_STATUS_ALLOC_FAILED",
            r"CUFFT_ALLOC_FAILED",
            # With a colon it is XLA's and TensorFlow's; gRPC and web services say it of quotas and long messages.
            r"RESOURCE_EXHAUSTED: (?!Received message|[^\r\n]*(?i:quota|rate limit))",
            r"ResourceExhaustedError",
            r"OOM when allocating",
            r"CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation",
            r"DefaultCPUAllocator: (?:can't allocate|not enough) memory",
            rf"_ArrayMemoryError|{_BOL}MemoryError\b",
            r"DataLoader worker \(pid[^)\r\n]*\) is killed by signal: Killed",
            r"\boom-kill\b|\boom_kill\b",
        ),
        (
            b"out of memory",
            b"outofmemoryerror",
            b"alloc_failed",
            b"resource_exhausted",
            b"resourceexhaustederror",
            b"oom when allocating",
            b"out_of_memory",
            b"cudaerrormemoryallocation",
            b"defaultcpuallocator",
            b"memoryerror",
            b"dataloader worker",
            b"oom-kill",
            b"oom_kill",
        ),
    ),
    FailureClass(
        "oom",
        Rule.OOM,
        _pattern(rf"{_BOL}(?:[^\r\n]{{0,200}}: line \d+: +\d+ )?Killed\b"),
        (b"killed",),
        only_sigkill=True,
    ),
    FailureClass(
        "sick_card",
        Rule.CARD,
        _pattern(
            r"uncorrectable ECC error|CUDA_ERROR_ECC_UNCORRECTABLE",
            r"GPU has fallen off the bus|GPU is lost",
            r"NVRM: Xid",
            r"CUDA error: unknown error",
        ),
        (
            b"uncorrectable ecc",
            b"ecc_uncorrectable",
            b"gpu has fallen off",
            b"gpu is lost",
            b"nvrm: xid",
            b"cuda error: unknown",
        ),
    ),
    FailureClass(
        "disk_full",
        Rule.DISK,
        _pattern(r"No space left on device|Disk quota exceeded|\bENOSPC\b"),
        (b"no space left on device", b"disk quota exceeded", b"enospc"),
    ),
)
"""Classes seen in the log, first match wins."""

TIMEOUT = FailureClass("timeout", Rule.RETRIES)
NO_OUTPUT = FailureClass("no_output", Rule.RETRIES)
KILLED = FailureClass("killed", Rule.RETRIES)
EXIT_CODE = FailureClass("exit_code", Rule.RETRIES)
HOST_OOM = FailureClass("oom", Rule.OOM)


class LogScan:
    """Looks through a log given in chunks, whatever its length; keeps one finding for each class.

    Only whole lines are looked at, so it makes no difference where one chunk ends and the next one begins.
    """

    _LONG_LINE = 1 << 16
    """A line that is longer is looked at in pieces."""
    _OVERLAP = 1 << 12

    def __init__(self, sigkill: bool) -> None:
        self._classes = [row for row in LOGGED if sigkill or not row.only_sigkill]
        self._found: dict[int, str] = {}
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the log."""
        text = self._rest + chunk
        cut = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
        self._found.update(self._look(text[:cut]))
        rest = text[cut:]
        while len(rest) > self._LONG_LINE:
            self._found.update(self._look(rest[: self._LONG_LINE]))
            rest = rest[self._LONG_LINE - self._OVERLAP :]
        self._rest = rest

    def finding(self) -> LogFinding | None:
        """What the log has shown so far, by the order of the table."""
        found = {**self._found, **self._look(self._rest)}
        return next((LogFinding(self._classes[index].name, found[index]) for index in sorted(found)), None)

    def _look(self, text: bytes) -> dict[int, str]:
        """The last line of each class in `text`, by the class's place in the table."""
        found = {}
        lower = text.lower()
        for index, row in enumerate(self._classes):
            if row.pattern is None or not any(sign in lower for sign in row.signs):
                continue
            for match in row.pattern.finditer(text):
                found[index] = _line_at(text, match.end() - 1)
        return found


def rule_of(name: str) -> Rule:
    """The rule of a class by its name."""
    for row in (*LOGGED, TIMEOUT, NO_OUTPUT, KILLED, EXIT_CODE):
        if row.name == name:
            return row.rule
    raise KeyError(name)


def _line_at(text: bytes, position: int) -> str:
    start = max(text.rfind(b"\n", 0, position), text.rfind(b"\r", 0, position)) + 1
    end = min((i for i in (text.find(b"\n", position), text.find(b"\r", position)) if i >= 0), default=len(text))
    return clean_line(text[start:end])


_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")


def clean_line(raw: bytes) -> str:
    """A line of terminal output as text: no escape sequences or control characters, at most 300 characters."""
    text = _ESCAPES.sub("", raw.decode("utf-8", "replace"))
    text = "".join(c for c in text if c.isprintable() or c == "\t").strip()
    return text if len(text) <= 300 else text[:297] + "..."
