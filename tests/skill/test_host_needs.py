"""What a host lacks for any run: which check says it, how grave it is, and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from skill.planning.host_needs import CHECKS, FAULT, OK, WARNING, Need, Way, code_fault, needs

GOOD: dict[str, Any] = {"probe": {"bash": "/bin/bash"}, "needs": {"home": [], "shm_mib": 64_000}}


def judged(document: dict[str, Any], way: Way, *, on_cards: bool = True) -> dict[str, Need]:
    return {need.check: need for need in needs(document, way, "gpu-a", on_cards=on_cards)}


def test_where_all_is_there_each_check_says_so() -> None:
    found = judged(GOOD, Way())
    assert tuple(found) == CHECKS
    assert {(need.state, need.long) for need in found.values()} == {(OK, "")}


@pytest.mark.parametrize(
    ("change", "way", "check", "state", "says"),
    [
        ({"probe": {"bash": None}}, Way(), "bash", FAULT, "bash is missing, which runs the commands of jobs"),
        ({"needs": {"home": ["its home is x"]}}, Way(), "home", FAULT, "its home is x"),
        ({"needs": {"home": ["a\x1b[2Jb"]}}, Way(), "home", FAULT, "a"),
        ({"needs": {"shm_mib": 64}}, Way(), "shared memory", WARNING, "its shared memory (/dev/shm) has 64 MiB"),
        (
            {},
            Way(there=False),
            "rsync",
            WARNING,
            "rsync is missing there; code is sent with tar, which is slower; install it with",
        ),
        (
            {},
            Way(here=False),
            "rsync",
            WARNING,
            "rsync is missing here; code is sent with tar, which is slower; install it here",
        ),
        ({}, Way(here=False, there=False), "rsync", WARNING, "rsync is missing on both sides"),
        ({}, Way(pushed=False, there=False), "rsync", OK, ""),
        ({}, Way(ahead_s=31), "clock", WARNING, "its clock is 31.0 s ahead: "),
        ({}, Way(ahead_s=-600), "clock", WARNING, "its clock is 10 min 00 s behind: "),
        ({}, Way(ahead_s=29), "clock", OK, ""),
    ],
)
def test_what_is_missing_is_reported_in_one_line(
    change: dict[str, Any], way: Way, check: str, state: str, says: str
) -> None:
    found = judged({**GOOD, **change}, way)[check]
    assert found.state == state
    assert found.long.startswith(says)
    assert found.long.isprintable()


def test_little_shared_memory_is_reported_only_where_jobs_are_on_cards() -> None:
    found = judged({"needs": {"shm_mib": 64}}, Way(), on_cards=False)["shared memory"]
    assert (found.state, found.short, found.long) == (OK, "64 MiB", "")


@pytest.mark.parametrize("junk", [None, 7, "x", [], {"bash": 7, "home": {"a": 1}, "shm_mib": True}])
def test_what_a_host_makes_up_is_left_out(junk: Any) -> None:
    found = judged({"probe": junk, "needs": junk}, Way())
    assert "home" not in found
    assert "shared memory" not in found


@pytest.mark.parametrize(
    ("way", "free", "is_there", "fits"),
    [
        (Way(code_mib=900), 800, False, False),
        (Way(code_mib=900), 900, False, False),
        (Way(code_mib=900), 901, False, True),
        (Way(code_mib=900), 800, True, True),  # what is there already takes no more
        (Way(code_mib=None), 0, False, True),
        (Way(code_mib=900), None, False, True),
        (Way(code_mib=900, pushed=False), 0, False, True),
    ],
)
def test_code_that_is_larger_than_the_disk_is_a_fault(way: Way, free: int | None, is_there: bool, fits: bool) -> None:
    fault = code_fault(way, free, is_there=is_there)
    assert (fault is None) == fits
    assert fault is None or fault.startswith("the code has 900 MiB, and")
