"""A person takes a job's result as it is."""

from __future__ import annotations

from typing import Any

import pytest

from queue_manager.core.requests import Answer, Request, decode_request, encode_request
from tests.core.states import ONCE, run_to_end, spec, statuses, turns, world
from tests.fakes import FakeHost, FakeManager, Plan, with_plans


def accept(host: FakeHost, manager: FakeManager, *jobs: str, **fields: Any) -> Answer:
    """Ask for it, and the answer."""
    host.inbox = [Request("acc", "accept", jobs, by="ada@laptop", **fields)]
    turns(host, manager, 1)
    return host.answers["acc"]


def test_an_accepted_result_releases_what_waits_for_it() -> None:
    host, manager = world(spec("t", expected_output="a.pt"), spec("s", depends_on=("t",)))
    host.plan_of = with_plans({"t": Plan(1.0, 1, output=False)}, ONCE)
    run_to_end(host, manager)
    assert statuses(manager.state) == {"t": "stuck", "s": "blocked"}
    before = manager.state.results_seq
    changes = {"t": {"expected_output": "b.pt"}}
    assert accept(host, manager, "t", changes=changes, reason="a typo").ok
    run_to_end(host, manager)
    job = manager.state.job("t")
    assert statuses(manager.state) == {"t": "completed", "s": "completed"}
    assert (job.spec.expected_output, job.error) == ("b.pt", None)
    assert (job.warning or "").startswith("accepted as it is by ada@laptop: a typo; before: exit code 1")
    assert manager.state.results_seq > before
    assert statuses(FakeManager(host, manager.manifest).state) == {"t": "completed", "s": "completed"}


def test_only_what_has_run_and_ended_can_be_accepted_and_then_all_or_nothing() -> None:
    host, manager = world(spec("a"), spec("b"), spec("c", depends_on=("a",)), host=FakeHost(1))
    host.plan_of = with_plans({"a": Plan(1.0, 1)}, Plan(1e9))
    turns(host, manager, 6)
    assert statuses(manager.state) == {"a": "stuck", "b": "running", "c": "blocked"}
    answer = accept(host, manager, "a", "b", "c")
    assert not answer.ok
    assert "b is running" in answer.text
    assert "c is blocked and has not run" in answer.text
    assert statuses(manager.state)["a"] == "stuck"


def test_a_cancelled_job_that_has_run_can_be_accepted() -> None:
    host, manager = world(spec("a"))
    host.plan_of = with_plans({}, Plan(1e9))
    turns(host, manager, 2)
    host.inbox = [Request("c", "cancel", ("a",))]
    run_to_end(host, manager)
    assert accept(host, manager, "a").ok
    assert statuses(manager.state) == {"a": "completed"}


@pytest.mark.parametrize("changes", [{}, {"a": {"expected_output": "b.pt"}}])
def test_the_request_crosses_the_wire_whole(changes: dict[str, Any]) -> None:
    asked = Request("acc", "accept", ("a",), changes=changes, by="ada@laptop", reason="a typo")
    assert decode_request(encode_request(asked)) == asked


def test_a_job_that_is_named_twice_is_changed_once() -> None:
    host, manager = world(spec("a"))
    host.plan_of = with_plans({}, Plan(1.0, 1))
    run_to_end(host, manager)
    assert accept(host, manager, "a", "a") == Answer("acc", True, "accepted as it is: 1 job", ("a",))
    host, manager = world(spec("a"))
    host.plan_of = with_plans({}, Plan(1e9))
    turns(host, manager, 2)
    host.inbox = [Request("c", "cancel", ("a", "a"))]
    turns(host, manager, 1)
    assert host.answers["c"] == Answer("c", True, "cancelled: 1 job", ("a",))
