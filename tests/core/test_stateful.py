"""Random lives of a run: faults, crashes between any two steps, and the rules that hold all the same.

`WAVEQUEUE_DEEP=2000` tries so many lives, with new random choices each time.
"""

from __future__ import annotations

import os
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from queue_manager.core import boundary as b
from queue_manager.core import events as ev
from queue_manager.core.attempt_progress import DISK_RETRIES
from queue_manager.core.events import Record
from queue_manager.core.manifest import JobSpec, Manifest, OomRetry, Phase, Precondition
from queue_manager.core.model import Job, QueueState
from queue_manager.core.readings import Unreadable
from queue_manager.core.recover_policy import IN_ALL, PER_RUNG
from queue_manager.core.requests import VERBS, Request
from queue_manager.core.status import BAD, RETRYING, Status
from tests.core.states import FOREVER, check_indexes, dependencies, dump, facts
from tests.fakes import BEFORE_JOURNAL, FakeHost, FakeManager, Plan, replay, with_plans

DEEP = int(os.environ.get("WAVEQUEUE_DEEP", "0"))
TURNS_TO_THE_END = 600

OOM = b"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n"
RERUN, RUN = {"kind": "rerun"}, {"kind": "run", "command": "pip install x"}
SMALLER = {"kind": "args", "command": "true --bs 8", "arg": "bs", "value": "8", "was": "16"}
LADDERS = [[RERUN, RUN, SMALLER], [SMALLER, {"kind": "other_host"}], [RERUN], None]
LOGS = [b"", b"", OOM, b"OSError: [Errno 28] No space left on device\n", b"CUDA error: uncorrectable ECC error\n"]

plans = st.builds(
    Plan,
    seconds=st.sampled_from([0.5, 5.0, float("inf")]),
    code=st.sampled_from([0, 0, 1, 137]),
    output=st.booleans(),
    log=st.sampled_from(LOGS),
    mib=st.sampled_from([0, 300, 8000]),
    load_after=st.sampled_from([0.0, 10.0]),
    linger=st.sampled_from([0.0, 7.0]),
    ignores_term=st.booleans(),
    leaves=st.sampled_from([0, 0, 1]),
    session_stays=st.booleans(),
    wrapper_dies=st.booleans(),
)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Teachers, students by phase or by group, and jobs for themselves; needs of all kinds."""

    with_ladders = draw(st.booleans())
    ladders = LADDERS if with_ladders else LADDERS[-1:]

    def job(name: str, phase: str, **fields: Any) -> JobSpec:
        gpus = draw(st.sampled_from([0, 1, 1, 1, 2, 3]))
        return JobSpec(
            name, "true", phase, gpus=gpus,
            gpu_mem_mib=draw(st.sampled_from([None, 9000, 15_000])) if gpus else None,
            expected_output=draw(st.sampled_from([None, f"out/{name}"])),
            timeout=draw(st.sampled_from([None, None, 20.0])),
            priority=draw(st.integers(0, 2)),
            retries=0 if with_ladders else draw(st.integers(0, 2)),
            recover=(ladder := draw(st.sampled_from(ladders))),
            health=draw(st.sampled_from([None, {"then": "recover"}])) if ladder else None,
            preconditions=draw(st.sampled_from([(), (), (Precondition("file_exists", "data"),)])),
            **fields,
        )  # fmt: skip

    teachers = [job(f"t{i}", "teachers") for i in range(draw(st.integers(1, 3)))]
    grouped = draw(st.booleans())
    needs = [("some",), ("t0",), ("t0", "some")] if grouped else [()]
    students = [
        job(f"s{i}", "students", depends_on=draw(st.sampled_from(needs))) for i in range(draw(st.integers(1, 4)))
    ]
    last = [job(f"z{i}", "last") for i in range(draw(st.integers(0, 1)))]
    return Manifest(
        "demo",
        (*teachers, *students, *last),
        (
            Phase("teachers"),
            Phase("students", ("teachers",), ("N",) if grouped else ()),
            Phase("last", ("students",)),
        ),
        {"some": tuple(teacher.id for teacher in teachers[:2])} if grouped else {},
        max_parallel=draw(st.sampled_from([None, None, 1, 3])),
        oom_retry=OomRetry(draw(st.sampled_from([0.0, 30.0])), 2),
        wave=draw(st.sampled_from(["rolling", "rolling", "barrier"])),
    )


class Life:
    """One run on one machine, and whoever manages it at the moment. What happens is drawn from `chance`: Hypothesis
    would take longer to draw each choice than the manager takes to answer it."""

    def __init__(self, manifest: Manifest, cards: int, several: list[Plan], chance: Random) -> None:
        self.manifest, self.chance = manifest, chance
        self.host = FakeHost(cards)
        # Jobs and attempts of one life do different things, by turns.
        self.host.plan_of = lambda _job, n: several[(len(self.host.attempts) + n) % len(several)]
        self._new_manager()
        self.seen_starts = 0
        self.sent = 0

    def go_on(self, kinds: list[str], steps: int) -> None:
        """So many steps. The manager turns all the while; besides, things of these kinds happen."""
        for _ in range(steps):
            kind = self.chance.choice([*kinds, "several_turns"])
            note(f"{kind}: {getattr(self, kind)()}")
            assert self.host.faults == []

    def _job(self) -> str:
        """The first one twice as often as the others, most of which wait for it."""
        jobs = self.manager.state.jobs
        return self.chance.choice([jobs[0], *jobs]).spec.id

    # -- what happens to the machine: each returns what it was --------------------------------------------------------

    def time_passes(self) -> object:
        seconds = self.chance.choice([0.1, 1.0, 6.0, 35.0])
        self.host.advance(seconds)
        self.check_starts()
        return seconds

    def later_launches(self) -> object:
        self.host.launching = self.chance.choice(["ok", "ok", "late", "slow", "lost", "error"])
        return self.host.launching

    def a_job(self) -> object:
        if not self.host.running():
            return None
        attempt = self.chance.choice(self.host.running())
        how = self.chance.choice(["ends", "ends", "is killed", "loses its wrapper", "loses its screen", "idles"])
        if how == "ends":
            self.host.finish(attempt)
        elif how == "is killed":
            self.host.finish(attempt, 137)
        elif how == "idles":
            self.host.idle[attempt.job] = 1e6
        elif how == "loses its screen":
            attempt.session = False
        else:
            self.host.kill_wrapper(attempt)
        return attempt.job, attempt.n, how

    def a_reading_fails_or_heals(self) -> object:
        what = self.chance.choice(["nvml", "claims", "processes", "sessions", "disk"])
        reason = self.chance.choice([None, "it does not answer"])
        setattr(self.host, what, reason)
        return what, reason

    def others_use_a_card(self) -> object:
        if not self.host.cards:
            return None
        card, mib = self.chance.choice(self.host.cards), self.chance.choice([0, 0, 400, 3000, 20_000])
        card.sick = "GPU is lost" if self.chance.random() < 0.5 and mib else None
        if not self.manager.state.cards.holders.get(card.uuid):
            card.foreign = mib
        return card

    def another_run(self) -> object:
        if not self.host.cards:
            return None
        card, mib = self.chance.choice(self.host.cards).uuid, self.chance.choice([None, 4000])
        how = self.chance.choice(["take", "leave", "torn"])
        free = card not in self.manager.state.cards.holders
        if how == "torn":
            self.host.leases = Unreadable("cannot be parsed")
        else:
            self.host.leases = (b.ForeignLease(card, mib, "other"),) if how == "take" and free else ()
        return self.host.leases

    def a_job_does_well_or_not(self) -> object:
        job = self._job()
        self.host.health[job] = b.HealthReading(
            self.host.now, 7, 9, self.chance.choice([None, 0.5, float("nan")]),
            busy=False, still=self.chance.choice([0.0, 1e6]), interval=1.0, since_best=self.chance.choice([None, 9]),
        )  # fmt: skip
        return job, self.host.health[job]

    def a_precondition(self) -> object:
        job = self._job()
        self.host.unmet.pop(job, None)
        if self.chance.random() < 0.5:
            self.host.unmet[job] = "data is not there"
        return job, self.host.unmet

    def a_person_asks(self) -> object:
        self.sent += not (self.chance.random() < 0.5 and self.sent)
        jobs, verb = self.manager.state.jobs, self.chance.choice(VERBS)
        ids = tuple(self._job() for _ in range(self.chance.randint(0, 2)))
        specs: tuple[JobSpec, ...] = ()
        if verb == "add" and len(jobs) < 12:
            phase = self.chance.choice(self.manifest.phases).name
            specs = (JobSpec(f"new{len(jobs)}", "true", phase, ids),)
        self.host.inbox.append(Request(f"r{self.sent}", verb, ids, specs=specs))
        return self.host.inbox[-1]

    # -- the manager --------------------------------------------------------------------------------------------------

    def turn(self) -> object:
        crash = self.chance.choice([None, None, None, None, BEFORE_JOURNAL, 0, 1, 2])
        cards = self.chance.choice([True, True, True, False])
        some = set(self.chance.sample(range(10), self.chance.randint(0, 10)))
        orders = self.chance.choice([None, None, some])
        self._turn(crash, cards, orders)
        if crash is not None:
            self._new_manager()
        return crash, cards, orders

    def several_turns(self) -> object:
        return self._turns(self.chance.randint(1, 4), self.chance.choice([0.2, 1.0, 5.0]))

    def _turns(self, count: int, seconds: float) -> object:
        for _ in range(count):
            self._turn()
            self.host.advance(seconds)
            self.check_starts()
        return count, seconds

    def the_host_goes_down(self) -> object:
        really = self.chance.choice([False, False, True])
        if really:
            self.host.reboot()
            self._new_manager()
        else:
            self._turns(5, 2.0)
        return really

    def _new_manager(self) -> None:
        self.manager = FakeManager(self.host, self.manifest)
        self.replayed, self.lines = replay(self.manifest, []), 0

    def _turn(self, crash: int | None = None, cards: bool = True, orders: set[int] | None = None) -> None:
        state = self.manager.state
        was_running = dict(state.live)
        seen, result = self.manager.turn(crash, orders, cards)
        self.check_records(seen, result.records, was_running)
        indexes = check_indexes(state)
        self.check_state()
        if crash != BEFORE_JOURNAL:
            assert {**facts(state), **indexes} == dump(self._replay())

    def _replay(self) -> QueueState:
        """The state that the journal gives. Since a manager began, lines only come to it."""
        for line in self.host.journal[self.lines :]:
            self.replayed.apply(ev.decode(line))
        self.lines = len(self.host.journal)
        return self.replayed

    # -- the rules ----------------------------------------------------------------------------------------------------

    def check_records(self, seen: b.Seen, records: list[Record], live: dict[int, Any]) -> None:
        state = self.manager.state
        for record in records:
            event = record.event
            assert ev.decode(ev.encode(record)) == record
            if isinstance(event, ev.AttemptStarting):
                spec = state.job(event.job).spec
                assert not state.paused
                assert seen.disk is None
                assert len(event.cards) == spec.gpus
                if spec.gpus:
                    assert not isinstance(seen.cards, (Unreadable, type(None)))
                    assert not isinstance(seen.foreign, Unreadable)
                    taken = {lease.card for lease in seen.foreign if lease.mib is None or event.mib is None}
                    assert not taken & set(event.cards)
                if spec.preconditions:
                    assert seen.checked[state.job(event.job).order].unmet is None
                if self.manifest.wave == "barrier":
                    assert {attempt.wave for attempt in state.live.values()} == {event.wave}
            if isinstance(event, ev.AttemptEnded):
                evidence = seen.attempts[state.job(event.job).order]
                unknown = any(isinstance(value, Unreadable) for value in vars(evidence).values())
                assert not unknown or live[state.job(event.job).order].boot != seen.boot
            if isinstance(event, ev.JobStuck):
                assert not isinstance(seen.cards, Unreadable)

    def check_starts(self) -> None:
        """A process begins for a live attempt only, and when all that its job waits for has completed."""
        state = self.manager.state
        for name, n in self.host.starts[self.seen_starts :]:
            job = state.job(name)
            assert job.attempt is not None, f"attempt {n} of {name} began after its end"
            assert job.attempt.n == n
            added_since = set(range(len(self.manifest.jobs), len(state.jobs)))
            waited_for = [one for one in dependencies(state, job) if one.order not in added_since]
            assert all(one.status is Status.COMPLETED for one in waited_for)
        self.seen_starts = len(self.host.starts)

    def check_state(self) -> None:
        state = self.manager.state
        assert self.host.faults == []
        for card, holders in state.cards.holders.items():
            assert len(holders) == 1 or all(holder.mib is not None for holder in holders)
            if holders[0].mib is not None:
                base = min(used for one in holders for uuid, used in zip(one.cards, one.used_mib) if uuid == card)
                assert sum(one.mib or 0 for one in holders) + base <= 24_000
        bound = self.manifest.max_parallel
        assert bound is None or len(state.live) <= bound
        assert bound is not None or sum(not one.cards for one in state.live.values()) <= self.host.cores
        for job in state.jobs:
            self.check_job(job)

    def check_job(self, job: Job) -> None:
        state = self.manager.state
        assert (job.attempt is not None) == (job.status is Status.RUNNING)
        steps = len(job.recovery.steps)
        assert job.oom_attempts <= self.manifest.oom_retry.max_attempts + steps
        assert job.other_failures <= max(job.spec.retries, DISK_RETRIES) + 1 + steps
        assert job.outcome != "recovered" or (steps and job.status is Status.COMPLETED)
        if job.status is Status.BLOCKED:
            assert job.error
            if job.blocked_by is not None:
                root = state.job(job.blocked_by)
                assert root.status in BAD
                assert root.status is not Status.BLOCKED or root.blocked_by is None
                assert job.error.startswith(f"depends on {root.spec.id}, which is ")
        if job.status is Status.PENDING or job.status in RETRYING:
            assert state.graph.bad_need(job.order) is None, f"{job.spec.id} waits for what will not come"

    def end(self) -> None:
        """Once nothing goes wrong any more, every run comes to its end."""
        host = self.host
        host.nvml = host.claims = host.processes = host.sessions = host.disk = None
        host.launching, host.leases = "ok", ()
        host.plan_of = with_plans({}, Plan(seconds=3.0))
        for card in host.cards:
            card.foreign, card.sick = 0, None
        for attempt in host.attempts.values():
            if attempt.plan.seconds == FOREVER.seconds:
                attempt.plan = Plan(seconds=3.0)
        host.inbox.append(Request("last", "resume"))
        for _ in range(TURNS_TO_THE_END):
            self._turn()
            if self.manager.state.finished is not None and not host.inbox:
                break
            host.advance(2.0)
            self.check_starts()
        state = self.manager.state
        assert state.finished is not None, [(job.spec.id, job.status.value) for job in state.jobs] + [
            (host.attempts.get((one.job, one.n)), self.manager.observe()) for one in state.live.values()
        ]
        assert not state.live
        assert not any(attempt.lives for attempt in host.attempts.values())
        check_ladders(host.journal)


def check_ladders(journal: list[str]) -> None:
    """No rung is skipped, none is taken too often, and each attempt is answered once."""
    taken: dict[str, list[ev.RecoveryChosen]] = {}
    levels: dict[tuple[str, str], int] = {}
    for line in journal:
        event = ev.decode(line).event
        if isinstance(event, (ev.JobRetried, ev.RecoverySustained)):
            levels = {key: level for key, level in levels.items() if key[0] != event.job}
        if isinstance(event, ev.JobRetried):
            taken.pop(event.job, None)
        if isinstance(event, ev.RecoveryChosen):
            steps, key = taken.setdefault(event.job, []), (event.job, event.failure)
            assert event.rung == levels.get(key, 0)
            levels[key] = event.rung + 1
            steps.append(event)
            assert len({one.n for one in steps}) == len(steps) <= IN_ALL
            assert sum(one.rung == event.rung for one in steps) <= PER_RUNG


KINDS = [
    "time_passes", "later_launches", "a_job", "a_reading_fails_or_heals", "others_use_a_card", "another_run",
    "a_job_does_well_or_not", "a_precondition", "a_person_asks", "turn", "several_turns", "the_host_goes_down",
]  # fmt: skip


@settings(
    max_examples=DEEP or 300,
    deadline=None,
    derandomize=not DEEP,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
@given(
    manifest=manifests(),
    cards=st.integers(0, 3),
    several=st.lists(plans, min_size=1, max_size=5),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, unique=True),
    steps=st.sampled_from([15, 30, 60, 60]),
    chance=st.randoms(use_true_random=True),
)
def test_life(
    manifest: Manifest, cards: int, several: list[Plan], kinds: list[str], steps: int, chance: Random
) -> None:
    """Of a life that breaks a rule, Hypothesis looks for one with fewer steps, of fewer kinds."""
    life = Life(manifest, cards, several, chance)
    life.go_on(kinds, steps)
    life.end()
