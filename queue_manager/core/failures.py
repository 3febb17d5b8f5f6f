"""Failure classes: what the words of a log line show, and what follows for the job. Pure.

A new class is a row of _TABLE and a log in tests/data/gallery; `diagnosis` decides which line of a log counts.

Sources of the messages: PyTorch c10/cuda/CUDACachingAllocator.cpp and c10/core/impl/alloc_cpu.cpp, XLA's and
TensorFlow's RESOURCE_EXHAUSTED status, cupy.cuda.memory, the cuBLAS and cuDNN status names, NCCL's "Cuda failure",
CUDA's error strings (cudaGetErrorString), Linux mm/oom_kill.c, glibc's strerror, requests and urllib3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class Rule(Enum):
    """What follows for the job."""

    OOM = "retried after oom_retry.delay, up to oom_retry.max_attempts times"
    RETRIES = "retried while `retries` allows it"
    CARD = "retried on another GPU; this GPU is quarantined"
    DISK = "retried after a minute, at least three times"
    PERSON = "never retried by itself"


class FailureClass(NamedTuple):
    """A name for users, and what follows."""

    name: str
    rule: Rule


@dataclass(frozen=True)
class LogFinding:
    """The line of a log that shows why the job failed, and its class."""

    name: str
    line: str


SIGKILL_CODES = (137, -9)

TIMEOUT = FailureClass("timeout", Rule.RETRIES)
UNHEALTHY = FailureClass("unhealthy", Rule.RETRIES)
NO_OUTPUT = FailureClass("no_output", Rule.RETRIES)
KILLED = FailureClass("killed", Rule.RETRIES)
EXIT_CODE = FailureClass("exit_code", Rule.RETRIES)
LEFTOVERS = FailureClass("leftovers", Rule.RETRIES)
HOST_OOM = FailureClass("oom", Rule.OOM)


def _pattern(*alternatives: str) -> str:
    return "|".join(f"(?:{one})" for one in alternatives)


class _Row(NamedTuple):
    """A class by its words. `alone`: they show a failure wherever they occur, not only in an exception's message.
    `signs`: texts in lower case, one of which is in every match; searching them first is far faster. `pattern` is
    compiled when it is first used, since a manager starts without it."""

    name: str
    rule: Rule
    pattern: str
    alone: bool
    signs: tuple[str, ...]


_TABLE = (
    _Row(
        "oom",
        Rule.OOM,
        _pattern(
            # TensorFlow says of a warning with the same words that it "is not a failure".
            r"(?i:\bout of memory\b)(?![^\r\n]{0,300}not a failure)",
            r"OutOfMemoryError",
            r"(?:CUBLAS|CUDNN|CUSOLVER|CUFFT)_STATUS_ALLOC_FAILED",
            r"CUFFT_ALLOC_FAILED",
            # With a colon it is XLA's and TensorFlow's; gRPC and web services say it of quotas and long messages.
            r"RESOURCE_EXHAUSTED: (?!Received message|[^\r\n]{0,300}(?i:quota|rate limit))",
            r"ResourceExhaustedError",
            r"OOM when allocating",
            r"CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation",
            r"DefaultCPUAllocator: (?:can't allocate|not enough) memory",
            r"_ArrayMemoryError|^MemoryError\b|std::bad_alloc",
            r"\[Errno 12\] Cannot allocate memory|fork: Cannot allocate memory",
            r"\boom-kill\b|\boom_kill\b",
            r"exceeded memory limit[^\r\n]{0,100}being killed",  # Slurm's, where it watches what jobs use
        ),
        True,
        (
            "out of memory",
            "outofmemoryerror",
            "alloc_failed",
            "resource_exhausted",
            "resourceexhaustederror",
            "oom when allocating",
            "out_of_memory",
            "cudaerrormemoryallocation",
            "defaultcpuallocator",
            "memoryerror",
            "bad_alloc",
            "cannot allocate memory",
            "oom-kill",
            "oom_kill",
            "exceeded memory limit",
        ),
    ),
    _Row(
        "sick_card",
        Rule.CARD,
        _pattern(
            r"uncorrectable ECC error|CUDA_ERROR_ECC_UNCORRECTABLE",
            r"GPU has fallen off the bus|GPU is lost",
            r"NVRM: Xid",
            r"CUDA error: unknown error",
        ),
        True,
        (
            "uncorrectable ecc",
            "ecc_uncorrectable",
            "gpu has fallen off",
            "gpu is lost",
            "nvrm: xid",
            "cuda error: unknown",
        ),
    ),
    _Row(
        "disk_full",
        Rule.DISK,
        _pattern(
            r"No space left on device|Disk quota exceeded|\bENOSPC\b",
            # All that torch.save says of it.
            r"PytorchStreamWriter failed writing file|inline_container\.cc:\d{1,6}\] \. unexpected pos \d",
        ),
        True,
        ("no space left on device", "disk quota exceeded", "enospc", "failed writing file", "unexpected pos"),
    ),
    _Row(
        "killed",
        Rule.RETRIES,
        _pattern(
            r"killed by signal: (?:Killed|Terminated)|terminated with signal SIG(?:KILL|TERM)",
            r"\*\*\* (?:JOB|STEP) \S{1,40} ON \S{1,200} CANCELLED AT",
        ),
        False,
        ("killed by signal", "terminated with signal", "cancelled at"),
    ),
    _Row(
        "segfault",
        Rule.RETRIES,
        _pattern(r"killed by signal: (?:Segmentation fault|Bus error)|terminated with signal SIG(?:SEGV|BUS)"),
        False,
        ("killed by signal", "terminated with signal"),
    ),
    _Row(
        "network",
        Rule.RETRIES,
        _pattern(r"[Aa]ddress already in use|EADDRINUSE"),  # also of torch's store, whose words are those of NCCL
        False,
        ("address already in use", "eaddrinuse"),
    ),
    _Row(
        "nccl",
        Rule.RETRIES,
        _pattern(
            r"\bNCCL\b|\bnccl[A-Z]|ProcessGroupNCCL|DistBackendError|DistStoreError|DistNetworkError",
            r"Watchdog caught collective|[Gg]loo/|Connection closed by peer|\bTCPStore\b",
        ),
        False,
        ("nccl", "distbackend", "diststore", "distnetwork", "watchdog", "gloo", "closed by peer", "tcpstore"),
    ),
    _Row(
        "cuda",
        Rule.RETRIES,
        _pattern(
            r"CUDA error|CUDA driver|cuda runtime error|cuDNN error|CUDNN_STATUS|CUBLAS_STATUS|CUSPARSE_STATUS"
            r"|\bcudaError",
            r"CUDA_ERROR|no kernel image is available|HIP error|No CUDA GPUs are available|not compiled with CUDA",
            r"illegal memory access|Found no NVIDIA driver|invalid device ordinal|device-side assert",
            r"Blas \w{1,12} launch failed",
            r"(?:CUDA|GPU)Accelerator`? can ?not run on your system|You requested (?i:gpus?): \[",
            r"No supported gpu backend|No visible GPU devices|DNN library initialization failed|cuDNN failed to init",
        ),
        False,
        (
            "cuda",
            "cudnn",
            "cublas",
            "cusparse",
            "kernel image",
            "hip error",
            "illegal memory access",
            "no nvidia",
            "device ordinal",
            "device-side",
            "gpu backend",
            "launch failed",
            "accelerator",
            "you requested gpu",
            "visible gpu",
            "dnn library",
        ),
    ),
    _Row(
        "import",
        Rule.RETRIES,
        _pattern(
            r"No module named|cannot import name|undefined symbol|cannot open shared object file|DLL load failed",
            r"version `[^']{1,60}' not found|PackageNotFoundError|Failed to import",
        ),
        False,
        (
            "no module",
            "cannot import",
            "undefined symbol",
            "shared object",
            "dll load",
            "version `",
            "packagenotfound",
            "failed to import",
        ),
    ),
    _Row(
        "network",
        Rule.RETRIES,
        _pattern(
            r"Temporary failure in name resolution|Name or service not known|Connection refused|Connection reset",
            r"Connection timed out|Max retries exceeded|Read timed out|RemoteDisconnected"
            r"|Remote end closed connection",
            r"Network is unreachable|No route to host|Could not resolve host|couldn't connect to|SSLError"
            r"|CERTIFICATE_VERIFY",
            r"CondaHTTPError|\b(?:5\d\d|429) (?:Server|Client) Error|HTTP Error \d{3}|ConnectionError|ConnectTimeout",
            r"\bgaierror\b|LocalEntryNotFoundError|OfflineModeIsEnabled|unable to resolve host|Failed to connect to",
        ),
        False,
        (
            "name resolution",
            "not known",
            "connection",
            "retries exceeded",
            "timed out",
            "remotedis",
            "unreachable",
            "no route",
            "resolve host",
            "connect to",
            "sslerror",
            "certificate",
            "http",
            "error: for url",
            "connecttimeout",
            "gaierror",
            "localentry",
            "offlinemode",
        ),
    ),
    _Row(
        "permission",
        Rule.RETRIES,
        _pattern(
            r"Permission denied|Operation not permitted|\b40[13] Client Error|GatedRepoError|Unauthorized|Forbidden",
            r"api_key not configured|Read-only file system|Unable to locate credentials|\bAccessDenied\b",
        ),
        False,
        (
            "permission denied",
            "not permitted",
            "client error",
            "gatedrepo",
            "unauthorized",
            "forbidden",
            "api_key",
            "read-only",
            "credentials",
            "accessdenied",
        ),
    ),
    _Row(
        "missing_file",
        Rule.RETRIES,
        _pattern(
            r"No such file or directory|[Cc]ommand not found|\bnot found\s*$|does not appear to have a file named",
            r"can't open file|Is a directory|Not a directory|Could not find conda environment",
            r"Not a conda environment|the (?:cwd|venv) (?:is not there|does not exist)|conda (?:has no|was not found)",
            r"PackagesNotFound",
        ),
        False,
        (
            "no such file",
            "not found",
            "not appear",
            "can't open",
            "directory",
            "conda",
            "is not there",
            "not exist",
            "notfound",
        ),
    ),
    _Row(
        "arguments",
        Rule.RETRIES,
        _pattern(
            r"unrecognized arguments|the following arguments are required|argument -[^:\r\n]{1,80}: |No such option",
            r"Missing option|arguments are not used by the HfArgumentParser|Could not override '"
            r"|Could not consume arg",
            r"Flags parsing error|Key '[^']{1,200}' is not in struct",
        ),
        False,
        (
            "argument",
            "no such option",
            "missing option",
            "could not override",
            "consume arg",
            "flags parsing",
            "in struct",
        ),
    ),
    _Row(
        "nan",
        Rule.RETRIES,
        _pattern(
            r"(?i:loss (?:is|was|became) (?:nan|inf)|nan or inf|non-?finite|contains? nan|nan (?:values?|loss"
            r"|detected)|returned nan)",
            r"(?i:found nan|nan in |detected nan|loss:? nan)|found invalid values|is nan\b",
            r"loss scale already at minimum",
        ),
        False,
        ("nan", "finite", "invalid values", "loss scale"),
    ),
)
"""First match wins."""

_TYPES = {
    "FileNotFoundError": "missing_file", "NotADirectoryError": "missing_file", "IsADirectoryError": "missing_file",
    "NoSuchKey": "missing_file", "EntryNotFoundError": "missing_file", "RepositoryNotFoundError": "missing_file",
    "PermissionError": "permission", "GatedRepoError": "permission",
    "ImportError": "import", "ModuleNotFoundError": "import", "PackageNotFoundError": "import",
    "AssertionError": "assertion", "FloatingPointError": "nan", "MemoryError": "oom",
    "ConnectionError": "network", "ConnectionRefusedError": "network", "ConnectionResetError": "network",
    "BrokenPipeError": "network", "SSLError": "network", "gaierror": "network", "URLError": "network",
    "HTTPError": "network", "ReadTimeout": "network", "ConnectTimeout": "network", "ReadTimeoutError": "network",
    "MaxRetryError": "network", "ProxyError": "network", "CommError": "network", "ConnectionTimeout": "network",
    "ArgumentError": "arguments", "UsageError": "arguments", "ConfigAttributeError": "arguments",
    "ConfigKeyError": "arguments", "ConfigCompositionException": "arguments", "MissingMandatoryValue": "arguments",
}  # fmt: skip
"""The class of an exception by its type alone, where its message shows none of the first rows."""

_PROGRAM = frozenset(
    (
        "KeyError", "ValueError", "TypeError", "IndexError", "AttributeError", "NameError", "UnboundLocalError",
        "ImportError", "ModuleNotFoundError", "AssertionError", "FileNotFoundError", "PermissionError",
        "ZeroDivisionError", "NotImplementedError", "KeyboardInterrupt", "SyntaxError", "IndentationError",
        "UnicodeDecodeError", "UnicodeEncodeError", "RecursionError", "StopIteration", "LookupError",
        "ConfigAttributeError", "ConfigKeyError", "ArgumentError", "JSONDecodeError", "NotADirectoryError",
    )
)  # fmt: skip
_NAN_TYPES = ("ValueError", "RuntimeError", "FloatingPointError", "Exception", "error")


def classify(text: str, kind: str = "", message: bool = False) -> str:
    """Return the class of an exception, a crash or an error message; `traceback` where no other class fits.

    `kind`: the exception's type, which counts before the words: a KeyError that mentions memory is not OOM. `message`:
    `text` is a later line of its message.
    """
    short = kind.rsplit(".", 1)[-1]
    if short == "AssertionError" and "Torch not compiled with CUDA enabled" in text:
        return "cuda"  # torch asserts what it cannot do
    by_type = "traceback" if message else _TYPES.get(short, "traceback")
    if short in _PROGRAM:
        if by_type != "traceback":
            return by_type
        rows = tuple(row for row in _TABLE if row.name in ("arguments", "nan", "network", "missing_file"))
        rows = () if message or short in ("KeyError", "AttributeError", "NameError", "IndexError") else rows
    else:
        rows = _TABLE
    lower = text.lower()
    for row in rows:
        if row.name == "nan" and short not in _NAN_TYPES:
            continue
        if any(sign in lower for sign in row.signs) and re.search(row.pattern, text):
            return row.name
    return by_type


def words(line: str) -> str | None:
    """Return the class whose words occur in a line that is not an exception: memory, GPU, disk."""
    lower = line.lower()
    for row in _TABLE:
        if row.alone and any(sign in lower for sign in row.signs) and re.search(row.pattern, line):
            return row.name
    return None


def words_at(line: str) -> int | None:
    """Return where such words first occur in a long line."""
    lower = line.lower()
    for row in _TABLE:
        if row.alone and any(sign in lower for sign in row.signs):
            found = re.search(row.pattern, line)
            if found is not None:
                return found.start()
    return None


def of_shell(line: str) -> str:
    """Return the class of a message of the shell or of a command."""
    return classify(line)


def is_about_program(kind: str) -> bool:
    """Return whether an exception's type shows an error in the program, whatever is printed after it."""
    return kind in _PROGRAM


def rule_of(name: str) -> Rule:
    """Return what follows for a job of this class. Raises KeyError."""
    if name in (TIMEOUT.name, NO_OUTPUT.name, EXIT_CODE.name, LEFTOVERS.name, "traceback", "assertion"):
        return Rule.RETRIES
    return next(iter(row.rule for row in _TABLE if row.name == name), None) or _missing(name)


def _missing(name: str) -> Rule:
    raise KeyError(name)


ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\r\n]*(?:\x07|\x1b\\)?|[@-_])")
"""Terminal codes, each within one line."""


def clean_line(raw: bytes) -> str:
    """Return a line of terminal output as text: no escape sequences or control characters, at most 300 characters."""
    return clean_text(ESCAPES.sub("", raw[:65536].decode("utf-8", "replace")))


def clean_text(text: str) -> str:
    """Do the same for a decoded line without escape sequences."""
    text = "".join(c for c in text if c.isprintable() or c == "\t").strip()
    return text if len(text) <= 300 else text[:297] + "..."
