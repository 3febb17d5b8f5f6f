"""Carry out what the policy decides: the intent is journaled before each action, the outcome after it.

Calls of the agent and checks of edits run in threads of their own; everything else, and every line of the journal, is
the main thread's. A loop that is killed at any moment goes on from the journal alone.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from skill.auto import comparable, policy, requests
from skill.auto import events as ev
from skill.auto.campaign import SUBMITTED, Campaign, Job, Node, Record, apply, job_id
from skill.auto.config import Config
from skill.auto.journal import Journal
from skill.auto.layout import WorkDir
from skill.auto.policy import Ask, Build, Cancel, Gate, Note, Pause, Stop, Submit
from skill.auto.ports import Accepted, Agent, Answer, JobSeen, JobToRun, Queue, Refused, Request, Source, Trouble
from skill.auto.replies import AnalyzeReply, PlanReply
from skill.common.errors import FailedError

FINAL = frozenset({"completed", "stuck", "blocked", "cancelled"})
"""Statuses of a job in the queue that do not change by themselves."""
LEAVE_WITHIN = 1.5
"""Seconds that the agent's processes get to exit when the loop ends."""
RETRY = 15.0
"""Seconds until a queue that could not be reached is tried again."""
_LOOK = 0.5
_SOON, _SHARE = 0.5, 0.1
"""Least seconds between two looks at the queue, and their share of the time since a job was submitted or ended."""
T = TypeVar("T")


def judged_words(node: Node, config: Config) -> str:
    """Describe the verdict on a node in a line."""
    value = "" if node.value is None else f", {config.objective.metric} {node.value:.6g}"
    gain = "" if node.effect is None or node.bar is None else f", gain {node.effect:+.3g} (counts above {node.bar:.2g})"
    why = f": {node.reason}" if node.reason else ""
    return f"{node.id} {(node.verdict or '').replace('_', ' ')}{value}{gain}, {node.title}{why}"


def noted_words(event: ev.Event, campaign: Campaign) -> str | None:
    """Describe a conclusion in a line; None where there is nothing to report."""
    if isinstance(event, ev.NodeJudged):
        return judged_words(campaign.nodes[event.node], campaign.config)
    if isinstance(event, ev.ModelChosen):
        again = "; the baseline and the best node are measured again" if event.begins else ""
        return f"jobs run on {event.gpu}: {event.reason}{again}"
    if isinstance(event, ev.DriftChecked) and event.drifted:
        return f"ALERT: {event.text}; the baseline and the best node are measured again"
    if isinstance(event, ev.NodeMeasuredAgain):
        node = campaign.nodes[event.node]
        value = "" if event.value is None else f": {campaign.config.objective.metric} {event.value:.6g}"
        return f"{node.id} measured again{value}" + ("" if event.holds else f", no longer the best: {event.reason}")
    return None


class Loop:
    """Works on one campaign. `say` gets lines for a person; `changed` is called after the journal has grown."""

    def __init__(
        self,
        work: WorkDir,
        campaign: Campaign,
        journal: Journal,
        agent: Agent,
        source: Source,
        runs: Queue,
        *,
        say: Callable[[str], None],
        changed: Callable[[Campaign], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.campaign = campaign
        self._work, self._journal, self._agent, self._source, self._runs = work, journal, agent, source, runs
        self._say, self._changed, self._clock = say, changed, clock
        self._stop = threading.Event()
        self._ended: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._threads: dict[object, threading.Thread] = {}
        self._look_at, self._submit_at, self._gpus_at = 0.0, 0.0, 0.0
        self._news_at = 0.0
        self._fault = ""
        self._is_interrupted, self._may_raise = False, False

    def run(self) -> None:
        """Work until the campaign stops. Raises KeyboardInterrupt, with the agent's processes gone and the journal
        whole; FailedError."""
        try:
            while self.step():
                self._wait()
                if self._is_interrupted:
                    raise KeyboardInterrupt
        finally:
            self._leave()

    def step(self) -> bool:
        """Record what has happened and act on it; False once the campaign has stopped."""
        before = self.campaign.seq
        self._take_requests()
        self._collect()
        if self._knows_gpus():
            while self._act():
                pass
        if self.campaign.seq != before:
            self._changed(self.campaign)
        return self.campaign.stopped is None

    def record(self, *happened: ev.Event) -> None:
        """Write events down and apply them. Raises OSError."""
        at = round(self._clock(), 3)
        seq = self.campaign.seq
        records = [Record(seq + number, at, event) for number, event in enumerate(happened, 1)]
        self._journal.append(records)
        for one in records:
            apply(self.campaign, one)

    # -- what comes in

    def _take_requests(self) -> None:
        for asked in requests.waiting(self._work):
            event = requests.event(self.campaign, asked)
            if event is not None:
                self.record(event)
            requests.done(self._work, asked)

    def _collect(self) -> None:
        """Record jobs that ended, in the order in which they ended."""
        jobs = [job for job in self.campaign.open_jobs if job.status == SUBMITTED]
        now = self._clock()
        if not jobs or now < self._look_at:
            return
        seen: Mapping[str, JobSeen] = {}

        def look() -> None:
            nonlocal seen
            seen = self._runs.look(self.campaign.gpu)

        is_seen = self._reaches(look)
        pace = min(self._runs.interval, max(_SOON, _SHARE * (now - self._news_at)))
        self._look_at = now + (pace if is_seen else RETRY)
        if not is_seen:
            return
        ended = [(job, seen[job.id]) for job in jobs if job.id in seen and seen[job.id].status in FINAL]
        for number, (job, row) in enumerate(sorted(ended, key=lambda one: (one[1].ended or 0.0, one[0].id)), 1):
            self.record(self._job_ended(job, row))
            self._news_at = now
            if number < len(ended):  # what it leads to is decided before the next one is known, as if it had been seen
                self._decide()
        if any(job.id not in seen for job in jobs):
            self._submit_again([job for job in jobs if job.id not in seen])
        gone = self._runs.gone(self.campaign.config.lost_after)
        if gone is not None and self.campaign.gpu:
            self._look_at_gpus(gone)

    def _knows_gpus(self) -> bool:
        """Return whether the GPUs are known, where jobs need some; until then no job is submitted."""
        if self.campaign.gpus is None and comparable.needs_gpus(self.campaign.config):
            self._look_at_gpus("")
            return self.campaign.gpus is not None
        return True

    def _look_at_gpus(self, why: str) -> None:
        """Ask the machines for their GPUs. `why`: what made that necessary once jobs ran."""
        if self._clock() < self._gpus_at:
            return
        found: Mapping[str, int] = {}

        def look() -> None:
            nonlocal found
            found = self._runs.gpus()

        is_seen = self._reaches(look)
        if is_seen and found != self.campaign.gpus:
            self.record(ev.GpusSeen(dict(found), why))
        elif why or not is_seen:
            self._gpus_at = self._clock() + RETRY

    def _job_ended(self, job: Job, row: JobSeen) -> ev.JobEnded:
        config, node = self.campaign.config, self.campaign.nodes[job.node]
        seconds = max(0.0, row.ended - row.started) if row.started is not None and row.ended is not None else 0.0
        price = config.gpu_usd_per_hour
        metrics, error = row.metrics, row.error
        altered = self._source.altered(node.id, node.commit) if node.commit is not None else ()
        if altered:
            metrics, error = {}, f"its run changed protected files: {', '.join(altered)}"
        return ev.JobEnded(
            job.node, job.seed, row.status, dict(metrics), error, row.gpu, row.host, seconds, row.ended or 0.0,
            None if price is None else price * seconds / 3600, job.revision,
        )  # fmt: skip

    # -- what is done

    def _decide(self) -> None:
        """Draw conclusions and call the agent; what else is due, such as submits, waits, since it is done for all."""
        while True:
            actions = policy.next_actions(self.campaign, self._clock())
            if not any(self._do(one) for one in actions if isinstance(one, (Note, Pause, Ask))):
                return

    def _act(self) -> bool:
        """Do what is due; True if there may be more."""
        actions = policy.next_actions(self.campaign, self._clock())
        submits = [one for one in actions if isinstance(one, Submit)]
        did = bool(submits) and self._submit(submits)
        for one in actions:
            if isinstance(one, Stop):
                self.record(ev.CampaignStopped(one.reason, one.text))
                return False
            did |= self._do(one)
        return did

    def _do(self, one: policy.Action) -> bool:
        """Do one thing; True if there may be more to do after it."""
        if isinstance(one, Note):
            self.record(one.event)
            if isinstance(one.event, ev.ModelChosen):
                self._submit_at = 0.0  # other machines than those that could not be reached
            words = noted_words(one.event, self.campaign)
            if words is not None:
                self._say(words)
            return True
        if isinstance(one, Pause):
            self.record(ev.AsksPaused(one.until, one.reason, one.alert))
            self._say(f"{'ALERT: ' if one.alert else ''}{one.reason}; it is asked again later")
            return True
        if isinstance(one, Cancel):
            return self._cancel(one)
        if isinstance(one, Ask):
            self._ask(one)
            return True
        if isinstance(one, Gate):
            self._gate(one)
        elif isinstance(one, Build):
            self._build(one)
        return False

    def _submit(self, actions: Sequence[Submit]) -> bool:
        """Give jobs to the queue, all at once. False where it could not be reached."""
        if self._clock() < self._submit_at:
            return False
        jobs = []
        for one in actions:
            node = self.campaign.nodes[one.node]
            if any(seed not in node.jobs for seed in one.seeds):
                self.record(ev.JobsSubmitting(one.node, one.seeds, node.revision, one.usd, one.beside))
            jobs += [self._job(node, seed) for seed in one.seeds]
        if not self._give(jobs):
            return False
        self._look_at, self._news_at = 0.0, self._clock()
        for one in actions:
            self.record(ev.JobsSubmitted(one.node, one.seeds, self.campaign.nodes[one.node].revision))
        return True

    def _submit_again(self, jobs: Sequence[Job]) -> None:
        """Submit jobs again that the run does not know: it has been removed meanwhile."""
        if self._clock() >= self._submit_at and self._give(
            [self._job(self.campaign.nodes[j.node], j.seed) for j in jobs]
        ):
            self._submit_at = self._clock() + RETRY

    def _give(self, jobs: Sequence[JobToRun]) -> bool:
        for job in jobs:
            if not job.directory.is_dir():
                self._source.prepare(job.node, job.commit)
        if not self._reaches(lambda: self._runs.submit(jobs)):
            self._submit_at = self._clock() + RETRY
            return False
        return True

    def _job(self, node: Node, seed: int) -> JobToRun:
        assert node.commit is not None
        name = job_id(node.id, seed, node.revision)
        image = self.campaign.images.get(node.commit, "")
        place = self._source.directory(node.id)
        return JobToRun(name, node.id, seed, node.settings, place, node.commit, image, self.campaign.gpu)

    def _cancel(self, action: Cancel) -> bool:
        node = self.campaign.nodes[action.node]
        if not self._reaches(lambda: self._runs.cancel([job.id for job in node.open_jobs], self.campaign.gpu)):
            return False
        self.record(ev.JobsCancelling(node.id))
        return True

    def _ask(self, action: Ask) -> None:
        number = self.campaign.next_ask
        self.record(ev.AskStarting(number, action.role, action.node, action.want, action.usd))
        request = Request(number, action.role, action.node, action.want, action.complaint)
        seen = self.campaign.snapshot()
        cwd = None
        if action.role in ("edit", "repair") and action.node is not None:
            node = self.campaign.nodes[action.node]
            cwd = self._source.directory(node.id)
            goes_on = node.is_refused or (action.role, node.id) in self.campaign.malformed
            if not cwd.is_dir() or not goes_on:
                cwd = self._source.prepare(node.id, node.commit or node.base)
        self._start(("ask", number), lambda: self._agent.ask(request, seen, cwd, self._stop), self._answered(request))

    def _answered(self, request: Request) -> Callable[[Answer | Trouble], None]:
        def take(found: Answer | Trouble) -> None:
            if isinstance(found, Trouble):
                end = ev.AskEnded(request.ask, found.kind, found.usd, found.seconds, found.text, found.until)
                self.record(end)
                return
            end = ev.AskEnded(request.ask, "answered", found.usd, found.seconds)
            reply = found.reply
            if isinstance(reply, PlanReply):
                number = len(self.campaign.rounds) + 1
                planned = ev.RoundPlanned(number, request.ask, reply.proposals, reply.stop, reply.why)
                self.record(planned, end)
            elif isinstance(reply, AnalyzeReply) and request.node is not None:
                self.record(ev.NodeAnalysed(request.node, reply.text, reply.findings), end)
            else:
                self.record(end)

        return take

    def _gate(self, action: Gate) -> None:
        node = self.campaign.nodes[action.node]
        revision = node.revision + (node.commit is not None)

        def take(found: Accepted | Refused) -> None:
            if isinstance(found, Refused):
                self.record(ev.EditRefused(node.id, found.reason))
                return
            self.record(
                ev.EditAccepted(node.id, found.commit, found.tree, found.files, found.added, found.removed, revision)
            )

        self._start(("gate", node.id), lambda: self._source.gate(node.id, node.base, self._stop), take)

    def _build(self, action: Build) -> None:
        def build() -> str | Refused:
            if not self._source.directory(action.node).is_dir():
                self._source.prepare(action.node, action.commit)
            return self._source.build(action.node, self._stop)

        def take(found: str | Refused) -> None:
            if isinstance(found, Refused):
                self.record(ev.BuildFailed(action.node, found.reason))
            else:
                self.record(ev.CodeBuilt(action.commit, found))

        self._start(("build", action.commit), build, take)

    # -- threads

    def _start(self, key: object, work: Callable[[], T], take: Callable[[T], None]) -> None:
        """Do `work` in a thread, unless it is running; the main thread takes its result."""
        if key in self._threads:
            return

        def run() -> None:
            try:
                found = work()
            except BaseException as error:  # raised again where the journal is written
                fault = error

                def fail() -> None:
                    raise fault

                self._ended.put(fail)
            else:
                self._ended.put(lambda: take(found))

        def ended() -> None:
            self._threads.pop(key, None)

        def work_and_tell() -> None:
            run()
            self._ended.put(ended)

        thread = threading.Thread(target=work_and_tell, name=str(key), daemon=True)
        self._threads[key] = thread
        thread.start()

    def _wait(self) -> None:
        """Wait for the first thing that happens, but no longer than until the next look."""
        now = self._clock()
        times = [now + _LOOK, policy.wakes_at(self.campaign, now)]
        if self.campaign.open_jobs:
            times.append(self._look_at)
        until = min(at for at in times if at is not None)
        with contextlib.suppress(queue.Empty):
            self._ended.get(timeout=max(0.01, until - now))()
            while True:
                self._ended.get_nowait()()

    def _leave(self) -> None:
        """End the agent's processes, and record their outcome."""
        self._stop.set()
        until = time.monotonic() + LEAVE_WITHIN
        while self._threads and time.monotonic() < until:
            with contextlib.suppress(queue.Empty, FailedError):
                self._ended.get(timeout=max(0.01, until - time.monotonic()))()
        self._changed(self.campaign)

    def _reaches(self, what: Callable[[], None]) -> bool:
        """Do what needs the queue; False where it cannot be reached now, which is reported once. It may take as long as
        a host takes to answer, so that an interrupt ends it at once."""
        self._may_raise = True
        try:
            if self._is_interrupted:
                raise KeyboardInterrupt
            what()
        except FailedError as error:
            if str(error) != self._fault:
                self._say(f"warning: {error}; tried again every {RETRY:.0f} s")
                self._fault = str(error)
            return False
        finally:
            self._may_raise = False
        self._fault = ""
        return True

    def interrupt(self) -> None:
        """End soon: for a handler of signals, which may come in the middle of a write."""
        self._is_interrupted = True
        self._ended.put(lambda: None)
        if self._may_raise:
            self._may_raise = False
            raise KeyboardInterrupt
