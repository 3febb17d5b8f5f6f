"""The live view on a terminal: the terminal is left as it was, whatever ends the view, and keys do what they say."""

from __future__ import annotations

import io
import os
import pty
import signal
import sys
import termios
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from skill.common.errors import FailedError, UseError
from skill.runs.digest import Row, clock
from skill.runs.directory import Run
from skill.runs.watched import Watched
from skill.terminal import frame, interactive, live
from skill.terminal.interactive import Interactive
from skill.terminal.safe_console import SafeConsole
from tests.skill.story import Story, job, manifest

LEFT = "\x1b[?25h\x1b[?1049l"
"""The cursor is shown, and the first screen is back."""
TAKEN = "\x1b[?1049h"
JOBS = [job(f"s{n}", params={"seed": str(n)}) for n in range(3)]


class Hands:
    """What keys did to the run."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.holds = threading.Event()
        self.holds.set()
        self.every: Sequence[Row] | None = None
        self.read: Callable[[str, int], Sequence[str]] = self._read

    def log(self, job: str, lines: int) -> Sequence[str]:
        return self.read(job, lines)

    def _read(self, job: str, lines: int) -> Sequence[str]:  # noqa: ARG002
        self.holds.wait(60)
        return [f"log of {job}"]

    def cancel(self, job: str) -> str:
        self.done.append(f"cancel {job}")
        return "cancelled: 1 job"

    def retry(self, job: str) -> str:
        self.done.append(f"retry {job}")
        raise UseError(f"nothing to retry: {job} is running")

    def params(self) -> Any:
        return {"main": [(one.id, one.params) for one in JOBS]}

    def rows(self) -> Sequence[Row]:
        assert self.every is not None, "the state has every job"
        return self.every


class Screen:
    """A view on a terminal whose keys are typed by a test, frame by frame."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("TERM", "xterm-256color")  # a dumb one has no second screen
        monkeypatch.setattr(interactive, "TICK", 0.001)
        self._fd, self.slave = pty.openpty()
        stdin = os.fdopen(self.slave, closefd=False)
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(os, "tcgetpgrp", lambda _fd: os.getpgrp())  # it is no terminal of ours
        self.settings = termios.tcgetattr(self.slave)
        self.hands = Hands()
        self.text = io.StringIO()
        story = Story(manifest(*JOBS), tmp_path).start("s0")
        self.watched = Watched(Run("demo", story.paths), story.document())
        console = Console(file=self.text, force_terminal=True, width=100, height=30)
        self.view = Interactive(self.watched, console, self.hands, frame.UNICODE, clock, as_matrix=False)

    def show(self, steps: Iterator[object]) -> None:
        """Show it until `steps` are at an end: each is taken before a frame, and bytes are typed."""

        def is_over() -> bool:
            step = next(steps, StopIteration)
            if isinstance(step, bytes):
                os.write(self._fd, step)
            return step is StopIteration

        self.view.show(is_over)

    def shown(self) -> str:
        return "\n".join(line.plain for line in self.view.picture())

    def until(self, holds: Callable[[], bool]) -> Iterator[object]:
        """Frames until it holds."""
        for _ in range(100_000):
            if holds():
                return
            yield None
        raise AssertionError(self.shown())

    def is_left(self) -> bool:
        """Whether the terminal is as it was."""
        before, _, _ = self.text.getvalue().rpartition(LEFT)
        return before.startswith(TAKEN) and LEFT not in before and termios.tcgetattr(self.slave) == self.settings


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Screen]:
    made = Screen(monkeypatch, tmp_path)
    yield made
    made.hands.holds.set()
    os.close(made._fd)
    os.close(made.slave)


def test_it_ends_with_the_run_and_its_last_picture_stays(screen: Screen) -> None:
    screen.show(iter([None, None]))
    assert screen.is_left()
    last = screen.text.getvalue().rpartition(LEFT)[2]
    assert "0 of 3 jobs completed" in last
    assert "q leave" not in last


def test_ctrl_c_while_a_frame_is_drawn_leaves_the_terminal_whole(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    real = frame.frame

    def interrupted(*given: Any, **options: Any) -> Any:
        drawn.append(1)
        if len(drawn) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*given, **options)

    monkeypatch.setattr("skill.terminal.pages.frame", interrupted)
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP)]
    with pytest.raises(KeyboardInterrupt):
        screen.show(iter([None] * 5))
    assert len(drawn) == 1
    assert screen.is_left()
    assert "0 of 3 jobs completed" in screen.text.getvalue().rpartition(LEFT)[2]
    assert [
        signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP)
    ] == before  # fmt: skip


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_to_end_leaves_the_terminal_whole(screen: Screen, number: int, code: int) -> None:
    def steps() -> Iterator[object]:
        yield None
        os.kill(os.getpid(), number)
        yield from [None] * 5
        raise AssertionError("it goes on")

    with pytest.raises(SystemExit) as raised:
        screen.show(steps())
    assert raised.value.code == code
    assert screen.is_left()


def test_a_fault_of_ours_leaves_the_terminal_whole(screen: Screen) -> None:
    def steps() -> Iterator[object]:
        yield None
        raise RuntimeError("a fault")

    with pytest.raises(RuntimeError):
        screen.show(steps())
    assert screen.is_left()


def test_while_it_shows_keys_are_neither_echoed_nor_held_until_enter(screen: Screen) -> None:
    def steps() -> Iterator[object]:
        yield None
        now = termios.tcgetattr(screen.slave)
        assert not now[3] & (termios.ICANON | termios.ECHO)
        assert now[3] & termios.ISIG, "Ctrl-C is still a signal"
        yield b"q"
        yield from [None] * 1000
        raise AssertionError("it goes on")

    with pytest.raises(KeyboardInterrupt):
        screen.show(steps())
    assert screen.is_left()


def test_a_job_is_cancelled_after_a_yes_and_what_became_of_it_is_shown(screen: Screen) -> None:
    def steps() -> Iterator[object]:
        yield None
        yield b"\x1b[B"
        yield from screen.until(lambda: "> s0" in screen.shown())
        yield b"\x1b[B"
        yield from screen.until(lambda: "> s1" in screen.shown())
        yield b"k"
        yield from screen.until(lambda: "cancel s1? y: yes" in screen.shown())
        assert screen.hands.done == []
        yield b"y"
        yield from screen.until(lambda: "cancelled: 1 job" in screen.shown())
        yield b"r"
        yield from screen.until(lambda: "nothing to retry: s1 is running" in screen.shown())

    screen.show(steps())
    assert screen.hands.done == ["cancel s1", "retry s1"]


def test_a_log_that_takes_long_holds_up_no_key(screen: Screen) -> None:
    screen.hands.holds.clear()

    def steps() -> Iterator[object]:
        yield None
        yield b"\t"
        yield from screen.until(lambda: "> s0" in screen.shown())
        yield b"\r"
        yield from screen.until(lambda: "reading the log of s0" in screen.shown())
        yield b"q"
        yield from screen.until(lambda: "> s0" in screen.shown())
        screen.hands.holds.set()
        yield b"\r"
        yield from screen.until(lambda: screen.shown().startswith("log of s0"))

        yield b"q"
        yield from screen.until(lambda: "> s0" in screen.shown())

    screen.show(steps())


def test_while_a_log_is_read_the_end_of_the_run_takes_nothing_away(screen: Screen) -> None:
    ended: list[str] = []
    typed = iter([b"\t", None, b"\r"])

    def is_over() -> bool:
        key = next(typed, None)
        if key is not None:
            os.write(screen._fd, key)
        if "the run has ended; log of s0" in screen.shown():
            ended.append(screen.shown())
            os.write(screen._fd, b"q")
        return screen.view._view.is_reading or bool(ended)

    screen.view.show(is_over)
    assert ended
    assert screen.is_left()


def test_the_matrix_is_read_when_it_is_shown(screen: Screen) -> None:
    def steps() -> Iterator[object]:
        yield None
        yield b"m"
        yield from screen.until(lambda: "main: seed" in screen.shown())
        assert "[▶] ·  ·" in screen.shown()
        yield b"\x1b[C"
        yield from screen.until(lambda: "> s1  pending" in screen.shown())

    screen.show(steps())
    assert "main: seed" in screen.text.getvalue().rpartition(LEFT)[2], "it stays"


def test_jobs_that_a_short_state_leaves_out_are_read_beside(screen: Screen) -> None:
    document = screen.watched.document
    screen.hands.every = rows = document["jobs"]
    screen.watched.document = {**document, "jobs": rows[:1], "overview": True, "jobs_total": 3}

    def steps() -> Iterator[object]:
        yield None
        yield b"\t"
        yield from screen.until(lambda: "3 jobs" in screen.shown())

    screen.show(steps())


def test_only_lines_that_change_are_drawn_again(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1767261700.0)
    sizes: list[int] = []

    def steps() -> Iterator[object]:
        for _ in range(5):
            yield None
            sizes.append(len(screen.text.getvalue()))

    screen.show(steps())
    assert len(set(sizes[1:])) == 1, sizes
    assert sizes[0] > 0


def test_without_a_terminal_the_matrix_is_printed_at_the_end(screen: Screen, tmp_path: Path) -> None:
    story = Story(manifest(*JOBS), tmp_path).complete("s0", "s1", "s2")
    story.write("finished")
    watched = Watched(Run("demo", story.paths), story.document("finished"))
    text = io.StringIO()
    output = SafeConsole(as_typed=str, file=text, width=1000, highlight=False, markup=False)
    assert live.follow(watched, output, screen.hands, fresh=False, as_matrix=True) == 0
    assert text.getvalue().endswith("main: seed\n  0  1  2\n  ✓  ✓  ✓\n")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_where_characters_are_missing_a_line_is_as_wide_as_before(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding, errors="backslashreplace")
    output = SafeConsole(as_typed=str, file=file, force_terminal=True, width=80, highlight=False, markup=False)
    output.print("训练 a × b … é – 🎉", no_wrap=True)
    file.flush()
    shown = raw.getvalue().decode(encoding).rstrip("\n")
    assert shown == {"ascii": "???? a x b ~ ? - ??", "latin-1": "???? a × b ~ é - ??"}[encoding]


def test_a_log_that_cannot_be_reached_says_why_and_the_view_goes_on(screen: Screen) -> None:
    def unreachable(job: str, lines: int) -> Sequence[str]:  # noqa: ARG001
        raise FailedError("gpu-a is unreachable: Connection refused")

    screen.hands.read = unreachable

    def steps() -> Iterator[object]:
        yield None
        yield b"\t"
        yield from screen.until(lambda: "> s0" in screen.shown())
        yield b"\r"
        yield from screen.until(lambda: screen.shown().startswith("gpu-a is unreachable: Connection refused"))
        yield b"q"
        yield from screen.until(lambda: "> s0" in screen.shown())

    screen.show(steps())
    assert screen.is_left()
