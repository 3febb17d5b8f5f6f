"""Whatever a verb prints, only text and colours reach a terminal."""

from __future__ import annotations

import io
import os
import pty
import sys

import click
import pytest
from rich.text import Text

from skill.cli import main
from skill.cli.console import print_json
from skill.common import text_table
from skill.common.errors import FailedError
from skill.runs import logs
from skill.terminal import live, safe_output

NASTY = "\x1b]52;c;eA==\x07\x1b[2J\x1b[31mred\x1b[0m\u202e\x9b1A\r."
SHOWN = r"\x1b]52;c;eA==\x07\x1b[2J" + "{}" + r"\u202e\x9b1A\r."
PLAIN, COLOURED = SHOWN.format(r"\x1b[31mred\x1b[0m"), SHOWN.format("\x1b[31mred\x1b[0m")
BY_CLICK = SHOWN.format("red").replace(r"\x1b[2J", "")
"""Of colours it leaves nothing in a file, before we see it."""


class Tty(io.StringIO):
    """A stream that is a terminal, by what it says."""

    def isatty(self) -> bool:
        return True


def printed(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> tuple[str, str]:
    out, err = (Tty(), Tty()) if terminal else (io.StringIO(), io.StringIO())
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with safe_output.guarded():
        print(NASTY)
        click.echo(NASTY)
        sys.stdout.writelines([NASTY, "\n"])
        click.echo(NASTY, err=True)
    assert (sys.stdout, sys.stderr) == (out, err)
    return out.getvalue(), err.getvalue()


def test_a_terminal_gets_colours_alone_and_they_are_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = printed(monkeypatch, terminal=True)
    assert out == f"{COLOURED}\n" * 3 + "\x1b[0m"
    assert err == f"{COLOURED}\n\x1b[0m"


def test_a_file_gets_no_escape_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = printed(monkeypatch, terminal=False)
    assert out == f"{PLAIN}\n{BY_CLICK}\n{PLAIN}\n"
    assert err == f"{BY_CLICK}\n"


def test_nothing_is_written_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace"))
    with safe_output.guarded():
        assert not hasattr(sys.stdout, "buffer")
        click.echo(NASTY)
    sys.stdout.seek(0)
    assert sys.stdout.read() == f"{BY_CLICK}\n"


def test_what_is_drawn_is_clean_and_still_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Tty()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", "xterm")
    with safe_output.guarded():
        output = live.console()
        output.show_cursor(False)
        output.print(Text(f"a{NASTY}", style="green"), no_wrap=True, crop=False)
        for line in text_table.columns([[NASTY, "x"]], 80):
            output.print(line)
    text = stream.getvalue()
    assert "\x1b[?25l" in text, "what rich itself does with the terminal passes"
    assert "\x1b]52" not in text
    assert "\x1b[2J" not in text
    assert not {"\u202e", "\x9b", "\x07"} & set(text)


def test_every_message_of_the_command_passes_the_guard(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_args: object, **_named: object) -> None:
        raise FailedError(NASTY)

    monkeypatch.setattr(main.cli, "main", fail)
    assert main.main([]) == 1
    assert capsys.readouterr().err == f"wavequeue: {PLAIN}\n"


def test_logs_show_a_terminal_its_colours_and_files_none_of_it() -> None:
    data = f"a {NASTY}\n 10%\r\x1b[32m 20%\x1b[0m\x1b[K\r\n".encode()
    cleaner = logs.Coloured()
    assert cleaner.feed(data) + cleaner.end() == ".\n\x1b[32m 20%\x1b[0m\n\x1b[0m"
    cleaner = logs.Coloured()
    text = cleaner.feed(b"x\x1b]0;t\x07\x1b[1;31my\x1b[2J\n") + cleaner.end()
    assert text == "x\\x1b]0;t\\x07\x1b[1;31my\\x1b[2J\n\x1b[0m"
    assert logs.plain("a\u202eb \x9b2J\n".encode()) == "a\\u202eb \\x9b2J\n"


def test_a_bar_without_an_end_is_redrawn_in_one_row() -> None:
    cleaner = logs.Coloured(width=10)
    assert cleaner.feed(b"begin\n 10%") == "begin\n 10%"
    assert cleaner.feed("\r 训练训练训练".encode()) == "\r\x1b[K 训练训练"
    assert cleaner.feed(b"\r 30%\n") == "\r\x1b[K 30%\n"
    assert cleaner.feed(b"end") + cleaner.end() == "end\r\x1b[Kend\n"


def test_raw_logs_pass_as_they_are(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    del tmp_path
    from skill.cli.job import _Writer

    ends = [pty.openpty() for _ in range(2)]
    for (near, far), raw in zip(ends, (True, False), strict=True):
        with os.fdopen(far, "w") as stream:
            monkeypatch.setattr(sys, "stdout", stream)
            writer = _Writer(raw=raw)
            writer.write(b"\x1b]0;t\x07.\n")
            writer.end()
            assert os.read(near, 100) == (b"\x1b]0;t\x07.\r\n" if raw else b"\\x1b]0;t\\x07.\r\n")
        os.close(near)


SPOKEN = (
    "wavequeue: demo is paused; next: wavequeue resume --run demo\nits log: /w/wavequeue run, a wavequeue journal\n"
)


@pytest.mark.parametrize(
    ("typed", "text"),
    [("wavequeue", SPOKEN), ("wq", SPOKEN.replace("wavequeue: ", "wq: ").replace("wavequeue resume", "wq resume"))],
)
def test_messages_name_the_command_as_it_was_typed(monkeypatch: pytest.MonkeyPatch, typed: str, text: str) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    out = sys.stdout
    with safe_output.guarded(safe_output.named(typed, ["run", "resume"])):
        print(SPOKEN, end="")
        live.console().print(SPOKEN, end="")
        print_json({"says": "wavequeue resume"})
    assert isinstance(out, io.StringIO)
    assert out.getvalue() == text * 2 + '{"says": "wavequeue resume"}\n', "documents stay the same"


def test_the_command_line_decides_which_name_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for typed in ("wq", "wavequeue"):
        monkeypatch.setattr(sys, "argv", [f"/usr/bin/{typed}"])
        assert main.main(["status", "--run", "none"]) != 0
        assert capsys.readouterr().err.startswith(f"{typed}: ")


def test_a_path_stands_in_commands_and_not_before_messages() -> None:
    typed = safe_output.named("a/bin/wq", ["run", "plan"], "wq")
    assert typed("wavequeue: see: wavequeue plan x\nwavequeue: no") == "wq: see: a/bin/wq plan x\nwq: no"
