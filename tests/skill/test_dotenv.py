"""What of a .env file goes to a host, read back by a shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill.common.errors import UseError
from skill.hosts.dotenv import choose


def test_only_allowed_names_go_and_the_others_are_named() -> None:
    text = "\ufeff# keys\n\nexport HF_TOKEN = hf_1 # mine\nAWS_SECRET=x\nHF_TOKEN=hf_2\nMINE=y\n"
    assert choose(text, ["HF_TOKEN", "MINE"], ".env") == (
        "HF_TOKEN=hf_2\nMINE=y\n",
        ("HF_TOKEN", "MINE"),
        ("AWS_SECRET",),
    )


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("", ""), ("#none", ""), ("a#b", "a#b"), ("a b  # c", "a b"), ("'a # b'", "a # b"), ("''", ""),
        ('"a\\nb"', "a\nb"), ('"a\\"b" # c', 'a"b'), ("'it is $HOME'", "it is $HOME"), ("$(reboot)", "$(reboot)"),
        ('"`id` \\$x \\d"', "`id` $x \\d"),
    ],
)  # fmt: skip
def test_a_value_reaches_the_shell_as_it_was_meant(written: str, meant: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(choose(f"A={written}\n", ["A"], ".env").text)
    done = subprocess.run(
        ["sh", "-c", "set -a; . ./.env; exec sh -c 'printf %s \"$A\"'"], cwd=tmp_path, capture_output=True, check=True
    )
    assert done.stdout.decode() == meant


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("SECRET", "is not NAME=VALUE"),
        ("1A=SECRET", "is not NAME"),
        ("A='SECRET", "are not closed"),
        ('A="SECRET" x', "are not closed"),
    ],
)
def test_a_fault_has_its_line_and_no_value(line: str, words: str) -> None:
    with pytest.raises(UseError) as error:
        choose(f"B=1\n{line}\n", ["A"], "my.env")
    assert str(error.value).startswith("my.env:2: ")
    assert words in str(error.value)
    assert "SECRET" not in str(error.value)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = choose(text, ["A"], ".env")
    except UseError:
        return
    assert set(found.names) <= {"A"}
