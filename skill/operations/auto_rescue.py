"""The rule of `watch --after`: move the jobs of a host that has been silent for long enough."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from queue_manager.core.times import duration
from skill.common.ctrl_c import ctrl_c_held
from skill.common.errors import FailedError, UseError
from skill.operations import rescue_text
from skill.planning.rescue_plan import Silence

if TYPE_CHECKING:
    from skill.runs.watched import Followed

_EVERY = 2.0
"""Seconds between checks of what watch knows of the hosts."""
_AGAIN = 60.0
"""Seconds after which a failed rescue is tried again."""


class Rule:
    """Give up each host that has not been reached for `after` seconds while another host of the run has.

    Runs in its own thread until `close` is called or the process ends.
    """

    def __init__(self, watched: Followed, after: float, say: Callable[[str], None]) -> None:
        self._watched, self._after, self._say = watched, after, say
        self._stop = threading.Event()
        self._not_before: dict[str, float] = {}
        self._reported: dict[str, str] = {}
        with ctrl_c_held():  # threads inherit the signal mask: only the thread that draws gets Ctrl-C
            threading.Thread(target=self._follow, daemon=True).start()

    def close(self) -> None:
        """Stop the rule: no further host is given up."""
        self._stop.set()

    def _follow(self) -> None:
        silence = Silence()
        while not self._stop.wait(min(_EVERY, self._after)):
            now = time.monotonic()
            silence = silence.next(self._watched.document["meta"]["hosts"], now)
            for name in silence.due(self._after):
                if now >= self._not_before.get(name, now):
                    self._rescue(name)

    def _rescue(self, name: str) -> None:
        from skill.operations import rescue

        run = self._watched.run
        self._not_before[name] = time.monotonic() + _AGAIN
        self._watched.busy = True
        try:
            made, done = rescue.move(run, name, (), None, lambda _made: None, lambda _text: None)
        except (UseError, FailedError, OSError) as error:
            text = f"{name} has been unreachable for {duration(self._after)} but is not given up: {error}"
            if self._reported.get(name) != text:
                self._reported[name] = text
                self._say(text)
            return
        finally:
            self._watched.busy = False
        if made is not None:
            self._say(f"{name} has been unreachable for {duration(self._after)}")
        for line in (*rescue_text.after(run.id, name, made, done), *rescue_text.faults(run.id, name, done)):
            self._say(line.strip())
