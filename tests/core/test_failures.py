"""Failure classes, by real messages: `tests/data/failures/CLASS/NAME.log`, or `NAME.killed.log` where SIGKILL ended
the job. `none` holds logs that show no class. A new file is a new case."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from queue_manager.core.failures import LOGGED, LogFinding, LogScan, Rule, clean_line, rule_of

FOLDER = Path(__file__).parent.parent / "data" / "failures"
LOGS = sorted(FOLDER.glob("*/*.log"))
KILLED = FOLDER / "oom" / "bash.killed.log"


def scan(*chunks: bytes, sigkill: bool = False) -> LogFinding | None:
    found = LogScan(sigkill)
    for chunk in chunks:
        found.feed(chunk)
    return found.finding()


def is_killed(path: Path) -> bool:
    return path.name.endswith(".killed.log")


@pytest.mark.parametrize("path", LOGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_each_log_shows_its_class(path: Path) -> None:
    found = scan(path.read_bytes(), sigkill=is_killed(path))
    assert (found.name if found else "none") == path.parent.name


def test_every_class_has_a_log() -> None:
    assert {path.parent.name for path in LOGS} == {row.name for row in LOGGED} | {"none"}


def test_killed_counts_only_where_sigkill_ended_the_job() -> None:
    assert scan(KILLED.read_bytes(), sigkill=True) is not None
    assert scan(KILLED.read_bytes(), sigkill=False) is None


def test_the_line_that_shows_it_is_given_without_terminal_codes() -> None:
    found = scan(b"a\n\x1b[31mtorch.OutOfMemoryError\x1b[0m: CUDA out of memory\r\nb\n")
    assert found == ("oom", "torch.OutOfMemoryError: CUDA out of memory")


def test_the_last_line_of_a_class_is_given() -> None:
    found = scan(b"CUDA out of memory, first\n", b"CUDA out of memory, last\n")
    assert found is not None
    assert found.line.endswith("last")


def test_memory_comes_before_the_disk_and_the_card() -> None:
    found = scan(b"No space left on device\nuncorrectable ECC error\nCUDA out of memory\nNVRM: Xid 79\n")
    assert found is not None
    assert found.name == "oom"


def test_it_is_found_however_much_is_printed_after_it() -> None:
    teardown = b'  File "/workspace/code/train.py", line 1, in teardown\n' * 5_000
    found = scan(b"CUDA out of memory\n", teardown, teardown)
    assert found is not None
    assert found.name == "oom"


def test_it_is_found_at_the_end_of_a_log_without_a_line_break() -> None:
    assert scan(b"x\n", b"MemoryError") == ("oom", "MemoryError")


@pytest.mark.parametrize("before", [0, 1 << 16, (1 << 16) - 8, (1 << 17) + 3])
def test_it_is_found_within_a_line_of_any_length(before: int) -> None:
    line = b"." * before + b" CUDA out of memory " + b"." * (1 << 17)
    assert scan(line) is not None
    assert scan(*(line[i : i + 1000] for i in range(0, len(line), 1000))) is not None


def test_asking_in_between_changes_nothing() -> None:
    found = LogScan(sigkill=False)
    found.feed(b"Allocator ran out of memory")
    found.finding()
    found.feed(b"; this is not a failure\n")
    assert found.finding() is None


@settings(max_examples=60, deadline=None)
@given(path=st.sampled_from(LOGS), size=st.integers(1, 40))
@example(path=FOLDER / "none" / "ran_but_no_failure.log", size=1)
@example(path=FOLDER / "oom" / "python.log", size=1)
def test_where_chunks_end_makes_no_difference(path: Path, size: int) -> None:
    text = path.read_bytes()
    chunks = [text[i : i + size] for i in range(0, len(text), size)]
    assert scan(*chunks, sigkill=is_killed(path)) == scan(text, sigkill=is_killed(path))


@settings(max_examples=100, deadline=None)
@given(parts=st.lists(st.sampled_from([b"Killed", b"\n", b"\r", b"MemoryError", b"x", b" out of memory", b"\xff"])))
def test_any_text_split_anywhere_gives_the_same(parts: list[bytes]) -> None:
    whole = b"".join(parts)
    for at in range(len(whole) + 1):
        assert scan(whole[:at], whole[at:], sigkill=True) == scan(whole, sigkill=True)


@settings(max_examples=200)
@given(st.lists(st.sampled_from(LOGS), max_size=4), st.booleans())
def test_the_quick_look_never_hides_a_match(paths: list[Path], sigkill: bool) -> None:
    text = b"".join(path.read_bytes() for path in paths)
    for row in LOGGED:
        assert row.pattern is not None
        if row.pattern.search(text):
            assert any(sign in text.lower() for sign in row.signs)
    slow = [
        row.name for row in LOGGED if row.pattern and row.pattern.search(text) and (sigkill or not row.only_sigkill)
    ]
    found = scan(text, sigkill=sigkill)
    assert (found.name if found else None) == next(iter(slow), None)


def test_a_line_for_people_has_no_control_characters_and_an_end() -> None:
    assert clean_line(b"\x1b]0;title\x07\x1b[1;31mred\x1b[0m\x00 \xff") == "red �"
    assert len(clean_line(b"x" * 1000)) == 300


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("oom", Rule.OOM), ("sick_card", Rule.CARD), ("disk_full", Rule.DISK), ("timeout", Rule.RETRIES),
        ("no_output", Rule.RETRIES), ("killed", Rule.RETRIES), ("exit_code", Rule.RETRIES),
    ],
)  # fmt: skip
def test_every_class_has_its_rule(name: str, rule: Rule) -> None:
    assert rule_of(name) is rule


def test_a_class_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        rule_of("bad_luck")
