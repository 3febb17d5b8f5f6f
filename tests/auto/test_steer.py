"""What a person asks of a campaign reaches its journal as it was meant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from skill.auto import requests, store
from skill.auto.config import Limits
from skill.auto.layout import WorkDir
from skill.operations import auto_steer
from tests.auto.killed_loop import begin, work_until_killed
from tests.auto.test_crash import SMALL


def test_a_campaign_that_was_extended_goes_on_and_its_journal_stays_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number of nodes that came back from the file of a request as 3.0 was asked of the agent, and made the journal
    unreadable."""
    monkeypatch.setattr("skill.auto.journal.os.fdatasync", lambda _fd: None)
    world = begin(tmp_path / "work", replace(SMALL, limits=Limits(max_nodes=1)))
    assert work_until_killed(world) is not None
    auto_steer.extend(world.root, {"max_nodes": 2, "max_usd": 1000})
    (asked,) = requests.waiting(WorkDir(world.root))
    assert asked.changes == {"max_nodes": 2, "max_usd": 1000}
    assert work_until_killed(world) is not None
    campaign, _ = store.load(WorkDir(world.root))
    assert len(campaign.proposed) == 2
    assert (repr(campaign.config.limits.max_nodes), campaign.config.limits.max_usd) == ("2", 1000.0)
    assert all(isinstance(ask.want, int) for ask in campaign.asks.values())
