"""What is said of the code before it is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from queue_manager.core.manifest import Manifest, Phase
from skill.common.errors import UseError
from skill.operations import check_hosts, submission
from skill.transfer import code_files
from skill.transfer.code_files import CodeFiles
from skill.transfer.not_code import Project
from tests.skill.story import job
from tests.skill.test_host_health import FACTS


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
    submission.say_size(made, made.code(), lines.append, refuse)
    assert lines == ["code: 5 files, 17.0 MiB; the largest: biggest.bin 7.0 MiB, bigger.bin 5.0 MiB, big.bin 3.0 MiB"]
    on_the_host = made._replace(cwd=None)
    monkeypatch.setattr(submission, "ASKED_ABOVE", 17 << 20)
    with pytest.raises(UseError, match="biggest"):
        submission.say_size(made, made.code(), lines.append, refuse)
    submission.say_size(on_the_host, on_the_host.code(), lines.append, refuse)
    assert len(lines) == 2, "nothing is pushed where the code is on the host"


def test_a_check_chooses_the_files_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.py").write_text("x")
    made = submission.prepare(Manifest("p", (job("a"),), (Phase("main"),)), str(tmp_path / "spec.yaml"))
    asked: list[Path] = []
    choose = code_files.choose

    def counted(source: Path, project: Project) -> CodeFiles:
        asked.append(source)
        return choose(source, project)

    monkeypatch.setattr(code_files, "choose", counted)
    checked = check_hosts.check(made, [])
    assert checked.code is not None
    assert checked.code.files == ["a.py"]
    assert asked == [tmp_path], "git is asked once, however often the answer is needed"


def test_what_a_host_said_holds_for_a_while() -> None:
    made = submission.prepare(Manifest("p", (job("a"),), (Phase("main"),), cwd="/there"), "spec.yaml")
    checked = check_hosts.check(made, [])._replace(facts={"gpu-a": FACTS})
    assert checked.fresh_facts() == {"gpu-a": FACTS}
    assert checked._replace(at=checked.at - 61).fresh_facts() == {}, "a person may have been asked meanwhile"
