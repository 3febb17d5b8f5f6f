"""The decision: `tick(state, seen, now)` says what has happened and what is to be done. Pure.

It reads no clock, file, process or card, and changes the state only by applying the events that it returns; the
caller makes these durable before it carries out the actions.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import NamedTuple

from queue_manager.core import boundary as b
from queue_manager.core import events as ev
from queue_manager.core import layout
from queue_manager.core.events import Event, Record
from queue_manager.core.failures import Rule
from queue_manager.core.inbox import carry_out
from queue_manager.core.judge import Verdict, judge
from queue_manager.core.model import Attempt, Job, Need, QueueState
from queue_manager.core.placement import View, allowed, choose, impossible, views
from queue_manager.core.readings import Card, Cards, Unreadable
from queue_manager.core.requests import Answer
from queue_manager.core.status import BAD, RETRYING, Outcome, Status

LAUNCH_GRACE = 30.0
"""Seconds for a wrapper to claim its attempt."""
BIRTH_GRACE = 5.0
"""Seconds from the claim for the job's own process to report itself."""
SESSION_GRACE = 2.0
"""Seconds for a session to close by itself after its process has gone."""
LEFTOVER_GRACE = 2.0
"""Seconds for what a job left behind to end by itself."""
STOP_GRACE = 10.0
"""Seconds between TERM and KILL."""
RETRY_DELAY = 5.0
"""Seconds before a failure that is not OOM is retried."""
DISK_DELAY = 60.0
DISK_RETRIES = 3
ASK_AT_ONCE = 64
"""Preconditions looked at in one turn."""
STREAK = 3
"""So many different jobs failing in a row on one card, while another card serves well, put it in quarantine."""


class Tick(NamedTuple):
    """What a turn decided. `ask`: jobs whose preconditions have to be looked at before they can be placed.
    `impossible`: needs that these cards can never meet, in words."""

    records: list[Record]
    actions: list[b.Action]
    ask: tuple[int, ...]
    impossible: Mapping[Need, str]


def tick(state: QueueState, seen: b.Seen, now: float) -> Tick:
    """Decide one turn. `now` in epoch seconds, never less than before. Raises InvalidTransition: a fault of ours."""
    turn = _Turn(state, seen, now)
    turn.requests()
    for order, evidence in seen.attempts.items():
        if order in state.live:
            turn.attempt(state.jobs[order], state.live[order], evidence)
    turn.timers()
    turn.quarantine()
    turn.preconditions()
    turn.placements()
    turn.hopeless()
    turn.conditions()
    if state.all_final and not state.live and state.finished is None:
        turn.emit(ev.RunFinished())
    return Tick(turn.records, turn.actions, tuple(turn.ask), turn.impossible)


def wants_cards(state: QueueState) -> bool:
    """Whether a ready job waits for a card, or for the memory of the wave before it."""
    heads = state.heads()
    barrier = state.manifest.wave == "barrier" and bool(heads) and bool(state.wave_cards)
    return not state.paused and (barrier or any(need.gpus for _, _, need in heads))


def next_timer(state: QueueState, after: float = 0.0) -> float | None:
    """When something is due by time alone (epoch seconds); None if nothing is.

    `after`: the time of the last turn. What was due by then has had its turn; it waits for something else now.
    """
    times = [
        attempt.started + timeout
        for order, attempt in state.live.items()
        if (timeout := state.jobs[order].spec.timeout) and attempt.started is not None and attempt.stopping is None
    ]
    due = state.next_due()
    if due is not None:
        times.append(due)
    if state.launch_failed_at is not None:
        times.append(launch_retry_at(state))
    return min((time for time in times if time > after), default=None)


def launch_retry_at(state: QueueState) -> float:
    """When the next launch may be tried after screen has failed: 1, 2, 4 … 60 seconds later."""
    assert state.launch_failed_at is not None
    return state.launch_failed_at + min(60.0, 2.0 ** min(state.launch_failures - 1, 6))


class _Turn:
    def __init__(self, state: QueueState, seen: b.Seen, now: float) -> None:
        self.state, self.seen, self.now = state, seen, now
        self.records: list[Record] = []
        self.actions: list[b.Action] = []
        self.ask: list[int] = []
        self.impossible: dict[Need, str] = {}
        self.launch_error: str | None = None

    def emit(self, event: Event) -> None:
        record = Record(self.state.seq + 1, self.now, event)
        self.state.apply(record)
        self.records.append(record)

    # -- requests -----------------------------------------------------------------------------------------------

    def requests(self) -> None:
        for request in self.seen.requests:
            done = self.state.requests.get(request.id)
            if done is None:
                done = carry_out(self.state, request, self)
                self.emit(done)
            self.actions.append(b.Reply(Answer(done.id, done.ok, done.text, done.jobs)))
        if any(isinstance(record.event, ev.JobRetried) for record in self.records):
            self.name_roots()

    def stop(self, job: Job, attempt: Attempt, reason: str) -> None:
        """Begin to end a live attempt."""
        self.emit(ev.AttemptStopping(job.spec.id, attempt.n, reason))
        self.actions.append(b.Stop(job.order, kill=False))

    # -- attempts -----------------------------------------------------------------------------------------------

    def attempt(self, job: Job, attempt: Attempt, seen: b.Evidence) -> None:
        """Bring one live attempt up to date with what is seen of it."""
        if attempt.boot != self.seen.boot and seen.exit is None:
            self._end(job, attempt, seen, _INTERRUPTED)
            return
        claim = seen.claim
        if isinstance(claim, Unreadable):
            return
        if isinstance(claim, b.Revoked):
            if attempt.stop_reason == "cancelled":
                self._end(job, attempt, seen, _CANCELLED)
            elif seen.inherited:
                self._end(job, attempt, seen, _INTERRUPTED)
            else:
                self.launch_error = seen.launch_error or "no wrapper came to claim the attempt"
                self._end(job, attempt, seen, _NOT_LAUNCHED)
            return
        if claim is None:
            late = self.now - attempt.starting > LAUNCH_GRACE
            if seen.launch_error or late or attempt.stopping is not None or (seen.inherited and seen.quiet):
                self.actions.append(b.Revoke(job.order))
            return
        if attempt.wrapper is None:
            if seen.proc is None and seen.alive and self.now - attempt.starting < BIRTH_GRACE:
                return
            self.emit(ev.AttemptStarted(job.spec.id, attempt.n, claim.wrapper, claim.screen, seen.proc))
            if attempt.stopping is not None:  # told to end before it had begun
                self.actions.append(b.Stop(job.order, kill=False))
        if isinstance(seen.alive, Unreadable):
            return
        if seen.alive:
            self._running(job, attempt, seen)
        else:
            self._gone(job, attempt, seen)

    def _running(self, job: Job, attempt: Attempt, seen: b.Evidence) -> None:
        timeout, started = job.spec.timeout, attempt.started
        if attempt.stopping is not None:
            if self.now - attempt.stopping >= STOP_GRACE:
                self.actions.append(b.Stop(job.order, kill=True))
        elif timeout is not None and started is not None and self.now - started >= timeout:
            self.stop(job, attempt, "timeout")
        elif seen.idle >= self.state.manifest.stale_after:
            self.stop(job, attempt, "stale")

    def _gone(self, job: Job, attempt: Attempt, seen: b.Evidence) -> None:
        """The job's process has ended; the attempt has when nothing of it is left."""
        if seen.ended is not None:
            told_to_end = attempt.stop_reason not in (None, "leftovers")
            if seen.exit is None and seen.inherited and not told_to_end:
                self._end(job, attempt, seen, _INTERRUPTED)
            else:
                self._end(job, attempt, seen, judge(job.spec, attempt.stop_reason, seen.exit, seen.ended))
            return
        if isinstance(seen.leftovers, Unreadable) or isinstance(seen.screen, Unreadable):
            return
        if seen.leftovers:
            if attempt.stopping is None:
                if seen.gone_for >= LEFTOVER_GRACE:
                    self.stop(job, attempt, "leftovers")
            elif self.now - attempt.stopping >= STOP_GRACE:
                self.actions.append(b.Stop(job.order, kill=True))
        elif seen.screen and seen.gone_for >= SESSION_GRACE:
            self.actions.append(b.QuitSession(job.order))

    def _end(self, job: Job, attempt: Attempt, seen: b.Evidence, verdict: Verdict) -> None:
        if verdict.outcome is Outcome.INTERRUPTED and attempt.stop_reason == "cancelled":
            verdict = _CANCELLED
        # A request of this turn may have told it to end: there is nothing left to signal.
        self.actions = [one for one in self.actions if isinstance(one, b.Reply) or one.order != job.order]
        status, due = self._next_status(job, verdict)
        error = verdict.error
        if verdict.outcome is Outcome.NOT_LAUNCHED:
            error = f"not launched: {self.launch_error}"
        used = tuple(self.seen.before.get(card, 0) for card in attempt.cards)
        code = seen.exit.code if seen.exit else None
        charged = verdict.outcome not in (Outcome.INTERRUPTED, Outcome.NOT_LAUNCHED)
        if verdict.rule is Rule.CARD and len(attempt.cards) == 1:
            charged, status, due = False, Status.PENDING, None
        self.emit(
            ev.AttemptEnded(
                job.spec.id,
                attempt.n,
                status.value,
                verdict.failure,
                code,
                error,
                verdict.warning,
                due,
                charged,
                used,
            )
        )
        if verdict.rule is Rule.CARD and len(attempt.cards) == 1:
            self.emit(ev.CardQuarantined(attempt.cards[0], f"job {job.spec.id}: {verdict.error}"))
        if status in (Status.STUCK, Status.CANCELLED):
            self.spread(job)
        elif status is not Status.COMPLETED:
            self.block_if_bad(job)  # jobs may have been added to its phase's dependencies while it ran

    def _next_status(self, job: Job, verdict: Verdict) -> tuple[Status, float | None]:
        if verdict.outcome is Outcome.SUCCEEDED:
            return Status.COMPLETED, None
        if verdict.outcome is Outcome.CANCELLED:
            return Status.CANCELLED, None
        if verdict.outcome in (Outcome.INTERRUPTED, Outcome.NOT_LAUNCHED):
            return Status.PENDING, None
        if verdict.rule is Rule.OOM:
            retry = self.state.manifest.oom_retry
            if job.oom_attempts + 1 >= retry.max_attempts:
                return Status.STUCK, None
            return Status.FAILED_OOM, self.now + retry.delay
        allowance, delay = job.spec.retries, RETRY_DELAY
        if verdict.rule is Rule.DISK:
            allowance, delay = max(allowance, DISK_RETRIES), DISK_DELAY
        if job.other_failures + 1 > allowance:
            return Status.STUCK, None
        return Status.FAILED_OTHER, self.now + delay

    # -- what follows for others ----------------------------------------------------------------------------------

    def spread(self, job: Job) -> None:
        """Block all that depends on a job that has just turned bad."""
        root = job.blocked_by or job.spec.id
        # `turned` is asked right after each event: only then does it tell the first bad member of a group from others.
        todo = [self.state.graph.turned(job.order)]
        while todo:
            for order in todo.pop():
                if self._block(self.state.jobs[order], root):
                    todo.append(self.state.graph.turned(order))

    def _block(self, job: Job, root: str) -> bool:
        if job.status is not Status.PENDING and job.status not in RETRYING:
            return False
        self._name_root(job, self.state.job(root))
        return True

    def _name_root(self, job: Job, root: Job) -> None:
        error = f"depends on {root.spec.id}, which is {root.status.value}"
        self.emit(ev.JobBlocked(job.spec.id, root.spec.id, error))

    def block_if_bad(self, job: Job) -> bool:
        """Block a job that has just come, or come back, if what it depends on is bad. Says whether it is."""
        bad = self.state.graph.bad_need(job.order)
        if bad is None:
            return False
        cause = self.state.jobs[bad]
        if self._block(job, cause.blocked_by or cause.spec.id):
            self.spread(job)
        return True

    def release(self, job: Job) -> None:
        """Unblock all that waited for a job that is bad no longer, as far as nothing else blocks it."""
        todo = [self.state.graph.turned(job.order)]
        while todo:
            for order in todo.pop():
                waiter = self.state.jobs[order]
                blocked = waiter.status is Status.BLOCKED and waiter.blocked_by is not None
                if blocked and self.state.graph.bad_need(order) is None:
                    self.emit(ev.JobUnblocked(waiter.spec.id))
                    todo.append(self.state.graph.turned(order))

    def name_roots(self) -> None:
        """Of blocked jobs that name one which is bad no longer, say which other one blocks them."""
        state = self.state
        for job in state.jobs:
            if job.status is not Status.BLOCKED or job.blocked_by is None or _is_root(state.job(job.blocked_by)):
                continue
            root = job
            while not _is_root(root):
                bad = state.graph.bad_need(root.order)
                assert bad is not None  # else it would have been released
                root = state.jobs[bad]
            self._name_root(job, root)

    # -- time, cards, preconditions -------------------------------------------------------------------------------

    def timers(self) -> None:
        for job in self.state.due_retries(self.now):
            self.emit(ev.RetryDue(job.spec.id))

    def quarantine(self) -> None:
        """Put a card aside on which one job after the other fails while another card serves well."""
        for card, jobs in list(self.state.card_failures.items()):
            doubtful = {card, *self.state.card_failures, *self.state.quarantined}
            others = self.state.card_served - doubtful
            if len(jobs) >= STREAK and others and card not in self.state.quarantined:
                names = ", ".join(jobs[-STREAK:])
                self.emit(ev.CardQuarantined(card, f"{len(jobs)} jobs failed on it one after the other: {names}"))

    def preconditions(self) -> None:
        """Take in what was found of the preconditions of jobs that are held."""
        for order, checked in self.seen.checked.items():
            job = self.state.jobs[order]
            if order in self.state.held and checked.unmet != job.held:
                self.emit(ev.JobHeld(job.spec.id, checked.unmet))

    def conditions(self) -> None:
        """Begin and end what hinders the queue, as far as this turn looked."""
        seen, known = self.seen, self.state.conditions
        wanted: dict[str, str] = {}
        if isinstance(seen.cards, Unreadable):
            wanted["nvml"] = f"NVML cannot be read: {seen.cards.reason}"
        elif seen.cards is not None:
            wanted.update({f"card:{sick.uuid}": f"card {sick.index}: {sick.reason}" for sick in seen.cards.sick})
        if isinstance(seen.foreign, Unreadable):
            wanted["leases"] = f"other runs' leases cannot be read: {seen.foreign.reason}"
        if seen.disk is not None:
            wanted["disk"] = seen.disk
        if self.state.launch_failures:
            error = self.launch_error or known.get("screen", ("no session starts", 0.0))[0]
            wanted["screen"] = error if error.startswith("screen cannot") else f"screen cannot start: {error}"
        for need, reason in self.impossible.items():
            wanted[f"need:{need.gpus}:{need.mib}"] = reason
        for kind, text in wanted.items():
            if known.get(kind, ("",))[0] != text:
                self.emit(ev.ConditionBegan(kind, text))
        unseen: tuple[str, ...] = () if isinstance(seen.cards, Cards) else ("leases", "card:", "need:")
        if seen.cards is None:
            unseen += ("nvml",)
        for kind in list(known):
            if kind not in wanted and not kind.startswith(unseen):
                self.emit(ev.ConditionEnded(kind))

    # -- placement ------------------------------------------------------------------------------------------------

    def placements(self) -> None:
        """Start what may start: ready jobs by priority, on cards that are free or have room."""
        state = self.state
        heads = state.heads()
        possible = {need for _, _, need in heads if self._possible(need)}
        if state.paused or self.seen.disk is not None:
            return
        barrier = state.manifest.wave == "barrier"
        if barrier and (state.live or not self._wave_settled()):
            return
        starts: list[tuple[Job, list[View]]] = []
        aside: list[Job] = []
        slots, cpu_slots = self._slots()
        cards = self._cards()
        heapq.heapify(heads)
        while heads and slots > 0:
            need = heapq.heappop(heads)[2]
            if (need.gpus == 0 and cpu_slots <= 0) or need not in possible:
                continue
            job = state.take(need)
            aside.append(job)
            chosen = self._choose(job, need, cards)
            if chosen is None:
                continue
            if self._may_start(job):
                starts.append((job, chosen))
            if job.held is None:  # also while it is asked about: nothing behind it takes its place meanwhile
                slots -= 1
                cpu_slots -= need.gpus == 0
                for view in chosen:
                    view.take(need.mib)
            following = state.head(need)
            if following is not None:
                heapq.heappush(heads, following)
        wave = state.wave + 1
        for job, chosen in [] if barrier and self.ask else starts:
            self._start(job, chosen, wave)
        for job in aside:
            state.put_back(job)

    def _start(self, job: Job, chosen: list[View], wave: int) -> None:
        n = job.n + 1
        self.emit(
            ev.AttemptStarting(
                job.spec.id,
                n,
                wave,
                layout.session_name(self.state.run_id, job.spec.id, n),
                self.seen.boot,
                tuple(view.card.uuid for view in chosen),
                tuple(view.card.index for view in chosen),
                job.need.mib,
                tuple(view.base for view in chosen),
            )
        )
        self.actions.append(b.Launch(job.order))

    def _slots(self) -> tuple[int, int]:
        """How many attempts may start, and how many of them without a card."""
        state = self.state
        bound = state.manifest.max_parallel
        slots = len(state.jobs) if bound is None else bound - len(state.live)
        if state.launch_failures:
            unclaimed = any(attempt.wrapper is None for attempt in state.live.values())
            slots = 0 if unclaimed or self.now < launch_retry_at(state) else min(slots, 1)
        cpu_jobs = sum(not attempt.cards for attempt in state.live.values())
        return slots, (self.seen.cores if bound is None else bound) - cpu_jobs

    def _cards(self) -> dict[str, View]:
        """The cards as this turn read them; none where they, or the leases of other runs, could not be read."""
        if not isinstance(self.seen.cards, Cards) or isinstance(self.seen.foreign, Unreadable):
            return {}
        return views(self.state, self.seen.cards.cards, self.seen.foreign, self.now)

    def _existing(self) -> list[Card] | None:
        """The cards there are for this run, None where this turn cannot tell: a sick card may come back."""
        seen = self.seen.cards
        return None if not isinstance(seen, Cards) or seen.sick else allowed(self.state, seen.cards)

    def _possible(self, need: Need) -> bool:
        existing = self._existing()
        reason = None if existing is None else impossible(need, existing, self.state.manifest.gpus)
        if reason is None:
            return True
        if self.state.quarantined:
            reason += f" that {'is' if len(self.state.quarantined) == 1 else 'are'} not in quarantine"
        elif isinstance(self.seen.cards, Cards) and self.seen.cards.note:
            reason += f" ({self.seen.cards.note})"
        self.impossible[need] = reason
        return False

    def _choose(self, job: Job, need: Need, cards: dict[str, View]) -> list[View] | None:
        if need.gpus == 0:
            return []
        threshold = self.state.manifest.gpu_free_threshold_mib
        chosen = choose(need, cards, threshold, job.oom_attempts > 0, job.last_cards)
        if chosen is None and need.mib is None:
            # Cards that are free, or will be, are kept for it: else jobs that share, or need fewer, pass it for ever.
            waiting = [view for view in cards.values() if not view.own and not view.foreign]
            waiting.sort(key=lambda view: (not view.is_free(threshold), view.shared_by, view.card.index))
            for view in waiting[: need.gpus]:
                view.take(None)
        return chosen

    def _may_start(self, job: Job) -> bool:
        """Whether the job's preconditions are known to hold; asks about them, or holds the job, where they do not."""
        if not job.spec.preconditions:
            return True
        checked = self.seen.checked.get(job.order)
        if checked is None:
            if len(self.ask) < ASK_AT_ONCE:
                self.ask.append(job.order)
            return False
        if checked.unmet is not None:
            self.emit(ev.JobHeld(job.spec.id, checked.unmet))
            return False
        return True

    def _wave_settled(self) -> bool:
        """Whether the cards of the last wave read below the threshold."""
        if not self.state.wave_cards:
            return True
        if not isinstance(self.seen.cards, Cards):
            return False
        threshold = self.state.manifest.gpu_free_threshold_mib
        used = {card.uuid: card.used_mib for card in self.seen.cards.cards}
        waiting = [sick.uuid for sick in self.seen.cards.sick]
        return all(used.get(card, 0) < threshold and card not in waiting for card in self.state.wave_cards)

    # -- the end --------------------------------------------------------------------------------------------------

    def hopeless(self) -> None:
        """When nothing runs or will, say of each job that is left why it never can."""
        state = self.state
        if state.paused or state.live or self.ask or self.seen.disk is not None or state.next_due() is not None:
            return
        needs = [need for _, _, need in state.heads()]
        if not needs and not state.held:
            return
        if any(need not in self.impossible for need in needs):
            return
        fresh = {order: seen for order, seen in self.seen.checked.items() if seen.at > state.last_end}
        unsure = [order for order in state.held if order not in fresh]
        if unsure:
            self.ask.extend(unsure[:ASK_AT_ONCE])
            return
        for need in needs:
            for job in sorted(state.ready_jobs(need), key=lambda job: job.order):
                self.emit(ev.JobStuck(job.spec.id, self.impossible[need]))
                self.spread(job)
        for order, reason in sorted(state.held.items()):
            job = state.jobs[order]
            self.emit(ev.JobBlocked(job.spec.id, None, f"precondition does not hold: {reason}"))
            self.spread(job)


def _is_root(job: Job) -> bool:
    """Whether a job is bad by itself, and not because of another."""
    blocked = job.status is Status.BLOCKED
    return job.status in BAD and not (blocked and job.blocked_by is not None)


_CANCELLED = Verdict(Outcome.CANCELLED, error="cancelled by a person")
_INTERRUPTED = Verdict(Outcome.INTERRUPTED, "interrupted", error="cut off: the host or the manager went down")
_NOT_LAUNCHED = Verdict(Outcome.NOT_LAUNCHED, "not_launched")
