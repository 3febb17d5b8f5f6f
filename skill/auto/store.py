"""A campaign on disk: begin one, and load it from its directory alone."""

from __future__ import annotations

import time

from skill.auto import journal
from skill.auto.campaign import Campaign, CampaignError, Record, fold
from skill.auto.config import Config
from skill.auto.events import CampaignStarted
from skill.auto.journal import Journal
from skill.auto.layout import WorkDir
from skill.common import typed_json
from skill.common.errors import FailedError, UseError


def begin(work: WorkDir, config: Config) -> None:
    """Write the first line of a campaign's journal. Raises UseError where there is one, OSError."""
    if journal.read(work.journal)[0]:
        raise UseError(f"{work.root} has a campaign already")
    opened = Journal(work.journal, 0)
    try:
        opened.append([Record(1, round(time.time(), 3), CampaignStarted(typed_json.plain(config)))])
    finally:
        opened.close()


def load_until(work: WorkDir, seq: int) -> Campaign | None:
    """The campaign as it was at a line of its journal; None where that is not there. Raises FailedError where the
    journal is damaged."""
    records, _ = journal.read(work.journal)
    try:
        found = fold((one for one in records if one.seq <= seq), lambda config: typed_json.into(config, Config))
    except (CampaignError, ValueError) as error:
        raise FailedError(f"{work.journal}: {error}") from None
    return found if found is not None and found.seq == seq else None


def load(work: WorkDir) -> tuple[Campaign, int]:
    """The campaign of a directory, and the length of its journal that is whole. Raises UseError where there is none,
    FailedError where its journal is damaged."""
    records, length = journal.read(work.journal)
    try:
        campaign = fold(records, lambda config: typed_json.into(config, Config))
    except (CampaignError, ValueError) as error:
        raise FailedError(f"{work.journal}: {error}") from None
    if campaign is None:
        raise UseError(f"{work.root} has no campaign; make one with: wavequeue auto init {work.root}")
    return campaign, length
