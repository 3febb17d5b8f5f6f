"""Classes of failures by their words: `tests/data/failures/CLASS/NAME.log`, or `NAME.killed.log` where SIGKILL ended
the job. `none` holds logs that show no failure. A new file is a new case; whole logs are in tests/data/gallery."""

from __future__ import annotations

from pathlib import Path

import pytest

from queue_manager.core.diagnosis import read
from queue_manager.core.failures import Rule, classify, clean_line, rule_of, words, words_at

FOLDER = Path(__file__).parent.parent / "data" / "failures"
LOGS = sorted(FOLDER.glob("*/*.log"))


def test_each_log_shows_its_class() -> None:
    found = {path: read(path.read_bytes(), 137 if path.name.endswith(".killed.log") else 1).reason for path in LOGS}
    assert len(found) >= 52
    shown = {f"{path.parent.name}/{path.stem}": one.name if one else "none" for path, one in found.items()}
    assert shown == {name: name.split("/")[0] for name in shown}


@pytest.mark.parametrize(
    ("kind", "text", "name"),
    [
        ("KeyError", "KeyError: 'CUDA out of memory'", "traceback"),
        ("ValueError", "ValueError: unknown action on out of memory: skp", "traceback"),
        ("ArgumentError", "argparse.ArgumentError: on CUDA out of memory", "arguments"),
        ("RuntimeError", "RuntimeError: CUDA out of memory", "oom"),
        ("OSError", "OSError: [Errno 12] Cannot allocate memory", "oom"),
        ("OSError", "OSError: [Errno 28] No space left on device", "disk_full"),
        (
            "FileNotFoundError",
            "FileNotFoundError: [Errno 2] No such file or directory: 'oom_kill.json'",
            "missing_file",
        ),
        ("RuntimeError", "RuntimeError: uncorrectable ECC error encountered", "sick_card"),
        ("ValueError", "ValueError: Input contains NaN.", "nan"),
        ("KeyError", "KeyError: 'nan values'", "traceback"),
        ("ConnectionError", "requests.exceptions.ConnectionError: Max retries exceeded", "network"),
        ("AssertionError", "AssertionError: CUDA error expected", "assertion"),
    ],
)
def test_the_type_of_an_exception_comes_before_its_words(kind: str, text: str, name: str) -> None:
    assert classify(text, kind) == name


def test_a_later_line_of_a_message_says_the_class_as_well() -> None:
    assert classify("x.so: undefined symbol: _Z", "RuntimeError", message=True) == "import"
    assert classify("if it says CUDA out of memory, halve the batch", "KeyError", message=True) == "traceback"


def test_only_words_that_are_a_failure_wherever_they_stand_count_outside_of_exceptions() -> None:
    assert words("Allocator (GPU_0_bfc) ran out of memory trying to allocate 2GiB; this is not a failure") is None
    assert words("NVRM: Xid (PCI:0000:3b:00): 79") == "sick_card"
    assert words("Connection refused") is None
    assert words_at("." * 5000 + " CUDA out of memory") == 5006
    assert words_at("." * 5000) is None


def test_a_line_for_people_has_no_control_characters_and_an_end() -> None:
    assert clean_line(b"\x1b]0;title\x07\x1b[1;31mred\x1b[0m\x00 \xff") == "red \ufffd"
    assert len(clean_line(b"x" * 1000)) == 300


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("oom", Rule.OOM), ("sick_card", Rule.CARD), ("disk_full", Rule.DISK), ("timeout", Rule.RETRIES),
        ("no_output", Rule.RETRIES), ("killed", Rule.RETRIES), ("exit_code", Rule.RETRIES), ("import", Rule.RETRIES),
        ("traceback", Rule.RETRIES), ("leftovers", Rule.RETRIES), ("arguments", Rule.RETRIES),
    ],
)  # fmt: skip
def test_every_class_has_its_rule(name: str, rule: Rule) -> None:
    assert rule_of(name) is rule


def test_a_class_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        rule_of("bad_luck")
