"""Sends alerts to one recipient, in a thread of its own: what takes long there, or never answers, keeps no loop."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from queue_manager.core.notify_messages import Sending
from queue_manager.core.notify_services import Answer

FIRST_WAIT, LAST_WAIT = 5.0, 300.0
"""Seconds until the next try after a first failure, and at most; each is twice the one before."""
RECHECK = 60.0
"""Seconds until one is tried again who takes nothing: the URL, or a variable in .env, may be another one by then."""
HURRY = 2.0
"""Seconds between tries while the run ends."""
SAY_AFTER = 3
"""Failures in a row after which a condition is shown."""
_TOGETHER, _AT_ONCE = 3, 200
"""Above so many waiting alerts they are sent as one message, of at most so many."""

Deliver = Callable[[Sequence[Sending]], Answer]
Report = Callable[[Sequence[Sending], float], None]


class Channel:
    """One recipient. `deliver` tries once; `report` is called with what has been sent, or given up, and when (epoch
    seconds); `name` says in words what it is; after so many `tries` a message is given up, None: never. The thread
    begins with the first alert, and ends with the process."""

    def __init__(self, name: str, deliver: Deliver, report: Report, tries: int | None = None) -> None:
        self.name = name
        self.fault: str | None = None
        """Why alerts do not arrive, in words, once a person should know."""
        self._deliver, self._report, self._tries = deliver, report, tries
        self._waiting: deque[Sending] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._hurry = False
        self._why = "no answer yet"
        self._refused = False
        """Whether the last try found that nothing arrives there."""

    def put(self, sending: Iterable[Sending]) -> None:
        """Have alerts sent, in this order."""
        with self._changed:
            self._waiting.extend(sending)
            if self._waiting and self._thread is None:
                self._thread = threading.Thread(target=self._serve, name=f"notify {self.name}", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def finish(self, until: float, goes_on: Callable[[], bool]) -> None:
        """Wait until all has been sent, or refused, at most until then (monotonic seconds) and while `goes_on`; how
        many alerts were not sent is in `fault`."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            while self._waiting and not self._refused and goes_on():
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(min(left, 0.5))
            if self._waiting:
                count = f"{len(self._waiting)} alert{'' if len(self._waiting) == 1 else 's'}"
                self.fault = f"{self.name} has not got {count} by the end of the run: {self._why}"

    def _serve(self) -> None:
        failures = 0
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                count = 1 if len(self._waiting) <= _TOGETHER else min(len(self._waiting), _AT_ONCE)
                batch = [self._waiting[n] for n in range(count)]
            answer = self._deliver(batch)
            failures = failures + 1 if answer.later else 0
            if failures == self._tries:
                answer, failures = Answer(answer.why), 0
            wait = RECHECK if answer.lasting else 0.0
            if answer.later:
                wait = max(answer.wait, min(LAST_WAIT, FIRST_WAIT * 2 ** (failures - 1)))
            self._note(answer, failures)
            with self._changed:
                self._refused = answer.lasting
                if not wait:
                    for _ in batch:
                        self._waiting.popleft()
            if not wait:
                self._report(batch, time.time())
            with self._changed:
                self._changed.notify_all()
                self._pause(wait)

    def _note(self, answer: Answer, failures: int) -> None:
        before = self.fault
        self._why = answer.why or self._why
        if answer.why is None:
            self.fault = None
        elif answer.lasting:
            self.fault = f"{self.name} takes no alerts: {answer.why}"
        elif not answer.later:
            self.fault = f"{self.name} did not take an alert: {answer.why}"
        elif failures >= SAY_AFTER:
            self.fault = f"{self.name} cannot be reached: {answer.why}; its alerts wait, and it is tried again"
        if self.fault != before:
            self._report([], time.time())

    def _pause(self, seconds: float) -> None:
        """Wait before the next try; while the run ends, no longer than HURRY."""
        begun = time.monotonic()
        while (left := (min(seconds, HURRY) if self._hurry else seconds) - (time.monotonic() - begun)) > 0:
            self._changed.wait(left)
