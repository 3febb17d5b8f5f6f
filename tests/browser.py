"""A real browser, where one is installed, and what a script in a page has found out there."""

from __future__ import annotations

import contextlib
import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

FOUND = [path for name in ("chromium", "google-chrome") if (path := shutil.which(name))]
BROWSERS = [path for path in FOUND if "/snap/" not in os.path.realpath(path)][:1]  # a snap sees no file of a test


def answers_of(browser: str, page: str, folder: Path, width: int, dark: bool) -> Any:
    """What a script in a page has written into it, as JSON in an element called answers."""
    file = folder / "asked.html"
    file.write_text(page, encoding="utf-8")
    command = [
        browser, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}",
        f"--window-size={width},2000", f"--blink-settings=preferredColorScheme={0 if dark else 1}",
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
