"""Ranking offers: what is asked for, what fits, what the work costs in the end; profiles and the blacklist."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_manager.core.durations import Durations, Earlier
from queue_manager.core.manifest import JobSpec, Manifest, Phase
from skill.common.errors import UseError
from skill.fleet import blacklist, settings
from skill.fleet import offers as hunt
from skill.fleet.blacklist import Banned
from skill.fleet.offers import Work, document, need, plain_work, rank, spec_work
from skill.fleet.profiles import BUILT_IN, DEFAULT, Profile
from skill.providers.instances import Offer
from skill.providers.vast import queries

BEST = Profile("x", gpu_ram_gb=20, disk_gb=72, ref_hours=10, ref_dlp=40, down_gb=100, up_gb=10)
GOOD = Offer(
    1, machine_id=11, num_gpus=1, gpu_name="RTX 4090", gpu_ram_mib=24564, cpu_cores=16, cpu_ram_mib=64000, disk_gb=500,
    dph=0.415, dph_base=0.40, storage_cost=0.15, storage_dph=0.015, inet_up_cost=0.002, inet_down_cost=0.001,
    inet_down=800, dlperf=80, reliability=0.995, verification="verified", rentable=True, duration=1e6, cuda=12.8,
    direct_ports=5,
)  # fmt: skip


def ranked(*offers: Offer, profile: Profile = BEST, banned: tuple[int, ...] = ()) -> hunt.Ranking:
    return rank(offers, profile, plain_work(profile), banned)


def test_the_cost_is_price_times_the_time_it_takes_there_plus_disk_and_traffic() -> None:
    (one,) = ranked(GOOD).priced
    assert one.hours == pytest.approx(10 * 40 / 80)
    assert one.gpu == pytest.approx(0.40 * 5)
    assert one.disk == pytest.approx(0.15 * 72 / 720 * 5)
    assert one.traffic == pytest.approx(100 * 0.001 + 10 * 0.002)
    assert one.total == pytest.approx(2.0 + 0.075 + 0.12)


def test_a_dear_machine_that_is_fast_comes_before_a_cheap_one_that_is_slow() -> None:
    slow = GOOD._replace(id=2, dph_base=0.2, dlperf=20)
    lies = GOOD._replace(id=3, dph_base=0.39, storage_cost=9.0)
    assert [row.offer.id for row in ranked(slow, lies, GOOD).priced] == [1, 2, 3]


def test_without_a_base_price_the_disk_is_not_counted_twice() -> None:
    (one,) = ranked(GOOD._replace(dph_base=None)).priced
    assert one.gpu == pytest.approx(0.40 * 5)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"machine_id": None}, "does not name its machine"),
        ({"machine_id": 66}, "blacklisted"),
        ({"rentable": False}, "not available"),
        ({"verification": "deverified"}, "not verified"),
        ({"num_gpus": 2}, "not 1 GPU"),
        ({"gpu_ram_mib": 16376}, "too little GPU memory"),
        ({"gpu_ram_mib": None}, "too little GPU memory"),
        ({"disk_gb": 50}, "too little disk"),
        ({"reliability": 0.9}, "too little reliability"),
        ({"inet_down": 20}, "too little download speed"),
        ({"direct_ports": 0}, "too little open ports"),
        ({"dlperf": None}, "does not say its DLP"),
        ({"dlperf": 0.0}, "does not say its DLP"),
        ({"dph_base": None, "dph": None}, "does not say its price"),
        ({"dph_base": 1.0}, "above the price limit"),
        ({"duration": 5 * 3600}, "not available long enough"),
        ({"duration": None}, "not available long enough"),
        ({"inet_up_cost": None}, "does not say what traffic costs"),
    ],
)
def test_what_the_server_let_through_is_looked_at_again(fields: dict[str, Any], why: str) -> None:
    found = ranked(GOOD._replace(**fields), profile=BEST._replace(max_dph=0.5), banned=(66,))
    assert (found.priced, found.left_out) == ((), {why: 1})


def filters(profile: Profile, work: Work, banned: list[int]) -> dict[str, Any]:
    return queries.filters(need(profile, work, banned))


def test_what_is_asked_of_the_server() -> None:
    asked = filters(BUILT_IN["inference-24g"]._replace(max_dph=0.5), plain_work(BUILT_IN["inference-24g"]), [9, 3])
    assert asked["gpu_ram"] == {"gte": 22500}
    assert asked["num_gpus"] == {"eq": 1}
    assert asked["dph_total"] == {"lte": 0.5}
    assert asked["machine_id"] == {"notin": [3, 9]}
    assert "num_gpus" not in filters(BUILT_IN["cpu"], plain_work(BUILT_IN["cpu"]), [])


@given(st.lists(st.tuples(st.floats(0.01, 5), st.floats(1, 500), st.floats(0, 1)), max_size=8))
def test_the_ranking_is_by_the_total_and_every_total_is_money(rows: list[tuple[float, float, float]]) -> None:
    offers = [
        GOOD._replace(id=n, dph_base=price, dlperf=dlp, inet_down_cost=cost)
        for n, (price, dlp, cost) in enumerate(rows, 1)
    ]
    found = ranked(*offers)
    totals = [row.total for row in found.priced]
    assert totals == sorted(totals)
    assert all(math.isfinite(total) and total > 0 for total in totals)
    assert len(totals) + sum(found.left_out.values()) == len(offers)


def made(*jobs: JobSpec, **fields: Any) -> Manifest:
    return Manifest("p", jobs, (Phase("main"),), **fields)


def test_a_spec_s_needs_are_those_of_its_jobs_and_its_hours_those_of_earlier_runs() -> None:
    jobs = [JobSpec(f"j{n}", "true", "main", gpus=1, gpu_mem_mib=12000) for n in range(8)]
    work = spec_work(made(*jobs), Durations(jobs, Earlier({}, {"main": (1800.0, 5)})), BEST)
    assert (work.least_cards, work.gpu_ram_mib) == (1, 12000)
    assert work.hours(GOOD) == pytest.approx(4 * 0.5), "two fit on the GPU at once"
    four = GOOD._replace(id=2, num_gpus=4, dlperf=320.0, dph_base=1.6)
    assert work.hours(four) == pytest.approx(0.5)
    found = rank([GOOD, four, GOOD._replace(id=3, gpu_ram_mib=11000)], BEST._replace(gpu_ram_gb=0), work, ())
    assert {row.offer.id: row.hours for row in found.priced} == pytest.approx({1: 1.0, 2: 0.25})
    assert found.left_out == {"too little GPU memory": 1}
    assert work.how == "from 5 completed jobs of main in earlier runs, assumed to be on GPUs of DLP 40"


def test_a_spec_that_never_ran_is_taken_for_the_hours_of_the_profile_and_says_so() -> None:
    job = JobSpec("a", "true", "main", gpus=2)
    work = spec_work(made(job), Durations([job]), BEST)
    assert work.hours(GOOD._replace(num_gpus=2)) == 10
    assert work.hours(GOOD) is None, "its job needs two GPUs"
    assert work.how.startswith("10 h, since no job of main has completed yet, and est_minutes is not given")
    assert filters(BEST, work, [])["num_gpus"] == {"gte": 2}


def test_a_spec_without_cards_scales_by_no_card() -> None:
    job = JobSpec("a", "true", "main", gpus=0, est_minutes=60.0)
    work = spec_work(made(job), Durations([job]), BUILT_IN["cpu"])
    assert work.ref_dlp is None
    (one,) = rank([GOOD._replace(num_gpus=0, dlperf=None)], BUILT_IN["cpu"], work, ()).priced
    assert one.hours == 1.0


def test_the_document_says_what_was_left_out_and_whether_it_is_all() -> None:
    found = document(ranked(GOOD, GOOD._replace(id=2, dlperf=None)), BEST, plain_work(BEST), complete=False)
    assert [row["id"] for row in found["offers"]] == [1]
    assert found["offers"][0]["cost"]["total"] == 2.195
    assert (found["left_out"], found["complete"]) == ({"does not say its DLP": 1}, False)


def test_profiles_are_changed_and_made_in_a_file(tmp_path: Path) -> None:
    registry = tmp_path / "workers.yaml"
    assert settings.read_profiles(registry) == BUILT_IN
    (tmp_path / "vast.yaml").write_text(
        "profiles:\n  pytorch: {disk_gb: 200}  # larger\n  mine:\n    gpu_names: [RTX 3090]\n    max_dph: 0.3\n"
    )
    found = settings.read_profiles(registry)
    assert found[DEFAULT] == BUILT_IN[DEFAULT]._replace(disk_gb=200, source=str(tmp_path / "vast.yaml"))
    assert (found["mine"].gpu_names, found["mine"].max_dph, found["mine"].cards) == (("RTX 3090",), 0.3, 1)
    with pytest.raises(UseError, match="did you mean mine"):
        settings.profile(found, "mien")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("profiles:\n  a:\n    disk: 5\n", ":3:5: profile a has an unknown key disk; did you mean disk_gb?"),
        ("profiles:\n  a: {reliability: 98}\n", ":2:7: reliability of profile a has to be a number from 0 to 1"),
        ("profiles:\n  a: {cards: 1.5}\n", "has to be a whole number"),
        ("profiles:\n  a: {gpu_names: [1]}\n", "list of names"),
        ("profiles:\n  a: 5\n", "has to be a mapping"),
        ("profile: {}\n", "did you mean profiles?"),
        ("- a\n", "has to be a mapping with profiles, rent, watcher"),
        ("a: [\n", "cannot be read as YAML"),
    ],
)
def test_a_fault_in_the_file_is_reported_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "vast.yaml").write_text(text)
    with pytest.raises(UseError) as caught:
        settings.read_profiles(tmp_path / "workers.yaml")
    assert says in str(caught.value)


def test_the_blacklist_is_read_as_it_was_written() -> None:
    banned = (Banned(5, 'slow, "very" — ü', "2026-11-25T00:00:00Z"), Banned(7, "", ""))
    text = blacklist.encode(reversed(banned))
    assert blacklist.parse(text, "f") == banned
    assert text.count("\n") == 4, "a line for each"
    assert blacklist.parse(blacklist.encode(()), "f") == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[\n  {]", "f:2:4: is not JSON"),
        ("{}", "has to be a list"),
        ('[{"machine_id": 1}, {"machine_id": "2"}]', "record 2 needs machine_id"),
        ('[{"machine_id": 1, "why": ""}]', "unknown key why"),
        ('[{"machine_id": 1, "reason": 5}]', "have to be text"),
    ],
)
def test_a_blacklist_that_was_edited_wrongly_is_refused(text: str, says: str) -> None:
    with pytest.raises(UseError) as caught:
        blacklist.parse(text, "f")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rent: 5\n", "rent of the file has to be a mapping"),
        ("rent: {tires: 3}\n", ":1:8: rent has an unknown key tires; did you mean tries?"),
        ("rent: {ready_within: soon}\n", "ready_within: 'soon' write seconds as a number, or such as 90s"),
        ("rent: {ready_within: 2d}\n", "is not between 1 s and 86400 s"),
        ("rent: {tries: 0}\n", "tries of rent has to be a number from 1 to 20"),
        ("rent: {max_waste: -1}\n", "max_waste of rent has to be a number from 0 to 1000, in $"),
        ("rent: {image: 5}\n", "image of rent has to be the name of an image, and not 5"),
    ],
)
def test_a_fault_in_how_machines_are_rented_is_reported_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "vast.yaml").write_text(text)
    with pytest.raises(UseError) as caught:
        settings.read_renting(tmp_path / "workers.yaml")
    assert says in str(caught.value)


def test_how_machines_are_rented_is_as_the_file_says_and_else_as_built_in(tmp_path: Path) -> None:
    assert settings.read_renting(tmp_path / "workers.yaml") == settings.Renting()
    (tmp_path / "vast.yaml").write_text("rent: {ready_within: 10m, tries: 5, max_waste: 0.5, key: ~/.ssh/k}\n")
    found = settings.read_renting(tmp_path / "workers.yaml")
    assert (found.key, found.bounds) == ("~/.ssh/k", (600.0, 5, 0.5))
