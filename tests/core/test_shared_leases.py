"""What runs tell all users of a host: it comes back as it was, and of anything else nothing is believed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_manager.core import events as ev
from queue_manager.core import shared_leases
from queue_manager.core.events import Proc
from queue_manager.core.model import Attempt
from queue_manager.core.shared_leases import MOST_BYTES, PublishedLeases, Row, decode, encode

ROW = {"cards": ["GPU-a"], "mib": None, "wrapper": [7, 8]}
WRONG: list[dict[str, Any]] = [
    {"cards": "GPU-a"}, {"cards": [1]}, {"cards": ["a\x1b[2J"]}, {"cards": ["a" * 200]}, {"cards": None}, {"mib": -1},
    {"mib": 1.5}, {"mib": 10**30}, {"mib": "1"}, {"wrapper": 1}, {"wrapper": [1]}, {"wrapper": [1, 2, 3]},
    {"wrapper": ["1", 2]}, {"wrapper": {}}, {"wrapper": [1, 10**30]},
]  # fmt: skip
GOOD: dict[str, Any] = {"view": "v", "manager": 7, "leases": [ROW]}


def attempt(*cards: str, mib: int | None = None, wrapper: Proc | None = None) -> Attempt:
    made = Attempt(ev.AttemptStarting("secret-job", 1, 1, "s", "boot", cards, (0,), mib), 0.0)
    made.wrapper = wrapper
    return made


def test_what_is_reported_comes_back_and_says_nothing_of_jobs() -> None:
    data = encode("view", 5, [attempt("GPU-a", "MIG-GPU-b/1/2", wrapper=Proc(3, 4)), attempt("GPU-c", mib=9000)])
    rows = (Row(("GPU-a", "MIG-GPU-b/1/2"), None, Proc(3, 4)), Row(("GPU-c",), 9000, None))
    assert decode(data) == PublishedLeases("view", 5, rows)
    assert b"secret" not in data
    later = json.dumps({**GOOD, "leases": [{**ROW, "new": 1}], "new": 2})
    assert decode(later.encode()) == PublishedLeases("v", 7, (Row(("GPU-a",), None, Proc(7, 8)),))


@pytest.mark.parametrize(
    "change",
    [
        {"view": 1}, {"view": "v" * 300}, {"manager": True}, {"manager": -1}, {"manager": "7"}, {"leases": None},
        {"leases": [1]}, {"leases": [{}]}, {"leases": {"a": 1}}, *[{"leases": [{**ROW, **row}]} for row in WRONG],
    ],
)  # fmt: skip
def test_a_document_out_of_bounds_is_none(change: dict[str, Any]) -> None:
    decode(json.dumps(GOOD).encode())
    with pytest.raises(ValueError, match=r"."):
        decode(json.dumps({**GOOD, **change}).encode())


@pytest.mark.parametrize("data", [b"", b"\0" * 99, b"\xff\xfe", b"[]", b"7", b'"x"', b"[" * 60000, b"9" * 60000])
def test_nor_is_what_is_no_document(data: bytes) -> None:
    assert len(data) < MOST_BYTES
    with pytest.raises(ValueError, match=r"."):
        decode(data)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=4))
def test_anything_in_any_place_is_read_or_refused(value: Any) -> None:
    for document in (
        value,
        *({**GOOD, key: value} for key in GOOD),
        *({**GOOD, "leases": [{**ROW, k: value}]} for k in ROW),
    ):
        try:
            decoded = decode(json.dumps(document).encode())
        except ValueError:
            continue
        assert isinstance(decoded, PublishedLeases)
        assert all(0 <= (row.mib or 0) < shared_leases._MOST_MIB for row in decoded.rows)
