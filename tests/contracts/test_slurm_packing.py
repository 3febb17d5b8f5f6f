"""How attempts are packed into allocations that they share: the rule, the orders, and who submits pilots when."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from queue_manager.core.layout import RunPaths
from queue_manager.core.model import Settling
from queue_manager.core.readings import Card, Unreadable
from queue_manager.slurm import packing, pools
from queue_manager.slurm.admission import Admission
from queue_manager.slurm.batches import Answer, Batch, Batches
from queue_manager.slurm.cluster import Cluster, Listing
from queue_manager.slurm.commands import Listed
from queue_manager.slurm.orders import Gone, Orders, Seen
from queue_manager.slurm.packing import Held, Offer
from queue_manager.slurm.pilot import parse_left
from queue_manager.slurm.pools import Asked, Pools
from queue_manager.slurm.sent import Sent

START = 1_000_000.0


def offer(name: str, mib: int = 3000, rank: int = 0, after_oom: bool = False) -> Offer:
    return Offer(f"{name}~1", name, "tag", mib, after_oom, None, (0, rank))


def card(index: int, used: int = 0, total: int = 10_000) -> Card:
    return Card(index, f"GPU-{index}", "A", total, used)


def started(found: Sequence[packing.Start]) -> list[tuple[str, int | None]]:
    return [(one.offer.job, None if one.card is None else one.card.index) for one in found]


# -- the rule -----------------------------------------------------------------------------------------------------


def test_as_many_start_as_have_room_by_rank() -> None:
    offers = [offer(f"j{n}", rank=-n) for n in range(9)]
    found = packing.starts(offers, [], {}, [card(0), card(1)], True, START)
    assert [name for name, _ in started(found)] == ["j8", "j7", "j6", "j5", "j4", "j3"]
    assert sorted(index or 0 for _, index in started(found)) == [0, 0, 0, 1, 1, 1]


def test_what_runs_keeps_what_it_was_promised_and_others_keep_what_they_use() -> None:
    held = [Held(3000, ("GPU-0",), (0,))]
    assert len(packing.starts([offer(f"j{n}", rank=n) for n in range(9)], held, {}, [card(0)], True, START)) == 2
    # 8,000 are in use, of which at most 3,000 are its own.
    assert packing.starts([offer("j")], held, {}, [card(0, used=8000)], True, START) == []


def test_the_memory_of_an_attempt_that_ended_is_given_away_once_it_was_released() -> None:
    held, settling = [Held(3000, ("GPU-0",), (0,))], {"GPU-0": Settling(START, 6000)}
    assert packing.starts([offer("j")], held, settling, [card(0, used=6000)], True, START + 1.0) == []
    assert len(packing.starts([offer("j")], held, settling, [card(0, used=3000)], True, START + 1.0)) == 1


def test_what_no_gpu_of_the_allocation_can_hold_is_named() -> None:
    (found,) = packing.starts([offer("big", 11_000)], [], {}, [card(0), card(1)], True, START)
    assert found.card is None
    assert found.fault == "needs 11000 MiB on 1 GPU; the largest GPU has 10000 MiB"
    (found,) = packing.starts([offer("any")], [], {}, [], True, START)
    assert found.fault == "needs 1 GPU; the allocation has none"
    assert packing.starts([offer("any")], [], {}, [], False, START) == [], "one that does not answer may come back"


def test_a_gpu_is_never_promised_more_than_it_has() -> None:
    """Jobs come, load as slowly as they like, and go; others take memory, too."""
    dice = random.Random(3)
    for _ in range(200):
        total = dice.randint(2, 20) * 1000
        held: list[Held] = []
        for _ in range(12):
            foreign = dice.randint(0, total // 2)
            used = min(total, foreign + sum(dice.randint(0, one.mib) for one in held))
            offers = [offer(f"j{n}", dice.randint(1, 9) * 500, n) for n in range(6)]
            found = packing.starts(offers, held, {}, [card(0, used, total)], True, START)
            held += [Held(one.offer.mib, ("GPU-0",), (one.base_mib,)) for one in found if one.card is not None]
            assert sum(one.mib for one in held) <= total
            assert not [one for one in found if one.card is not None] or used < total
            held = [one for one in held if dice.random() < 0.7]


@pytest.mark.parametrize(
    ("left", "longest", "fits"), [(None, 1e9, True), (100.0, 0.0, True), (100.0, 99.0, True), (100.0, 101.0, False)]
)
def test_nothing_starts_that_would_not_end_in_time(left: float | None, longest: float, fits: bool) -> None:
    assert packing.fits_in_time(left, longest) is fits


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5:00\n", 300.0),
        ("0:09", 9.0),
        ("1:00:05", 3605.0),
        ("2-00:00:01", 172_801.0),
        ("UNLIMITED\n", None),
        ("", None),
    ],
)
def test_the_time_that_is_left_as_squeue_writes_it(text: str, seconds: float | None) -> None:
    assert parse_left(text) == seconds


# -- orders -------------------------------------------------------------------------------------------------------


def test_orders_are_read_as_they_were_written(tmp_path: Path) -> None:
    orders = Orders(tmp_path / "pools" / "one")
    assert isinstance(orders.look(), Gone)
    orders.make()
    given = Offer("a.b~3", "a.b", "key/a.b/3", 3000, True, 90.5, (-2, 7))
    orders.end()
    orders.offer(given)
    orders.stop("c~1", kill=False)
    orders.stop("d~1", kill=True)
    look = orders.look()
    assert look == Seen(frozenset({"a.b~3"}), {"TERM": frozenset({"c~1"}), "KILL": frozenset({"d~1"})}, False)
    assert orders.read("a.b~3") == given
    assert orders.read("c~1") is None
    for attempt in ("a.b~3", "c~1", "d~1"):
        orders.forget(attempt)
    assert list(orders.directory.iterdir()) == []


# -- pilots -------------------------------------------------------------------------------------------------------


class Recorded(Cluster):
    """Notes what it is asked for."""

    def __init__(self) -> None:
        super().__init__({}, lambda: START)
        self.submitted: list[tuple[Batch, tuple[str, ...]]] = []
        self.signalled: list[tuple[str, list[tuple[str, int]]]] = []

    def submit(self, batch: Batch, options: Sequence[str], extra: Mapping[str, str]) -> None:  # noqa: ARG002
        self.submitted.append((batch, tuple(options)))

    def tell(self, make: object, tasks: object) -> None:
        assert isinstance(tasks, list)
        if tasks:
            self.signalled.append((getattr(make, "__name__", ""), tasks))


class Desk:
    """The pools of one run, over a cluster that says what a test wants. `now` goes on with each look."""

    def __init__(self, root: Path) -> None:
        self.now, self.paused = START, False
        self.paths, self.cluster = RunPaths.of(root), Recorded()
        self.store = Batches(self.paths, "key", "run")
        self.sent: dict[str, Sent] = {}
        self.pools = self.manager()

    def manager(self) -> Pools:
        made = Pools(self.paths, self.store, self.cluster, "key", 5.0, lambda: self.paused, Admission(1000, {}))
        made.note = self.note
        return made

    def note(self, batch: Batch) -> Sent:
        found = self.sent[batch.name] = Sent(batch)
        return found

    def offer(self, *names: str, allocations: int = 2) -> None:
        self.pools.offer(Asked(("--gres=gpu:1",), (), allocations), [offer(name) for name in names], self.now)

    def lists(self, *states: str, reason: str = "None") -> None:
        """Slurm has taken all batches, and shows their pilots in these states, in order; "": not at all."""
        self.now += 1.0
        for sent in self.sent.values():
            sent.answer, sent.at = sent.answer or Answer(0, "7\n", ""), sent.at or self.now
        places = [(sent.batch.name, n) for sent in self.sent.values() for n in range(len(sent.batch.tasks))]
        rows = {place: Listed(7, state, reason, "n1") for place, state in zip(places, states) if state}
        self.now += 1.0
        self.cluster.listing = Listing(rows, self.now)
        self.pools.keep(self.now)

    def begins(self, name: str, batch: int = 0, task: int = 0) -> None:
        self.pools.began(f"{name}~1", list(self.sent.values())[batch], task)

    @property
    def counts(self) -> list[int]:
        """Pilots of each batch that was submitted."""
        return [len(batch.tasks) for batch, _ in self.cluster.submitted]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "run")


@pytest.mark.parametrize(("names", "allocations", "pilots"), [("abc", 2, 2), ("a", 2, 1), ("abc", 1, 1)])
def test_there_are_as_many_pilots_as_are_allowed_and_needed(
    desk: Desk, names: str, allocations: int, pilots: int
) -> None:
    desk.offer(*names, allocations=allocations)
    assert desk.counts == [pilots]
    desk.lists(*["RUNNING"] * pilots)
    desk.offer("later", allocations=allocations)
    assert sum(desk.counts) == min(allocations, len(names) + 1)


def test_those_that_ask_for_something_else_have_pilots_of_their_own(desk: Desk) -> None:
    desk.offer("a")
    desk.pools.offer(Asked(("--gres=gpu:a100:1",), (), 2), [offer("b")], desk.now)
    desk.pools.offer(Asked(("--gres=gpu:1",), (("KEY", "secret"),), 2), [offer("c")], desk.now)
    assert desk.counts == [1, 1, 1]
    scripts = [path.read_text() for path in desk.paths.root.rglob("*") if path.is_file()]
    assert not any("secret" in text for text in scripts)


def test_a_lost_pilot_is_replaced_while_something_waits(desk: Desk) -> None:
    desk.offer(*"abc")
    desk.begins("a")
    for states in (("RUNNING", "RUNNING"), ("NODE_FAIL", "RUNNING")):
        desk.lists(*states)
    assert desk.counts == [2, 1]
    for name in "bc":
        desk.begins(name, task=1)
    desk.lists("NODE_FAIL", "NODE_FAIL", "NODE_FAIL")
    assert desk.counts == [2, 1], "nothing waits"


def test_nothing_is_concluded_of_pilots_while_slurm_does_not_answer(desk: Desk) -> None:
    desk.offer(*"abc")
    desk.lists("RUNNING", "RUNNING")
    desk.now += 10 * pools.LOST_AFTER
    desk.cluster.listing = Listing(Unreadable("squeue: away"), desk.now)
    desk.pools.keep(desk.now)
    assert desk.counts == [2]


def test_a_pilot_that_is_never_listed_is_replaced_after_a_while(desk: Desk) -> None:
    desk.offer("a")
    desk.lists("")
    assert desk.counts == [1]
    desk.now += pools.LOST_AFTER
    desk.lists("")
    assert desk.counts == [1, 1]


def test_where_attempts_wait(desk: Desk) -> None:
    desk.offer("a")
    assert desk.pools.where("a~1") == "was submitted to Slurm"
    desk.lists("PENDING", reason="Resources")
    assert desk.pools.where("a~1") == "waits in Slurm's queue (pending: Resources)"
    desk.lists("RUNNING")
    assert desk.pools.where("a~1") == "waits for GPU memory in its allocation on n1"
    assert desk.pools.error("a~1") is None


def test_a_refusal_is_named_and_a_later_attempt_is_tried_again(desk: Desk) -> None:
    desk.offer("a")
    (sent,) = desk.sent.values()
    sent.answer, sent.at = Answer(1, "", "sbatch: error: invalid partition specified: gup"), desk.now
    assert desk.pools.error("a~1") == ("sbatch: invalid partition specified: gup", False)
    desk.pools.forget("a~1")
    desk.offer("a")
    assert desk.pools.error("a~1") is None
    assert desk.counts == [1, 1]


def test_a_refusal_takes_nothing_from_those_who_have_a_pilot(desk: Desk) -> None:
    """A limit allows one less than `allocations`: what waits goes on waiting for those there are."""
    desk.offer("a")
    desk.lists("RUNNING")
    desk.offer("b")
    _, second = desk.sent.values()
    second.answer, second.at = Answer(1, "", "sbatch: error: AssocMaxSubmitJobLimit"), desk.now
    assert desk.pools.error("b~1") is None
    desk.lists("RUNNING")
    assert desk.pools.where("b~1") == "waits for GPU memory in its allocation on n1"
    assert desk.counts == [1, 1]
    desk.now += pools.AGAIN
    desk.lists("RUNNING")
    assert desk.counts == [1, 1, 1]


def test_a_pilot_that_cannot_start_is_named_with_its_last_words_and_not_submitted_over_and_over(desk: Desk) -> None:
    desk.offer("a")
    ((batch, _),) = desk.cluster.submitted
    (batch.directory / "0.out").write_text("bash: /opt/python: No such file\n\n")
    desk.lists("FAILED", reason="NonZeroExitCode")
    error = desk.pools.error("a~1")
    assert error is not None
    assert error[0] == "Slurm: FAILED (NonZeroExitCode) on n1: bash: /opt/python: No such file"
    desk.lists("FAILED")
    assert desk.counts == [1]


def test_pilots_for_which_nobody_waits_may_be_taken_out_of_the_queue(desk: Desk) -> None:
    desk.offer(*"ab")
    assert set(desk.pools.wanted()) == {f"@{name}~{n}" for name in desk.pools._pools for n in (0, 1)}
    for name in "ab":
        desk.begins(name)
    assert desk.pools.wanted() == []


def test_a_pause_holds_what_waits_and_lets_pilots_begin_nothing(desk: Desk) -> None:
    desk.offer(*"ab")
    desk.lists("PENDING", "RUNNING")
    name = desk.cluster.submitted[0][0].name
    desk.paused = True
    desk.pools.note_pause()
    assert (desk.store.root / "paused").exists()
    desk.lists("PENDING", "RUNNING")
    assert desk.cluster.signalled == [("hold", [(name, 0)])]
    desk.offer("c", allocations=3)
    assert desk.counts == [2]
    desk.paused = False
    desk.pools.note_pause()
    assert not (desk.store.root / "paused").exists()
    desk.lists("PENDING", "RUNNING", reason="JobHeldUser")
    assert desk.cluster.signalled[1:] == [("release", [(name, 0)])]


def test_what_has_begun_is_told_to_end_and_what_has_not_is_taken_back(desk: Desk) -> None:
    desk.offer(*"ab")
    desk.begins("a")
    desk.pools.stop("a~1", kill=False)
    desk.pools.stop("b~1", kill=True)
    (pool,) = desk.pools._pools.values()
    look = pool.orders.look()
    assert look == Seen(frozenset(), {"TERM": frozenset({"a~1"}), "KILL": frozenset()}, False)
    assert not desk.pools.has("b~1")


@pytest.mark.parametrize("over", [("COMPLETED", "COMPLETED"), ("", "")])
def test_a_later_manager_finds_offers_and_pilots_and_offers_more(desk: Desk, over: tuple[str, str]) -> None:
    desk.offer(*"ab")
    desk.lists("RUNNING", "RUNNING")
    desk.pools = desk.manager()
    for sent in desk.sent.values():
        desk.pools.know(sent)
    assert desk.pools.has("a~1")
    assert desk.pools.where("a~1") == "waits for GPU memory in its allocation on n1"
    desk.offer("c")
    assert desk.counts == [2]
    desk.lists(*over)
    assert desk.counts == [2, 2]


def test_a_later_manager_gives_up_what_no_pilot_is_left_for(desk: Desk) -> None:
    """It does not know what to ask Slurm for: the job gets a new attempt, which costs it none."""
    desk.offer("a")
    desk.pools = desk.manager()
    for sent in desk.sent.values():
        desk.pools.know(sent)
    desk.lists("COMPLETED")
    assert (desk.pools.where("a~1"), desk.pools.error("a~1")) == (None, None)
