"""In which kind of terminal screen is begun, by what the machine knows."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from skill.runs.attach_command import build_attach


@pytest.mark.parametrize(
    ("kind", "known", "shown"),
    [
        ("xterm-kitty", "xterm-kitty xterm-256color", "xterm-kitty"),
        ("xterm-kitty", "xterm xterm-256color", "xterm-256color"),
        ("xterm-kitty", "xterm vt100", "xterm"),
        ("xterm-kitty", "", "xterm-kitty"),  # screen itself says what it lacks
        ("", "xterm-256color", "xterm-256color"),
        ("xterm-kitty", None, "xterm-256color"),
        ("linux", None, "linux"),
        ("dumb; rm -rf x", "xterm-256color", "xterm-256color"),
    ],
)
def test_a_terminal_that_the_machine_does_not_know_is_taken_for_one_that_it_does(
    kind: str, known: str | None, shown: str, tmp_path: Path
) -> None:
    program(tmp_path, "screen", 'echo "$TERM|$SCREENDIR|$*"')
    if known is not None:
        program(tmp_path, "infocmp", f'case " {known} " in *" $1 "*) ;; *) exit 1 ;; esac')
    command = ["/bin/sh", *build_attach("7.wq_j1_1", "/run/my screens")[1:]]
    done = subprocess.run(command, env={"PATH": str(tmp_path), "TERM": kind}, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{shown}|/run/my screens|-x 7.wq_j1_1\n", "")


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)
