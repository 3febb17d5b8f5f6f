"""Cards are read for those who look on: while jobs use them, soon after a begin or an end, never without need."""

from __future__ import annotations

import pytest

from queue_manager.card_readings import CardReadings
from queue_manager.core import events as ev
from queue_manager.core.pace import FOR_VIEW, SETTLED
from queue_manager.core.readings import Card, Cards
from tests.skill.story import Story, job, manifest


class Nvml:
    """Cards whose one has so many MiB in use as it was read times before."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self) -> Cards:
        self.reads += 1
        return Cards((Card(0, "GPU-0", "c", 1000, self.reads),))


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    made = Nvml()
    monkeypatch.setattr("queue_manager.card_readings.Nvml", lambda: made)
    return made


def test_a_view_shows_what_jobs_use_soon_after_they_begin_and_when_they_have_ended(nvml: Nvml) -> None:
    story = Story(manifest(job("a", gpus=1)))
    readings = CardReadings(story.state, 60.0)
    assert readings.view_due() is None
    story.start("a", 0)
    readings.pace(False, story.records[-1:], 100.0)
    assert readings.view_due() == 100.0 + SETTLED
    assert not readings.read_for_view(100.0)
    assert readings.read_for_view(100.0 + SETTLED)
    assert readings.view_due() == 100.0 + SETTLED + FOR_VIEW
    story.end("a")
    readings.pace(False, story.records[-1:], 102.0)
    assert readings.view_due() == 102.0 + SETTLED
    assert readings.read_for_view(103.0)
    assert readings.view_due() is None
    assert nvml.reads == 2
    readings.read_at_end()
    assert readings.used_mib() == {"GPU-0": 3}


def test_a_run_without_cards_reads_none(nvml: Nvml) -> None:
    story = Story(manifest(job("a"), job("b")))
    readings = CardReadings(story.state, 5.0)
    story.complete("a")
    readings.pace(False, story.records, 100.0)
    assert any(isinstance(record.event, ev.AttemptEnded) for record in story.records)
    assert readings.view_due() is None
    assert not readings.read_for_view(1000.0)
    readings.read_at_end()
    assert nvml.reads == 0
