"""What the lines of a log look like that matter to `diagnosis`, and those that are only footers. Pure.

Every pattern is anchored or bounded, so that no line takes longer than its length.
"""

from __future__ import annotations

import re

HEADER = re.compile(r"^(.{0,120}?)(Original |Exception Group )?Traceback \(most recent call last\):?\s*(.?)")
BAR = re.compile(r"\d%\||it/s|s/it")
"""A progress bar, which has no end of line before what comes next."""
TYPE = re.compile(r"^([A-Za-z_][\w.]{0,200})(?:: |:?\s*$)")
BARE = re.compile(
    r"^((?:\[[\w ]{0,20}rank ?\d{1,5}\]:? ?|[ |]{0,40}\| |\([^()]{0,60}pid=\d+[^()]{0,40}\) )?)"
    r"([A-Za-z_][\w.]{0,200}(?:Error|Exception|Interrupt|Failure))(?:: |:?\s*$)"
)
INDENTED = re.compile(
    r"^\s{1,60}(?:[|+]|what\(\): |rank {1,8}:|traceback : Signal|exitcode|Traceback |usage: "
    r"|\d{1,3}%\|.{0,120}Traceback |\d{1,9} [A-Z]|\")"
)
"""Of the lines that are indented, as frames are, those that may matter all the same."""
MAYBE_EXCEPTION = re.compile(r"xception|rror|nterrupt|ailure")
LOG_LEVELS = frozenset(("INFO", "WARNING", "WARN", "ERROR", "DEBUG", "CRITICAL", "FATAL", "TRACE", "NOTE"))
IGNORED = re.compile(
    r"Exception ignored in|Error in atexit|--- Logging error ---|exception was never retrieved"
    r"|Error in sys\.excepthook"
)
CLOCK = re.compile(r"\d+(?=[:.,]\d)|(?<=[:.,])\d+")
"""Digits of a time or a line number, which differ from line to line; those of a rank or a pid do not."""

WRAPPERS = frozenset(
    (
        "ChildFailedError", "CalledProcessError", "ProcessRaisedException", "ProcessExitedException", "RayTaskError",
        "SystemExit", "SignalException", "BrokenProcessPool", "KeyboardInterrupt", "PapermillExecutionError",
        "CellExecutionError", "TerminatedWorkerError", "RayActorError", "ActorDiedError", "RemoteTraceback",
    )
)  # fmt: skip
"""Exceptions that only tell of another process's end."""

CHAINED = re.compile(
    r"^(.{0,120}?)(?:The above exception was the (direct cause) of the following"
    r"|During handling of the above exception)"
)
CRASH = re.compile(
    r"terminate called|Assertion [`']|Check failed: |^Fatal Python error: "
    r"|Segmentation fault|Bus error|Unexpected (?:bus error|segmentation fault) encountered"
    r"|Illegal instruction|Floating point exception|free\(\): |double free or corruption|malloc\(\): "
    r"|malloc_consolidate"
    r"|munmap_chunk\(\)|corrupted size vs|stack smashing detected|^thread '[^']{1,80}' panicked at|^panic: "
    r"|^Exception in thread \"|^ERROR: LoadError: "
)
DEVICE_ASSERT = re.compile(r"block: \[\d+,\d+,\d+\].{0,300}Assertion ")
SEGFAULT = re.compile(
    r"[Ss]egmentation fault|[Bb]us error|Illegal instruction|Floating point exception|free\(\): |double free"
    r"|malloc|munmap_chunk"
    r"|corrupted size|stack smashing"
)
NCCL_LOG = re.compile(r"Watchdog caught collective operation timeout|NCCL WARN .{0,200}(?:error|fail)", re.IGNORECASE)
USAGE = re.compile(r"^\s*usage: ", re.IGNORECASE)
USAGE_ERROR = re.compile(
    r"^(?:[\w./+-]{1,200}(?: [\w-]{1,40}){0,4}: error: |Error: |ERROR: |error: )|^[|│] (?=\S)(?!usage)", re.IGNORECASE
)
FLAGS = re.compile(
    r"Flags parsing error: |^Could not override '|^Could not consume arg: |^ERROR: Could not consume arg: "
)
SHELL = re.compile(
    r"^(?:(?:\S{0,200}(?:bash|sh|zsh|dash|ksh)|/\S{1,200}|\S{1,80}\.sh): (?:line )?(?:\d+: )?(?!\s*\d+ [A-Z])"
    r".{0,500}(?:command not found|not found|No such file or directory|Permission denied|Is a directory"
    r"|cannot execute.{0,60}|bad interpreter.{0,80}|syntax error.{0,120}|unbound variable"
    r"|unexpected (?:EOF|end of file)"
    r".{0,80}|Argument list too long|Exec format error|bad substitution|ambiguous redirect)\s*$"
    r"|[\w./+-]{1,200}: can't open file .{1,400}|\S{0,200}python[\d.]{0,6}: (?:No module named"
    r"|Error while finding).{1,200}"
    r"|(?:env|cat|cp|mv|ls|tar|cd|source|git|conda|mamba|rsync|chmod|mkdir|\./\S{1,100}): .{0,500}"
    r"(?:No such file or directory|Permission denied|command not found)\s*$"
    r"|curl: \(\d{1,3}\) .{1,400}|wget: .{1,400}|wavequeue: .{1,400})"
)
CONDA = re.compile(
    r"^(?:EnvironmentNameNotFound|EnvironmentLocationNotFound|CondaError|CommandNotFoundError|PackagesNotFoundError"
    r"|CondaHTTPError|NoWritableEnvsDirError|ResolvePackageNotFound|UnsatisfiableError|LibMambaUnsatisfiableError"
    r"|PackageNotFoundError|CondaValueError|CondaSSLError|NotWritableError): "
)
BASH_SIGNAL = re.compile(
    r"(?:^|: line \d{1,7}: +\d{1,9} |^\s{0,8})(Killed|Terminated|Aborted|Segmentation fault|Bus error"
    r"|Illegal instruction"
    r"|Floating point exception)\b(?: +\(core dumped\))?(?:\s{2,}.{0,400})?$"
)
LAUNCHER = re.compile(
    r"traceback : Signal (\d{1,2}) |exitcode\s{0,4}: (-\d{1,2}) |\(exitcode: (-\d{1,2})\)"
    r"|exits with return code = (-\d{1,2})|exited on signal (\d{1,2}) \("
    r"|terminated with signal (SIGKILL|SIGSEGV|SIGBUS|SIGABRT|SIGTERM)"
    r"|(?:is )?killed by signal: (Killed|Segmentation fault|Bus error|Terminated|Aborted)"
)
ROOT = re.compile(r"^Root Cause \(first observed failure\)|^Root Cause:")
RANK = re.compile(r"\[(?:rank|default|trainer)(\d{1,6})\]")
ROOT_RANK = re.compile(r"^\s{0,8}rank {1,8}: (\d{1,6}) ")
ERROR = re.compile(
    r"^(?:error|fatal|fatal error|panic)\b[ :]|^\S{0,80}: (?:error|fatal): |^make(?:\[\d+\])?: \*\*\* "
    r"|\b(?:ERROR|CRITICAL|FATAL)\b"
    r"|^\[error\]|^Error in ",
    re.IGNORECASE,
)
METRIC = re.compile(r"rrors?(?:[ _-]rate)?['\"]?\s{0,4}[:=]\s{0,4}[-+]?\d{0,9}(?:\.\d|\d%|\d[eE]-|\d\s{0,4}$)")
"""A number that is called an error."""
PYTEST = re.compile(r"^FAILED \S{1,400}::\S{1,400} - (?:([\w.]{1,100})(?:: |$)|assert )")
"""The last words of pytest about a test."""
ERROR_CASE = re.compile(
    r"\b(?:ERROR|CRITICAL|FATAL)\b|^[Ee]rror\b|^[Ff]atal\b|rror: |atal: |^make|^Error in |^\[error\]"
)
NOISE = re.compile(
    r"^\s|^[=\-*#~_.+|╭╰│─]{3,}|^[│╭╰]|^wandb: |^frame #|^\[(?:W|I|E|rank\d{1,5})\S{0,8}[\s\]:]|^(?:W|I|E)\d{4} "
    r"|HYDRA_FULL_ERROR|TORCH_USE_CUDA_DSA|CUDA_LAUNCH_BLOCKING|CUDA kernel errors might|Device-side assertion"
    r"|^Exception raised from |^Exception ignored in|^Failures:|^Root Cause|^\[\d{1,5}\]:$|FAILED$"
    r"|^For more information"
    r"|closing signal SIG|death signal, shutting down|torch\.distributed\.elastic|Sending process \d"
    r"|Killing subprocess"
    r"|Warning: |warnings\.warn|resource_tracker|^Execution halted|%\||\bit/s|s/it\b|^Pass --help|^Try '|^note: "
    r"|^During handling of|^The above exception|^Traceback |core dumped|^srun: (?:Job|launch)"
    r"|^slurmstepd: error: \*\*\*"
    r"|^Current thread 0x|^Thread 0x|^Extension modules|^Search for `cudaError|^run `?python -m|^Stack trace below"
    r"|^NOTE: Redirects are currently|^make(?:\[\d+\])?: (?:Leaving|Entering)|^(?:Aborted|Terminated|Killed)\s*$"
)
NUMBER = re.compile(r"\d+")
WARNS = re.compile(r"\[W \d|W\d{4} \d|\S{0,40} ?(?:\[?WARN(?:ING)?\b)")
"""A line that its logger calls a warning."""
FOOTER_WORDS = ("ERROR conda.cli",)
CANDIDATE = re.compile(
    r"rror|xception|ailure|racek|raceback|nterrupt|ssertion|heck failed|atal|FATAL|CRITICAL|ault"
    r"|terminate|what\(\)|illed"
    r"|borted|erminated|sage: |not found|o such file|denied|an't open|o module|unbound|syntax|unexpected|interpreter"
    r"|execute|override|consume arg|panic|free\(\)|alloc|munmap|corrupt|smashing|ROR|atchdog|NCCL WARN|exitcode"
    r"|return code|FAILED |NotFound|curl: |wget: "
    r"|ignal|Root Cause|rank |emory|MEMORY|RESOURCE_EXHAUSTED|OOM|oom|Xid|ECC|fallen off|lost|space left"
    r"|quota|ENOSPC|llegal instr|wavequeue: |\*\*\* |substitution|redirect|too long|format"
)
"""What every line that matters has some of: one quick look for all of the slower ones."""
SIGNAL_CLASS = {
    "9": "killed", "SIGKILL": "killed", "Killed": "killed", "15": "killed", "SIGTERM": "killed", "Terminated": "killed",
    "11": "segfault", "SIGSEGV": "segfault", "Segmentation fault": "segfault", "7": "segfault", "SIGBUS": "segfault",
    "Bus error": "segfault", "4": "segfault", "Illegal instruction": "segfault", "8": "segfault",
    "Floating point exception": "segfault",
}  # fmt: skip
"""The class of a process that a signal ended; all others (an abort) are `traceback`."""
