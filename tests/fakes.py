"""One simulated machine with faults, and a manager on it: what the pure core sees and does, without a process.

`FakeHost` is what outlives a manager: cards, processes, sessions, the files of a run. `FakeManager` is one manager's
life; it mirrors the real loop (observe, decide, journal, act) and may be cut off between any two steps. What must never
happen on a machine, such as two processes of one job at once, is noted in `FakeHost.faults`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from queue_manager.core import boundary as b
from queue_manager.core import diagnosis
from queue_manager.core import events as ev
from queue_manager.core.events import Proc, Record, Work
from queue_manager.core.failures import LogFinding
from queue_manager.core.manifest import Manifest
from queue_manager.core.model import Attempt, QueueState
from queue_manager.core.readings import Card, Cards, SickCard, Unreadable
from queue_manager.core.requests import Answer, Request
from queue_manager.core.tick import Tick, tick

START = 1_767_225_600.0
"""2026-01-01T00:00:00Z."""


@dataclass(frozen=True)
class Plan:
    """What a job does once it runs. Times in seconds; `mib`: what it really uses of each of its cards, from
    `load_after` on; `linger`: how long that stays after its end. `leaves`: processes left behind, which use CPU or not
    (`leaves_busy`), or only serve others (`leaves_serving`). `wrapper_dies`: the wrapper is killed with the job, so
    that there is no exit record."""

    seconds: float = 10.0
    code: int = 0
    output: bool = True
    log: bytes = b""
    mib: int = 0
    load_after: float = 0.0
    linger: float = 0.0
    ignores_term: bool = False
    leaves: int = 0
    leaves_busy: bool = False
    leaves_serving: bool = False
    session_stays: bool = False
    wrapper_dies: bool = False


@dataclass
class FakeCard:
    """`foreign`: MiB that somebody else uses. `lingering`: MiB of processes that have gone, each until some time."""

    index: int
    total: int = 24_000
    foreign: int = 0
    sick: str | None = None
    lingering: list[tuple[float, int]] = field(default_factory=list)
    kind: str = "GPU"
    name: str = "Fake"

    @property
    def uuid(self) -> str:
        return f"{self.kind}-{self.index}"


@dataclass
class FakeAttempt:
    """All that the machine knows of one attempt: its files, its session, its processes."""

    job: str
    n: int
    order: int
    cards: tuple[str, ...]
    mib: int | None
    boot: str
    plan: Plan
    wakes: float | None = None
    complaint: str | None = None
    session: bool = False
    claim: b.Claim | b.Revoked | None = None
    wrapper: bool = False
    proc: bool = False
    leftovers: int = 0
    began: float = 0.0
    exit: b.ExitRecord | None = None
    wrote_output: bool = False
    forgotten: bool = False

    def left(self) -> b.Leftovers:
        """What it left running, and whether that works."""
        names = ("python train.py",) * (self.leftovers + self.proc)
        busy, serving = self.plan.leaves_busy, self.plan.leaves_serving
        idle = () if busy or serving else names
        return b.Leftovers(names if busy else (), idle, names if serving else (), self.wrote_output)

    @property
    def lives(self) -> bool:
        return self.proc or self.leftovers > 0


class FakeHost:
    """A machine and the files of one run on it. Set the public fields to make things go wrong.

    `launching`: what becomes of the next launches: ok, late (the wrapper comes after `lateness`), slow (so does the
    session), lost (nothing ever comes), error (screen complains). `plan_of` says what each job does.
    """

    def __init__(self, cards: int = 2, cores: int = 4, total: int = 24_000) -> None:
        self.now = START
        self.lives = 1
        self.cores = cores
        self.cards = [FakeCard(index, total) for index in range(cards)]
        self.attempts: dict[tuple[str, int], FakeAttempt] = {}
        self.plan_of: Callable[[str, int], Plan] = with_plans({})
        self.launching = "ok"
        self.lateness = 45.0
        self.nvml: str | None = None
        self.claims: str | None = None
        self.processes: str | None = None
        self.sessions: str | None = None
        self.leases: tuple[b.ForeignLease, ...] | Unreadable = ()
        self.disk: str | None = None
        self.unmet: dict[str, str] = {}
        self.idle: dict[str, float] = {}
        self.old_outputs: set[str] = set()
        self.shared_outputs: set[str] = set()
        self.oom_kills = False
        self.recovered: dict[tuple[str, int], int] = {}
        self.health: dict[str, b.HealthReading] = {}
        self.inbox: list[Request] = []
        self.answers: dict[str, Answer] = {}
        self.journal: list[str] = []
        self.synced = 0
        self.starts: list[tuple[str, int]] = []
        self.faults: list[str] = []
        self._pids = 1000

    @property
    def boot(self) -> str:
        return f"boot-{self.lives}"

    # -- time -----------------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass: wrappers come, jobs end, memory falls."""
        self.now = round(self.now + seconds, 3)
        for attempt in list(self.attempts.values()):
            if attempt.wakes is not None and attempt.wakes <= self.now:
                self._wake(attempt)
            if attempt.proc and attempt.began + attempt.plan.seconds <= self.now:
                self.finish(attempt)
        for card in self.cards:
            card.lingering = [(until, mib) for until, mib in card.lingering if until > self.now]

    def next_event(self) -> float | None:
        """When something happens here by itself; None if nothing will."""
        times = [attempt.wakes for attempt in self.attempts.values() if attempt.wakes is not None]
        times += [attempt.began + attempt.plan.seconds for attempt in self.attempts.values() if attempt.proc]
        times += [until for card in self.cards for until, _ in card.lingering]
        return min((at for at in times if math.isfinite(at)), default=None)

    def reboot(self) -> None:
        """Everything that lives is gone; files stay, but for what the journal had not synced."""
        self.lives += 1
        del self.journal[self.synced :]
        for attempt in self.attempts.values():
            attempt.wrapper = attempt.proc = attempt.session = False
            attempt.leftovers, attempt.wakes = 0, None
        for card in self.cards:
            card.lingering.clear()

    def _pid(self) -> Proc:
        self._pids += 1
        return Proc(self._pids, self._pids * 10)

    # -- processes ------------------------------------------------------------------------------------------------

    def launch(self, attempt: Attempt, order: int) -> str | None:
        """Start an attempt's session. Returns screen's complaint where it cannot be started at all."""
        key = (attempt.job, attempt.n)
        if key in self.attempts:
            self.faults.append(f"attempt {attempt.n} of {attempt.job} was launched twice")
        made = self._files(attempt, order)
        made.plan = self.plan_of(*key)
        if self.launching == "error":
            return "Cannot make directory"
        late = self.launching in ("late", "slow")
        made.session = self.launching in ("ok", "late")
        if self.launching != "lost":
            made.wakes = round(self.now + (self.lateness if late else 0.01), 3)
        return None

    def _files(self, attempt: Attempt, order: int) -> FakeAttempt:
        key = (attempt.job, attempt.n)
        if key not in self.attempts:
            self.attempts[key] = FakeAttempt(*key, order, attempt.cards, attempt.mib, attempt.boot, Plan())
        return self.attempts[key]

    def _wake(self, attempt: FakeAttempt) -> None:
        """The wrapper runs: it takes the attempt, unless somebody has or its files are gone."""
        attempt.wakes = None
        if attempt.claim is not None or attempt.forgotten:
            attempt.session = False
            return
        attempt.claim = b.Claim(self._pid(), self._pid(), int(self.now * 1e9))
        attempt.wrapper = attempt.proc = attempt.session = True
        attempt.began = self.now
        self.starts.append((attempt.job, attempt.n))
        for other in self.attempts.values():
            if other is attempt or not other.lives:
                continue
            if other.job == attempt.job:
                self.faults.append(f"attempts {other.n} and {attempt.n} of {attempt.job} run at once")
            elif set(other.cards) & set(attempt.cards) and (other.mib is None or attempt.mib is None):
                self.faults.append(f"{other.job} and {attempt.job} run on one GPU that one of them has to itself")

    def running(self) -> list[FakeAttempt]:
        """Attempts whose own process lives."""
        return [attempt for attempt in self.attempts.values() if attempt.proc]

    def finish(self, attempt: FakeAttempt, code: int | None = None) -> None:
        """The job's own process ends, by its plan or by a signal (`code`)."""
        plan = attempt.plan
        attempt.proc = False
        attempt.wrote_output = plan.output and code is None
        if attempt.wrapper and not (plan.wrapper_dies and code is None):
            attempt.exit = b.ExitRecord(plan.code if code is None else code, int(self.now * 1e9))
        attempt.wrapper = False
        attempt.session = plan.session_stays
        attempt.leftovers = plan.leaves
        self._let_go(attempt)

    def kill_wrapper(self, attempt: FakeAttempt) -> None:
        """The wrapper is killed, its session with it; the job lives on without them."""
        attempt.wrapper = attempt.session = False

    def _let_go(self, attempt: FakeAttempt) -> None:
        if not attempt.lives and attempt.plan.linger and attempt.plan.mib:
            for card in self.cards:
                if card.uuid in attempt.cards:
                    card.lingering.append((round(self.now + attempt.plan.linger, 3), attempt.plan.mib))

    def signal(self, attempt: FakeAttempt, kill: bool) -> None:
        """TERM or KILL for all that an attempt started."""
        if self.processes is not None:
            return
        if attempt.proc and (kill or not attempt.plan.ignores_term):
            self.finish(attempt, 137 if kill else 143)
        elif attempt.leftovers and (kill or not attempt.plan.ignores_term):
            attempt.leftovers = 0
            self._let_go(attempt)

    def revoke(self, attempt: Attempt, order: int) -> None:
        """Take an attempt's claim, unless its wrapper has it. A wrapper may still come, and finds it taken."""
        files = self._files(attempt, order)
        if files.claim is None:
            files.claim = b.Revoked()
            files.session = False

    # -- readings -------------------------------------------------------------------------------------------------

    def read_cards(self) -> Cards | Unreadable:
        if self.nvml is not None:
            return Unreadable(self.nvml)
        loaded = [
            attempt
            for attempt in self.attempts.values()
            if attempt.lives and self.now >= attempt.began + attempt.plan.load_after
        ]

        def used(card: FakeCard) -> int:
            """MiB in use on it."""
            ours = sum(attempt.plan.mib for attempt in loaded if card.uuid in attempt.cards)
            return min(card.total, card.foreign + ours + sum(mib for _, mib in card.lingering))

        well = [card for card in self.cards if card.sick is None]
        return Cards(
            tuple(Card(card.index, card.uuid, card.name, card.total, used(card), 0) for card in well),
            tuple(SickCard(card.index, card.uuid, "Fake", card.sick) for card in self.cards if card.sick is not None),
        )

    def ended(self, attempt: FakeAttempt, expects: str | None) -> b.Ended:
        """What is found once all of an attempt has gone."""
        output = None
        if expects is not None:
            there = attempt.wrote_output or attempt.job in self.old_outputs
            shared = attempt.wrote_output and attempt.job in self.shared_outputs
            output = b.Output(expects if there else None, attempt.wrote_output, shared)
        code = attempt.exit.code if attempt.exit else None
        recovered = self.recovered.get((attempt.job, attempt.n))
        diagnosed = diagnosis.read(attempt.plan.log, code)
        finding = None if diagnosed.reason is None else LogFinding(diagnosed.reason.name, diagnosed.reason.line)
        return b.Ended(output, finding, diagnosed.last, self.oom_kills, recovered)


@dataclass
class _Followed:
    attempt: Attempt
    inherited: bool
    launch_error: str | None = None
    claim: b.Claim | None = None
    gone_at: float | None = None
    closed_at: float | None = None


BEFORE_JOURNAL = -1
"""Cut the manager off when it has decided and told nobody."""


class FakeManager:
    """One manager's life on a host. It begins by replaying the journal, as the real one does."""

    def __init__(self, host: FakeHost, manifest: Manifest, run_id: str = "run-1") -> None:
        self.host, self.manifest = host, manifest
        self.state = replay(manifest, host.journal)
        if not host.journal:
            self._commit([self._applied(ev.RunStarted(run_id, manifest.project, "0" * 64))])
        self._commit([self._applied(ev.ManagerStarted("fake", 1, host.boot))])
        self._followed = {order: _Followed(attempt, True) for order, attempt in self.state.live.items()}
        self._before: dict[str, int] = {}
        self._asked: set[int] = set()
        self._ended: list[tuple[str, int]] = []

    def _applied(self, event: ev.Event) -> Record:
        record = Record(self.state.seq + 1, self.host.now, event)
        self.state.apply(record)
        return record

    def _commit(self, records: Iterable[Record]) -> None:
        records = list(records)
        self.host.journal += [ev.encode(record) for record in records]
        if any(ev.urgent(record.event) for record in records):
            self.host.synced = len(self.host.journal)

    def turn(
        self, crash: int | None = None, orders: Iterable[int] | None = None, cards: bool = True
    ) -> tuple[b.Seen, Tick]:
        """One turn. `crash`: BEFORE_JOURNAL, or the number of actions carried out before the end of this life (the
        object is of no use afterwards). `orders`: the attempts looked at, None for all. `cards`: whether they are read.
        """
        seen = self.observe(orders, cards)
        result = tick(self.state, seen, self.host.now)
        if crash == BEFORE_JOURNAL:
            return seen, result
        self._commit(result.records)
        ended = [record.event for record in result.records if isinstance(record.event, ev.AttemptEnded)]
        for event in ended:
            del self._followed[self.state.job(event.job).order]
        for action in result.actions if crash is None else result.actions[:crash]:
            self._act(action)
        if not result.actions:
            self._forget()
        self._ended += [(event.job, event.n) for event in ended]
        self._asked.update(result.ask)
        return seen, result

    def _forget(self) -> None:
        """Remove the files of ended attempts, as the real manager does when it has nothing better to do."""
        for key in self._ended:
            if key in self.host.attempts:
                self.host.attempts[key].forgotten = True
        self._ended.clear()

    # -- observe --------------------------------------------------------------------------------------------------

    def observe(self, orders: Iterable[int] | None = None, cards: bool = True) -> b.Seen:
        host, state = self.host, self.state
        looked = list(self._followed) if orders is None else [order for order in orders if order in self._followed]
        attempts = {order: self._evidence(order, self._followed[order]) for order in looked}
        asked = self._asked | set(state.held)
        checked = {order: self._look(order) for order in asked}
        self._asked = set()
        before, reading = self._before, host.read_cards() if cards else None
        if isinstance(reading, Cards):
            self._before = {card.uuid: card.used_mib for card in reading.cards}
        foreign = host.leases if isinstance(reading, Cards) else ()
        found = {order: b.MetricsFound({"loss": 0.5}) for order in state.unread}
        requests = tuple(host.inbox)
        return b.Seen(
            host.boot, host.cores, attempts, reading, before, foreign, checked, requests, host.disk, metrics=found,
            health={order: host.health[job] for order in looked if (job := state.jobs[order].spec.id) in host.health},
        )  # fmt: skip

    def _look(self, order: int) -> b.Checked:
        spec = self.state.jobs[order].spec
        words = self.host.unmet.get(spec.id)
        return b.Checked(words, self.host.now, words is not None and spec.preconditions[0].type == "carried")

    def _evidence(self, order: int, followed: _Followed) -> b.Evidence:
        host, attempt = self.host, followed.attempt
        files = host.attempts.get((attempt.job, attempt.n))
        if followed.claim is None:
            claim: b.Claim | b.Revoked | Unreadable | None = files.claim if files else None
            if host.claims is not None:
                claim = Unreadable(host.claims)
            if not isinstance(claim, b.Claim):
                quiet = followed.inherited and host.sessions is None and not (files and files.session)
                return b.Evidence(claim, launch_error=followed.launch_error, quiet=quiet, inherited=followed.inherited)
            followed.claim = claim
        assert files is not None
        same_boot = attempt.boot == host.boot
        alive: bool | Unreadable = same_boot and files.wrapper
        screen: bool | Unreadable = same_boot and files.session
        if same_boot and host.processes is not None:
            alive = Unreadable(host.processes)
        if same_boot and host.sessions is not None:
            screen = Unreadable(host.sessions)
        if alive is True:
            followed.inherited = False
            if files.session:
                followed.closed_at = None
            elif followed.closed_at is None:
                followed.closed_at = host.now
            return b.Evidence(
                followed.claim,
                True,
                files.session,
                closed_for=0.0 if followed.closed_at is None else host.now - followed.closed_at,
                proc=Proc(followed.claim.wrapper.pid + 100_000, 1),
                idle=_idle(host.now, host.idle.get(attempt.job)),
            )
        leftovers: int | Unreadable = int(files.proc) + files.leftovers if same_boot else 0
        if same_boot and host.processes is not None:
            leftovers = Unreadable(host.processes)
        gone = alive is False and screen is False and leftovers == 0
        if alive is False and followed.gone_at is None:
            followed.gone_at = host.now
        return b.Evidence(
            followed.claim,
            alive,
            screen,
            leftovers,
            gone_for=0.0 if followed.gone_at is None else host.now - followed.gone_at,
            exit=files.exit,
            ended=host.ended(files, self.state.jobs[order].spec.expected_output) if gone else None,
            idle=None if files.plan.leaves_busy else _idle(followed.gone_at, 0.0),
            inherited=followed.inherited,
            left=files.left() if alive is False and leftovers else None,
        )

    # -- act ------------------------------------------------------------------------------------------------------

    def _act(self, action: b.Action) -> None:
        host = self.host
        if isinstance(action, b.Reply):
            host.answers[action.answer.id] = action.answer
            host.inbox = [request for request in host.inbox if request.id != action.answer.id]
            return
        attempt = self.state.live[action.order]
        if isinstance(action, b.Launch):
            error = host.launch(attempt, action.order)
            self._followed[action.order] = _Followed(attempt, False, error)
        elif isinstance(action, b.Revoke):
            host.revoke(attempt, action.order)
        elif (files := host.attempts.get((attempt.job, attempt.n))) is None:
            return
        elif isinstance(action, b.Stop):
            host.signal(files, action.kill)
        else:
            files.session = False


def _idle(now: float | None, seconds: float | None) -> Work | None:
    """The look since which nothing was done, so many seconds ago."""
    return None if now is None or seconds is None else Work(round(now - seconds, 3), 0.0, 0, 0, 0)


def replay(manifest: Manifest, lines: Iterable[str]) -> QueueState:
    """The state that a journal gives."""
    state = QueueState(manifest)
    for line in lines:
        state.apply(ev.decode(line))
    return state


def with_plans(plans: dict[str, Plan | list[Plan]], default: Plan | None = None) -> Callable[[str, int], Plan]:
    """A `plan_of`: a job's attempts follow its list of plans, the last one again and again."""

    def plan_of(job: str, n: int) -> Plan:
        found = plans.get(job, default or Plan())
        return found if isinstance(found, Plan) else found[min(n, len(found)) - 1]

    return plan_of
