"""Sharing jobs out among hosts: properties that always hold, and the cases that people care about."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from queue_manager.core.manifest import JobSpec, Manifest, Phase
from queue_manager.core.readings import Card
from queue_manager.core.state_types import need_of
from skill.planning import assign_jobs
from skill.planning.assign_jobs import Offer, Sharing, Transfer, share
from skill.runs.dependencies import Dependencies
from tests.skill.story import job, manifest


def cards(*sizes: int) -> tuple[Card, ...]:
    return tuple(Card(n, f"GPU-{n}", "H100", mib, 3) for n, mib in enumerate(sizes))


def offer(name: str, *sizes: int, cores: int = 4, speed: float = 1.0) -> Offer:
    return Offer(name, cards(*sizes), cores, speed)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Up to 14 jobs in three phases, of which a later one may wait for an earlier one, with jobs, groups and all."""
    pairs: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
        ((), ()),
        (("p0",), ()),
        ((), ("p1",)),
        (("p0",), ("p0", "p1")),
    ]
    gates = draw(st.sampled_from(pairs))
    jobs: list[JobSpec] = []
    groups: dict[str, tuple[str, ...]] = {}
    for phase in range(3):
        earlier = [one.id for one in jobs]
        if draw(st.booleans()) and earlier:
            groups[f"g{phase}"] = tuple(draw(st.lists(st.sampled_from(earlier), min_size=1, max_size=3, unique=True)))
        names = [*earlier, *groups]
        for n in range(draw(st.integers(0, 5))):
            needs: list[str] = draw(st.lists(st.sampled_from(names), max_size=2, unique=True)) if names else []
            gpus = draw(st.integers(0, 3))
            mib = draw(st.sampled_from([None, 8000, 30000, 90000])) if gpus else None
            jobs.append(job(f"j{phase}{n}", f"p{phase}", depends_on=tuple(needs), gpus=gpus, gpu_mem_mib=mib))
    phases = (Phase("p0"), Phase("p1", gates[0]), Phase("p2", gates[1]))
    allowed = draw(st.sampled_from([None, (0,), (0, 2)]))
    return manifest(*jobs, phases=phases, groups=groups, gpus=allowed, max_parallel=draw(st.sampled_from([None, 2])))


offers = st.lists(
    st.tuples(
        st.lists(st.sampled_from([24000, 81920]), max_size=4), st.integers(1, 8), st.sampled_from([0.5, 1.0, 2.0])
    ),
    max_size=4,
).map(lambda rows: [offer(f"h{n}", *sizes, cores=c, speed=s) for n, (sizes, c, s) in enumerate(rows)])


def serves(made: Manifest, one: Offer, spec: JobSpec) -> bool:
    """Said again, and simpler, than by the code that is tested."""
    usable = [card for card in one.cards if made.gpus is None or card.index in made.gpus]
    return sum(card.total_mib >= (spec.gpu_mem_mib or 0) for card in usable) >= spec.gpus


def components(made: Manifest) -> list[set[str]]:
    dependencies = Dependencies(made)
    found: list[set[str]] = []
    for spec in made.jobs:
        tied = {spec.id, *dependencies.resolved(spec.id)}
        for other in [one for one in found if one & tied]:
            found.remove(other)
            tied |= other
        found.append(tied)
    return found


def where(sharing: Sharing) -> dict[str, str]:
    return {name: host for host, jobs in sharing.parts.items() for name in jobs}


@given(manifests(), offers)
@settings(max_examples=150, deadline=None)
def test_what_always_holds(made: Manifest, given_: list[Offer]) -> None:
    """In one test, since to make up an example takes ten times as long as to share out its jobs."""
    sharing = share(made, given_)
    every_job_is_on_one_host_that_can_serve_it_or_is_named(made, given_, sharing)
    tied_jobs_stay_together_wherever_one_host_can_have_them(made, given_, sharing)
    what_crosses_hosts_is_carried_and_nothing_else(made, sharing)
    assert share(made, given_) == sharing, "the same input gives the same answer"


def every_job_is_on_one_host_that_can_serve_it_or_is_named(
    made: Manifest, given_: list[Offer], sharing: Sharing
) -> None:
    assigned = [name for jobs in sharing.parts.values() for name in jobs]
    assert sorted([*assigned, *sharing.unplaced]) == sorted(one.id for one in made.jobs)
    by_name = {one.name: one for one in given_}
    specs = {one.id: one for one in made.jobs}
    assert all(serves(made, by_name[host], specs[name]) for name, host in where(sharing).items())
    assert all(sharing.unplaced.values()), "each with a reason"
    hopeless = {one.id for one in made.jobs if not any(serves(made, host, one) for host in given_)}
    dependencies = Dependencies(made)
    for name in sharing.unplaced:
        assert name in hopeless or set(dependencies.resolved(name)) & set(sharing.unplaced)
    order = [one.id for one in made.jobs]
    assert all(list(jobs) == sorted(jobs, key=order.index) and jobs for jobs in sharing.parts.values())


def tied_jobs_stay_together_wherever_one_host_can_have_them(
    made: Manifest, given_: list[Offer], sharing: Sharing
) -> None:
    on, specs = where(sharing), {one.id: one for one in made.jobs}
    for tied in components(made):
        if any(all(serves(made, one, specs[name]) for name in tied) for one in given_):
            assert len({on[name] for name in tied}) == 1


def what_crosses_hosts_is_carried_and_nothing_else(made: Manifest, sharing: Sharing) -> None:
    on, dependencies = where(sharing), Dependencies(made)
    crossing = {
        Transfer(need, on[need], host)
        for name, host in on.items()
        for need in dependencies.resolved(name)
        if on[need] != host
    }
    assert sorted(sharing.carried) == sorted(crossing)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.sampled_from(["p0", "p1"])), min_size=1, max_size=20), st.integers(1, 4)
)
@settings(deadline=None)
def test_equal_hosts_are_balanced_within_the_largest_cluster(clusters: list[tuple[int, str]], count: int) -> None:
    seconds = {"p0": 10.0, "p1": 3.0}
    jobs = [
        job(f"c{n}-{k}", phase, gpus=1, depends_on=(f"c{n}-0",) if k else ())
        for n, (size, phase) in enumerate(clusters)
        for k in range(size)
    ]
    made = manifest(*jobs, phases=(Phase("p0"), Phase("p1")))
    sharing = share(made, [offer(f"h{n}", 81920, 81920) for n in range(count)], seconds)
    load = {f"h{n}": 0.0 for n in range(count)}
    phase_of = {one.id: one.phase for one in jobs}
    for name, host in where(sharing).items():
        load[host] += seconds[phase_of[name]] / 2
    assert max(load.values()) - min(load.values()) <= max(size * seconds[phase] / 2 for size, phase in clusters) + 1e-6


def test_more_cards_and_speed_get_more_jobs() -> None:
    made = manifest(*(job(f"j{n}", gpus=1) for n in range(120)))
    sharing = share(
        made, [offer("one", 81920), offer("four", 81920, 81920, 81920, 81920), offer("fast", 81920, speed=3.0)]
    )
    assert {host: len(jobs) for host, jobs in sharing.parts.items()} == {"one": 15, "four": 60, "fast": 45}


def test_shared_cards_count_by_their_memory() -> None:
    made = manifest(*(job(f"j{n}", gpus=1, gpu_mem_mib=20000) for n in range(50)))
    sharing = share(made, [offer("small", 24000), offer("large", 81920)])
    assert {host: len(jobs) for host, jobs in sharing.parts.items()} == {"small": 10, "large": 40}


def test_long_jobs_are_spread_before_short_ones() -> None:
    made = manifest(*(job(f"s{n}", "short", gpus=1) for n in range(10)), job("long", "long", gpus=1))
    sharing = share(made, [offer("a", 81920), offer("b", 81920)], {"short": 1.0, "long": 10.0})
    assert set(sharing.parts.values()) == {("long",), tuple(f"s{n}" for n in range(10))}


def test_what_only_one_host_can_do_leaves_the_rest_to_the_others() -> None:
    made = manifest(
        *(job(f"any{n}", gpus=1, gpu_mem_mib=24000) for n in range(6)),
        *(job(f"big{n}", gpus=1, gpu_mem_mib=80000) for n in range(2)),
    )
    sharing = share(made, [offer("big", 81920), offer("small", 24000)])
    assert {"big0", "big1"} <= set(sharing.parts["big"])
    assert set(sharing.parts["small"]) <= {f"any{n}" for n in range(6)}


def test_a_teacher_that_fits_only_elsewhere_is_carried() -> None:
    made = manifest(
        job("teacher", "t", gpus=1, gpu_mem_mib=80000, expected_output="t.pt"),
        *(job(f"s{n}", "s", gpus=4, depends_on=("teacher",)) for n in range(3)),
    )
    sharing = share(made, [offer("big", 81920), offer("wide", 24000, 24000, 24000, 24000)])
    assert sharing.parts == {"big": ("teacher",), "wide": ("s0", "s1", "s2")}
    assert sharing.carried == (Transfer("teacher", "big", "wide"),)


def test_a_job_that_fits_nowhere_is_named_with_all_that_wait_for_it() -> None:
    made = manifest(job("huge", gpus=1, gpu_mem_mib=200000), job("after", depends_on=("huge",)), job("free"))
    sharing = share(made, [offer("a", 81920), offer("b")])
    assert sharing.parts == {"a": ("free",)}
    assert sharing.unplaced == {
        "huge": "a: needs 200000 MiB on 1 GPU; the largest GPU has 81920 MiB; b: needs 1 GPU; this host has none",
        "after": "waits for huge, which no host can run",
    }
    assert share(made, []).unplaced["free"] == "there is no host"


def test_a_job_goes_to_a_host_with_a_gpu_of_its_model() -> None:
    old, new = (Offer(name, (Card(0, "GPU-0", model, 24000, 3),)) for name, model in MODELS.items())
    wants = [job(f"j{n}", gpus=1, gpu_model=("RTX 4090",)) for n in range(3)]
    assert share(manifest(*wants), [old, new]).parts == {"new": ("j0", "j1", "j2")}
    nowhere = share(manifest(job("j", gpus=1, gpu_model=("H100", "A100"))), [old, new]).unplaced
    assert nowhere == {
        "j": "old: needs 1 GPU of model H100 or A100; this host has NVIDIA GeForce RTX 3090; "
        "new: needs 1 GPU of model H100 or A100; this host has NVIDIA GeForce RTX 4090"
    }
    mixed = Offer("mixed", (*old.cards, *new.cards))
    assert assign_jobs.at_once(need_of(wants[0]), manifest(*wants), mixed) == 1


MODELS = {"old": "NVIDIA GeForce RTX 3090", "new": "NVIDIA GeForce RTX 4090"}


def test_a_large_run_is_shared_at_once() -> None:
    jobs = [job(f"t{n}", "t", gpus=1) for n in range(2000)]
    jobs += [job(f"s{n}", "s", gpus=1, depends_on=(f"t{n % 2000}",)) for n in range(38000)]
    made = manifest(*jobs)
    begin = time.process_time()
    sharing = assign_jobs.share(made, [offer(f"h{n}", *[81920] * 8) for n in range(8)])
    assert time.process_time() - begin < 20
    assert {len(jobs) for jobs in sharing.parts.values()} == {5000}
