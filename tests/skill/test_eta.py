"""The end of a run as its managers estimate it: of all hosts, in words and as a document."""

from __future__ import annotations

from typing import Any

from queue_manager.core.times import iso
from skill.runs import eta, state_schema
from tests.skill.story import T0, Story, job, manifest


def estimate(seconds: float | None, *basis: str, note: str | None = None) -> dict[str, Any]:
    return {"at": None if seconds is None else iso(T0 + seconds), "basis": list(basis), "note": note}


def document(found: Any, **fields: Any) -> dict[str, Any]:
    made = Story(manifest(job("a"), job("b"))).start("a").document()
    made["meta"] |= {"eta": found, **fields}
    return made


def test_words_and_document_of_a_run_that_goes_on() -> None:
    found = document(estimate(600, "3 completed jobs of t", "est_minutes for s"))
    assert state_schema.fault(found) is None
    assert eta.line(found, True, T0 + 60) == (
        "ETA 10:10:00Z, in about 9 min 00 s (from 3 completed jobs of t; est_minutes for s)"
    )
    assert eta.document(found, True, T0 + 60) == {
        "eta_s": 540.0, "makespan_s": 600.0, "cost_usd": None,
        "basis": ["3 completed jobs of t", "est_minutes for s"], "note": None,
    }  # fmt: skip
    assert "any moment: jobs take longer than expected (from" in eta.line(found, True, T0 + 900)
    noted = document(estimate(600, "x", note="once the GPUs that others use are free"))
    assert "9 min 00 s, once the GPUs that others use are free (from x)" in eta.line(noted, True, T0 + 60)


def test_no_eta_for_a_run_that_has_stopped_or_was_not_estimated() -> None:
    for found, alive in ((document(None), True), (document(estimate(600, "x")), False),
                         (document(estimate(600, "x"), manager="halted"), True)):  # fmt: skip
        assert (eta.line(found, alive, T0), eta.document(found, alive, T0)) == ("", None)
    older = document(None)
    del older["meta"]["eta"]
    assert eta.line(older, True, T0) == ""
    unknown = document(estimate(None, note="no job of s has completed yet, and est_minutes is not given"))
    assert eta.line(unknown, True, T0) == "ETA unknown: no job of s has completed yet, and est_minutes is not given"


def test_the_cost_is_what_was_spent_and_what_comes() -> None:
    rented = {"cost_usd": 1.5, "usd_per_hour": 0.6}
    found = eta.document(document(estimate(7260, "x"), teardown=rented), True, T0 + 60)
    assert found is not None
    assert found["cost_usd"] == 2.7
    hosts = [{"teardown": rented}, {"teardown": None}, {"teardown": rented}]
    found = eta.document(document(estimate(7260, "x"), hosts=hosts), True, T0 + 60)
    assert found is not None
    assert found["cost_usd"] == 5.4


def test_of_several_hosts_the_last_one_counts() -> None:
    metas = [{"eta": estimate(60, "x", note="n")}, {"eta": estimate(90, "x", "y")}]
    assert eta.merged(metas) == estimate(90, "x", "y", note="n")
    assert eta.merged([*metas, {"eta": estimate(None, note="why")}]) == estimate(None, "x", "y", note="n, why")
    assert eta.merged([*metas, {"eta": None}]) is None, "what one host has not told yet is not known"
    assert eta.merged([]) is None


def test_a_time_that_is_none_is_no_state_of_a_run() -> None:
    assert state_schema.fault(document(estimate(60, "x") | {"at": "soon"})) == "meta.eta.at: is not a time: soon"
