"""The reason of a failure, by whole logs: a folder of tests/data/gallery each, whose case.json says where its form is
from, the job's exit code, its class and the line that says why; `healthy` shows no failure, and `none` is a job that
failed without a word. Then what no gallery shows: position, kinds, and hostile input."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queue_manager.core.diagnosis import LOG_BYTES, Reason, diagnose, read
from queue_manager.core.log_text import line_number, plain_lines

GALLERY = Path(__file__).parent.parent / "data" / "gallery"
CASES = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(GALLERY.glob("*/case.json"))}
FAILING = [name for name, case in CASES.items() if case["class"] != "healthy"]
HEALTHY = [name for name, case in CASES.items() if case["class"] == "healthy"]
CLASSES = frozenset(
    (
        "oom", "cuda", "sick_card", "nccl", "nan", "import", "missing_file", "permission", "disk_full", "network",
        "killed", "segfault", "assertion", "arguments", "traceback",
    )
)  # fmt: skip
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
TRACEBACK = b'Traceback (most recent call last):\n  File "train.py", line 3, in <module>\n    main()\n'
STEPS = b"".join(b"step %d: loss 0.%d\n" % (n, n) for n in range(1000))


def reason(log: bytes, code: int | None = 1) -> Reason | None:
    return read(log, code).reason


def line_of(log: bytes, code: int | None = 1) -> str:
    found = reason(log, code)
    return "" if found is None else found.line


def log_of(name: str) -> bytes:
    return (GALLERY / name / "job.log").read_bytes()


def shown(found: Reason | None) -> tuple[str, str]:
    return ("none", "") if found is None else (found.name, found.line)


def wanted(name: str) -> tuple[str, str]:
    line = CASES[name]["line"]
    return CASES[name]["class"], line if len(line) <= 300 else line[:297] + "..."


def test_each_log_of_a_failed_job_gives_its_class_and_line_and_where_it_stands() -> None:
    wrong: dict[str, object] = {}
    for name in FAILING:
        log = log_of(name)
        found = read(log, CASES[name]["code"]).reason
        if shown(found) != wanted(name):
            wrong[name] = shown(found), wanted(name)
        elif found is not None and not stands_where_it_says(log, found):
            wrong[name] = found, line_number(log, found.at)
    assert wrong == {}


def stands_where_it_says(log: bytes, found: Reason) -> bool:
    line = found.line.rstrip(".")
    return line in plain_lines(log)[found.at] and line.encode() in log.split(b"\n")[line_number(log, found.at) - 1]


def test_the_log_alone_gives_the_same() -> None:
    alone = {name: shown(diagnose(log_of(name)).reason) for name in FAILING}
    assert alone == {name: wanted(name) for name in FAILING}


def test_a_log_with_frightening_words_whose_job_went_on_shows_no_failure() -> None:
    assert {name: diagnose(log_of(name)).reason for name in HEALTHY} == dict.fromkeys(HEALTHY)


def test_progress_in_any_form_is_no_failure() -> None:
    logs = sorted((GALLERY.parent / "progress").glob("*.log"))
    assert len(logs) >= 98
    found = {log.stem: shown(diagnose(log.read_bytes()).reason)[0] for log in logs}
    assert found == {log.stem: "nan" if log.stem.endswith("_nan") else "none" for log in logs}


def test_the_gallery_is_whole() -> None:
    assert len(FAILING) >= 180
    assert len(HEALTHY) >= 45
    real = [name for name, case in CASES.items() if case["source"].startswith("shortened, names replaced")]
    assert len(set(real) & set(FAILING)) >= 40, "real logs of public issues"
    assert len(set(real) & set(HEALTHY)) >= 20
    assert {case["class"] for case in CASES.values()} == CLASSES | {"none", "healthy"}
    assert {path.name for path in GALLERY.iterdir()} == set(CASES)
    for name, case in CASES.items():
        assert set(case) == {"class", "code", "line", "source"}, name
        assert case["source"], name
        assert case["code"] == 0 or case["class"] != "healthy", name


def test_a_line_is_counted_as_an_editor_does() -> None:
    log = b"a\r\n\x1b]0;title\r 10%|# |\r 20%|## |\nValueError: bad\r\n"
    found = diagnose(log).reason
    assert found is not None
    assert (found.line, line_number(log, found.at)) == ("ValueError: bad", 3)


# -- position and kind ------------------------------------------------------------------------------------------------


def test_memory_that_ran_out_long_before_the_end_was_survived() -> None:
    assert reason(b"CUDA out of memory, skipping the batch\n" + STEPS) is None
    assert reason(TRACEBACK + OOM.encode() + b"\n" + STEPS) is None
    assert reason(STEPS + b"CUDA out of memory\nbye\n") == Reason("oom", "CUDA out of memory", 1000)


def test_an_exception_after_it_is_the_reason() -> None:
    log = TRACEBACK + OOM.encode() + b"\nhalving the batch\n" + TRACEBACK + b"KeyError: 'lr'\n"
    assert reason(log) == Reason("traceback", "KeyError: 'lr'", 8)


def test_memory_is_found_behind_thousands_of_frames() -> None:
    frames = b'  File "/workspace/code/train.py", line 1, in teardown\n' * 30_000
    assert line_of(TRACEBACK + OOM.encode() + b"\n" + frames) == OOM


@pytest.mark.parametrize("code", [137, -9, None])
def test_of_a_job_that_was_killed_only_the_last_words_tell_of_memory(code: int | None) -> None:
    lost = b"CUDA out of memory, skipping the batch\n"
    for end in (b"./job.sh: line 9: 42 Killed     python x.py\n", b""):
        found = reason(lost + STEPS[:400] + end, code)
        assert found is None or found.name != "oom"
    last = reason(STEPS + b"slurmstepd: error: Detected 1 oom_kill event in StepId=1.0\n", code)
    assert last is not None
    assert last.name == "oom"


@pytest.mark.parametrize("code", [1, 2])
def test_a_usage_line_with_its_error_is_the_reason_whatever_the_help_says(code: int) -> None:
    log = b"usage: x [-h]\n  --on-oom  what to do on CUDA out of memory\nCUDA out of memory\nx: error: bad --lr\n"
    assert reason(log, code) == Reason("arguments", "x: error: bad --lr", 3)


def test_a_traceback_after_a_usage_line_is_the_reason() -> None:
    assert line_of(b"usage: x [-h]\nx: error: none\n" + TRACEBACK + b"ValueError: b\n", 1) == "ValueError: b"


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r", b""])
def test_a_reason_after_a_progress_bar_stands_in_a_line_of_its_own(ending: bytes) -> None:
    bar = b"".join(b"\r\x1b[K\x1b[32mepoch 1:\x1b[0m %3d%%|####    | 3/9" % n for n in range(100))
    assert line_of(bar + b"\r\x1b[31m" + OOM.encode() + b"\x1b[0m" + ending) == OOM


@pytest.mark.parametrize("before", [0, 499, 500, 1 << 16, (1 << 17) + 3])
def test_words_are_found_within_a_line_of_any_length(before: int) -> None:
    found = reason(b"." * before + b" CUDA out of memory " + b"." * (1 << 17))
    assert found is not None
    assert found.name == "oom"


def test_the_last_line_is_no_footer() -> None:
    log = b"could not read shard 3\nwandb: \nwandb: Find logs at: ./wandb/run-1\n" + b"=" * 60 + b"\n"
    assert read(log) == (None, "could not read shard 3")
    assert read(b"=====\n").last == "====="
    assert read(b"") == (None, "")


@pytest.mark.parametrize("footer", [b"Aborted (core dumped)\n", b"Segmentation fault (core dumped)\n"])
def test_a_crash_while_it_goes_down_is_not_the_reason(footer: bytes) -> None:
    assert line_of(TRACEBACK + b"ValueError: bad\nclosing\n" + footer, 134) == "ValueError: bad"


# -- hostile input ----------------------------------------------------------------------------------------------------

MIB = 1 << 20
HOSTILE: dict[str, Callable[[], bytes]] = {
    "one line": lambda: b"x" * (4 * MIB),
    "one line of words": lambda: b"out of memory, not a failure " * (4 * MIB // 29),
    "a million short lines": lambda: b"a\n" * 1_000_000,
    "a million errors": lambda: b"E: x\n" * 1_000_000,
    "exceptions": lambda: b"ValueError: x\n" * 300_000,
    "headers": lambda: b"Traceback (most recent call last):\n" * 120_000,
    "assertions without an end": lambda: (b"Assertion `" * 300 + b"\n") * 1200,
    "nested quotes": lambda: (b"\"'`('" * 1000 + b"\n") * 800,
    "words in every line": lambda: (b"not found " * 390 + b"\n") * 1000,
    "a dotted name without an end": lambda: (b"a." * 2000 + b"\n") * 1000,
    "ranks": lambda: b"".join(
        b"[rank%d]: Traceback (most recent call last):\n[rank%d]:   x\n" % (n % 999, n % 999) for n in range(60_000)
    ),
    "usage": lambda: b"usage: x\n  y\nError: z\n" * 150_000,
    "any bytes": lambda: bytes(range(256)) * (4 * MIB // 256),
    "titles without an end": lambda: b"\x1b]0;" * MIB,
}
"""Each is made where it is read: together they are many."""


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input_takes_no_time(name: str) -> None:
    log = HOSTILE[name]()[-LOG_BYTES:]
    began = time.process_time()
    read(log, 1)
    diagnose(log)
    assert time.process_time() - began < 10, "it takes less than 1 s"


_PARTS = st.sampled_from(
    [
        TRACEBACK, b"Killed", b"\n", b"\r", b"MemoryError", b"x", b" out of memory", b"\xff", b"  | ", b"[rank3]: ",
        b"terminate called", b"\n  what():  x\n", b"The above exception was the direct cause of the following:",
        b"Exception Group ", b"Error: y\n", b"\x1b[31m", b"Root Cause (first observed failure):\n", b"usage: ",
        b"  rank      : 3 (x)\n",
    ]
)  # fmt: skip


def test_what_the_shell_around_a_job_says_of_its_end_is_not_a_word_of_the_job() -> None:
    line = b"/run/wrapper.sh: line 9: 26716 Killed                  bash ./job.sh\n"
    assert read(line, None).last == ""
    assert read(b"saving\n" + line, None).last == "saving"


@settings(max_examples=150, deadline=None)
@given(parts=st.lists(_PARTS, max_size=30), code=st.sampled_from([0, 1, 2, 137, None]))
def test_any_text_gives_a_line_of_it(parts: list[bytes], code: int | None) -> None:
    found, _ = read(b"".join(parts), code)
    assert found is None or (found.line and len(found.line) <= 300)
