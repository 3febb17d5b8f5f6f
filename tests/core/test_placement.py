"""Which job gets which card: alone, shared by memory, after an OOM, many at once, beside others on the host."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_manager.core import gpu_models
from queue_manager.core.boundary import ForeignLease
from queue_manager.core.model import Need
from queue_manager.core.placement import SETTLE_SECONDS, impossible
from queue_manager.core.readings import Card, Unreadable, may_use
from queue_manager.core.requests import Request
from queue_manager.core.snapshot import waiting
from tests.core.states import FOREVER, ONCE, cards_of, run_to_end, spec, started, statuses, turns, until, world
from tests.fakes import FakeHost, Plan, with_plans

OOM = b"CUDA out of memory\n"


def test_a_job_has_its_card_to_itself() -> None:
    host, manager = world(spec("a"), spec("b"), spec("c"))
    turns(host, manager, 3)
    assert cards_of(manager.state) == {"a": (0,), "b": (1,)}


def test_a_card_that_somebody_else_uses_is_not_given_away() -> None:
    host, manager = world(spec("a"), spec("b"))
    host.cards[0].foreign = 500
    turns(host, manager, 3)
    assert cards_of(manager.state) == {"a": (1,)}
    host.cards[0].foreign = 499
    turns(host, manager, 1)
    assert cards_of(manager.state) == {"a": (1,), "b": (0,)}


def test_the_threshold_is_the_manifests() -> None:
    host, manager = world(spec("a"), gpu_free_threshold_mib=3000)
    host.cards[0].foreign, host.cards[1].foreign = 3000, 2999
    turns(host, manager, 1)
    assert cards_of(manager.state) == {"a": (1,)}


def test_only_listed_cards_are_used() -> None:
    host, manager = world(spec("a"), spec("b"), host=FakeHost(3), gpus=(2,))
    turns(host, manager, 3)
    assert cards_of(manager.state) == {"a": (2,)}


def test_jobs_share_a_card_up_to_what_it_has() -> None:
    host, manager = world(*[spec(name, gpu_mem_mib=9000) for name in "abc"], host=FakeHost(1))
    host.plan_of = with_plans({}, FOREVER)
    turns(host, manager, 5)
    assert cards_of(manager.state) == {"a": (0,), "b": (0,)}


def test_what_was_promised_counts_though_a_slow_loader_does_not_use_it_yet() -> None:
    host, manager = world(spec("a", gpu_mem_mib=20_000), spec("b", gpu_mem_mib=9000), host=FakeHost(1))
    host.plan_of = with_plans({"a": Plan(seconds=60.0, mib=20_000, load_after=40.0)})
    turns(host, manager, 30)
    assert cards_of(manager.state) == {"a": (0,)}
    run_to_end(host, manager)
    assert statuses(manager.state) == {"a": "completed", "b": "completed"}


def test_what_others_use_counts_beside_what_was_promised() -> None:
    host, manager = world(*[spec(name, gpu_mem_mib=9000) for name in "ab"], host=FakeHost(1))
    host.cards[0].foreign = 7000
    host.plan_of = with_plans({}, Plan(seconds=60.0, mib=9000, load_after=40.0))
    turns(host, manager, 50)
    assert cards_of(manager.state) == {"a": (0,)}


def test_what_jobs_use_beyond_their_promise_counts() -> None:
    host, manager = world(*[spec(name, gpu_mem_mib=5000) for name in "ab"], host=FakeHost(1))
    host.plan_of = with_plans({"a": Plan(seconds=60.0, mib=20_000)})
    turns(host, manager, 1)
    host.advance(5.0)
    assert cards_of(manager.state) == {"a": (0,), "b": (0,)}  # placed in the same turn, on trust
    host, manager = world(*[spec(name, gpu_mem_mib=5000) for name in "ab"], host=FakeHost(1), max_parallel=1)
    host.cards[0].foreign = 20_000
    turns(host, manager, 3)
    assert cards_of(manager.state) == {}


def test_shared_jobs_go_where_most_room_is() -> None:
    host, manager = world(spec("a", gpu_mem_mib=9000), spec("b", gpu_mem_mib=9000))
    turns(host, manager, 2)
    assert cards_of(manager.state) == {"a": (0,), "b": (1,)}


def test_a_card_of_its_own_and_a_shared_one_never_mix() -> None:
    host, manager = world(spec("a"), spec("b", gpu_mem_mib=1000), host=FakeHost(1))
    host.plan_of = with_plans({"a": Plan(seconds=5.0)})
    turns(host, manager, 3)
    assert cards_of(manager.state) == {"a": (0,)}
    run_to_end(host, manager)


def test_memory_that_has_just_been_freed_must_have_gone() -> None:
    host, manager = world(spec("a"), spec("b"), host=FakeHost(1))
    host.plan_of = with_plans({"a": Plan(seconds=2.0, mib=8000, linger=7.0)})
    until(host, manager, "a", "completed")
    freed = host.cards[0].lingering[0][0]
    until(host, manager, "b", "running")
    assert host.now >= freed


def test_freed_memory_must_have_gone_from_a_shared_card_as_well() -> None:
    jobs = [spec("a", gpu_mem_mib=9000), spec("b", gpu_mem_mib=9000), spec("c", gpu_mem_mib=9000)]
    host, manager = world(*jobs, host=FakeHost(1))
    host.plan_of = with_plans({"a": Plan(seconds=3.0, mib=9000, linger=7.0)}, Plan(seconds=60.0, mib=9000))
    until(host, manager, "a", "completed")
    freed = host.cards[0].lingering[0][0]
    until(host, manager, "c", "running")
    assert freed <= host.now < freed + 3.0


def test_a_neighbour_that_uses_more_than_its_promise_delays_the_next_job_and_does_not_bar_it() -> None:
    jobs = [spec("a", gpu_mem_mib=5000), spec("b", gpu_mem_mib=5000), spec("c", gpu_mem_mib=10_000)]
    host, manager = world(*jobs, host=FakeHost(1, total=19_000))
    host.plan_of = with_plans({"a": Plan(seconds=3.0, mib=5000), "b": Plan(seconds=600.0, mib=6000)})
    until(host, manager, "a", "completed")
    ended = host.now
    until(host, manager, "c", "running")
    assert host.now - ended <= SETTLE_SECONDS + 1.0


def test_a_neighbour_that_is_not_ours_does_not_bar_the_next_job() -> None:
    jobs = [spec("a", gpu_mem_mib=5000), spec("b", gpu_mem_mib=5000), spec("c", gpu_mem_mib=10_000)]
    host, manager = world(*jobs, host=FakeHost(1))
    host.cards[0].foreign = 3000
    host.plan_of = with_plans({"a": Plan(seconds=3.0, mib=5000)}, Plan(seconds=600.0, mib=5000))
    until(host, manager, "a", "completed")
    ended = host.now
    until(host, manager, "c", "running")
    assert host.now - ended <= 2.0


def test_another_runs_job_beside_it_may_use_what_it_was_promised_and_a_little_more() -> None:
    host, manager = world(spec("a", gpu_mem_mib=9000), spec("b", gpu_mem_mib=9000), host=FakeHost(1), max_parallel=1)
    host.leases, host.cards[0].foreign = (ForeignLease("GPU-0", 4000, "other"),), 4300
    host.plan_of = with_plans({"a": Plan(2.0, mib=9000)}, FOREVER)
    until(host, manager, "a", "completed")
    turns(host, manager, 1)
    assert cards_of(manager.state) == {"b": (0,)}


# -- after an OOM -----------------------------------------------------------------------------------------------------


def test_after_an_oom_it_takes_the_card_with_most_free_memory() -> None:
    host = FakeHost(3)
    host.cards[2].total = 48_000
    host, manager = world(spec("a"), host=host)
    host.plan_of = with_plans({"a": [Plan(1.0, 1, log=OOM), FOREVER]})
    until(host, manager, "a", "failed_oom")
    host.advance(120.0)
    turns(host, manager, 1)
    assert cards_of(manager.state) == {"a": (2,)}


def test_after_an_oom_it_does_not_take_the_same_card_where_another_is_as_good() -> None:
    host, manager = world(spec("a"), host=FakeHost(2))
    host.cards[1].foreign = 100
    host.plan_of = with_plans({"a": [Plan(1.0, 1, log=OOM), FOREVER]})
    until(host, manager, "a", "failed_oom")
    host.advance(120.0)
    turns(host, manager, 1)
    assert cards_of(manager.state) == {"a": (1,)}


# -- several cards ----------------------------------------------------------------------------------------------------


def test_a_job_gets_as_many_cards_as_it_needs() -> None:
    host, manager = world(spec("a", gpus=2), host=FakeHost(3))
    turns(host, manager, 2)
    assert cards_of(manager.state) == {"a": (0, 1)}


def test_small_jobs_do_not_pass_one_that_needs_many_cards_forever() -> None:
    small = [spec(f"s{i}") for i in range(12)]
    host, manager = world(small[0], small[1], spec("big", gpus=2), *small[2:])
    host.plan_of = with_plans({"s0": Plan(seconds=5.0), "s1": Plan(seconds=9.0)}, Plan(seconds=3.0))
    until(host, manager, "big", "running")
    assert statuses(manager.state)["s2"] == "pending"
    run_to_end(host, manager)


def test_jobs_that_share_do_not_pass_one_that_wants_the_card_forever() -> None:
    small = [spec(f"s{i}", gpu_mem_mib=9000) for i in range(8)]
    host, manager = world(*small[:2], spec("alone"), *small[2:], host=FakeHost(1))
    host.plan_of = with_plans({"s0": Plan(seconds=3.0), "s1": Plan(seconds=5.0)})
    until(host, manager, "alone", "running")
    assert statuses(manager.state)["s2"] == "pending"


def test_a_slice_serves_a_job_of_one_card_and_is_kept_for_none_of_more() -> None:
    host = FakeHost(4)
    for card in host.cards[2:]:
        card.kind = "MIG"
    host.plan_of = with_plans({}, Plan(1e9))
    host, manager = world(spec("two", gpus=2), spec("other", gpus=2), spec("a"), spec("b"), host=host)
    turns(host, manager, 3)
    assert cards_of(manager.state) == {"two": (0, 1), "a": (2,), "b": (3,)}
    assert statuses(manager.state)["other"] == "pending"


@pytest.mark.parametrize(
    ("index", "listed", "may"),
    [(0, None, True), (0, [0], True), (1, [0], False), (100, [0], True), (101, [101], True), (100, [101], False),
     (201, [0], False), (100, [-1], False)],
)  # fmt: skip
def test_a_divided_card_that_is_listed_stands_for_its_slices(index: int, listed: list[int] | None, may: bool) -> None:
    assert may_use(index, listed) is may


def test_a_job_gets_a_gpu_of_its_model_and_others_pass_it() -> None:
    host, manager = world(spec("a", gpu_model=("A10",)), spec("b", gpu_model=("A10",)), spec("any"))
    host.plan_of = with_plans({}, FOREVER)
    host.cards[0].name, host.cards[1].name = "NVIDIA L4", "NVIDIA A10"
    turns(host, manager, 3)
    assert cards_of(manager.state) == {"a": (1,), "any": (0,)}
    assert waiting(manager.state, manager.state.job("b"), {}) == "waits for a GPU (A10) to be free"


def test_a_job_whose_model_the_host_lacks_is_stuck_at_the_end_and_says_which_there_are() -> None:
    host, manager = world(spec("a", gpu_model=("H100",)), spec("any"))
    turns(host, manager, 1)
    assert "need:1:None:H100" in manager.state.machine.conditions
    run_to_end(host, manager)
    assert statuses(manager.state) == {"a": "stuck", "any": "completed"}
    assert manager.state.job("a").error == "needs 1 GPU of model H100; this host has 2 x Fake"


@pytest.mark.parametrize(
    ("models", "name", "does"),
    [
        ((), "NVIDIA L4", True),
        (("rtx 4090",), "NVIDIA GeForce RTX 4090", True),
        (("RTX_4090",), "NVIDIA GeForce RTX 4090", True),
        (("4090",), "NVIDIA GeForce RTX 4090", True),
        (("A10",), "NVIDIA A100-SXM4-80GB", False),
        (("A100",), "NVIDIA A100-SXM4-80GB", True),
        (("A100 80GB",), "NVIDIA A100-SXM4-80GB", False),
        (("A100 SXM4", "L4"), "NVIDIA A100-SXM4-80GB", True),
        (("L4",), "NVIDIA L40S", False),
        (("RTX 4090",), "NVIDIA GeForce RTX 4090 D", True),
        (("NVIDIA GeForce RTX 4090",), "NVIDIA GeForce RTX 4090 D", False),
        (("nvidia geforce rtx 4090",), "NVIDIA GeForce RTX 4090", True),
        (("1g.10gb",), "NVIDIA A100-SXM4-80GB MIG 1g.10gb", True),
    ],
)
def test_which_gpus_are_of_a_model(models: tuple[str, ...], name: str, does: bool) -> None:
    assert gpu_models.fits(models, name) is does


# -- what can never be ------------------------------------------------------------------------------------------------

CARDS = [Card(0, "GPU-0", "Fake", 24_000, 0), Card(1, "GPU-1", "Fake", 16_000, 0)]


MIXED = [Card(0, "GPU-0", "NVIDIA L4", 24_000, 0), Card(1, "GPU-1", "NVIDIA A10", 16_000, 0)]
THERE = "NVIDIA L4, NVIDIA A10"
SLICES = [Card(100, "MIG-0", "Fake", 8_000, 0), Card(101, "MIG-1", "Fake", 8_000, 0)]


@pytest.mark.parametrize(
    ("need", "cards", "listed", "words"),
    [
        (Need(0, None), [], None, None),
        (Need(2, None), CARDS, None, None),
        (Need(1, 24_000), CARDS, None, None),
        (Need(1, None), [], None, "needs 1 GPU; this host has none"),
        (Need(3, None), CARDS, None, "needs 3 GPUs; this host has 2 GPUs"),
        (Need(1, None), [], [9], "needs 1 GPU; of the GPUs [9] this host has none"),
        (Need(2, None), CARDS[:1], [0, 9], "needs 2 GPUs; of the GPUs [0, 9] this host has 1 GPU"),
        (Need(1, 24_001), CARDS, None, "needs 24001 MiB on 1 GPU; the largest GPU has 24000 MiB"),
        (Need(1, None), SLICES, None, None),
        (Need(2, None), [*CARDS, *SLICES], None, None),
        (
            Need(2, None),
            [CARDS[0], *SLICES],
            None,
            "needs 2 GPUs; this host has 1 GPU undivided and 2 MIG slices, of which a job can have only one",
        ),
        (Need(2, 20_000), CARDS, None, "needs 20000 MiB on 2 GPUs; the largest GPU has 24000 MiB"),
        (Need(1, None, ("L4", "A10")), MIXED, None, None),
        (Need(2, None, ("L4", "A10")), MIXED, None, None),
        (Need(1, None, ("A1", "H100")), MIXED, None, f"needs 1 GPU of model A1 or H100; this host has {THERE}"),
        (Need(2, None, ("L4",)), MIXED, [0, 1], f"needs 2 GPUs of model L4; of the GPUs [0, 1] this host has {THERE}"),
        (Need(1, None, ("L4",)), [], None, "needs 1 GPU of model L4; this host has none"),
        (
            Need(1, 20_000, ("A10",)),
            MIXED,
            None,
            "needs 20000 MiB on 1 GPU of model A10; the largest one has 16000 MiB",
        ),
    ],
)
def test_what_these_cards_can_never_meet(
    need: Need, cards: list[Card], listed: list[int] | None, words: str | None
) -> None:
    assert impossible(need, cards, listed) == words


def test_others_pass_a_job_that_can_never_run_and_at_the_end_it_is_stuck() -> None:
    host, manager = world(spec("big", gpus=9), spec("a"), spec("after", depends_on=("big",)))
    turns(host, manager, 2)
    assert statuses(manager.state) == {"big": "pending", "a": "running", "after": "pending"}
    assert "need:9:None" in manager.state.machine.conditions
    run_to_end(host, manager)
    assert statuses(manager.state) == {"big": "stuck", "a": "completed", "after": "blocked"}
    assert manager.state.job("big").error == "needs 9 GPUs; this host has 2 GPUs"


def test_a_card_that_does_not_exist_is_reported() -> None:
    host, manager = world(spec("a"), gpus=(9,))
    run_to_end(host, manager)
    assert manager.state.job("a").error == "needs 1 GPU; of the GPUs [9] this host has none"


def test_a_sick_card_may_come_back_so_nothing_is_given_up() -> None:
    host, manager = world(spec("a"), host=FakeHost(1))
    host.cards[0].sick = "GPU is lost"
    turns(host, manager, 5)
    assert statuses(manager.state) == {"a": "pending"}
    assert manager.state.machine.conditions["card:GPU-0"][0] == "GPU 0: GPU is lost"
    host.cards[0].sick = None
    run_to_end(host, manager)
    assert not manager.state.machine.conditions


# -- quarantine -------------------------------------------------------------------------------------------------------


def test_a_card_that_breaks_under_a_job_is_put_aside_and_the_job_is_charged_nothing() -> None:
    host, manager = world(spec("a"))
    host.plan_of = with_plans({"a": [Plan(1.0, 1, log=b"CUDA error: uncorrectable ECC error\n"), Plan(3.0)]})
    run_to_end(host, manager)
    job = manager.state.job("a")
    assert (job.status.value, job.n, job.attempts, job.indices) == ("completed", 2, 1, (1,))
    assert list(manager.state.cards.quarantined) == ["GPU-0"]


def test_a_card_on_which_unlike_jobs_fail_is_put_aside_while_another_serves() -> None:
    jobs = [spec(f"j{i}", retries=1) for i in range(6)]
    host, manager = world(*jobs, spec("well"))

    def plan(job: str, _n: int) -> Plan:
        attempt = manager.state.job(job).attempt
        return Plan(seconds=1.0, code=int(attempt is not None and attempt.indices == (0,)))

    host.plan_of = plan
    run_to_end(host, manager)
    assert list(manager.state.cards.quarantined) == ["GPU-0"]
    assert "jobs failed on it one after the other" in manager.state.cards.quarantined["GPU-0"]


def test_one_job_that_fails_again_and_again_puts_no_card_aside() -> None:
    host, manager = world(spec("well"), spec("bad", retries=5), spec("long"))
    host.plan_of = with_plans({"bad": Plan(1.0, 1), "long": FOREVER}, ONCE)
    job = until(host, manager, "bad", "stuck")
    assert (job.n, job.indices) == (6, (1,))
    assert manager.state.cards.served == {"GPU-0"}
    assert manager.state.cards.quarantined == {}


def test_the_last_card_is_not_put_aside_because_of_one_that_is() -> None:
    host, manager = world(*[spec(f"j{i}") for i in range(12)])
    host.plan_of = lambda job, _n: Plan(seconds=1.0, code=int(int(job[1:]) > 1))
    run_to_end(host, manager)
    assert len(manager.state.cards.quarantined) <= 1


def test_a_job_whose_every_card_is_put_aside_is_stuck_and_resume_brings_the_cards_back() -> None:
    host, manager = world(spec("a"), host=FakeHost(1))
    host.plan_of = with_plans({"a": [Plan(1.0, 1, log=b"CUDA error: uncorrectable ECC error\n"), ONCE]})
    run_to_end(host, manager)
    assert manager.state.job("a").error == "needs 1 GPU; this host has none that is not in quarantine"
    host.inbox = [Request("r1", "resume"), Request("r2", "retry", ("a",))]
    manager.turn()
    run_to_end(host, manager)
    assert statuses(manager.state) == {"a": "completed"}


# -- other runs on this host ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("theirs", "ours"), [(None, None), (None, 9000), (9000, None)])
def test_a_card_in_the_hands_of_another_run_is_left_to_it(theirs: int | None, ours: int | None) -> None:
    host, manager = world(spec("a", gpu_mem_mib=ours), host=FakeHost(1))
    host.leases = (ForeignLease("GPU-0", theirs, "other"),)
    turns(host, manager, 3)
    assert cards_of(manager.state) == {}
    host.leases = ()
    run_to_end(host, manager)


def test_two_runs_share_a_card_as_far_as_its_memory_goes() -> None:
    host, manager = world(spec("a", gpu_mem_mib=9000), spec("b", gpu_mem_mib=9000), host=FakeHost(1))
    host.leases = (ForeignLease("GPU-0", 9000, "other"),)
    turns(host, manager, 3)
    assert cards_of(manager.state) == {"a": (0,)}


def test_while_other_runs_leases_cannot_be_read_no_card_is_given_away() -> None:
    host, manager = world(spec("a"), spec("cpu", gpus=0))
    host.leases = Unreadable("other.json: torn")
    events = turns(host, manager, 3)
    assert started(events) == ["cpu"]
    assert manager.state.machine.conditions["leases"][0] == "other runs' leases cannot be read: other.json: torn"


# -- what holds for any jobs and cards --------------------------------------------------------------------------------


@given(
    needs=st.lists(st.tuples(st.integers(1, 3), st.sampled_from([None, 4000, 9000, 15_000])), min_size=1, max_size=8),
    foreign=st.lists(st.sampled_from([0, 300, 3000, 20_000]), min_size=1, max_size=3),
)
def test_one_turn_never_gives_away_more_than_there_is(needs: list[tuple[int, int | None]], foreign: list[int]) -> None:
    host = FakeHost(len(foreign))
    for card, used in zip(host.cards, foreign):
        card.foreign = used
    jobs = [spec(f"j{i}", gpus=gpus, gpu_mem_mib=mib) for i, (gpus, mib) in enumerate(needs)]
    host, manager = world(*jobs, host=host)
    manager.turn()
    for card in host.cards:
        held = manager.state.cards.holders.get(card.uuid, [])
        if any(one.mib is None for one in held):
            assert len(held) == 1
            assert card.foreign < 500
        assert card.foreign + sum(one.mib or 0 for one in held) <= card.total
    assert all(len(set(one.cards)) == len(one.cards) for one in manager.state.live.values())
