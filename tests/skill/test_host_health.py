"""How hosts are shown: what was heard of them, whatever it is, gives a row, and harms no terminal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_manager.core.terminal_text import one_line
from queue_manager.core.times import iso
from skill.hosts.bootstrap import Facts, Python
from skill.hosts.connection import Unreachable
from skill.hosts.health import ProbeResult, Row, document, fault_lines, note_lines, read, row, table, well

NOW = 1_700_000_000.0
FACTS = Facts(
    home="/root", python=Python("3.11.2", "/venv/main/bin/python3"), why_no_python="", machine="x86_64",
    screen="/usr/bin/screen", rsync="/usr/bin/rsync", disk_free_mib=50_000, writable=True, host_id=None,
    runtimes=frozenset(), manifest_sha256=None, manager_pid=None, ended=False,
)  # fmt: skip
PROBE: dict[str, Any] = {
    "host": "box", "time": iso(NOW + 1), "python": {"version": "3.11.2", "executable": "/x"}, "cpus": 16,
    "load": [1.25, 1, 0.5], "memory_mib": {"total": 64000, "available": 60000}, "path": "/root",
    "disk_free_mib": 20_480, "screen": {"path": "/usr/bin/screen", "version": "4.9.0"}, "rsync": "/usr/bin/rsync",
    "gpus": [
        {"index": 0, "uuid": "GPU-a", "name": "NVIDIA A100", "total_mib": 81920, "used_mib": 0, "free_mib": 40960,
         "util": 0, "note": ""},
        {"index": 1, "uuid": "GPU-b", "name": "NVIDIA A100", "total_mib": None, "used_mib": None, "free_mib": None,
         "util": None, "note": "it is lost"},
    ],
    "gpu_note": "", "heartbeat": iso(NOW - 11), "runs": [{"id": "demo-1", "pid": 7}],
}  # fmt: skip


def probed(**probe: Any) -> ProbeResult:
    """A host that answered within two seconds."""
    return ProbeResult(FACTS, json.dumps({**PROBE, **probe}).encode(), "", NOW, NOW + 2)


def lines(*rows: Row, width: int = 300) -> list[str]:
    return [line.plain for line in table(rows, width)]


def test_a_shared_home_and_login_files_that_write_are_reported() -> None:
    facts = FACTS._replace(owner="node-7", place=".wavequeue/hosts/node-8-0123abcd")
    made = row("gpu-a", probed()._replace(facts=facts, is_quiet=False))
    shared, noisy, *_ = made.warnings
    assert (
        shared
        == "it shares its home directory with node-7; its own runs are in ~/.wavequeue/hosts/node-8-0123abcd/runs"
    )
    assert noisy.startswith("a login file there (such as ~/.bashrc) prints or reads in every session")
    assert made.faults == ()


@pytest.mark.parametrize("width", [60, 80, 100, 140, 300])
def test_gpus_are_shown_in_any_width(width: int) -> None:
    shown = lines(row("gpu-a", probed()), row("gpu-b", ProbeResult(Unreachable("no answer", "timeout"))), width=width)
    assert all(len(line) <= width for line in shown)
    gpus = [line for line in shown if "A100" in line]
    assert len(gpus) == 1
    assert gpus[0].endswith("GiB free") or "A100: " in gpus[0]
    assert width < 300 or "GPUs" in shown[0]


def test_a_host_in_order() -> None:
    made = row("gpu-a", probed())
    assert made.faults == ()
    assert well([made])
    head, shown = lines(made)
    assert head.split()[:3] == ["host", "is", "heartbeat"]
    for part in (
        "12.0 s ago", " 1 ", "20 GiB", "1.2 of 16", "in step", "3.11.2 /venv/main/bin/python3", "4.9.0",
        "2 NVIDIA A100: 40.0, ? GiB free",
    ):  # fmt: skip
        assert part in shown
    assert note_lines([made]) == ["gpu-a: warning: GPU 1: it is lost", "gpu-a: a manager holds demo-1"]
    (found,) = document([made])["hosts"]
    assert (found["heartbeat_s"], found["clock_s"], found["clock_within_s"]) == (12.0, 0.0, 1.0)
    assert found["gpus"][0] == {
        "index": 0, "name": "NVIDIA A100", "total_mib": 81920, "free_mib": 40960, "note": "",
    }  # fmt: skip


def test_a_host_that_openssh_connects_to_is_reported() -> None:
    made = row("gpu-a", probed()._replace(openssh="a key needs a touch"))
    assert "gpu-a: through OpenSSH: a key needs a touch" in note_lines([made])
    assert document([made])["hosts"][0]["openssh"] == "a key needs a touch"
    assert document([row("gpu-a", probed())])["hosts"][0]["openssh"] is None


def test_an_unreachable_host_is_unknown_and_not_failed() -> None:
    made = row("gpu-b", ProbeResult(Unreachable("it did not\nanswer", "timeout")))
    assert not well([made])
    assert "unreachable" in lines(made)[1]
    assert "fail" not in lines(made)[1]
    assert fault_lines([made]) == ["gpu-b: unreachable: it did not answer"]
    assert document([made])["hosts"][0]["rsync"] is None


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"python": None, "why_no_python": "no python of 3.9"}, "no python of 3.9; set it up with: wavequeue hosts se"),
        ({"screen": None}, "screen is missing"),
        ({"writable": False}, "is not writable"),
        ({"disk_free_mib": 12}, "only 12 MiB"),
    ],
)
def test_what_is_missing_is_a_fault(facts: dict[str, Any], words: str) -> None:
    made = row("a", probed()._replace(facts=FACTS._replace(**facts)))
    assert any(words in text for text in made.faults)
    assert not well([made])


def test_rsync_that_is_missing_stops_nothing() -> None:
    made = row("a", probed()._replace(facts=FACTS._replace(rsync=None)))
    assert well([made])
    assert "rsync is missing, so code is sent with tar" in note_lines([made])[0]


@pytest.mark.parametrize(
    ("ahead", "says"),
    [(1, "in step"), (0, "in step"), (1.9, "in step"), (62, "1 min 02 s ahead"), (-7200, "2 h 00 min behind")],
)
def test_half_the_way_is_allowed_for_in_the_difference_of_clocks(ahead: float, says: str) -> None:
    made = row("a", probed(time=iso(NOW + 1 + ahead)))
    assert says in lines(made)[1]
    assert bool([text for text in made.warnings if "its clock is" in text]) is (abs(ahead) > 31)


def test_what_a_host_cannot_tell_is_reported_with_the_reason() -> None:
    made = row("a", probed(unreadable={"runs": "/x/runs: Permission denied"}, heartbeat=None, runs=[]))
    assert "its runs could not be read: /x/runs: Permission denied" in made.warnings
    assert lines(made)[1].split()[2:4] == ["-", "-"]
    made = row("a", probed(screen={"path": "/x", "version": None, "fault": "no libtinfo"}))
    assert made.faults == ("its screen does not run, and every job runs in one: no libtinfo",)
    made = row("a", probed()._replace(facts=FACTS._replace(disk_free_mib=None, disk_fault="df: Stale file handle")))
    assert "its free disk space is unknown: df: Stale file handle" in made.warnings


def test_what_garbles_a_terminal_is_taken_out() -> None:
    evil = "\x1b]0;x\x07\x1b[2J\r\n\u202e\x9b"
    made = row("a", probed(
        gpu_note=evil, runs=[{"id": f"r{evil}"}], screen={"version": evil},
        gpus=[{"index": 0, "name": evil * 100, "note": evil, "total_mib": 1, "free_mib": 1}],
    ))  # fmt: skip
    for text in [*lines(made), *note_lines([made]), *fault_lines([made])]:
        assert text.isprintable(), text
        assert len(text) < 1000


def test_no_document_is_reported() -> None:
    for data in (b"", b"[]", b"Welcome!\n{}", b"[" * 100_000, b"\xff"):
        assert read(data) is None
    made = row("a", ProbeResult(FACTS, b"Welcome!"))
    assert "cannot be parsed" in made.faults[0]
    made = row("a", ProbeResult(FACTS, None, "boom"))
    assert made.faults == ("it could not be checked: boom",)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(PROBE)), ANYTHING))
def test_whatever_a_host_says_gives_a_row(probe: dict[str, Any]) -> None:
    made = row("a", probed(**probe))
    # Not isprintable: what this Python's tables have no letter for, and blanks of other scripts, command no terminal.
    assert all(one_line(line) == line for line in [*lines(made), *note_lines([made])])
    assert json.loads(json.dumps(document([made]), allow_nan=False))


@given(st.sampled_from(["index", "name", "note", "total_mib", "free_mib"]), ANYTHING)
def test_whatever_a_card_says_gives_a_row(field: str, value: Any) -> None:
    test_whatever_a_host_says_gives_a_row.hypothesis.inner_test({"gpus": [{**PROBE["gpus"][0], field: value}]})  # type: ignore[attr-defined]
