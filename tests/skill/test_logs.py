"""Logs made plain, cut to their last lines, and followed over attempts."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_manager.adapters import plain_log
from skill.common.errors import FailedError, UseError
from skill.runs import logs
from skill.runs.directory import Run
from tests.skill.story import RUN_ID, Story, job, manifest

CASES = Path(__file__).resolve().parents[1] / "data" / "plain_logs"


@pytest.mark.parametrize("path", sorted(CASES.glob("*.json")), ids=lambda path: path.stem)
def test_terminal_output_is_made_plain(path: Path) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))
    assert logs.plain(case["raw"].encode()) == case["plain"]


BITS = st.sampled_from(["a", "bc", "é", "\n", "\r", "\r\n", "\x1b[31m", "\x1b[0m", "\x1b]0;title\x07", "\b", "\t", " "])


@given(st.lists(BITS, max_size=40), st.lists(st.integers(0, 100), max_size=6))
def test_output_that_comes_in_pieces_reads_the_same(bits: list[str], cuts: list[int]) -> None:
    data = "".join(bits).encode()
    cleaner, read = logs.Plain(), ""
    places = sorted(min(cut, len(data)) for cut in cuts)
    for begin, end in zip([0, *places], [*places, len(data)], strict=True):
        read += cleaner.feed(data[begin:end])
    assert read + cleaner.end() == logs.plain(data)


@given(st.binary(max_size=300))
def test_plain_text_holds_no_control_character(data: bytes) -> None:
    assert all(char in "\n\t" or char >= " " for char in logs.plain(data))


def test_a_progress_bar_of_days_does_not_fill_the_memory() -> None:
    cleaner = logs.Plain()
    for n in range(300):
        cleaner.feed(b"step %d " % n + b"x" * 10_000 + b"\r")
    assert len(cleaner._rest) < 3_000_000
    assert cleaner.end().startswith("step 299 ")


@given(st.lists(st.sampled_from(["a", "bb\r", "", "long " * 9]), max_size=30), st.booleans(), st.integers(0, 40))
def test_the_last_lines_are_those_of_the_whole(lines: list[str], ends: bool, count: int) -> None:
    text = "\n".join(lines) + ("\n" if ends and lines else "")
    parts = text.encode().split(b"\n")
    kept = [line + b"\n" for line in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
    expected = b"".join(kept[-count:] if count else [])
    # Blocks far smaller than the file, so that lines are cut by their ends.
    with tempfile.NamedTemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "_BLOCK", 16)
        path = Path(file.name)
        path.write_bytes(text.encode())
        assert logs.tail(path, count) == expected


def test_a_log_without_an_end_of_line_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_BLOCK", 100)
    monkeypatch.setattr(logs, "_MOST", 1000)
    (tmp_path / "log").write_bytes(b"step\r" * 10_000)
    assert len(logs.tail(tmp_path / "log", 5)) < 2000


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (b"one\ntwo\n", "two"),
        (b"one\n\n  \n", "one"),
        (b"one\n 10%\r 20%\r", "20%"),
        (b"", ""),
        (b"x\n" + b"y" * 9000, "y" * 4096),
    ],
)
def test_the_last_line_that_says_something(tmp_path: Path, raw: bytes, line: str) -> None:
    (tmp_path / "log").write_bytes(raw)
    assert logs.last_line(tmp_path / "log") == line


def test_no_log_has_no_last_line(tmp_path: Path) -> None:
    assert logs.last_line(tmp_path / "log") == ""


@pytest.fixture
def tried(tmp_path: Path) -> Story:
    """Job a had two attempts, and there is a job whose id looks like an earlier log of a."""
    story = Story(manifest(job("a"), job("a.1"), job("new")), tmp_path / RUN_ID)
    story.start("a").end("a", "failed_other", error="broke", due=1e9).tell_retry("a").start("a")
    story.write()
    return story


def path_of(story: Story, name: str, attempt: int | None) -> Path:
    document = story.document()
    row = next(row for row in document["jobs"] if row["id"] == name)
    return logs.log_path(Run.at(story.paths.root), row, attempt, {row["id"] for row in document["jobs"]})


def test_each_attempt_has_its_log(tried: Story) -> None:
    folder = tried.paths.log_dir
    assert path_of(tried, "a", None) == path_of(tried, "a", 2) == folder / "a.log"
    assert path_of(tried, "a", 1) == folder / "a~1.log"


@pytest.mark.parametrize(
    ("name", "attempt", "says"),
    [("a", 3, "no attempt 3: it has 1 to 2"), ("new", None, "not started yet"), ("new", 1, "not started yet")],
)
def test_a_log_that_cannot_be_there_is_reported(tried: Story, name: str, attempt: int | None, says: str) -> None:
    with pytest.raises(UseError, match=says):
        path_of(tried, name, attempt)


class Script:
    """A job whose row changes as it is looked at: each step may write, and gives the row."""

    def __init__(self, *steps: tuple[Callable[[], object] | None, dict[str, Any]]) -> None:
        self._steps = iter(steps)
        self._row: dict[str, Any] = {}

    def look(self) -> dict[str, Any]:
        step = next(self._steps, None)
        if step is not None:
            write, row = step
            if write:
                write()
            base = {"attempt": 1, "status": "running", "exit_code": None, "error": None, "warning": None}
            self._row = {**base, "waiting": None, "retry_at": None, **row}
        return self._row


def followed(path: Path, script: Script, lines: int | None = None) -> Iterator[str]:
    for piece in logs.follow(path, lines, script.look, lambda: True, pause=0.0):
        text = f"<{piece.note}>" if piece.note else piece.data.decode()
        if text:
            yield text


def appends(path: Path, text: str) -> Callable[[], object]:
    def write() -> None:
        with path.open("a") as file:
            file.write(text)

    return write


def test_a_log_is_followed_until_the_job_has_ended(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    script = Script(
        (None, {"attempt": 0, "status": "pending", "waiting": "waits for a GPU"}),
        (appends(log, "one\n"), {}),
        (appends(log, "two\n"), {}),
        (appends(log, "three\n"), {"status": "completed", "exit_code": 0}),
    )
    expected = ["<pending: waits for a GPU>", "one\n", "two\n", "three\n", "<completed, exit code 0>"]
    assert list(followed(log, script)) == expected


def test_following_goes_on_over_attempts_and_repeats_nothing(tmp_path: Path) -> None:
    log = tmp_path / "a.log"

    def second() -> None:
        appends(log, "rest of the first\n")()
        log.rename(tmp_path / "a.1.log")
        appends(log, "second\n")()

    script = Script(
        (appends(log, "begin\n"), {}),
        # The new log is there before the state tells of the attempt, and before its own is read to the end.
        (second, {"status": "failed_other", "error": "broke", "retry_at": "2026-01-01T10:00:09.000Z"}),
        (None, {"attempt": 2}),
        (None, {"attempt": 2, "status": "stuck", "error": "broke", "exit_code": 1}),
    )
    text = "".join(followed(log, script))
    retry = "<failed_other: broke; again at 10:00:09Z>"
    assert text.replace(retry, "") == "begin\nrest of the first\n<attempt 2 begins>second\n<stuck, exit code 1: broke>"


def test_a_log_that_is_written_anew_is_the_same_one_to_who_follows_it(tmp_path: Path) -> None:
    log = tmp_path / "a.log"

    def anew() -> None:
        appends(log, "the end\r\n")()
        made = plain_log.make(log, False, lambda: False)
        assert made is not None
        assert made.replaces(log)

    def second() -> None:
        log.rename(tmp_path / "a.1.log")
        appends(log, "second\n")()

    script = Script(
        (appends(log, "begin\r\n"), {}),
        (anew, {}),
        (None, {}),
        (second, {"attempt": 2}),
        (None, {"attempt": 2, "status": "completed", "exit_code": 0}),
    )
    text = "".join(followed(log, script))
    assert text == "begin\r\nthe end\r\n<attempt 2 begins>second\n<completed, exit code 0>"


def test_following_begins_with_the_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("one\ntwo\nthree\n")
    script = Script((None, {"status": "completed", "exit_code": 0}))
    assert "".join(followed(log, script, lines=1)) == "three\n<completed, exit code 0>"


def test_following_ends_where_nobody_is_left_to_end_the_job(tmp_path: Path) -> None:
    script = Script((None, {"status": "running"}))
    with pytest.raises(FailedError, match="wavequeue resume"):
        list(logs.follow(tmp_path / "a.log", None, script.look, lambda: False, pause=0.0))
