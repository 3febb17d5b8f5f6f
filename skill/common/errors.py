"""The two kinds of error that a verb raises. Their text is one message for the user."""

from __future__ import annotations

DONE, FAILED, USE, PERSON, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes: done, failed, wrong use, finished with jobs that need a person, the view was interrupted by Ctrl-C."""
PROBLEM, TIMEOUT = 4, 124
"""Exit codes of waiting for a run that goes on: there is a new problem, the time is over."""


class UseError(Exception):
    """The request cannot be carried out as given; the text says what to do instead. Exit code 2."""


class FailedError(Exception):
    """The request was valid but failed; the text says why. Exit code 1."""
