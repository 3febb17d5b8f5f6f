"""How long a run over hosts will take, and how that is said."""

from __future__ import annotations

from skill.planning.assign_jobs import share
from skill.planning.estimate import estimate
from tests.skill.story import job, manifest
from tests.skill.test_assign_jobs import offer

MADE = manifest(*(job(f"t{n}", "teach", gpus=1) for n in range(4)), *(job(f"s{n}", "learn") for n in range(8)))
HOSTS = [offer("one", 81920, cores=2), offer("two", 81920, 81920, cores=2)]
SHARED = share(MADE, HOSTS)


def test_rounds_times_median_of_the_host_that_is_done_last() -> None:
    found = estimate(MADE, HOSTS, SHARED, {"teach": (100.0, 3), "learn": (7.0, 5)})
    assert {host: len(jobs) for host, jobs in SHARED.parts.items()} == {"one": 5, "two": 7}
    assert (found.seconds, found.rounds, found.host) == (214.0, 4, "two")
    assert found.how == (
        "about 3 min 34 s, from the median of 8 jobs of earlier runs of each phase; 4 rounds of jobs on two"
    )


def test_nothing_known_says_so_and_gives_the_rounds() -> None:
    found = estimate(MADE, HOSTS, SHARED, {})
    assert (found.seconds, found.how) == (None, "unknown: no run of this project yet; 4 rounds of jobs on two")
    part = estimate(MADE, HOSTS, SHARED, {"learn": (7.0, 5)})
    assert part.how == "unknown: no job of teach was measured; 4 rounds of jobs on two"


def test_a_slower_host_takes_longer_and_no_host_takes_none() -> None:
    slow = [offer("only", 81920, cores=8, speed=0.5)]
    assert estimate(MADE, slow, share(MADE, slow), {"teach": (10.0, 1), "learn": (1.0, 1)}).seconds == 82.0
    assert estimate(MADE, [], share(MADE, []), {}).how == "unknown: no job has a host"
