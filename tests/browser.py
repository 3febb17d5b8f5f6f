"""A real browser, where one is installed, and what a script in a page has found out there."""

from __future__ import annotations

import contextlib
import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

FOUND = [path for name in ("chromium", "google-chrome") if (path := shutil.which(name))]
BROWSERS = [path for path in FOUND if "/snap/" not in os.path.realpath(path)][:1]  # a snap sees no file of a test


def answers_of(browser: str, page: str, folder: Path, width: int, dark: bool) -> Any:
    """What a script in a page has written into it, as JSON in an element called answers."""
    file = folder / "asked.html"
    file.write_text(page, encoding="utf-8")
    command = [
        browser, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}",
        "--disable-extensions", "--disable-background-networking",
        # What lies below a window's end is laid out and answers, too; to paint it would take a quarter of all time.
        f"--window-size={width},100", f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        "--virtual-time-budget=20000", "--dump-dom", file.as_uri(),
    ]  # fmt: skip
    for _ in range(3):  # whether a browser comes up on a busy machine is not what is tested
        printed = ""
        with contextlib.suppress(subprocess.TimeoutExpired):
            printed = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False).stdout
        answers = re.search(r'<pre id="answers">(.*?)</pre>', printed, re.DOTALL)
        if answers is not None:
            break
    else:
        pytest.fail(f"no answer: {printed[-2000:]}")
    return json.loads(html.unescape(answers[1]))


class Frame(NamedTuple):
    """A page of which a script writes what it has found out into an element called answers, in a frame so many pixels
    wide."""

    page: str
    width: int
    dark: bool = False


_GATHER = """<!doctype html><body><script>
const gather = () => {
  const answers = [...document.querySelectorAll("iframe")].map((one) => one.contentDocument.getElementById("answers"));
  if (!answers.every(Boolean)) return setTimeout(gather, 100);
  document.body.append(Object.assign(document.createElement("pre"), {
    id: "answers", textContent: JSON.stringify(answers.map((one) => JSON.parse(one.textContent))),
  }));
};
addEventListener("load", gather);
</script>"""


def answers_of_frames(browser: str, frames: Sequence[Frame], folder: Path) -> list[Any]:
    """What the scripts of these pages have found out, by one start of the browser, which takes longer than most do."""
    shown = "".join(
        f'<iframe srcdoc="{html.escape(one.page)}" style="width: {one.width}px; height: 2000px; border: 0; '
        f'color-scheme: {"dark" if one.dark else "light"}"></iframe>'
        for one in frames
    )
    found: list[Any] = answers_of(browser, _GATHER + shown, folder, 1280, dark=False)
    return found
