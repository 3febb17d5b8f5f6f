"""Keep track of the code that the jobs of a run use, in a thread of its own; a launch waits for it only a moment."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping

from queue_manager.adapters.code_identity import UnknownCodeError
from queue_manager.adapters.existing import OutputTest
from queue_manager.core import shell_paths
from queue_manager.core.boundary import CodeReading
from queue_manager.core.manifest import JobSpec
from queue_manager.core.model import QueueState
from queue_manager.remote import pushed_code

_log = logging.getLogger(__name__)
AT_LAUNCH = 0.25
"""Seconds that a launch waits for a look, if the last one was a while ago."""
AFTER_LAUNCH = 0.5
"""Seconds from a launch to the look that it asks for: the first moments are left to the job."""
BIRTH = 0.1
"""Seconds from the manager's begin to the first look."""
APART = 5.0
"""Seconds between two looks at least."""
SHARE = 50
"""A look that took long is made again only after so many times as long."""


class CodeWatch:
    """Looks at the code in `cwd` in a thread of its own. `wake` is called when there is an answer."""

    def __init__(
        self, state: QueueState, environment: Mapping[str, str], cwd: str, now: float, wake: Callable[[], None]
    ) -> None:
        self._state, self._environment, self._cwd, self._wake = state, environment, cwd, wake
        self._since = 0.0 if state.code is None else now
        self._due: float | None = now + BIRTH
        self._not_before = 0.0
        self._begun = now
        self._thread: threading.Thread | None = None
        self._answer: tuple[str | None, float] | None = None
        self._waited_for: threading.Thread | None = None
        self._name: str | None = None
        self._logged = ""
        self._is_output = OutputTest(cwd)

    def due(self) -> float | None:
        """When the next look is to begin (epoch seconds); None if none is wanted, or one is being made."""
        return None if self._thread is not None else self._due

    def at_launch(self, now: float) -> str | None:
        """Return the code that an attempt launched now uses; None where it is not known soon enough. The code is read
        again once the attempt has started: later edits do not count for it."""
        is_recent = now < self._not_before
        if self._thread is None and not is_recent:
            self._begin(now)
        if self._due is None:
            self._due = max(now + AFTER_LAUNCH, self._not_before)
        if self._thread is None and is_recent:
            return self._name if now - self._begun <= 2 * APART else None
        thread = self._thread
        if thread is not None and thread is not self._waited_for:  # others that are launched with it wait no more
            self._waited_for = thread
            thread.join(AT_LAUNCH)
        return None if self._answer is None else self._answer[0]

    def look(self, now: float) -> CodeReading | None:
        """Begin a look if one is due. Returns what the last one found, once."""
        found = None
        if self._thread is not None and self._answer is not None:
            self._thread = None
            (name, cost), self._answer = self._answer, None
            self._name, self._not_before = name, now + max(APART, SHARE * cost)
            found = CodeReading(name, self._since)
            self._since = self._begun
        if self._thread is None and self._due is not None and now >= self._due:
            self._begin(now)
        return found

    def at_end(self, now: float) -> CodeReading | None:
        """Return the code at the end of the run, where it was not read since the last launch; waits as a launch does.
        None where it was, or where it is not known soon enough."""
        if self._thread is None and self._due is not None:
            self._begin(now)
        if self._thread is not None:
            self._thread.join(AT_LAUNCH)
        return self.look(now)

    def _begin(self, now: float) -> None:
        self._due, self._begun = None, now
        thread = threading.Thread(target=self._serve, name="code", daemon=True)
        with contextlib.suppress(RuntimeError):  # no room for a thread: it stays unknown
            thread.start()
            self._thread = thread

    def _specs(self) -> list[JobSpec]:
        manifest = self._state.manifest
        return [shell_paths.expanded(manifest, job.spec, self._environment) for job in self._state.jobs]

    def _serve(self) -> None:
        begin = time.monotonic()
        name: str | None = None
        try:
            name = pushed_code.identify(self._cwd, self._is_output.of(self._specs))
        except UnknownCodeError as error:
            if self._logged != str(error):  # once, and not at every look
                self._logged = str(error)
                _log.warning("%s", error)
        finally:
            self._answer = name, time.monotonic() - begin
            self._wake()
