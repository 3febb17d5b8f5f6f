"""The skill is copied to where Claude Code looks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from build_manifest.faults import Faults
from build_manifest.nodes import MapNode, Scalar
from build_manifest.spec import read
from skill.cli import main
from skill.common.errors import DONE

ROOT = Path(__file__).resolve().parents[2]
SKILLS = {"wavequeue": ROOT / "SKILL.md", "wavequeue-auto": ROOT / "skill" / "auto" / "SKILL.md"}


@pytest.mark.parametrize(("arguments", "below"), [((), "home"), (("--project",), "work")])
def test_the_skill_is_copied(
    arguments: tuple[str, ...], below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    assert main.main(["skill", "install", *arguments]) == DONE
    assert main.main(["skill", "install", *arguments]) == DONE
    for name, source in SKILLS.items():
        copied = tmp_path / below / ".claude" / "skills" / name / "SKILL.md"
        assert copied.read_text() == source.read_text()


@pytest.mark.parametrize("name", SKILLS)
def test_its_head_is_what_claude_code_reads(name: str) -> None:
    _, head, _ = SKILLS[name].read_text().split("---\n", 2)
    keys = {key.text: value for key, value in read(Faults("SKILL.md", head)).entries}
    assert list(keys) == ["name", "description", "allowed-tools"]
    called, description = keys["name"], keys["description"]
    assert isinstance(called, Scalar)
    assert called.text == name
    assert isinstance(description, Scalar)
    assert 200 < len(description.text) <= 1024
    assert not isinstance(keys["allowed-tools"], MapNode)
