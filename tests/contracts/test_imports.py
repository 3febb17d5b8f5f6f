"""What a process imports before it does anything: each module that most of them do not need is paid for by all."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.e2e.runs import ROOT


def imported(module: str) -> set[str]:
    """What importing a module imports, beside what Python itself does at start."""
    shown = f"import sys; before = set(sys.modules); import {module}; print(*set(sys.modules) - before)"
    done = subprocess.run(
        [sys.executable, "-E", "-S", "-c", f"import sys; sys.path[:0] = {[str(ROOT), *sys.path]}; {shown}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("module", "spared"),
    [
        (
            "queue_manager.__main__",
            {
                "dataclasses", "inspect",  # compile the methods of each class
                "pynvml",  # where there is no library of NVIDIA
                "queue_manager.core.diagnosis", "queue_manager.core.log_lines",  # until a job has failed
            },
        ),
    ],
)  # fmt: skip
def test_a_start_is_spared_what_only_some_need(module: str, spared: set[str]) -> None:
    found = imported(module)
    assert module in found
    assert not spared & found
