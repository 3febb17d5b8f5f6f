"""Applies a rule to a log in a process of its own, which is killed where that takes too long: a regular expression that
tries more and more on some line holds all threads of its process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from queue_manager.core.metric_rules import Found, Rule
from queue_manager.core.terminal_text import one_line

PATIENCE = 30.0
"""Seconds that a rule may take for a log."""
_CODE = "import sys; sys.path[:0] = sys.argv[1:]; from queue_manager.adapters.metric_files import main; main()"


def found(rule: Rule, log: Path) -> Found:
    """The number that a rule finds in a log; or why there is none."""
    asked = json.dumps({"log": str(log), "rule": rule}).encode()
    argv = [sys.executable, "-E", "-s", "-S", "-B", "-c", _CODE, *sys.path]
    try:
        done = subprocess.run(argv, input=asked, capture_output=True, timeout=PATIENCE, check=False)
        value = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        shown = one_line(rule.source, 80)
        return f"its rule {shown} takes longer than {PATIENCE:.0f} s: write it without a repeat inside of a repeat"
    except (OSError, ValueError) as error:
        return f"its rule cannot be applied: {error}"
    return value if isinstance(value, str) else float(value)
