"""What a ledger tells of: rentals, their states, what they cost; lines that were cut off, and lines that are none."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill.common.errors import UseError
from skill.common.project import ProjectPaths
from skill.common.units import usd
from skill.fleet import ledger, ledger_file
from skill.fleet.ledger import Offered, Rental, cost, fold

OFFERED = Offered(9, 77, "1x RTX 4090", dph=1.0, storage_dph=0.1, disk_gb=40.0)
HOUR = 3600.0


def begin(label: str = "wq-a", at: float = 0.0) -> str:
    return ledger.line("intended", label, at, **ledger.intent("rent", label, "vast1", OFFERED, {"n": 1}))


def life(*events: tuple[str, float, dict[str, Any]]) -> Rental:
    text = begin() + "".join(ledger.line(event, "wq-a", at, **fields) for event, at, fields in events)
    return fold(text, "f")["wq-a"]


MADE = ("created", 0.0, {"instance_id": 5})
READY = ("ready", 60.0, {"worker": "vast1"})


@pytest.mark.parametrize(
    ("events", "state", "unfinished", "dollars"),
    [
        ([], "intended", True, 0.0),
        ([("refused", 1.0, {"why": "gone"})], "refused", False, 0.0),
        ([MADE], "created", True, 10.0),
        ([MADE, READY], "ready", False, 10.0),
        ([MADE, READY, ("stopped", HOUR, {})], "stopped", False, 1.0 + 0.9),
        ([MADE, READY, ("stopped", HOUR, {}), ("started", 2 * HOUR, {})], "ready", False, 1.0 + 0.1 + 8.0),
        ([MADE, ("broken", 5.0, {"why": "stuck"})], "broken", True, 10.0),
        ([MADE, ("broken", 5.0, {"why": "stuck"}), ("destroyed", HOUR, {})], "destroyed", False, 1.0),
        ([MADE, READY, ("destroyed", HOUR, {}), ("gone", 2 * HOUR, {})], "destroyed", False, 1.0),
        ([MADE, READY, ("stopped", HOUR, {}), ("gone", 3 * HOUR, {})], "gone", False, 1.2),
    ],
)
def test_a_rental_is_what_its_lines_say(
    events: list[tuple[str, float, dict[str, Any]]], state: str, unfinished: bool, dollars: float
) -> None:
    found = life(*events)
    assert (found.state, found.unfinished) == (state, unfinished)
    assert cost(found, 10 * HOUR) == pytest.approx(dollars)
    assert (found.label, found.worker, found.offered, found.notes) == ("wq-a", "vast1", OFFERED, {"n": 1})


@given(st.integers(0, 400))
def test_a_line_that_was_cut_off_does_not_count_and_harms_none_before_it(cut: int) -> None:
    first, second = begin(), ledger.line("created", "wq-a", 1.0, instance_id=5)
    text = first + second[: min(cut, len(second))]
    assert fold(text, "f")["wq-a"].instance_id == (5 if cut >= len(second) else None)


@pytest.mark.parametrize(
    "bad",
    [
        "nonsense\n",
        "[]\n",
        '{"event": "created"}\n',
        ledger.line("eaten", "wq-a", 1.0),
        ledger.line("ready", "no", 1.0),
        *(ledger.line("created", "wq-a", 1.0, instance_id=number) for number in (-1, 0, True, "7", 1.5, None)),
    ],
)
def test_a_line_that_is_none_is_named_with_its_place(bad: str) -> None:
    with pytest.raises(UseError, match=r"f:2: is not a line of a ledger"):
        fold(begin() + bad, "f")


def test_what_a_killed_writer_left_is_taken_away_by_the_next_and_all_lines_stay(tmp_path: Path) -> None:
    where = tmp_path / "workers.yaml"
    assert ledger_file.rentals(where) == {}
    ledger_file.note(where, "intended", "wq-a", **ledger.intent("rent", "wq-a", "vast1", OFFERED, {}))
    with ProjectPaths.of(where).ledger.open("a") as file:
        file.write('{"at": "2026-01-01T0')
    ledger_file.note(where, "created", "wq-a", instance_id=5)
    assert ledger_file.by_instance(where)[5].state == "created"

    def note() -> None:
        ledger_file.note(where, "ready", "wq-a", worker="vast1")

    threads = [threading.Thread(target=note) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ProjectPaths.of(where).ledger.read_text().splitlines()) == 22
    assert ledger_file.rentals(where)["wq-a"].state == "ready"


def test_all_of_it_is_shown_with_its_sum() -> None:
    rows = [life(MADE, READY, ("destroyed", HOUR, {})), life(("refused", 1.0, {"why": "no_such_ask"}))]
    document = ledger.document(rows, 5 * HOUR)
    assert document["cost_usd"] == pytest.approx(1.0)
    assert [row["state"] for row in document["rentals"]] == ["destroyed", "refused"]
    text = "\n".join(line.plain for line in ledger.table(rows, 5 * HOUR, 120))
    assert "refused: no_such_ask" in text
    assert "$1.00" in text


@pytest.mark.parametrize(
    ("amount", "words"),
    [(0.0, "$0.00"), (0.00003, "less than $0.0001"), (0.00007, "$0.0001"), (0.0123, "$0.0123"), (1.5, "$1.50")],
)
def test_no_amount_looks_like_nothing(amount: float, words: str) -> None:
    assert usd(amount) == words
