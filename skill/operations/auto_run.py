"""Run an autoresearch campaign until it stops; it resumes from its directory alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType

from skill.auto import events, prompt, requests, store
from skill.auto.agent import CommandAgent
from skill.auto.campaign import Campaign
from skill.auto.journal import Journal
from skill.auto.layout import WorkDir
from skill.auto.loop import Loop
from skill.auto.source import GitSource
from skill.common import files
from skill.operations import auto_queue
from skill.operations.build_spec import Say, ignore


def run_campaign(root: Path, *, say: Say = ignore, changed: Callable[[Campaign], None] | None = None) -> Campaign:
    """Work on a campaign until it stops. `say` gets lines for a person; `changed` is called when there is news.

    One that a person had stopped goes on. At Ctrl-C the agent's processes are ended and KeyboardInterrupt is raised;
    jobs continue, and are collected when it is run again. Raises UseError where there is no campaign, FailedError.
    """
    work = WorkDir.at(root)
    store.load(work)  # before anything is made beside it
    with files.alone(work.lock, f"{work.root} is being worked on by another `wavequeue auto run`"):
        campaign, length = store.load(work)
        prompt.check(work)
        config = campaign.config
        agent = CommandAgent(config.agent, work, prompt.renderer(work))
        with closing(Journal(work.journal, length)) as journal:
            loop = Loop(
                work,
                campaign,
                journal,
                agent,
                GitSource(config, work),
                auto_queue.queue_of(config, work, say),
                say=say,
                changed=changed or _nothing,
            )
            with _interrupting(loop):
                agent.end_leftovers()
                _begin(loop, work)
                loop.run()
        return campaign


def _begin(loop: Loop, work: WorkDir) -> None:
    """Say that a loop works on it again; a person who runs a campaign that one had stopped wants it to go on."""
    loop.record(events.LoopStarted(os.getpid()))
    if loop.campaign.stop_requested and not any(asked.verb == "stop" for asked in requests.waiting(work)):
        loop.record(events.CampaignResumed())


def _nothing(_campaign: Campaign) -> None:
    pass


@contextmanager
def _interrupting(loop: Loop) -> Iterator[None]:
    """Have Ctrl-C and TERM end the loop between two lines of its journal."""

    def end(_number: int, _frame: FrameType | None) -> None:
        loop.interrupt()

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
