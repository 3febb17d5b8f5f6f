"""Report on a campaign: its summary, its page, and the agent's prose about it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from skill.auto import budget, events, page, prompt, store, tables
from skill.auto.agent import CommandAgent
from skill.auto.campaign import Record, apply
from skill.auto.journal import Journal
from skill.auto.layout import WorkDir
from skill.auto.ports import Answer, Request
from skill.auto.replies import ReportReply
from skill.auto.source import GitSource
from skill.auto.views import Views
from skill.common import files
from skill.common.errors import FailedError
from skill.operations.build_spec import Say, ignore


def report(root: Path) -> str:
    """The summary of a campaign, in Markdown; all views are written anew. Raises UseError, FailedError, OSError."""
    work = WorkDir.at(root)
    campaign, _ = store.load(work)
    views = Views(work, GitSource(campaign.config, work).diff)
    views.write(campaign)
    views.draw(campaign)
    return tables.summary(campaign)


def report_page(root: Path) -> str:
    """The page of a campaign. Raises UseError, FailedError."""
    campaign, _ = store.load(WorkDir.at(root))
    return page.page(campaign)


def narrate(
    root: Path, *, say: Say = ignore, stop: threading.Event | None = None, clock: Callable[[], float] = time.time
) -> None:
    """Have the agent write prose about a campaign; reports have it from then on, with its numbers checked. Raises
    UseError, and FailedError where the campaign is being worked on, the money does not suffice, or the agent fails."""
    work = WorkDir.at(root)
    store.load(work)
    busy = f"{work.root} is being worked on; the agent can write about it once that has ended"
    with files.alone(work.lock, busy):
        campaign, length = store.load(work)
        config = campaign.config
        if budget.room(campaign).after(0.0, config.agent.usd_per_call or 0.0).is_over:
            raise FailedError("the limits do not pay for another call of the agent; raise them: wavequeue auto extend")
        number = campaign.next_ask
        with closing(Journal(work.journal, length)) as journal:

            def record(event: events.Event) -> None:
                one = Record(campaign.seq + 1, round(clock(), 3), event)
                journal.append([one])
                apply(campaign, one)

            record(events.AskStarting(number, "report", usd=config.agent.usd_per_call))
            say(f"asking the agent: {config.agent.cmd[0]}")
            agent = CommandAgent(config.agent, work, prompt.renderer(work))
            agent.end_leftovers()
            got = agent.ask(Request(number, "report"), campaign, None, stop or threading.Event())
            if isinstance(got, Answer) and isinstance(got.reply, ReportReply):
                record(events.AskEnded(number, "answered", got.usd, got.seconds, got.reply.text))
                return
            assert not isinstance(got, Answer)
            record(events.AskEnded(number, got.kind, got.usd, got.seconds, got.text, got.until))
            raise FailedError(f"the agent did not answer: {got.text}")
