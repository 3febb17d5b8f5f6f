"""What becomes of a rented machine: the tree, the bounds, and what may never happen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_manager.core import boundary as b
from queue_manager.core import events as ev
from queue_manager.core.machine import (
    Container,
    Instance,
    MachineReading,
    Other,
    acknowledged_text,
    instance_text,
    other,
    parse_acknowledged,
    parse_container,
    parse_instance,
)
from queue_manager.core.manifest import JobSpec, Phase
from queue_manager.core.readings import Unreadable
from queue_manager.core.requests import Request
from queue_manager.core.teardown import (
    DAY,
    GRACE,
    PUSH,
    WAIT,
    Decision,
    Destroy,
    Facts,
    Keep,
    Stop,
    SyncFirst,
    conditions,
    decide,
    note,
    row,
    waits,
)
from queue_manager.core.turn import Turn
from tests.core.states import FOREVER, ONCE, manifest, spec, statuses
from tests.fakes import START, FakeHost, FakeManager, Plan, with_plans

NOW = START + 10 * DAY
MINE = 4711
RENTED = Instance(MINE, dph=2.0, storage_dph=0.01, since=START)
READING = MachineReading(container=MINE, key=True, instance=RENTED, others=())


# -- the tree ---------------------------------------------------------------------------------------------------------


def facts(**changes: Any) -> Facts:
    """A run that has just finished, whose results are not home, and which wants its machine destroyed."""
    return Facts(**{"when_done": "destroy", "finished": NOW - 1, "idle_since": NOW - 1, **changes})


def test_work_that_is_left_stops_the_machine() -> None:
    found = decide(facts(finished=None, idle_after=60.0, idle_since=NOW - 60), NOW)
    assert found == Stop("no job ran for 1m; jobs are left, which can continue when it is started again")


def test_a_machine_without_work_whose_results_are_home_is_destroyed() -> None:
    assert decide(facts(results_pulled=True), NOW) == Destroy("the run has finished; all results have been pulled")


def test_results_that_are_not_home_come_first() -> None:
    found = decide(facts(), NOW)
    assert found == SyncFirst("the run has finished; its results have not been pulled yet: wavequeue pull")


def test_while_jobs_run_the_machine_is_kept() -> None:
    assert isinstance(decide(facts(live=True, bound="over", results_pulled=True), NOW), Keep)


@pytest.mark.parametrize(("idle_after", "patience"), [(None, WAIT), (1200.0, 1200.0)])
def test_results_that_do_not_come_are_kept_on_the_disk_of_a_stopped_machine(
    idle_after: float | None, patience: float
) -> None:
    since = {"finished": NOW - patience, "idle_since": NOW - patience, "idle_after": idle_after}
    assert isinstance(decide(facts(**since), NOW), Stop)
    assert isinstance(decide(facts(**since), NOW - 1), SyncFirst)


def test_a_run_that_wants_to_be_kept_is_kept_until_it_is_idle_for_long_enough() -> None:
    keep = {"when_done": "keep", "idle_after": 1200.0, "results_pulled": True}
    assert isinstance(decide(facts(**keep, idle_since=NOW - 1199), NOW), Keep)
    assert isinstance(decide(facts(**keep, idle_since=NOW - 1200), NOW), Stop)


def test_after_a_day_without_work_or_plan_it_is_destroyed_once_its_results_are_home() -> None:
    idle = {"when_done": "keep", "idle_after": 1200.0, "finished": NOW - 2 * DAY, "idle_since": NOW - DAY - 1}
    assert isinstance(decide(facts(**idle, results_pulled=True), NOW), Destroy)
    assert isinstance(decide(facts(**idle), NOW), Stop)
    assert isinstance(decide(facts(**{**idle, "finished": None}, results_pulled=True), NOW), Stop)


def test_jobs_that_need_a_person_keep_the_disk() -> None:
    assert decide(facts(person=1, results_pulled=True), NOW) == Stop("the run has finished; 1 job needs a person")


def test_another_run_that_works_here_keeps_the_machine_and_one_with_jobs_left_its_disk() -> None:
    assert decide(facts(results_pulled=True, busy=("b",)), NOW) == Keep("run b is active on this machine")
    assert isinstance(decide(facts(results_pulled=True, left=("b",)), NOW), Stop)
    found = decide(facts(results_pulled=True, unsafe=("b",)), NOW)
    assert found == SyncFirst(
        "the run has finished; the results of run b, which also ran here, have not been pulled yet: wavequeue pull"
    )


def test_at_a_bound_nothing_is_waited_for_but_the_push_that_the_run_asks_for() -> None:
    reached = {"bound": "the deadline is over", "bound_at": NOW - PUSH + 1, "idle_since": NOW - PUSH + 1}
    assert isinstance(decide(facts(finished=None, **reached), NOW), Stop)
    assert isinstance(decide(facts(finished=None, results_to=True, **reached), NOW), SyncFirst)
    assert isinstance(decide(facts(finished=None, results_to=True, **reached), NOW + 1), Stop)


@given(
    facts=st.builds(
        Facts,
        when_done=st.sampled_from(["keep", "stop", "destroy"]),
        idle_after=st.none() | st.floats(1, 2 * DAY),
        results_to=st.booleans(),
        finished=st.none() | st.floats(NOW - 3 * DAY, NOW),
        live=st.booleans(),
        idle_since=st.floats(NOW - 3 * DAY, NOW),
        person=st.integers(0, 2),
        bound=st.none() | st.just("the deadline is over"),
        bound_at=st.floats(NOW - 3 * DAY, NOW),
        booted_at=st.floats(NOW - 3 * DAY, NOW),
        results_pulled=st.booleans(),
        busy=st.just(()) | st.just(("b",)),
        left=st.just(()) | st.just(("b",)),
        unsafe=st.just(()) | st.just(("b",)),
    )
)
def test_nothing_is_destroyed_that_is_not_safe_or_still_of_use_and_nothing_idles_forever(facts: Facts) -> None:
    found = decide(facts, NOW)
    if isinstance(found, Destroy):
        assert facts.safe
        assert facts.finished is not None
        assert not any((facts.live, facts.busy, facts.left, facts.person))
        assert facts.when_done == "destroy" or facts.idle_after is not None
    if isinstance(found, Stop):
        assert not any((facts.live, facts.busy))
    asked = facts.when_done != "keep" and facts.finished is not None
    if (asked or facts.idle_after is not None or facts.bound is not None) and not (facts.live or facts.busy):
        assert isinstance(decide(facts, NOW + 4 * DAY), (Stop, Destroy))


# -- what is read of the machine --------------------------------------------------------------------------------------


def test_the_cost_counts_from_when_it_was_rented_and_a_stopped_machine_costs_its_disk() -> None:
    assert RENTED.cost(START + 3600, 0.0) == 2.0
    assert RENTED.cost(START + 7200, 3600.0) == pytest.approx(2.01)
    assert RENTED.cost(START - 5, 0.0) == 0.0
    assert replace(RENTED, dph=None).cost(NOW, 0.0) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            '{"instance_id": 5, "dph": 0.5, "storage_dph": 0.01, "since": "2026-01-01T00:00:00Z"}',
            Instance(5, 0.5, 0.01, START),
        ),
        ('{"instance_id": 5, "more": 1}', Instance(5)),
    ],
)
def test_what_the_run_was_told_of_its_machine_is_read(text: str, found: Instance) -> None:
    assert parse_instance(text) == found
    assert parse_instance(instance_text(found)) == found


@pytest.mark.parametrize(
    "text", ["", "[]", '{"instance_id": "5"}', '{"instance_id": true}', '{"instance_id": 5, "dph": -1}']
)
def test_what_cannot_be_read_is_unknown(text: str) -> None:
    assert isinstance(parse_instance(text), Unreadable)


@pytest.mark.parametrize("text", ["", "{}", "[]", "7", '{"seq": "9"}', '{"seq": true}', '{"seq": -1}'])
def test_an_acknowledgement_that_cannot_be_read_acknowledges_nothing(text: str) -> None:
    assert parse_acknowledged(text) == 0
    assert parse_acknowledged(acknowledged_text(9, NOW)) == 9


def test_process_1_tells_the_instance_and_its_key_which_is_never_shown() -> None:
    found = parse_container(b"HOME=/root\0CONTAINER_ID=4711\0CONTAINER_API_KEY=s3cret\0X=a=b\0")
    assert found == Container(4711, "s3cret")
    assert "s3cret" not in f"{found} {found!r}"
    assert parse_container(b"") == Container(None, None)
    assert parse_container(b"CONTAINER_ID=C.1\0CONTAINER_API_KEY=a b\n\0") == Container(None, None)


def test_another_run_is_busy_until_it_has_been_idle_and_unsafe_if_it_says_too_little() -> None:
    meta = {"manager": "running", "idle_since": None, "results_seq": 9, "pushed_seq": 0}
    assert other("b", meta, True, 0, NOW, 60.0) == Other("b", True, True, False)
    assert other("b", {**meta, "idle_since": "2026-01-01T00:00:00Z"}, True, 9, NOW, 60.0) == Other(
        "b", False, True, True
    )
    assert other("b", meta, False, 0, NOW, 60.0).busy is False
    assert other("b", {**meta, "manager": "finished", "pushed_seq": 9}, False, 0, NOW, 60.0) == Other(
        "b", False, False, True
    )
    assert other("b", {}, False, 10**9, NOW, 60.0) == Other("b", False, True, False)


# -- turns of a whole manager -------------------------------------------------------------------------------------


class Manager(FakeManager):
    """A manager that sees a machine under it."""

    reading: MachineReading | None = READING

    def observe(self, *args: Any, **fields: Any) -> b.Seen:
        return replace(super().observe(*args, **fields), machine=self.reading)

    def see(self, **changes: Any) -> None:
        assert self.reading is not None
        self.reading = replace(self.reading, **changes)

    def follow(self, seconds: float, step: float = 30.0) -> list[ev.Event]:
        """Turn for so long; the events."""
        events: list[ev.Event] = []
        until = self.host.now + seconds
        while self.host.now < until:
            events += [record.event for record in self.turn()[1].records]
            self.host.advance(step)
        return events


def managed(*jobs: JobSpec, plans: dict[str, Any] | None = None, **fields: Any) -> tuple[FakeHost, Manager]:
    host = FakeHost()
    host.plan_of = with_plans(plans or {})
    return host, Manager(host, manifest(*jobs, **fields))


def kinds(events: list[ev.Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def starting(events: list[ev.Event]) -> list[ev.TeardownStarting]:
    return [event for event in events if isinstance(event, ev.TeardownStarting)]


def test_a_finished_run_destroys_its_machine_once_its_results_are_acknowledged_and_not_before() -> None:
    host, manager = managed(spec("a"), plans={"a": ONCE}, when_done="destroy", idle_after=7200.0)
    events = manager.follow(600)
    assert statuses(manager.state) == {"a": "completed"}
    assert starting(events) == []
    manager.see(acknowledged=manager.state.results_seq - 1)
    assert starting(manager.follow(60)) == []
    manager.see(acknowledged=manager.state.results_seq)
    (intent,) = starting(manager.follow(60))
    assert intent == ev.TeardownStarting(
        "destroy", MINE, "the run has finished; all results have been pulled", intent.cost
    )
    assert intent.cost == pytest.approx((host.now - START) / 3600 * 2, abs=0.1)
    manager.see(confirmed="destroy")
    assert kinds(manager.follow(30)) == ["TeardownConfirmed"]
    assert not waits(manager.state, manager.reading)


def test_results_that_were_pushed_are_safe_until_another_attempt_ends() -> None:
    _, manager = managed(spec("a"), spec("b", depends_on=("a",)), plans={"a": ONCE, "b": ONCE}, when_done="destroy")
    while manager.state.job("a").status.value != "completed":
        manager.follow(1, 0.5)
    manager.see(pushed=manager.state.results_seq)
    assert starting(manager.follow(600)) == []
    manager.see(pushed=manager.state.results_seq)
    assert [intent.plan for intent in starting(manager.follow(60))] == ["destroy"]


@given(
    container=st.sampled_from([None, MINE, MINE + 1, Unreadable("EACCES")]),
    key=st.booleans(),
    instance=st.sampled_from([None, RENTED, replace(RENTED, id=MINE + 2), Unreadable("cut off")]),
    acknowledged=st.sampled_from([0, 10**6]),
    confirmed=st.sampled_from([None, "stop", "destroy"]),
)
def test_no_instance_is_touched_but_the_one_that_this_machine_says_it_is(**reading: Any) -> None:
    _, manager = managed(spec("a", gpus=0), plans={"a": ONCE}, when_done="destroy", idle_after=60.0)
    manager.reading = MachineReading(others=(), **reading)
    ours = (
        reading["container"] in (MINE, MINE + 1) and reading["key"] and not isinstance(reading["instance"], Unreadable)
    )
    if isinstance(reading["instance"], Instance):
        ours = ours and reading["instance"].id == reading["container"]
    intents = starting(manager.follow(600))
    assert {intent.instance for intent in intents} == ({reading["container"]} if ours else set())
    assert {intent.plan for intent in intents} <= ({"stop", "destroy"} if reading["acknowledged"] else {"stop"})
    if not ours:
        assert "teardown" in manager.state.machine.conditions


def test_over_max_cost_no_job_starts_running_ones_get_a_grace_and_the_machine_is_stopped() -> None:
    """2 USD an hour and a bound of 1: so that the grace is paid as well, it is reached after 25 minutes."""
    jobs = [spec("a"), spec("b"), spec("c")]
    host, manager = managed(*jobs, plans={"a": FOREVER, "b": FOREVER, "c": ONCE}, max_cost=1.0, gpus=(0, 1))
    events = manager.follow(1490, 10.0)
    assert "BoundReached" not in kinds(events)
    manager.follow(30, 10.0)
    bound = manager.state.machine.bound
    assert bound is not None
    assert bound.kind == "max_cost"
    assert bound.at - START == pytest.approx(1500, abs=10)
    assert {job.spec.id for job in map(manager.state.jobs.__getitem__, manager.state.live)} == {"a", "b"}
    manager.follow(GRACE + 10.0 + 30, 10.0)
    assert statuses(manager.state) == {"a": "pending", "b": "pending", "c": "pending"}
    assert [job.attempts for job in manager.state.jobs] == [0, 0, 0]
    assert manager.state.machine.teardown is not None
    assert (manager.state.machine.teardown.plan, manager.state.machine.teardown.instance) == ("stop", MINE)
    cost = RENTED.cost(manager.state.machine.teardown.at, 0.0)
    assert cost is not None
    assert cost <= 1.0 + 2.0 * (10.0 + 60) / 3600
    assert host.faults == []


def test_a_person_who_resumes_lifts_the_bound_that_was_reached_and_the_run_goes_on() -> None:
    host, manager = managed(spec("a"), plans={"a": ONCE}, deadline=60.0, when_done="stop")
    host.nvml = "not yet"
    manager.follow(120)
    assert manager.state.machine.bound is not None
    assert manager.state.machine.teardown is not None
    host.nvml = None
    host.inbox.append(Request("r", "resume"))
    manager.follow(120)
    assert statuses(manager.state) == {"a": "completed"}
    assert manager.state.machine.bound is None


def test_who_starts_the_machine_again_has_time_before_a_bound_that_was_reached_stops_it_again() -> None:
    host, manager = managed(spec("a"), deadline=60.0)
    host.nvml = "not yet"
    manager.follow(120)
    assert manager.state.machine.teardown is not None
    host.reboot()
    again = Manager(host, manager.manifest)
    assert starting(again.follow(WAIT - 60)) == []
    assert [intent.plan for intent in starting(again.follow(120))] == ["stop"]


def test_a_deadline_is_a_moment_or_counts_from_the_runs_start() -> None:
    for deadline in (3600.0, "2026-01-01T02:00:00+01:00"):
        _, manager = managed(spec("a"), plans={"a": FOREVER}, deadline=deadline)
        manager.follow(3600)
        assert manager.state.machine.bound is None
        manager.follow(60)
        assert manager.state.machine.bound is not None
        assert "2026-01-01T01:00:00.000Z, has passed" in manager.state.machine.bound.text


def test_a_cost_that_cannot_be_known_is_reported_once_and_stops_nothing() -> None:
    _, manager = managed(spec("a"), plans={"a": FOREVER}, max_cost=1.0)
    manager.see(instance=None)
    began = [event for event in manager.follow(3600) if isinstance(event, ev.ConditionBegan)]
    assert [event.kind for event in began] == ["price"]
    assert manager.state.machine.bound is None


@pytest.mark.parametrize(
    "request_",
    [Request("r", "retry", jobs=("b",)), Request("r", "add", specs=(spec("c"),), phases=(Phase("main"),))],
    ids=lambda request: request.verb,
)
def test_new_work_calls_the_end_off(request_: Request) -> None:
    host, manager = managed(spec("a"), spec("b"), plans={"a": ONCE, "b": Plan(1.0, code=1)}, when_done="stop")
    manager.see(acknowledged=10**6)
    manager.follow(120)
    assert manager.state.machine.teardown is not None
    host.inbox.append(request_)
    host.nvml = "not now"  # so that it is not the job's start that does it
    manager.turn()
    assert manager.state.finished is None
    assert manager.state.machine.teardown is None


def test_whoever_asks_for_something_gets_the_time_that_an_idle_machine_has() -> None:
    host, manager = managed(spec("a"), idle_after=60.0)
    host.nvml = "not yet"
    manager.follow(50, 5.0)
    host.inbox.append(Request("p", "pause"))
    manager.follow(50, 5.0)
    assert manager.state.machine.teardown is None
    manager.follow(20, 5.0)
    assert manager.state.machine.teardown is not None


def test_an_end_that_was_decided_stays_so_over_a_restart_of_the_manager() -> None:
    host, manager = managed(spec("a"), when_done="stop", idle_after=60.0)
    host.nvml = "not yet"
    manager.follow(120)
    intent = manager.state.machine.teardown
    assert intent is not None
    again = Manager(host, manager.manifest)
    again.follow(60)
    assert again.state.machine.teardown == intent
    host.reboot()
    anew = Manager(host, manager.manifest)
    anew.turn()
    assert anew.state.machine.teardown is None


def test_what_makes_the_end_wrong_calls_it_off_and_results_that_are_pulled_let_it_go_further() -> None:
    _, manager = managed(spec("a"), plans={"a": ONCE}, when_done="destroy", idle_after=60.0)
    manager.follow(300)
    assert manager.state.machine.teardown is not None
    assert manager.state.machine.teardown.plan == "stop"
    manager.see(acknowledged=10**6)
    manager.turn()
    assert manager.state.machine.teardown.plan == "destroy"
    manager.see(acknowledged=0)
    assert kinds(manager.follow(1))[:2] == ["TeardownCalledOff", "TeardownStarting"]
    assert manager.state.machine.teardown.plan == "stop"
    manager.see(others=(Other("b", True, True, False),))
    assert kinds(manager.follow(1)) == ["TeardownCalledOff"]


def test_a_machine_that_cannot_end_itself_says_so_and_what_is_to_be_done() -> None:
    _, manager = managed(spec("a"), plans={"a": ONCE}, when_done="destroy")
    manager.see(key=False)
    manager.follow(60)
    text, _ = manager.state.machine.conditions["teardown"]
    assert text == (
        "the machine cannot be stopped or destroyed by its manager: instance 4711 has no key to end itself: process 1 "
        "has no CONTAINER_API_KEY; shut it down by hand when the run is done"
    )
    assert waits(manager.state, manager.reading)


def test_on_a_machine_that_nobody_rented_the_manager_ends_with_the_run() -> None:
    _, manager = managed(spec("a"), plans={"a": ONCE}, when_done="destroy")
    manager.reading = MachineReading(others=())
    manager.follow(60)
    assert not waits(manager.state, manager.reading)


def test_what_a_command_of_the_run_leaves_has_to_be_pulled_as_well() -> None:
    _, manager = managed(spec("a"), plans={"a": ONCE}, when_done="destroy")
    manager.follow(300)
    assert manager.state.finished is not None
    manager.see(acknowledged=manager.state.results_seq, doing="on_complete")
    assert starting(manager.follow(60)) == []
    manager.see(doing=None, completed=0)
    manager.turn()
    manager.see(completed=None)
    assert starting(manager.follow(60)) == []
    manager.see(acknowledged=manager.state.results_seq)
    assert len(starting(manager.follow(60))) == 1


def test_an_end_that_the_provider_refuses_is_a_condition_and_the_note_says_what_goes_on_costing() -> None:
    _, manager = managed(spec("a"), plans={"a": ONCE}, when_done="stop")
    manager.see(acknowledged=10**6)
    manager.follow(120)
    manager.see(fault="Vast.ai answered 429: API requests too frequent")
    manager.turn()
    text, _ = manager.state.machine.conditions["teardown"]
    assert text.startswith("instance 4711 is not stopped yet and is still billed: Vast.ai answered 429")
    assert text.endswith("by hand: wavequeue vast stop 4711")
    written = note(manager.state, READING)
    assert "$0.24 a day" in written
    assert "wavequeue vast start 4711" in written
    shown = row(manager.state, manager.reading, None, manager.host.now)
    assert shown is not None
    assert (shown["plan"], shown["confirmed"], shown["instance_id"]) == ("stop", False, MINE)


def test_a_run_that_says_nothing_of_its_machine_is_as_it_was() -> None:
    _, manager = managed(spec("a"), plans={"a": ONCE})
    decision: Decision | None = manager.turn()[1].machine
    assert isinstance(decision, Keep)
    manager.follow(60)
    assert row(manager.state, manager.reading, decision, NOW) is None
    assert not waits(manager.state, None)
    assert conditions(Turn(manager.state, b.Seen("b", 1, machine=READING), NOW), None) == {}
