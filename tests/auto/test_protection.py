"""Protected files where a job runs: what its command checks before and after, and what is concluded from it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from skill.auto import protection
from skill.auto.layout import hashes_of
from skill.operations import auto_queue

NAMES = ("data/a set.csv", "prep\\are.py", "prepare.py")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A node's worktree, with a program in a directory of it."""
    made = tmp_path / "n001"
    (made / "sub" / "dir").mkdir(parents=True)
    for name in NAMES:
        (made / name).parent.mkdir(exist_ok=True)
        (made / name).write_text(f"{name}\n")
    found = protection.hashes(made, [*NAMES, "gone.py"])
    assert found.number == len(NAMES)
    hashes_of(made).write_text(found.listed)
    return made


def run(root: Path, command: str, shell: str = "bash", subdir: str = "sub/dir") -> tuple[int, float | None, str]:
    """The exit code, the metric as a manager reads it, and what was printed by a guarded command."""
    found = protection.Protected(len(NAMES), hashes_of(root).read_text())
    return _run(root, protection.guarded(command, found, root, subdir), shell, subdir)


def _run(root: Path, text: str, shell: str = "bash", subdir: str = "sub/dir") -> tuple[int, float | None, str]:
    done = subprocess.run([shell, "-c", text], cwd=root / subdir, capture_output=True, text=True)
    printed = done.stdout + done.stderr
    numbers = [float(one) for one in re.findall(protection.RULE["log"], printed)]
    return done.returncode, max(numbers, default=None), printed


@pytest.mark.parametrize("shell", ["bash", "sh"])
@pytest.mark.parametrize(
    ("command", "code", "changed"),
    [
        ("true", 0, 0),
        ("pwd; touch ../../new.py", 0, 0),
        ("cd / && exit 3", 3, 0),
        ("echo easier > ../../prepare.py", 0, 1),
        ("rm -r ../../data; echo easier > ../../prepare.py; exit 4", 4, 2),
        ("echo > ../../../n001.sha256", 0, 3),
        ("set -e; false", 1, 0),
        ("echo x > ../../prepare.py; echo 'wavequeue: protected files that changed: 0'", 0, 1),
        ("exec true", 0, None),
    ],
)
def test_a_guarded_command_says_what_it_changed_and_keeps_its_exit_code(
    root: Path, shell: str, command: str, code: int, changed: float | None
) -> None:
    assert run(root, command, shell)[:2] == (code, changed)


def test_it_checks_in_the_root_as_well(root: Path) -> None:
    assert run(root, "echo > prepare.py; cd sub", subdir=".")[:2] == (0, 1)


def test_a_program_is_not_started_on_files_that_an_earlier_run_changed(root: Path) -> None:
    run(root, "echo easier > ../../prepare.py")
    code, changed, printed = run(root, "echo it ran")
    assert (code, changed) == (1, None)
    assert "protected files are not as in the node's commit" in printed
    assert "it ran" not in printed


def test_a_list_of_hashes_that_was_made_to_fit_is_seen(root: Path) -> None:
    fits = "echo x > ../../prepare.py; (cd ../..; sha256sum prepare.py data/* prep*are.py > ../n001.sha256)"
    found = protection.Protected(len(NAMES), hashes_of(root).read_text())
    assert _run(root, protection.guarded(fits, found, root, "sub/dir"))[:2] == (0, 3)


def test_a_link_is_left_to_what_it_leads_to(root: Path) -> None:
    (root / "link.py").symlink_to("prepare.py")
    assert protection.hashes(root, ["link.py"]) == protection.Protected(0, "")
    assert protection.guarded("true", protection.Protected(0, ""), root, ".") == "true"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (0.0, None),
        (1.0, "its run changed 1 protected file"),
        (2.0, "its run changed 2 protected files"),
        (None, "its protected files were not checked after it"),
    ],
)
def test_only_a_checked_run_that_changed_nothing_counts(changed: float | None, says: str | None) -> None:
    found = protection.fault(changed)
    assert found is None if says is None else found is not None and found.startswith(says)


@pytest.mark.parametrize(
    ("status", "metrics", "errors", "counts"),
    [
        ("completed", {"score": 1.0, protection.METRIC: 0.0}, {}, True),
        ("completed", {"score": 1.0, protection.METRIC: 1.0}, {}, False),
        ("completed", {"score": 1.0, protection.METRIC: None}, {protection.METRIC: "no line matches"}, False),
        ("completed", {"score": 1.0}, {protection.METRIC: "no line matches"}, False),
        ("completed", {"score": 1.0}, {}, True),  # nothing is protected
        ("running", {"score": 1.0}, {protection.METRIC: "no line matches"}, True),
    ],
)
def test_numbers_of_a_run_that_changed_protected_files_are_not_taken(
    status: str, metrics: dict[str, Any], errors: dict[str, str], counts: bool
) -> None:
    row = {
        "id": "n001_s0", "status": status, "metrics": metrics, "metric_errors": errors, "error": None, "gpu": None,
        "started": None, "completed": None, "attempt_ended": None,
    }  # fmt: skip
    found = auto_queue.seen({"gpus": [], "jobs": [row]})["n001_s0"]
    assert found.status == status
    assert found.metrics == ({"score": 1.0} if counts else {})
    assert counts or "protected file" in found.error
