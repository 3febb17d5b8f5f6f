"""The live view on a terminal: it is drawn until the run is over or the user leaves, and takes keys meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.text import Text

from skill.common.errors import FailedError, UseError
from skill.runs.digest import Clock, Row
from skill.terminal import frame, matrix, pages, view
from skill.terminal.canvas import Canvas
from skill.terminal.errand import Errand, Kept
from skill.terminal.keyboard import Keyboard, keyboard_of
from skill.terminal.matrix import Matrix, Params
from skill.terminal.view import Board, Deed, Layer, Page, View

if TYPE_CHECKING:
    from skill.runs.watched import Followed

TICK = 0.25
"""Seconds between frames, and between looks for a new state file."""
_LOG_LINES = 2000
_NOTED = 15.0
"""Seconds for which a message stays."""
_LOG_EVERY, _ROWS_EVERY = 1.0, 5.0
"""Seconds between reads of a log, and of what a state leaves out, at least."""


class Hands(Protocol):
    """What keys of the view can do to a run. All may take long, and raise FailedError and UseError."""

    def log(self, job: str, lines: int) -> Sequence[str]:
        """Return the last lines of a job's log."""

    def cancel(self, job: str) -> str:
        """Cancel a job; returns what became of it, in words."""

    def retry(self, job: str) -> str:
        """Run a job again; returns what became of it, in words."""

    def params(self) -> Params:
        """Return what each job was given by its grid."""

    def rows(self) -> Sequence[Row]:
        """Return every job, where the state that is watched leaves some out."""


class Interactive:
    """One showing of a run. `hands`: what keys can do; `marks`, `clock`: see frame."""

    def __init__(
        self, watched: Followed, output: Console, hands: Hands, marks: frame.Marks, clock: Clock, *, as_matrix: bool
    ) -> None:
        self._watched, self._output, self._hands, self._marks, self._clock = watched, output, hands, marks, clock
        self._view = View(page=Page.MATRIX) if as_matrix else View()
        self._over = False
        self._note, self._note_until = "", 0.0
        self._keys = False
        self._rows = Kept(hands.rows, _ROWS_EVERY)
        self._params = Kept(hands.params, _ROWS_EVERY)
        self._log: Kept[Sequence[str]] | None = None
        self._deed: Errand[str] | None = None
        self._known: tuple[object, ...] = ()
        self._all: dict[str, Row] = {}
        self._shown: Sequence[Row] = ()
        self._matrices: Sequence[Matrix] | None = None

    def show(self, is_over: Callable[[], bool]) -> None:
        """Draw until the run is over; who reads a log or the help then leaves by a key. Raises KeyboardInterrupt where
        the user leaves, and SystemExit at SIGTERM. The terminal is as before whatever is raised; the last picture stays
        on it."""
        keyboard = keyboard_of(sys.stdin)
        self._keys = keyboard is not None
        canvas = Canvas(self._output)
        leaves: BaseException | None = None
        try:
            with _signals() as received, _taken(canvas, keyboard) as stop:
                while True:
                    self._over = is_over()
                    if self._over and not (self._keys and self._view.is_reading):
                        break
                    self._update()
                    canvas.draw(self.picture())
                    keys = self._read(keyboard, received)
                    if signal.SIGTSTP in received:
                        received.discard(signal.SIGTSTP)
                        stop()
                    for key in keys:
                        if self._press(key) == "redraw":
                            canvas.forget()
        except KeyboardInterrupt as error:
            leaves = error
        for line in self.last():
            self._output.print(line, no_wrap=True, crop=True)
        if leaves is not None:
            raise leaves

    def picture(self) -> list[Text]:
        """The lines of the screen."""
        content = pages.Content(
            self._shown, len(self._all), self._all, self._matrices, self._log_lines(),
            self._note if time.monotonic() < self._note_until else "", self._keys, self._over,
        )  # fmt: skip
        selected = view.current(self._view, self._board()) if self._view.layer is not Layer.LOG else self._view.selected
        return pages.page(
            self._view, self._scene(), content, selected, self._output.width, self._output.height, self._marks
        )  # fmt: skip

    def last(self) -> list[Text]:
        """What stays on the terminal: how the run stands."""
        if self._view.page is Page.MATRIX:
            self._update()
            return [
                *frame.head(self._scene(), self._output.width, few=True),
                *pages.matrix_lines(self._grid_at_once(), self._all, self._output.width, self._marks),
            ]
        return frame.frame(self._scene(), self._output.width, self._output.height - 1, self._marks)

    def _scene(self) -> frame.Scene:
        watched = self._watched
        return frame.Scene(watched.document, watched.digest, watched.alive, time.time(), watched.tail, self._clock)

    def _grid_at_once(self) -> Sequence[Matrix]:
        if self._matrices is None:
            with contextlib.suppress(FailedError, UseError, OSError):
                self._matrices = matrix.matrices(self._hands.params())
        return self._matrices or ()

    def _update(self) -> None:
        """Bring what is derived from the state up to date, where it has changed."""
        document = self._watched.document
        if document.get("overview"):
            self._rows.refresh(document["counts"])
        if self._view.page is Page.MATRIX:
            self._params.refresh(sum(document["counts"].values()))
        if self._log is not None:
            self._log.refresh(time.monotonic())
        known = (id(document), self._rows.value and id(self._rows.value), self._view.needle)
        if known != self._known:
            rows = {row["id"]: row for row in (*(self._rows.value or ()), *document["jobs"])}
            self._all, self._known = rows, known
            self._shown = view.matching(list(rows.values()), self._view.needle)
        if self._params.is_new:
            self._params.is_new = False
            self._matrices = matrix.matrices(self._params.value or {})
        if self._params.fault and self._matrices is None:
            self._matrices = ()
            self._say(self._params.fault)
        if self._deed is not None and self._deed.done:
            self._say(self._deed.fault or self._deed.result or "")
            self._deed = None

    def _board(self) -> Board:
        statuses = {name: row["status"] for name, row in self._all.items()}
        room = pages.room_of(self._scene(), self._output.width, self._output.height)
        return Board([row["id"] for row in self._shown], matrix.grid(self._matrices or ()), statuses, room)

    def _read(self, keyboard: Keyboard | None, received: set[int]) -> list[str]:
        """Wait for keys or the next frame. Raises KeyboardInterrupt and SystemExit for signals that came."""
        keys: list[str] = []
        if keyboard is None:
            time.sleep(TICK)
        else:
            try:
                keys = keyboard.read(TICK)
            except (EOFError, OSError):  # the terminal has gone
                raise KeyboardInterrupt from None
        if signal.SIGINT in received:
            raise KeyboardInterrupt
        ended = received & {signal.SIGTERM, signal.SIGHUP}
        if ended:
            raise SystemExit(128 + min(ended))
        return keys

    def _press(self, key: str) -> str:
        """Let a key do what it does. Returns what it asks of the caller. Raises KeyboardInterrupt."""
        self._note_until = 0.0
        self._update()
        before = self._view
        self._view, deed = view.press(before, key, self._board())
        if self._view.page is Page.JOBS and self._view.selected is None and self._shown:
            self._view = self._view._replace(selected=view.first(self._shown))
        if self._view.layer is Layer.LOG and before.layer is not Layer.LOG and self._view.selected is not None:
            job = self._view.selected
            self._log = Kept(lambda: self._hands.log(job, _LOG_LINES), _LOG_EVERY)
        elif self._view.layer is not Layer.LOG:
            self._log = None
        return "" if deed is None else self._do(deed)

    def _do(self, deed: Deed) -> str:
        if deed.verb == "leave":
            raise KeyboardInterrupt
        if deed.refusal:
            self._say(deed.refusal)
        elif deed.verb in ("cancel", "retry"):
            if self._deed is not None:
                self._say("wait: the request before has not been answered")
            else:
                ask = self._hands.cancel if deed.verb == "cancel" else self._hands.retry
                self._deed = Errand(lambda: ask(deed.job))
                self._say(f"{deed.verb} {deed.job}: requested")
        return deed.verb

    def _log_lines(self) -> Sequence[str] | None:
        if self._log is None:
            return None
        return [self._log.fault] if self._log.fault else self._log.value

    def _say(self, text: str) -> None:
        self._note, self._note_until = text, time.monotonic() + _NOTED


@contextlib.contextmanager
def _taken(canvas: Canvas, keyboard: Keyboard | None) -> Iterator[Callable[[], None]]:
    """Have screen and keyboard within the block. Gives a function that stops this process, as Ctrl-Z would."""

    def begin() -> None:
        canvas.begin()
        if keyboard is not None:
            keyboard.begin()

    def end() -> None:
        if keyboard is not None:
            keyboard.end()
        with contextlib.suppress(OSError):  # the terminal has gone
            canvas.end()

    def stop() -> None:
        end()
        os.kill(os.getpid(), signal.SIGSTOP)
        begin()

    try:
        begin()
        yield stop
    finally:
        end()


@contextlib.contextmanager
def _signals() -> Iterator[set[int]]:
    """Gives a set of the signals that have come, for a loop to look at: none cuts a frame in two. A second Ctrl-C
    before that is a KeyboardInterrupt at once. Signals that are ignored stay so."""
    received: set[int] = set()
    usual = {
        signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL,
        signal.SIGTSTP: signal.SIG_DFL,
    }  # fmt: skip

    def tell(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and number in received:
            raise KeyboardInterrupt
        received.add(number)

    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {one: signal.signal(one, tell) for one, as_usual in usual.items() if signal.getsignal(one) is as_usual}
    try:
        yield received
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
