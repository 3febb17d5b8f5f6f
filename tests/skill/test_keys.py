"""Which keys a terminal's bytes are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill.terminal.keys import Keys


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"q?/", ["q", "?", "/"]),
        (b"\x1b[A\x1b[B\x1b[C\x1b[D", ["up", "down", "right", "left"]),
        (b"\x1bOA\x1bOH\x1bOF", ["up", "home", "end"]),  # with the cursor keys of applications
        (b"\x1b[5~\x1b[6~\x1b[1~\x1b[4~\x1b[H\x1b[F", ["pageup", "pagedown", "home", "end", "home", "end"]),
        (b"\x1b[1;5A\x1b[5;3~", ["up", "pageup"]),  # with Ctrl, with Alt
        (b"\r\n\t\x7f\x08\x0c\x1b[Z", ["enter", "enter", "tab", "backspace", "backspace", "redraw", "backtab"]),
        (b"\x1b[15~\x1b[200~", []),  # F5, the begin of what is pasted
        ("é训".encode(), ["é", "训"]),
        (b"\xff\x00\x01a", ["a"]),
        (b"\x1bq", ["escape", "q"]),
        (b"\x1b[", []),
    ],
)
def test_bytes_are_keys(data: bytes, keys: list[str]) -> None:
    assert Keys().feed(data) == keys


def test_an_escape_alone_is_a_key_once_nothing_follows() -> None:
    keys = Keys()
    assert (keys.feed(b"\x1b"), keys.pause(), keys.pause()) == ([], ["escape"], [])
    assert (keys.feed(b"\x1b"), keys.feed(b"[A"), keys.pause()) == ([], ["up"], [])
    assert (keys.feed(b"\x1b["), keys.pause(), keys.feed(b"q")) == ([], [], ["q"])


@given(st.lists(st.sampled_from([b"a", b"\x1b[A", b"\x1b[6~", b"\x1bOB", "训".encode()])), st.data())
def test_wherever_the_bytes_are_cut_the_keys_are_the_same(pieces: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(pieces)
    at = data.draw(st.integers(0, len(whole)))
    keys = Keys()
    assert keys.feed(whole[:at]) + keys.feed(whole[at:]) == Keys().feed(whole)


@given(st.binary(max_size=200))
def test_no_bytes_make_a_key_that_would_command_the_terminal(data: bytes) -> None:
    assert all(key.isprintable() for key in Keys().feed(data))
