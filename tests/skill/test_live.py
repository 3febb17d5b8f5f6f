"""The live view: what Ctrl-C leaves behind."""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path

import pytest
from rich.console import Console

from skill.runs.directory import Run
from skill.runs.watched import Watched
from skill.terminal import frame, live
from tests.skill.story import Story, job, manifest


def test_ctrl_c_while_a_frame_is_drawn_leaves_the_terminal_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is taken once the frame stands: rich has given back stderr and the cursor by then."""
    monkeypatch.setenv("TERM", "xterm-256color")  # a dumb one has no cursor to hide
    drawn: list[int] = []

    def interrupted(*_: object) -> list[str]:
        drawn.append(1)
        if len(drawn) == 2:  # the first is drawn before the terminal is touched
            os.kill(os.getpid(), signal.SIGINT)
        return ["a frame"]

    monkeypatch.setattr(frame, "frame", interrupted)
    monkeypatch.setattr(live, "_is_over", lambda _: len(drawn) > 5)
    story = Story(manifest(job("one")), tmp_path)
    watched = Watched(Run("demo", story.paths), story.document())
    text = io.StringIO()
    before = sys.stderr
    with pytest.raises(KeyboardInterrupt):
        live._live(watched, Console(file=text, force_terminal=True), "")
    assert sys.stderr is before
    assert len(drawn) == 2
    assert text.getvalue().endswith("\x1b[?25h")
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
