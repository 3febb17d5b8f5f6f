"""What an engine that places the jobs itself takes of them, and jobs that it put off."""

from __future__ import annotations

import pytest

from queue_manager.core import alerts, snapshot
from queue_manager.core import boundary as b
from queue_manager.core import events as ev
from queue_manager.core.boundary import Admitted, Seen
from queue_manager.core.events import Record
from queue_manager.core.launchers import ENGINE_LIMIT
from queue_manager.core.tick import tick
from tests.core.states import spec, world


def names(records: list[Record]) -> list[str]:
    return [ev.name_of(record.event) for record in records]


@pytest.mark.parametrize(("room", "wanted"), [(0, 0), (1, 1), (2, 2), (9, 3)])
def test_no_more_jobs_start_than_the_engine_takes(room: int, wanted: int) -> None:
    host, manager = world(*(spec(name, gpus=0) for name in "abc"))
    seen = Seen(host.boot, 4, admitted=Admitted(room))
    assert names(tick(manager.state, seen, host.now).records).count("AttemptStarting") == wanted


def test_what_a_person_should_know_of_the_engine_is_journaled_while_it_holds() -> None:
    host, manager = world(spec("a"))

    def events(conditions: dict[str, str]) -> list[ev.Event]:
        found = tick(manager.state, Seen(host.boot, 4, admitted=Admitted(0, None, conditions)), host.now).records
        return [record.event for record in found]

    assert events({"node:n2": "node n2 is out"}) == [ev.ConditionBegan("node:n2", "node n2 is out")]
    assert events({"node:n2": "node n2 is out"}) == []
    assert events({}) == [ev.ConditionEnded("node:n2")]


def test_people_are_told_of_a_node_and_not_of_a_limit() -> None:
    def tells(event: ev.Event) -> bool:
        return alerts.alert(Record(7, 0.0, event)) is not None

    assert tells(ev.ConditionBegan("node:n2", "node n2 is out"))
    assert tells(ev.ConditionEnded("node:n2"))
    assert not tells(ev.ConditionBegan(ENGINE_LIMIT, "Slurm takes no more"))
    assert not tells(ev.ConditionEnded(ENGINE_LIMIT))


def test_a_job_that_was_put_off_loses_no_attempt_and_holds_nothing_up() -> None:
    host, manager = world(spec("a"), spec("b"))
    seen = Seen(host.boot, 4, cards=host.read_cards(), admitted=Admitted(1))
    tick(manager.state, seen, host.now)
    assert list(manager.state.live) == [0]
    refused = b.Evidence(b.Revoked(), launch_error="sbatch: AssocMaxSubmitJobLimit", put_off=True)
    tick(manager.state, Seen(host.boot, 4, {0: refused}, admitted=Admitted(0)), host.now)
    job = manager.state.job("a")
    assert (job.status.value, job.n, job.attempts) == ("pending", 1, 0)
    assert job.error == "not started: sbatch: AssocMaxSubmitJobLimit"
    assert manager.state.machine.launch_failures == 0
    assert manager.state.machine.conditions == {}
    seen = Seen(host.boot, 4, cards=host.read_cards(), admitted=Admitted(2))
    assert names(tick(manager.state, seen, host.now).records).count("AttemptStarting") == 2


def test_a_job_that_the_engine_can_never_run_needs_a_person() -> None:
    host, manager = world(spec("a", retries=9, gpus=0), spec("b", gpus=0, depends_on=("a",)), spec("c", gpus=0))
    tick(manager.state, Seen(host.boot, 4, admitted=Admitted(1)), host.now)
    refused = b.Evidence(b.Revoked(), launch_error="sbatch: no such node", never=True)
    tick(manager.state, Seen(host.boot, 4, {0: refused}, admitted=Admitted(0)), host.now)
    job = manager.state.job("a")
    assert (job.status.value, job.attempts, job.failure) == ("stuck", 0, "refused")
    assert job.error == "not started: sbatch: no such node"
    assert manager.state.job("b").status.value == "blocked"
    assert manager.state.machine.launch_failures == 0
    found = tick(manager.state, Seen(host.boot, 4, admitted=Admitted(1)), host.now).records
    assert names(found) == ["AttemptStarting"], "others go on"


def test_a_job_says_why_the_engine_takes_no_more() -> None:
    _, manager = world(spec("a"))
    job = manager.state.job("a")
    assert snapshot.waiting(manager.state, job, {}, "waits for Slurm") == "waits for Slurm"
    manager.state.apply(Record(manager.state.seq + 1, manager.host.now, ev.Paused()))
    assert "paused" in (snapshot.waiting(manager.state, job, {}, "waits for Slurm") or "")
