"""The two kinds of error that a verb raises. Their text is one message for the person who typed it."""

from __future__ import annotations

DONE, FAILED, USE, PERSON, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes: done, failed, wrong use, finished with jobs that need a person, the view was interrupted by Ctrl-C."""
PROBLEM, TIMEOUT = 4, 124
"""Exit codes of waiting for a run that goes on: there is a new problem, the time is over."""


class UseError(Exception):
    """Asked in a way that cannot be done; says what to do instead. Exit code 2."""


class FailedError(Exception):
    """Asked rightly, and the world did not allow it; says why. Exit code 1."""
