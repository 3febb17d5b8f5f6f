"""A real agent answers a plan and edits a file, through the contract of any agent: only with WQ_LIVE_AGENT=1, since it
costs money. Without it, the end of a test run says that this was not run."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from skill.auto.agent import CommandAgent
from skill.auto.config import Scope
from skill.auto.layout import WorkDir
from skill.auto.ports import Answer, Request
from skill.auto.prompt import renderer
from skill.auto.replies import EditReply, PlanReply
from skill.operations.auto_init import AGENTS
from tests.auto.test_context import measured

pytestmark = pytest.mark.live_agent


@pytest.mark.parametrize("name", [name for name in AGENTS if shutil.which(name)] or ["claude"])
def test_a_real_agent_plans_and_edits(name: str, tmp_path: Path) -> None:
    spec = replace(AGENTS[name], timeout=600.0)
    campaign = measured(4, scope=Scope(("train.py",)))
    campaign.nodes["n003"].edit = "Add the comment `# tuned` as the last line of train.py."
    work = WorkDir(tmp_path / "work")
    agent = CommandAgent(spec, work, renderer(work))
    planned = agent.ask(Request(1, "plan", want=2), campaign, None, threading.Event())
    assert isinstance(planned, Answer), planned
    assert isinstance(planned.reply, PlanReply)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "train.py").write_text("print('score=1')\n")
    edited = agent.ask(Request(2, "edit", "n003"), campaign, tree, threading.Event())
    assert isinstance(edited, Answer), edited
    assert isinstance(edited.reply, EditReply)
    assert (tree / "train.py").read_text().splitlines()[-1] == "# tuned"
