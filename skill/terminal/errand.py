"""Work beside the view: it is drawn, and takes keys, however long a host or a disk needs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from skill.common.ctrl_c import ctrl_c_held
from skill.common.errors import FailedError, UseError

T = TypeVar("T")
_COST = 5
"""What was read is read again only after so many times the time that reading it took."""


class Errand(Generic[T]):
    """A call that runs in a thread of its own. `fault`: what the user or the world did wrong, in words."""

    def __init__(self, do: Callable[[], T]) -> None:
        self._do = do
        self._result: list[T] = []
        self._error: BaseException | None = None
        self.fault = ""
        self._thread = threading.Thread(target=self._run, daemon=True)
        with ctrl_c_held():  # threads inherit that: Ctrl-C is for the one that draws
            self._thread.start()

    def _run(self) -> None:
        try:
            self._result = [self._do()]
        except (FailedError, UseError, OSError) as error:
            self.fault = str(error)
        except BaseException as error:  # raised where the result is asked for
            self._error = error

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return not self._thread.is_alive()

    @property
    def result(self) -> T | None:
        """What it returned; None while it runs, or where it failed."""
        if self._error is not None:
            raise self._error
        return self._result[0] if self.done and self._result else None


class Kept(Generic[T]):
    """What a call returned last; it is called again where that is asked for and due. `fault`: as Errand has it."""

    def __init__(self, do: Callable[[], T], every: float) -> None:
        self._do, self._every = do, every
        self._errand: Errand[T] | None = None
        self._begun = self._not_before = 0.0
        self._why: object = None
        self.value: T | None = None
        self.fault = ""
        self.is_new = False

    def refresh(self, why: object) -> None:
        """Take what has been read; read again where `why` is another one than when it was read."""
        if self._errand is not None and self._errand.done:
            self.fault, found = self._errand.fault, self._errand.result
            if not self.fault:
                self.value, self.is_new = found, True
            now = time.monotonic()
            self._not_before = now + max(self._every, _COST * (now - self._begun))
            self._errand = None
        if self._errand is None and why != self._why and time.monotonic() >= self._not_before:
            self._why, self._begun = why, time.monotonic()
            self._errand = Errand(self._do)
