"""What changes of a run under way: jobs whose outputs were there, what a person changed of jobs, another code."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from queue_manager.core import boundary as b
from queue_manager.core.requests import CHANGEABLE, Answer, Request, RequestError, decode_request, encode_request
from queue_manager.core.snapshot import Situation, job_row
from queue_manager.core.tick import tick
from tests.core.states import check_indexes, run_to_end, spec, statuses, turns, world
from tests.fakes import FakeHost, FakeManager, Plan, with_plans


def ask(host: FakeHost, manager: FakeManager, request: Request) -> Answer:
    host.inbox.append(request)
    manager.turn()
    check_indexes(manager.state)
    return host.answers[request.id]


# -- outputs that were there ------------------------------------------------------------------------------------------


def test_a_job_whose_output_was_there_is_completed_unrun_and_lets_others_start() -> None:
    host, manager = world(spec("a"), spec("b", depends_on=("a",)), spec("c"))
    answer = ask(host, manager, Request("skip-done", "skip", ("a", "c")))
    assert answer == Answer("skip-done", True, "completed from existing outputs: 2 jobs", ("a", "c"))
    run_to_end(host, manager)
    assert statuses(manager.state) == {"a": "completed", "b": "completed", "c": "completed"}
    assert [job.n for job in manager.state.jobs] == [0, 1, 0]
    assert [job.skipped for job in manager.state.jobs] == [True, False, True]
    again = FakeManager(host, manager.manifest)
    assert [job.skipped for job in again.state.jobs] == [True, False, True]


def test_what_has_run_is_not_completed_by_what_is_there() -> None:
    host, manager = world(spec("a"), spec("b"))
    host.plan_of = with_plans({"b": Plan(1e9)}, Plan(1.0, 1))
    turns(host, manager, 20)
    assert statuses(manager.state) == {"a": "stuck", "b": "running"}
    answer = ask(host, manager, Request("s", "skip", ("a", "b")))
    assert not answer.ok
    assert answer.text.endswith("unchanged: a is stuck; b is running")


# -- what a person changes --------------------------------------------------------------------------------------------


def update(**changes: dict[str, object]) -> Request:
    return Request("u", "update", changes=changes)


def test_a_change_is_applied_to_what_has_not_completed_and_survives_a_restart() -> None:
    host, manager = world(spec("a", gpus=0), spec("b", gpus=0), max_parallel=1)
    host.plan_of = with_plans({"b": Plan(1e9)}, Plan(1.0))
    turns(host, manager, 20)
    assert statuses(manager.state) == {"a": "completed", "b": "running"}
    answer = ask(host, manager, update(a={"timeout": 9.0}, b={"timeout": 60.0, "retries": 1}))
    assert answer == Answer("u", True, "changed: 1 job; unchanged, since has completed: a", ("b",))
    for state in (manager.state, FakeManager(host, manager.manifest).state):
        assert (state.job("a").spec.timeout, state.job("b").spec.timeout, state.job("b").spec.retries) == (
            None,
            60.0,
            1,
        )
    host.plan_of = with_plans({}, Plan(1.0))
    run_to_end(host, manager)
    assert statuses(manager.state)["b"] == "completed"  # it ran into its new timeout, and had a retry


def test_a_changed_priority_changes_the_order() -> None:
    host, manager = world(spec("first"), spec("second"), spec("third"), host=FakeHost(1))
    host.plan_of = with_plans({}, Plan(10.0))
    manager.turn()
    ask(host, manager, update(third={"priority": 5}))
    run_to_end(host, manager)
    began = sorted(manager.state.jobs, key=lambda job: job.started or 0)
    assert [job.spec.id for job in began] == ["first", "third", "second"]


def test_a_change_of_nothing_and_one_of_nobody_change_nothing() -> None:
    host, manager = world(spec("a", timeout=60.0))
    before = len(host.journal)
    assert ask(host, manager, update(a={"timeout": 60.0})).text == "changed: 0 jobs"
    assert not ask(host, manager, Request("v", "update", changes={"x": {"priority": 1}})).ok
    assert "JobsChanged" not in "".join(host.journal[before:])


def test_only_what_may_change_is_taken_from_a_request() -> None:
    request = update(a={"priority": 2, "expected_output": None, "timeout": 1.5})
    assert decode_request(encode_request(request)) == request
    for fields, words in (({"cmd": "x"}, "cmd cannot change"), ({"priority": "high"}, "priority")):
        data = {"id": "u", "verb": "update", "changes": {"a": fields}}
        with pytest.raises(RequestError, match=words):
            decode_request(json.dumps(data))
    assert {"expected_output", "timeout", "priority", "retries"} <= set(CHANGEABLE)


# -- the code ---------------------------------------------------------------------------------------------------------

SITUATION = Situation(None, {}, "running", "/", 5.0, None, lambda job: f"{job}.log")


def see(manager: FakeManager, name: str | None, since: float) -> None:
    seen = replace(manager.observe(), code=b.CodeReading(name, since))
    manager._commit(tick(manager.state, seen, manager.host.now).records)


def codes(manager: FakeManager) -> list[str | None]:
    return [job_row(manager.state, job, SITUATION)["code"] for job in manager.state.jobs]


def test_each_attempt_has_the_code_that_it_found() -> None:
    host, manager = world(spec("a"), spec("b"), spec("c"), host=FakeHost(1))
    host.plan_of = with_plans({}, Plan(100.0))
    turns(host, manager, 3)
    see(manager, "one", 0.0)
    assert codes(manager) == ["one", None, None]
    journal = len(host.journal)
    see(manager, "one", host.now)
    assert len(host.journal) == journal  # the same again is no news
    looked = host.now
    until_started(host, manager, "b")
    assert codes(manager) == ["one", "one", None]
    see(manager, "two", looked)  # edited since, and before b began
    until_started(host, manager, "c")
    assert codes(manager) == ["one", "two", "two"]
    assert codes(FakeManager(host, manager.manifest)) == ["one", "two", "two"]


def until_started(host: FakeHost, manager: FakeManager, job: str) -> None:
    for _ in range(1000):
        if manager.state.job(job).attempt is not None:
            return
        host.advance(1.0)
        manager.turn()
    raise AssertionError(f"{job} never started")
