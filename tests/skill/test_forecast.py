"""How long a run over hosts will take and what it costs, and how that is said."""

from __future__ import annotations

from dataclasses import replace

from queue_manager.core.durations import Durations, Earlier
from queue_manager.core.manifest import Manifest, Phase
from skill.planning.assign_jobs import Offer, Sharing, all_on, share
from skill.planning.forecast import Forecast, cost_words, document, forecast, words
from tests.skill.story import job, manifest
from tests.skill.test_assign_jobs import offer

MADE = manifest(
    *(job(f"t{n}", "teach", gpus=1) for n in range(4)),
    *(job(f"s{n}", "learn", est_minutes=0.5) for n in range(8)),
    phases=(Phase("teach"), Phase("learn", ("teach",))),
)
TEACH = Earlier({}, {"teach": (100.0, 12)})


def on(machine: Offer, made: Manifest = MADE, earlier: Earlier = TEACH, price: float | None = None) -> Forecast:
    prices = {} if price is None else {machine.name: price}
    return forecast(made, [machine], all_on(made, machine), Durations(made.jobs, earlier), prices)


def test_phases_cards_and_cores_are_what_the_scheduler_makes_of_them() -> None:
    found = on(offer("one", 81920, 81920, cores=4))
    assert found.seconds == 2 * 100.0 + 2 * 30.0
    assert words(found) == ("about 4 min 20 s (from 12 completed jobs of teach in earlier runs; est_minutes for learn)")
    assert on(offer("one", 81920, cores=4, speed=2.0)).seconds == (4 * 100.0 + 2 * 30.0) / 2


def test_a_price_makes_a_cost() -> None:
    found = on(offer("rented", 81920, cores=8), price=3.6)
    assert (found.seconds, found.cost) == (430.0, 0.43)
    assert cost_words(found, ["rented"]) == "about $0.43 (rented)"
    assert document(found, gone=70.0) == {
        "eta_s": 430.0, "makespan_s": 500.0, "cost_usd": 0.43,
        "basis": ["12 completed jobs of teach in earlier runs", "est_minutes for learn"],
        "hosts_s": {"rented": 430.0}, "note": None,
    }  # fmt: skip


def test_jobs_wait_for_what_another_host_makes() -> None:
    hosts = [offer("gpus", 81920, cores=1), offer("cpus", cores=8)]
    parts = {"gpus": ("t0", "t1", "t2", "t3"), "cpus": tuple(f"s{n}" for n in range(8))}
    found = forecast(MADE, hosts, Sharing(parts, (), {}), Durations(MADE.jobs, TEACH))
    assert found.hosts == {"gpus": 400.0, "cpus": 430.0}
    assert words(found).startswith("about 7 min 10 s; cpus finishes last (from 12")


def test_shared_out_hosts_are_all_counted() -> None:
    made = manifest(*(job(f"j{n}", gpus=1, est_minutes=1) for n in range(12)))
    hosts = [offer("one", 81920), offer("two", 81920, 81920)]
    durations = Durations(made.jobs)
    found = forecast(made, hosts, share(made, hosts, durations.of_phases(made.jobs)), durations)
    assert found.hosts == {"one": 240.0, "two": 240.0}


def test_cards_that_somebody_else_uses_are_waited_for_in_words() -> None:
    busy = offer("one", 81920)
    busy = busy._replace(cards=tuple(replace(card, used_mib=60_000) for card in busy.cards))
    found = on(busy)
    assert (found.seconds, found.but) == (460.0, "once the GPUs in use now are free")
    assert words(found).startswith("about 7 min 40 s, once the GPUs in use now are free (from")


def test_what_is_not_known_is_not_made_up() -> None:
    assert words(on(offer("one", 81920), earlier=Earlier())) == (
        "unknown: no job of teach has completed yet, and est_minutes is not given"
    )
    assert words(on(offer("one"))) == (
        "unknown: 12 jobs that can never run there (t0: needs 1 GPU; this host has none)"
    )
    assert words(forecast(MADE, [], share(MADE, []), Durations(MADE.jobs, TEACH))) == "unknown: no job has a host"
    assert cost_words(Forecast(None), ["a"]) == "unknown, because the duration is"


def test_jobs_that_outputs_stand_for_take_no_time_and_need_no_measure() -> None:
    made, machine = MADE, offer("one", 81920, cores=8)
    found = forecast(
        made, [machine], all_on(made, machine), Durations(made.jobs), {}, {"one": ["t0", "t1", "t2", "t3"]}
    )
    assert (found.seconds, found.basis) == (30.0, ("est_minutes for learn",))


def test_jobs_that_can_never_run_are_left_out_and_said() -> None:
    made = manifest(job("a", est_minutes=1), job("wide", gpus=3, est_minutes=1))
    found = on(offer("one", 81920), made)
    assert (found.seconds, found.but) == (
        60.0, "without 1 job that can never run there (wide: needs 3 GPUs; this host has 1 GPU)",
    )  # fmt: skip
