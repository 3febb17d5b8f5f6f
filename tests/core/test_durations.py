"""What jobs are expected to take, and what tells it."""

from __future__ import annotations

import pytest

from queue_manager.core.durations import Durations, Earlier, Going, decode, encode
from queue_manager.core.manifest import JobSpec
from tests.core.states import spec

A, B, C = spec("a"), spec("b"), spec("c")
EARLIER = Earlier({"a": 100.0, "b": 300.0}, {"main": (200.0, 2)})
GUESS = [job._replace(est_minutes=minutes) for job, minutes in ((A, 1.0), (B, 2.0), (C, 4.0))]


@pytest.mark.parametrize(
    ("specs", "earlier", "took", "seconds"),
    [
        ([A, B], Earlier(), {}, [None, None]),
        (GUESS, Earlier(), {}, [60.0, 120.0, 240.0]),
        ([A, B, C], EARLIER, {}, [100.0, 300.0, 200.0]),
        (GUESS, EARLIER, {}, [100.0, 300.0, 200.0]),
        ([A, B, C], Earlier(), {"a": 5.0, "b": 7.0}, [6.0, 6.0, 6.0]),
        ([A, B, C], EARLIER, {"a": 150.0, "b": 450.0, "c": 300.0}, [150.0, 450.0, 300.0]),
        ([A, B, C], EARLIER, {"a": 250.0}, [150.0, 450.0, 300.0]),
        (GUESS, Earlier(), {"a": 30.0}, [30.0, 60.0, 120.0]),
        ([GUESS[0], B], Earlier(), {"b": 30.0}, [30.0, 30.0]),
    ],
    ids=["nothing", "est_minutes", "the same job", "measured beats est_minutes", "this run", "slower than before",
         "one odd job",         "quicker than guessed", "nothing to compare with"],
)  # fmt: skip
def test_what_is_nearest_tells(
    specs: list[JobSpec], earlier: Earlier, took: dict[str, float], seconds: list[float | None]
) -> None:
    found = Durations(specs, earlier, took)
    assert [found.seconds(one) for one in specs] == seconds


def grid(job: str, **params: str) -> JobSpec:
    return spec(job, params=params)


def test_without_anything_expected_the_jobs_with_the_nearest_params_tell() -> None:
    small, large = grid("a", N="16", seed="1"), grid("b", N="32", seed="1")
    more = [grid(f"s{n}", N=str(16 * (1 + n % 2)), seed=str(n)) for n in range(4)]
    other, two = grid("c", N="64", seed="1"), grid("d", N="16", lr="0.1")
    specs = [small, large, *more, other, two]
    found = Durations(specs, Earlier(), {"a": 10.0, "b": 30.0})
    assert [found.seconds(one) for one in specs] == [10.0, 30.0, 10.0, 30.0, 10.0, 30.0, 20.0, 10.0]


@pytest.mark.parametrize(
    ("going", "length", "others"),
    [
        (Going(5.0), 10.0, 10.0),
        (Going(15.0), 18.0, 14.0),  # longer than the one that ended: others may be so too
        (Going(5.0, 8.0), 10.0, 10.0),  # it may be the progress of an epoch
        (Going(5.0, 20.0), 20.0, 10.0),
        (Going(5.0, 8.0, sure=True), 8.0, 9.0),
        (Going(5.0, 20.0, sure=True), 20.0, 15.0),
        (Going(9.0, 8.0, sure=True), 9.0, 9.0),
    ],
)
def test_a_running_job_says_what_it_takes_and_something_of_those_to_come(
    going: Going, length: float, others: float
) -> None:
    found = Durations([A, B, C], Earlier(), {"a": 10.0}, {"b": going})
    assert (found.seconds(B), found.seconds(C)) == (length, others)


def test_a_job_that_outlives_some_takes_as_long_as_those_that_took_longer() -> None:
    specs = [spec(job) for job in "abcdef"]
    found = Durations(specs, Earlier(), {"a": 10.0, "b": 30.0, "c": 50.0, "d": 10.0}, {"e": Going(26.0)})
    assert found.seconds(specs[4]) == 40.0


def test_the_progress_of_a_running_job_tells_where_none_has_completed() -> None:
    found = Durations([A, B], Earlier(), None, {"a": Going(5.0, 20.0, sure=True)})
    assert (found.seconds(A), found.seconds(B), found.unknown([A, B])) == (20.0, 20.0, ())
    assert found.basis([A, B]) == ("the progress of 1 running job of main",)
    assert Durations([A, B], Earlier(), None, {"a": Going(5.0, 20.0)}).unknown([A, B]) == ("main",)
    guessed = Durations(GUESS, Earlier(), None, {"a": Going(5.0, 90.0, sure=True)})
    assert [guessed.seconds(one) for one in GUESS] == [90.0, 180.0, 360.0]


def test_phases_are_not_mixed_and_averages_are_by_phase() -> None:
    specs = [spec("a", "t"), spec("b", "t"), spec("c", "s", est_minutes=0.5), spec("d", "u")]
    found = Durations(specs, Earlier({"a": 10.0, "b": 20.0}, {"t": (15.0, 2)}), {"c": 90.0})
    assert found.of_phases(specs) == {"t": 15.0, "s": 90.0}
    assert found.unknown(specs) == ("u",)
    assert found.basis(specs) == ("2 completed jobs of t in earlier runs", "1 completed job of s")
    assert Durations(specs).basis(specs) == ("est_minutes for s",)


def test_what_goes_with_a_run_comes_back_and_nothing_else_does() -> None:
    assert decode(encode(EARLIER)) == EARLIER
    for data in (b"", b"{}", b"[]", b'{"jobs": {"a": -1}, "phases": {}}', b'{"jobs": {"a": "x"}, "phases": {}}',
                 b'{"jobs": {}, "phases": {"p": 5}}', b'{"jobs": {"a": NaN}, "phases": {}}', b"\xff"):  # fmt: skip
        with pytest.raises(ValueError, match=r"duration|JSON|Expecting|decode|float"):
            decode(data)
