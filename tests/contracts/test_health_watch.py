"""When running attempts are looked at, and whose GPUs count for which of them: a real log, cards as they were read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from queue_manager.core import events as ev
from queue_manager.core.boundary import Doing
from queue_manager.core.events import Record
from queue_manager.core.layout import RunPaths
from queue_manager.core.manifest import JobSpec
from queue_manager.core.readings import Card, Cards, Unreadable
from queue_manager.health_watch import EVERY, FIRST, LEAST, HealthWatch
from tests.core.states import FOREVER, spec, until, world
from tests.fakes import with_plans

CARDS = Cards(tuple(Card(n, f"GPU-{n}", "A100", 81920, 1000 * (n + 1), 40 + 20 * n) for n in range(2)))


class Desk:
    """A run with one job that runs, and what looks at it."""

    def __init__(self, root: Path, *jobs: JobSpec) -> None:
        self.host, self.manager = world(*jobs)
        self.host.plan_of = with_plans({}, FOREVER)
        for job in jobs:
            until(self.host, self.manager, job.id, "running")
            while self.manager.state.job(job.id).attempt.started is None:  # type: ignore[union-attr]
                self.manager.turn()
                self.host.advance(0.5)
        self.paths = RunPaths.of(root)
        self.paths.log_dir.mkdir(parents=True)
        self.reports: list[tuple[str, str | None]] = []
        self.again()

    def again(self) -> None:
        """What looks at the run is another one, as after a restart of the manager."""
        self.watch = HealthWatch(
            self.manager.state, self.paths, {}, lambda _: str(self.paths.root), lambda _: 0, self._say
        )

    def _say(self, kind: str, text: str | None) -> None:
        self.reports.append((kind, text))

    def started(self, job: str) -> float:
        attempt = self.manager.state.job(job).attempt
        assert attempt is not None
        assert attempt.started is not None
        return attempt.started

    def look(self, after: float, cards: Cards | Unreadable | None = CARDS, cpu: float = 1.0) -> dict[int, Any]:
        at = self.started("a") + after
        return dict(self.watch.look(at, {0: Doing(at, None, cpu)}, cards))


def test_an_attempt_is_looked_at_soon_after_its_start_and_then_at_a_pace(tmp_path: Path) -> None:
    desk = Desk(tmp_path, spec("a"))
    desk.paths.log("a").write_bytes(b"step 3/10 loss 0.5\r\n")
    assert desk.watch.due() == desk.started("a") + FIRST
    assert desk.look(FIRST - 0.1) == {}
    found = desk.look(FIRST)[0]
    assert (found.step, found.total, found.loss) == (3, 10, 0.5)
    assert desk.watch.due() == desk.started("a") + FIRST + LEAST
    assert desk.look(FIRST + 1.0) == {}
    with desk.paths.log("a").open("ab") as log:
        log.write(b"step 4/10 loss 0.25\r\n")
    assert desk.look(FIRST + LEAST)[0].step == 4
    assert desk.look(4 * EVERY)[0].step == 4
    assert desk.watch.due() == desk.started("a") + 5 * EVERY, "young attempts are looked at more often"
    assert desk.watch.readings()[0].step == 4
    assert 0 in desk.manager.state.touched, "its row is written anew"


def test_what_does_not_run_is_not_looked_at(tmp_path: Path) -> None:
    desk = Desk(tmp_path, spec("a"))
    desk.look(FIRST)
    desk.host.finish(desk.host.running()[0])
    until(desk.host, desk.manager, "a", "completed")
    assert desk.watch.due() is None


def test_the_gpus_of_a_job_are_its_own(tmp_path: Path) -> None:
    desk = Desk(tmp_path, spec("a", gpus=2))
    found = desk.look(FIRST)[0]
    assert (found.util, found.mem_mib) == (50.0, 3000)


def test_a_later_manager_goes_on_as_if_there_had_been_one(tmp_path: Path) -> None:
    rules = {"low_util": {"below": 90, "for": 600.0}, "early_stop": {"metric": "acc", "patience": 9}}
    metrics = {"acc": {"log": "acc=([0-9.]+)", "take": "last", "goal": "max"}}
    desk, apart = (
        Desk(root, spec("a", health=rules, metrics=metrics)) for root in (tmp_path / "one", tmp_path / "other")
    )
    step = 0
    for turn in range(40):
        for one in (desk, apart):
            with one.paths.log("a").open("ab") as log:
                for n in range(step, step + 3 if turn < 30 else step):
                    log.write(b"step %d/1000 loss %f acc=%f\r\n" % (n, 1 / (n + 1), 0.5 + (n % 40) / 100))
                if turn == 4:
                    log.write(b"Traceback (most recent call last):\r\n  File x\r\nValueError: odd\r\n")
                if turn == 5:
                    log.write(b"x" * 700_000 + b"\r\nstep ")  # what is before it is not read again
        step += 3 if turn < 30 else 0
        found = [one.look(FIRST + turn * EVERY, cpu=0.0)[0] for one in (desk, apart)]
        assert found[0] == found[1]
        if turn % 7 == 5:
            desk.again()
    assert set(found[0].found) == {"traceback"}
    assert (found[0].low, found[0].still, found[0].metrics) == (390.0, 100.0, {"acc": 0.59})
    assert found[0].warm_pace is not None


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", '{"version": 1, "jobs": []}', '{"version": 1, "jobs": {"a": {"n": 1}}}',
             '{"version": 2, "jobs": {}}',
             '{"version": 1, "jobs": {"a": {"n": 1, "log": {}, "files": {}, "tracker": 3}}}']
)  # fmt: skip
def test_without_what_an_earlier_manager_knew_its_flags_stay(tmp_path: Path, text: str | None) -> None:
    desk = Desk(tmp_path, spec("a"))
    desk.paths.log("a").write_bytes(b"step 3/10 loss 0.5\r\n")
    desk.look(FIRST)
    flagged = ev.HealthFlagged("a", 1, "traceback", "it printed a traceback", "ValueError: odd")
    desk.manager.state.apply(Record(desk.manager.state.seq + 1, desk.started("a") + 5, flagged))
    desk.paths.health.unlink()
    if text is not None:
        desk.paths.health.write_text(text)
    desk.again()
    found = desk.look(FIRST + EVERY)[0]
    assert (found.step, found.loss) == (3, 0.5)
    assert found.found == {"traceback": (desk.started("a") + 5, "ValueError: odd")}


def test_another_attempt_begins_anew(tmp_path: Path) -> None:
    desk = Desk(tmp_path, spec("a"))
    desk.paths.log("a").write_bytes(b"step 3/10 loss 0.5\r\n")
    desk.look(FIRST)
    made = json.loads(desk.paths.health.read_text())
    made["jobs"]["a"]["n"] = 0
    desk.paths.health.write_text(json.dumps(made))
    desk.again()
    assert desk.look(FIRST + EVERY)[0].still == 0.0


@pytest.mark.parametrize(
    ("line", "whole"), [(b"step 3/10 loss 1", True), (b"step 9/10 loss 1", False), (b"step 2/10 loss 1", False)]
)
def test_whether_progress_is_that_of_the_whole_job_is_learned_when_it_ends(
    tmp_path: Path, line: bytes, whole: bool
) -> None:
    desk = Desk(tmp_path, spec("a"))
    desk.paths.log("a").write_bytes(line + b"\r\n")
    desk.look(FIRST)
    desk.watch.look_at_end(0, desk.started("a") + 9.0)
    assert desk.watch.whole == ({"main"} if whole else set())


HOSTILE = "(?:a+)+:(.)"


@pytest.mark.parametrize(
    "fields", [{"health": {"progress": HOSTILE}}, {"health": {"loss": HOSTILE}}, {"metrics": {"x": {"log": HOSTILE}}}]
)
def test_a_regular_expression_that_takes_forever_is_not_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    monkeypatch.setattr("queue_manager.health_watch.REGEX_SECONDS", 0.05)
    desk = Desk(tmp_path, spec("a", **fields), spec("b", **fields))
    for job in ("a", "b"):
        desk.paths.log(job).write_bytes(b"step 3/10 loss 0.5\r\n" + b"a" * 400 + b"\r\n")
    assert set(desk.look(FIRST)) == {0, 1}
    ((kind, text),) = desk.reports
    assert kind == "slow_rule"
    assert "take too long for the log of job a" in str(text)
    assert HOSTILE in str(text)
    for job in ("a", "b"):
        with desk.paths.log(job).open("ab") as log:
            log.write(b"step 4/10 loss 0.25\r\n" + b"a" * 400 + b"\r\n")
    found = desk.look(FIRST + EVERY)
    assert [one.step for one in found.values()] == [4, 4], "the known forms are used in their place"
    assert len(desk.reports) == 1


@pytest.mark.parametrize("cards", [None, Unreadable("no driver"), Cards(CARDS.cards[1:])])
def test_gpus_that_were_not_read_are_unknown(tmp_path: Path, cards: Cards | Unreadable | None) -> None:
    found = Desk(tmp_path, spec("a", gpus=2)).look(FIRST, cards)[0]
    assert (found.util, found.mem_mib) == (None, None)


def test_of_a_gpu_that_jobs_share_nothing_is_known_of_one(tmp_path: Path) -> None:
    desk = Desk(tmp_path, spec("a", gpu_mem_mib=4000), spec("b", gpu_mem_mib=4000), spec("c", gpu_mem_mib=4000))
    shared = {attempt.cards for attempt in desk.manager.state.live.values()}
    assert len(shared) < 3
    found = desk.look(FIRST + 60.0)
    holders = desk.manager.state.cards.holders
    for order, attempt in desk.manager.state.live.items():
        is_shared = len(holders[attempt.cards[0]]) > 1
        assert (found[order].util is None, found[order].mem_mib is None) == (is_shared, is_shared)


def test_a_last_look_is_made_only_where_a_last_step_decides_something(tmp_path: Path) -> None:
    desk = Desk(tmp_path, spec("a", health={"min_steps": 10}), spec("b"))
    for job in ("a", "b"):
        desk.paths.log(job).write_bytes(b"step 9/10\r\n")
    assert desk.watch.look_at_end(0, desk.started("a") + 1.0)[0].step == 9
    assert desk.watch.look_at_end(1, desk.started("a") + 1.0) == {}


@pytest.mark.parametrize(
    ("text", "loss"), [(b"step 9/10 loss nan", "nan"), (b"step 9/10 loss=-inf", "-inf"), (b"INFO step 9 loss 3", None)]
)
def test_a_short_job_is_looked_at_in_the_end_where_its_log_may_say_nan(
    tmp_path: Path, text: bytes, loss: str | None
) -> None:
    desk = Desk(tmp_path, spec("a"))
    desk.paths.log("a").write_bytes(b"step 1/10 loss 3\r\n" + text + b"\r\n")
    found = desk.watch.look_at_end(0, desk.started("a") + 1.0)
    assert [str(one.loss) for one in found.values()] == ([] if loss is None else [loss])


def test_a_job_that_was_followed_is_looked_at_in_the_end(tmp_path: Path) -> None:
    desk = Desk(tmp_path, spec("a"))
    desk.paths.log("a").write_bytes(b"step 1/10 loss 3\r\n")
    desk.look(FIRST)
    with desk.paths.log("a").open("ab") as log:
        log.write(b"step 10/10 loss 2\r\n")
    assert desk.watch.look_at_end(0, desk.started("a") + FIRST + 1.0)[0].step == 10


def test_metrics_in_files_are_read_for_what_the_health_asks_of_them(tmp_path: Path) -> None:
    metrics = {"val": {"json": "val.json", "key": "val", "goal": "min"}}
    desk = Desk(tmp_path, spec("a", metrics=metrics, health={"early_stop": {"metric": "val", "patience": 2}}))
    for n, value in enumerate((0.5, 0.6, 0.7)):
        (tmp_path / "val.json").write_text('{"val": ' + str(value) + " " * n + "}")
        found = desk.look(FIRST + n * EVERY)[0]
    assert (found.metrics, found.since_best) == ({"val": 0.7}, 2)


def test_partial_results_beside_the_output_are_the_steps_of_a_job(tmp_path: Path) -> None:
    desk = Desk(tmp_path, spec("a", expected_output="out/r.json"))
    desk.paths.log("a").write_bytes(b"step 3/10 loss 0.5\r\n")
    partial = tmp_path / "out" / ".r.partial.json"
    partial.parent.mkdir()
    partial.write_text('{"completed": 10, "total": 25, "results": [', encoding="utf-8")
    found = desk.look(FIRST)[0]
    assert (found.step, found.total, found.loss) == (10, 25, 0.5)
    partial.write_text('{"comple', encoding="utf-8")  # as another tool would write it
    found = desk.look(FIRST + EVERY)[0]
    assert (found.step, found.total) == (10, 25)
    partial.write_text('{"completed": 20, "total": 25}', encoding="utf-8")
    assert desk.look(FIRST + 2 * EVERY)[0].step == 20


def test_partial_results_from_before_the_attempt_are_not_read(tmp_path: Path) -> None:
    desk = Desk(tmp_path, spec("a", expected_output="r.json"))
    (tmp_path / ".r.partial.json").write_text('{"completed": 10, "total": 25}', encoding="utf-8")
    later = HealthWatch(
        desk.manager.state,
        desk.paths,
        {},
        lambda _: str(tmp_path),
        lambda _: 1 << 62,
        lambda *one: desk.reports.append(one),
    )
    at = desk.started("a") + FIRST
    assert later.look(at, {0: Doing(at, None, 1.0)}, CARDS)[0].step is None
