"""Run an autoresearch campaign until it stops; it resumes from its directory alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

from skill.auto import checkpoint, config_file, events, prompt, requests, store
from skill.auto.agent import CommandAgent, digest
from skill.auto.campaign import Campaign
from skill.auto.journal import Journal
from skill.auto.layout import WorkDir
from skill.auto.loop import Loop
from skill.auto.source import GitSource
from skill.auto.views import CHECKPOINT, Views
from skill.common import files, typed_json
from skill.common.errors import UseError
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
        take_configuration(work, say)
        campaign, length = store.load(work)
        prompt.check(work)
        config = campaign.config
        agent = CommandAgent(config.agent, work, prompt.renderer(work))
        source = GitSource(config, work)
        views = Views(work, source.diff)

        def show(campaign: Campaign) -> None:
            _shown(lambda: views.write(campaign), say)
            if changed is not None:
                changed(campaign)

        with closing(Journal(work.journal, length)) as journal:
            loop = Loop(
                work,
                campaign,
                journal,
                agent,
                source,
                auto_queue.queue_of(config, work, say),
                say=say,
                changed=show,
            )
            with _interrupting(loop):
                agent.end_leftovers()
                source.end_leftovers()
                _begin(loop, work, say)
                try:
                    loop.run()
                finally:
                    show(campaign)
            _shown(lambda: views.draw(campaign), say)
        return campaign


def _shown(write: Callable[[], object], say: Say) -> None:
    """Write views. One that cannot be written comes back with the next, and is no reason to end a campaign."""
    try:
        write()
    except OSError as error:
        say(f"warning: the views are not up to date: {error}")


def take_configuration(work: WorkDir, say: Say) -> None:
    """Until a loop has worked on a campaign, config.json may be changed; from then on the journal's copy counts. Raises
    UseError where it is invalid."""
    campaign, _ = store.load(work)
    if not work.config.exists():
        return
    config = config_file.read(work)
    if replace(config, limits=campaign.config.limits) == campaign.config and campaign.seq > 1:
        return
    if campaign.seq > 1:
        say("warning: config.json was changed after the campaign began, and only its limits can: wavequeue auto extend")
    elif config != campaign.config:
        work.journal.unlink()
        store.begin(work, config)


def _begin(loop: Loop, work: WorkDir, say: Say) -> None:
    """Say that a loop works on it again; a person who runs a campaign that one had stopped wants it to go on."""
    loop.record(events.LoopStarted(os.getpid(), digest(loop.campaign.config.agent.cmd)))
    if loop.campaign.stop_requested and not any(asked.verb == "stop" for asked in requests.waiting(work)):
        loop.record(events.CampaignResumed())
    loop.record(*edited(work, loop.campaign, say))


def edited(work: WorkDir, campaign: Campaign, say: Say) -> list[events.Steered]:
    """What a person changed in engine/checkpoint.json while nothing worked on the campaign, and is not in its journal
    yet: a loop may be killed before it has written that file anew."""
    path = work.root / CHECKPOINT
    try:
        found = typed_json.decode(files.read_text(path), files.MOST)
    except FileNotFoundError:
        return []
    except (UseError, typed_json.DocumentError) as error:
        say(f"warning: {path} cannot be read, and what was changed in it does not count: {error}")
        return []
    seq = checkpoint.shows(found)
    then = None if seq is None else store.load_until(work, seq)
    steered = [] if then is None else checkpoint.edits(then, found)
    return [one for one in steered if one.id not in campaign.requests and one.node in campaign.nodes]


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
