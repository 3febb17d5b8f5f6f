"""What jobs, hosts and files write commands no terminal, no Markdown and no spreadsheet."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_manager.core import markdown, terminal_text
from queue_manager.core.csv_text import csv_cell
from queue_manager.core.terminal_text import coloured, escaped, json_escaped, one_line

HARMLESS = {"\n", "\t", "\u200c", "\u200d"}
TEXTS = st.text(st.one_of(st.characters(), st.sampled_from("\x1b\x9b\r\u202e[]0;8m38\x07`|*_<a")), max_size=40)


def test_every_character_that_unicode_calls_a_control_is_escaped() -> None:
    left = [
        f"U+{code:04X}"
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        and chr(code) not in HARMLESS
        and escaped(chr(code)) == chr(code)
    ]
    assert left == []


def test_text_of_people_stays() -> None:
    text = "训练 é 👩‍🔬 \u00a0\u3000 می‌خواهم\n\ttab ✓"
    assert escaped(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]52;c;cm0gLXJm\x07", r"\x1b]52;c;cm0gLXJm\x07"),
        ("\x1b]0;title\x1b\\", r"\x1b]0;title\x1b" + "\\"),
        ("\x1b]8;;http://x\x07here\x1b]8;;\x07", r"\x1b]8;;http://x\x07here\x1b]8;;\x07"),
        ("\x1b[2J\x1b[1;1H", r"\x1b[2J\x1b[1;1H"),
        ("\x9b2J", r"\x9b2J"),
        ("good\rbad", r"good\rbad"),
        ("a\u202eb", r"a\u202eb"),
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        ("\x1b[38;5;8mgrey\x1b[38;2;8;8;8mrgb", "\x1b[38;5;8mgrey\x1b[38;2;8;8;8mrgb"),
        ("\x1b[8mhidden", r"\x1b[8mhidden"),
        ("\x1b[1;08mhidden", r"\x1b[1;08mhidden"),
        ("\x1b[>4;2m", r"\x1b[>4;2m"),
        ("\x1b[31", r"\x1b[31"),
    ],
)
def test_only_colours_pass(text: str, shown: str) -> None:
    assert coloured(text) == shown
    if "\x1b" not in shown:
        assert escaped(text) == shown


@given(TEXTS)
def test_what_is_escaped_stays_so_and_holds_no_command(text: str) -> None:
    shown = escaped(text)
    assert escaped(shown) == shown
    assert not {"\x1b", "\x9b", "\r", "\u202e"} & set(shown)
    assert "\n" not in one_line(text)
    assert len(one_line(text, 20)) <= 20
    assert "\x1b" not in terminal_text._COLOUR.sub("", coloured(text))


@given(st.recursive(TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=8))
def test_a_json_document_keeps_its_content(value: object) -> None:
    text = json_escaped(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == json.loads(json.dumps(value))
    assert text == escaped(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a | b\nc", r"a \| b c"),
        ("<script>*x* _y_ snake_case `z` [l](u) # & ~~s~~", None),
        ("\x1b[2J", r"\\x1b\[2J"),
    ],
)
def test_markdown_of_a_text_reads_as_the_text(text: str, shown: str | None) -> None:
    made = markdown.inline(text)
    if shown is not None:
        assert made == shown
    from rich.markdown import Markdown  # its parser says what a reader would see

    tokens = [inner for token in Markdown(made).parsed for inner in (token.children or ())]
    assert {token.type for token in tokens} <= {"text", "softbreak", "text_special"}
    assert "".join(token.content for token in tokens) == one_line(text)


@pytest.mark.parametrize("text", ["plain", "a`b", "``", "`", "a\nb", " ", "x ``` y"])
def test_a_span_of_code_is_one(text: str) -> None:
    from rich.markdown import Markdown

    (token,) = [inner for token in Markdown(f"x {markdown.code(text)}").parsed for inner in (token.children or ())][1:]
    assert token.type == "code_inline"
    assert token.content.strip() == one_line(text).strip()


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"), ("@SUM(A1)", "'@SUM(A1)"), ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"), ("  =1", "'  =1"), ("\t=1", "' =1"), ("-0.5", "-0.5"), ("+1e-3", "+1e-3"), ("-inf", "-inf"),
        ("lr=1", "lr=1"), ("", ""), ("a\nb", "a b"),
    ],
)  # fmt: skip
def test_a_cell_of_csv_is_no_formula(text: str, cell: str) -> None:
    assert csv_cell(text) == cell
