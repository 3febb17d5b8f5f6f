"""What `up` does with a machine that gives nothing: never ended below its cost limit, never billed far beyond it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from skill.common.errors import FailedError
from skill.fleet import ledger, ledger_file
from skill.fleet.confirm import Ended
from skill.fleet.follow_rental import QUIET, RentalStatus, Took, give_up, patience, warning
from skill.fleet.ledger import Offered, Rental
from skill.operations import up
from skill.operations.up import Steps, Up
from skill.providers.instances import Instance
from skill.providers.outcomes import UNREACHABLE, Gone, Unknown
from skill.runs.directory import Run
from tests.skill.story import job, manifest

FINE = RentalStatus(cost=0.5, cost_limit=2.0, dph=1.0, quiet=10.0, fault=None)
SILENT = FINE._replace(quiet=QUIET, fault="nothing was received for 600 s")


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (FINE, None),
        (FINE._replace(cost=2.0), None),
        (FINE._replace(cost=2.4), None),
        (FINE._replace(cost=2.5), "its manager exceeds the limit"),
        (SILENT, None),
        (SILENT._replace(quiet=1e6), None),
        (SILENT._replace(cost=1.999, quiet=1e6), None),
        (SILENT._replace(cost=2.0, quiet=QUIET - 1), None),
        (
            SILENT._replace(cost=2.0),
            "nothing could be pulled for 15 min 00 s (nothing was received for 600 s), and it has cost $2.00",
        ),
        (SILENT._replace(cost=2.5, quiet=60.0), "exceeds the limit"),
    ],
)
def test_a_machine_is_given_up_at_its_cost_limit_only(status: RentalStatus, says: str | None) -> None:
    why = give_up(status)
    assert (why is None) == (says is None)
    assert says is None or says in (why or "")


def test_what_gives_nothing_is_reported_with_its_cost() -> None:
    assert warning(FINE) is None
    assert warning(SILENT._replace(quiet=QUIET - 1)) is None
    text = warning(SILENT) or ""
    assert "nothing could be pulled for 15 min" in text
    assert "It has cost $0.50; at $2.00 it is destroyed" in text


def test_a_pull_ends_when_the_cost_limit_comes_near() -> None:
    assert patience(FINE) == pytest.approx(1.5 * 3600)
    assert patience(FINE._replace(cost=3.0)) == 600.0
    assert patience(FINE._replace(dph=0.0)) == 600.0


class World:
    """A rented machine at $1 an hour with a cost limit of $2; a clock that only sleeps and pulls move."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_800_000_000.0
        self.live: Instance | Gone | Unknown = Instance(5)
        self.destroyed: list[float] = []
        self.output: list[str] = []
        self.pulls: Iterator[Took] = iter(())
        self.where = root / "workers.yaml"
        clock = SimpleNamespace(monotonic=lambda: self.now, time=lambda: self.now, sleep=self.sleep)
        for module in (up, ledger_file):
            monkeypatch.setattr(module, "time", clock)
        monkeypatch.setattr("skill.operations.up.confirm.destroy_claimed", self.destroy)
        monkeypatch.setattr(
            "skill.operations.up.completeness.missing_of", lambda _run, _worker: "nothing of it was pulled yet"
        )
        offered = Offered(9, 77, "1x RTX 4090", dph=1.0, storage_dph=0.1, disk_gb=40.0)
        ledger_file.note(
            self.where, ledger.INTENDED, "wq-a", **ledger.intent("up x", "wq-a", "vast1", offered, {"max_cost": 2.0})
        )
        ledger_file.note(self.where, ledger.CREATED, "wq-a", instance_id=5)
        self.run = Run.at(root / "experiment_queue" / "run-1")

    def destroy(self, _client: object, _claim: object) -> Ended:
        self.destroyed.append(self.now)
        return Ended(by_us=True)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def rental(self) -> Rental:
        return ledger_file.rentals(self.where)["wq-a"]

    def follow(self) -> Took | None:
        def pull(_run: Run, _patience: float) -> Took:
            self.now += 1.0
            return next(self.pulls)

        steps = Steps(*(cast(Any, None),) * 4, pull)
        client = cast(Any, SimpleNamespace(instance=lambda _number: self.live))
        made = manifest(job("a"))
        went = Up(
            client, self.where, "spec.yaml", made, cast(Any, None), steps, self.output.append, max_cost=None, poll=None,
            every=30.0, new=False,
        )  # fmt: skip
        return went._followed(self.rental(), self.run)


NOTHING = Took(is_last=False, is_reached=True, fault="only 600 bytes came in 600 s")


def forever(took: Took) -> Iterator[Took]:
    while True:
        yield took


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_one_that_gives_nothing_is_destroyed_at_the_cost_limit_and_what_it_cost_is_reported(world: World) -> None:
    world.pulls = forever(NOTHING)
    begin = world.now
    with pytest.raises(FailedError, match=r"The machine cost \$2\.\d\d, .*not all is here: nothing of it was pulled"):
        world.follow()
    (at,) = world.destroyed
    assert 2 * 3600 <= at - begin < 2 * 3600 + 120
    warned = [text for text in world.output if "nothing could be pulled for" in text and "To end it now" in text]
    assert 3 <= len(warned) <= 5
    assert world.rental().end == ledger.DESTROYED


def test_one_that_gives_nothing_for_a_while_goes_on(world: World) -> None:
    world.pulls = iter([NOTHING] * 100 + [Took(is_last=False, is_reached=True)] * 20 + [Took(True, True)])
    assert world.follow() == Took(True, True)
    assert world.destroyed == []


def test_nothing_is_destroyed_while_vast_does_not_answer(world: World) -> None:
    world.live = Unknown("no answer", UNREACHABLE)
    world.pulls = iter([NOTHING] * 400 + [Took(True, True)])
    assert world.follow() == Took(True, True)
    assert world.now > 1_800_000_000.0 + 3 * 3600
    assert world.destroyed == []


def test_one_that_works_beyond_its_cost_limit_is_given_half_an_hour(world: World) -> None:
    world.pulls = forever(Took(is_last=False, is_reached=True))
    begin = world.now
    with pytest.raises(FailedError, match="exceeds the limit"):
        world.follow()
    assert 2.5 * 3600 <= world.destroyed[0] - begin < 2.5 * 3600 + 120


@pytest.mark.parametrize("live", [Gone(), Instance(5, actual_status="exited", cur_state="stopped")])
def test_one_that_has_ended_is_not_waited_for(world: World, live: Instance | Gone) -> None:
    world.live = live
    world.pulls = forever(NOTHING)
    assert world.follow() is None
    assert world.destroyed == []
