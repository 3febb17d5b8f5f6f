"""Signs in a log that its job went on: steps, epochs, losses, words of an end that was reached. Pure.

Every pattern is bounded, so that no line takes longer than its length.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from queue_manager.core.progress_forms import ProgressReader

_MOST = 300
"""Characters of a line that are looked at."""
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_PROGRESS = re.compile(
    r"\b(?:step|iter|iteration|epoch|batch|round|num_updates|update)s?['\"]?\s{0,4}[=:#|]?\s{0,4}[\[(]?\s{0,4}\d"
    r"|\d/\d{1,9}\s{0,4}\[|\d%\||\b\d{1,9}/\d{1,9} \[[=>.]"
    rf"|(?:loss|acc|accuracy|ppl|perplexity|(?-i:[-_]error))['\"]?\s{{0,4}}[=:]\s{{0,4}}(?:{_NUMBER})(?![\w.])",
    re.IGNORECASE,
)
_SLURM = ("srun: ", "slurmstepd: ")
"""Slurm's own words, which call a part of a job a step."""
_COMPLETION = re.compile(
    r"\b(?:done|finished|completed|saved|succeeded|success|successfully|train_runtime)\b|\bcomplete[.!]?\s{0,9}$"
    r"|`max_(?:epochs|steps)=\d{1,9}` reached|\bskipp(?:ing|ed) (?:(?:the|this|a) )?(?:batch|step|sample|update)",
    re.IGNORECASE,
)
_SKIPS = re.compile(r"\bskipp(?:ing|ed)\b|\bignor(?:ing|ed)\b|\bretrying\b", re.IGNORECASE)
_NOT_COMPLETED = re.compile(r"\b(?:not|fail(?:ed|ure)?|error|exception|abort(?:ed)?|killed)\b", re.IGNORECASE)


def is_progress(line: str) -> bool:
    """Whether a line tells of a step, an epoch or a loss."""
    return _PROGRESS.search(line, 0, _MOST) is not None and not line.startswith(_SLURM)


def goes_on(line: str) -> bool:
    """Whether a line that tells of a fault says itself that the job goes on."""
    return _SKIPS.search(line[: _MOST + 200]) is not None


def progress(lines: Sequence[str], start: int) -> Iterator[int]:
    """The places of lines that tell of progress, from `start` on; what is quoted in a traceback is none."""
    for n in range(start, len(lines)):
        if not lines[n].startswith("    ") and is_progress(lines[n]):
            yield n


def completions(lines: Sequence[str], start: int) -> Iterator[int]:
    """The places of lines that tell that something was done."""
    for n in range(start, len(lines)):
        line = lines[n]
        if _COMPLETION.search(line, 0, _MOST) and not _NOT_COMPLETED.search(line, 0, _MOST):
            yield n


def nan_since(lines: Sequence[str], start: int) -> int | None:
    """Where the loss stopped to be a number, if it was none up to the end; None if it is one, or there is none."""
    reader, since = ProgressReader(), None
    for n in range(start, len(lines)):
        if "oss" not in lines[n] and "OSS" not in lines[n]:
            continue
        if not reader.take(lines[n]):
            continue
        loss = reader.progress.loss
        if loss is None or math.isfinite(loss):
            since = None
        elif since is None:
            since = n
    return since
