"""Ends what takes too long in the main thread, such as a regular expression that tries more and more on some line: it
holds all threads of its process meanwhile, and lets none but a signal in."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType


class TooLongError(Exception):
    """Something took more CPU time than it may."""


def within(seconds: float, work: Callable[[], object]) -> None:
    """Do something for so many seconds of CPU time at most. In another thread than the main one nothing ends it.

    Raises TooLongError, and leaves then whatever was half done.
    """
    if threading.current_thread() is not threading.main_thread():
        work()
        return
    before = signal.signal(signal.SIGVTALRM, _end)
    try:
        try:
            signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
            work()
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
    finally:
        signal.signal(signal.SIGVTALRM, before)


def _end(_number: int, _frame: FrameType | None) -> None:
    raise TooLongError
