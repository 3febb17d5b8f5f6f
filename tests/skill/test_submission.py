"""What is said of the code before it is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from queue_manager.core.manifest import Manifest, Phase
from skill.common.errors import UseError
from skill.operations import submission
from tests.skill.story import job


def refuse(words: str) -> None:
    raise UseError(words)


def test_the_size_and_the_largest_files_are_said_and_much_code_is_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.py").write_text("x")
    for name, size in (("big.bin", 3), ("bigger.bin", 5), ("biggest.bin", 7), ("small.bin", 2)):
        (tmp_path / name).write_bytes(b"x" * (size << 20))
    made = submission.prepare(Manifest("p", (job("a"),), (Phase("main"),)), str(tmp_path / "spec.yaml"))
    assert made.preflight.startswith("wavequeue preflight /")
    assert made.preflight.endswith("/spec.yaml")
    lines: list[str] = []
    submission.say_size(made, lines.append, refuse)
    assert lines == ["code: 5 files, 17.0 MiB; the largest: biggest.bin 7.0 MiB, bigger.bin 5.0 MiB, big.bin 3.0 MiB"]
    monkeypatch.setattr(submission, "ASKED_ABOVE", 17 << 20)
    with pytest.raises(UseError, match="biggest"):
        submission.say_size(made, lines.append, refuse)
    submission.say_size(made._replace(cwd=None), lines.append, refuse)
    assert len(lines) == 2, "nothing is pushed where the code is on the host"
