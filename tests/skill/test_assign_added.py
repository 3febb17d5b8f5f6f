"""Which host gets jobs that are added."""

from __future__ import annotations

from typing import Any

import pytest

from queue_manager.core.manifest import JobSpec, Manifest, Phase
from skill.common.errors import FailedError, UseError
from skill.planning.assign_added import Added, Load, assign, loads
from tests.skill.story import job, manifest

THERE = manifest(
    job("t1", "teach"), job("t2", "teach"), job("s1", "learn"), phases=(Phase("teach"), Phase("learn", ("teach",)))
)
OWNER = {"t1": "a", "s1": "a", "t2": "b"}
IDLE = (Load("a", ("NVIDIA L4", "NVIDIA L4"), 4), Load("b", ("NVIDIA A10",), 1))


def whole(*new: JobSpec, phases: tuple[Phase, ...] = (), groups: dict[str, tuple[str, ...]] | None = None) -> Manifest:
    """The manifest with new jobs; those of a phase that nobody gates wait for nobody."""
    return THERE._replace(jobs=(*THERE.jobs, *new), phases=(*THERE.phases, Phase("free"), *phases), groups=groups or {})


def given(*new: JobSpec, hosts: tuple[Load, ...] = IDLE) -> dict[str, list[str]]:
    found = assign(whole(*new), new, OWNER, hosts)
    return {host: [spec.id for spec in added.specs] for host, added in found.items()}


def test_a_job_goes_where_what_it_waits_for_is() -> None:
    assert given(job("x", "free", depends_on=("t1",)), job("y", "free", depends_on=("t2",))) == {"a": ["x"], "b": ["y"]}


def test_jobs_tied_to_each_other_stay_together_in_their_order() -> None:
    new = (job("x", "free"), job("y", "free", depends_on=("x", "z")), job("z", "free", depends_on=("t1",)))
    assert given(*new) == {"a": ["x", "y", "z"]}


def test_other_jobs_go_where_the_fewest_wait_for_each_card() -> None:
    assert given(job("x", "free")) == {"b": ["x"]}
    cards = [job(f"c{n}", "free", gpus=1) for n in range(4)]
    assert given(*cards) == {"b": ["c0", "c2"], "a": ["c1", "c3"]}
    assert given(job("wide", "free", gpus=2)) == {"a": ["wide"]}
    assert given(job("wider", "free", gpus=8)) == {"b": ["wider"]}, "its manager says that it cannot run there"


def test_a_job_that_asks_for_a_model_of_gpu_goes_where_there_is_one() -> None:
    wants = [job(f"c{n}", "free", gpus=1, gpu_model=("L4",)) for n in range(4)]
    assert given(*wants) == {"a": ["c0", "c1", "c2", "c3"]}, "though b has less to do"
    words = r"job c needs a GPU of model A100 or H100, which no host .* has \(a: 2 x NVIDIA L4; b: NVIDIA A10\)"
    with pytest.raises(FailedError, match=words):
        given(job("c", "free", gpus=1, gpu_model=("A100", "H100")))


def test_a_host_that_does_not_answer_gets_only_what_has_to_go_there() -> None:
    away = IDLE[:1]
    assert given(job("x", "free"), job("y", "free", depends_on=("t2",)), hosts=away) == {"a": ["x"], "b": ["y"]}
    with pytest.raises(FailedError, match="no host of the run answers"):
        given(job("x", "free"), hosts=())


@pytest.mark.parametrize(
    "new",
    [
        (job("x", "free", depends_on=("t1", "t2")),),
        (job("x", "learn"),),
        (job("w", "free", depends_on=("t1",)), job("x", "free", depends_on=("w", "t2"))),
    ],
    ids=["by name", "by its phase", "by another new job"],
)
def test_a_job_that_waits_for_jobs_of_two_hosts_is_refused(new: tuple[JobSpec, ...]) -> None:
    with pytest.raises(UseError, match=r"depends on jobs of 2 hosts \(t[12] of [ab]; t[12] of [ab]\)"):
        given(*new)


def test_a_host_gets_the_phases_and_groups_that_its_jobs_name_and_no_others() -> None:
    late, later = Phase("late"), Phase("later", ("late",))
    new = (job("x", "later", depends_on=("both",)), job("y", "free"))
    made = whole(*new, phases=(late, later), groups={"both": ("t1", "s1"), "other": ("t2",)})
    found = assign(made, new, OWNER, IDLE)
    assert found["a"] == Added((late, later), {"both": ("t1", "s1")}, (new[0],))
    assert found["b"] == Added((Phase("free"),), {}, (new[1],))


def test_only_hosts_that_answer_and_were_not_given_up_can_be_given_jobs() -> None:
    counts = {"completed": 5, "running": 2, "pending": 1}
    row: dict[str, Any] = {"name": "a", "state": "submitted", "reachable": True, "counts": counts}
    hosts = [row, {**row, "name": "b", "reachable": False}, {**row, "name": "c", "state": "lost"}]
    cards: list[dict[str, Any]] = [
        {"host": "a", "name": "NVIDIA L4", "total_mib": 80000},
        {"host": "a", "name": "NVIDIA L4", "total_mib": None},
    ]
    assert loads(hosts, cards) == [Load("a", ("NVIDIA L4",), 3)]
