"""The manager estimates the end of its run in slices, seldom enough, and survives whatever goes wrong with that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from queue_manager import estimator
from queue_manager.core import durations, eta
from queue_manager.core import events as ev
from queue_manager.core.durations import Earlier
from queue_manager.core.events import Record
from queue_manager.core.layout import RunPaths
from queue_manager.core.model import InvalidTransition, QueueState
from queue_manager.core.pace import OWN_HOST
from queue_manager.core.readings import Cards
from queue_manager.estimator import FIRST, LATE, LATEST, OFTEN, SAVED, Estimator
from tests.core.states import manifest, spec
from tests.core.test_simulate import bare, cards
from tests.fakes import START


def durations_of(root: Path, seconds: float) -> None:
    """Say what a job took in earlier runs."""
    (root / "durations.json").write_bytes(durations.encode(Earlier({}, {"main": (seconds, 3)})))


def made(root: Path, count: int = 4, seconds: float = 60.0) -> tuple[Estimator, QueueState]:
    state = bare(manifest(*(spec(f"j{n}") for n in range(count))))
    durations_of(root, seconds)
    return Estimator(RunPaths.of(root), state, 4, START, dict, set), state


def work(one: Estimator, now: float) -> bool:
    """Work until a result is there. Whether it is worth being published."""
    while True:
        news = one.work(now, Cards(cards(2)))
        if one.due(now) != now:
            return news


def test_it_is_due_when_something_has_happened_and_again_when_jobs_are_late(tmp_path: Path) -> None:
    one, state = made(tmp_path)
    assert one.due(START) == START + FIRST
    assert not one.work(START, None), "what a manager does first is to start jobs"
    assert work(one, START + 1)
    assert one.eta == eta.Eta(START + 121, ("3 completed jobs of main in earlier runs",))
    assert one.due(START + 1) is None, "nothing runs, and nothing has happened"
    for card in range(2):
        begun = ev.AttemptStarting(f"j{card}", 1, 1, f"s{card}", "boot-1", (f"GPU-{card}",), (card,))
        state.apply(Record(state.seq + 1, START + 1.5, begun))
    due = one.due(START + 2)
    assert due is not None
    assert START + 1 + OFTEN <= due < START + 60
    assert not work(one, due), "it is what was published already, as near as makes no difference"
    late = one.due(due)
    assert late is not None
    assert late >= due + LATE + OFTEN


def test_it_is_ever_more_seldom_while_nothing_happens(tmp_path: Path) -> None:
    one, state = made(tmp_path, seconds=1e6)
    begun = ev.AttemptStarting("j0", 1, 1, "s0", "boot-1", ("GPU-0",), (0,))
    state.apply(Record(state.seq + 1, START, begun))
    work(one, START + 1)
    waits: list[float] = []

    def look() -> None:
        """Wait until it is due, and have it done."""
        at = one.due(START + 1)
        assert at is not None
        work(one, at)
        waits.append((one.due(at) or 0.0) - one._next)

    while len(waits) < 6:
        look()
    assert waits == [2 * LATE, 4 * LATE, 8 * LATE, LATEST, LATEST, LATEST]
    state.apply(Record(state.seq + 1, START + 2, ev.Paused()))
    look()
    assert waits[-1] <= 2 * LATE, "until something happens"
    state.apply(Record(state.seq + 1, START + 3, ev.Resumed()))
    look()
    durations_of(tmp_path, 2e6)
    one._earlier = None
    look()
    assert waits[-1] == LATE, "or something else comes out"


def test_a_run_of_which_nothing_can_be_known_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which takes a second for 100,000 jobs, in one piece."""
    one, _ = made(tmp_path)
    (tmp_path / "durations.json").unlink()
    monkeypatch.setattr(QueueState, "copy", None)
    work(one, START + 1)
    assert one.eta is not None
    assert one.eta.at is None


def test_a_large_run_is_estimated_in_slices_at_a_small_part_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimator, "SLICE", 0.0005)
    one, _ = made(tmp_path, 400)
    slices = 0
    while one.due(START + 1) in (START + 1, START + FIRST) and one.eta is None:
        one.work(START + 1, Cards(cards(2)))
        slices += 1
    assert slices > 10


def test_it_takes_a_small_part_of_the_time_and_what_is_saved_up_is_taken_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = 0.03
    clock = iter(costs * n for n in range(10_000))
    monkeypatch.setattr("time.thread_time", lambda: next(clock))
    monkeypatch.setattr(estimator, "SLICE", 60.0)
    one, state = made(tmp_path)
    times: list[float] = []
    while not times or times[-1] < START + 60:
        at = one.due(START)
        assert at is not None
        work(one, at)
        times.append(at)
        state.apply(Record(state.seq + 1, at, ev.Paused() if len(times) % 2 else ev.Resumed()))
    assert [round(at - START, 6) for at in times[:4]] == [FIRST, FIRST + OFTEN, FIRST + 2 * OFTEN, FIRST + 3 * OFTEN]
    assert costs * (len(times) - 1) <= SAVED + OWN_HOST.estimating * (times[-1] - START)


def test_the_end_is_estimated_again_when_it_has_passed(tmp_path: Path) -> None:
    one, state = made(tmp_path, 1, 4.0)
    begun = ev.AttemptStarting("j0", 1, 1, "s0", "boot-1", ("GPU-0",), (0,))
    state.apply(Record(state.seq + 1, START, begun))
    work(one, START + 1)
    assert one.eta is not None
    assert one.eta.at == START + 4
    assert one.due(START + 1) == START + 4
    work(one, START + 4)
    assert one.eta.at is not None
    assert one.eta.at > START + 4


def test_a_fault_of_ours_ends_no_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = made(tmp_path)

    def broken(*_arguments: Any) -> None:
        raise InvalidTransition("job 'a' cannot go")

    monkeypatch.setattr(eta, "estimate_end", broken)
    assert not one.work(START + 1, None)
    assert one.eta is None


@pytest.mark.parametrize("text", ["", "[]", '{"jobs": 5}'])
def test_a_file_of_durations_that_is_none_counts_as_nothing(tmp_path: Path, text: str) -> None:
    one, _ = made(tmp_path)
    (tmp_path / "durations.json").write_text(text)
    work(one, START + 1)
    assert one.eta is not None
    assert one.eta.note == "no job of main has completed yet, and est_minutes is not given"
