"""What is concluded about an attempt by its files and by what Slurm says, which may be late, wrong or nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from queue_manager.adapters.evidence import Patterns
from queue_manager.adapters.run_dir import RunDir
from queue_manager.core import events as ev
from queue_manager.core.boundary import Evidence, Revoked
from queue_manager.core.layout import RunPaths
from queue_manager.core.manifest import JobSpec
from queue_manager.core.model import Attempt
from queue_manager.core.readings import Unreadable
from queue_manager.slurm import batches, commands
from queue_manager.slurm import watch as watching
from queue_manager.slurm.admission import Admission
from queue_manager.slurm.batches import Answer, Batch, Batches, Task
from queue_manager.slurm.cluster import Cluster, Listing
from queue_manager.slurm.commands import Configuration, Listed
from queue_manager.slurm.packing import Offer
from queue_manager.slurm.pools import Asked, Pools
from queue_manager.slurm.server_clock import ServerClock
from queue_manager.slurm.watch import SlurmWatch

SENT = Answer(0, "7\n", "")
UNCLEAR = Answer(1, "", "sbatch: error: Socket timed out on send/recv operation")
START = 1_000_000.0


class Desk:
    """One attempt of one job in a batch of its own, a clock, and a cluster that says what a test wants."""

    def __init__(self, root: Path) -> None:
        self.now, self.paused = START, False
        self.paths = RunPaths.of(root)
        self.run_dir = RunDir(self.paths)
        self.run_dir.prepare()
        self.cluster = Cluster({}, lambda: self.now)
        self.store = Batches(self.paths, "key", "run")
        self.admission = Admission(1000, {})
        self.watch = self.manager()
        self.spec = JobSpec("one", "true", "main", expected_output="out")
        self.attempt = Attempt(ev.AttemptStarting("one", 1, 1, "wq.one", watching.BOOT), self.now)
        self.files = self.run_dir.prepare_attempt("one", 1, "true", {})
        self.batch = self.store.make([[Task("one", 1, "tag")]], self.now)
        self.watch.follow(0, self.spec, self.attempt, str(root))
        self.watch.sent(self.batch)

    def manager(self) -> SlurmWatch:
        shown = (5.0, lambda: self.paused, self.admission)
        pools = Pools(self.paths, self.store, self.cluster, "key", *shown)
        return SlurmWatch(self.run_dir, self.store, self.cluster, Patterns, lambda: self.now, *shown, pools)

    def answer(self, answer: Answer) -> None:
        """sbatch has ended."""
        self.cluster._answers.append((self.batch, answer))
        self.watch.over()

    def lists(self, row: Listed | Unreadable | None) -> None:
        """Slurm is asked now, and says this of the task."""
        tasks = row if isinstance(row, Unreadable) else {} if row is None else {(self.batch.name, 0): row}
        self.cluster.listing = Listing(tasks, self.now)

    def sees(self, after: float = 0.0) -> Evidence:
        self.now += after
        return self.watch.observe([0], self.now)[0]

    def share(self) -> Batch:
        """The attempt has no task of its own: it is offered to one pilot."""
        self.watch._places.drop("one~1")
        self.cluster.submit = lambda *_: None  # type: ignore[method-assign]
        offer = Offer("one~1", "one", "tag", 3000, False, None, (0, 0))
        self.watch._pools.offer(Asked((), (), 1), [offer], self.now)
        return self.store.kept()[-1]

    def claim(self, node: str = "n1", gpus: str = " -", pilot: str = "") -> None:
        me = self.files.root / f"wrapper.{node}.8.99"
        me.write_text(f"slurm {node} 8 0 99{gpus}{pilot and f' {pilot}'}\n")
        os.link(me, self.files.claim)

    def beat(self, ago: float) -> None:
        """The task showed that it lives so many seconds ago."""
        path = self.files.root / "beat"
        path.touch()
        at = path.stat().st_mtime - ago
        os.utime(path, (at, at))

    def end(self, code: int) -> None:
        self.files.exit.write_text(f"{code}\n")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "run")


def listed(state: str, reason: str = "None", node: str = "n1") -> Listed:
    return Listed(7, state, reason, node)


def test_what_waits_may_wait_for_days(desk: Desk) -> None:
    assert desk.sees().queued == "is being submitted to Slurm"
    desk.answer(SENT)
    assert desk.sees(1.0).queued == "was submitted to Slurm"
    desk.lists(listed("PENDING", "Resources", ""))
    for _ in range(3):
        assert desk.sees(86_400.0).queued == "waits in Slurm's queue (pending: Resources)"
    assert desk.watch.queued() == {0: "waits in Slurm's queue (pending: Resources)"}


@pytest.mark.parametrize(
    ("gpus", "indices"),
    [
        (" 0,2", (0, 2)), (" 4-6,1", (4, 5, 6, 1)), (" -", ()), ("", ()), (" GPU-8d3f,GPU-1a2b", ()), (" MIG-1/2", ()),
        (" NoDevFiles", ()),
    ],
)  # fmt: skip
def test_a_claim_tells_where_a_task_runs(desk: Desk, gpus: str, indices: tuple[int, ...]) -> None:
    """By the clock of the file server, which is not the manager's; a claim of an earlier version names no GPUs."""
    desk.claim(gpus=gpus)
    at = desk.files.claim.stat().st_mtime
    os.utime(desk.files.claim, (at - 40.0, at - 40.0))
    place = desk.sees().place
    assert place is not None
    assert (place.node, place.indices) == ("n1", indices)
    assert place.since == pytest.approx(desk.now - 40.0, abs=2.0)
    os.utime(desk.files.claim, (at + 9e6, at + 9e6))
    desk.end(0)
    os.utime(desk.files.exit, (at - 30.0, at - 30.0))
    over = desk.sees(5.0).over
    assert over == pytest.approx(desk.now - 35.0, abs=2.0), "not when it was seen"


def test_a_file_from_the_future_is_of_now(desk: Desk) -> None:
    clock = ServerClock(lambda: 5_000_000_000_000)
    assert clock.here(4_990_000_000_000, desk.now) == pytest.approx(desk.now - 10.0)
    assert clock.here(9_000_000_000_000, desk.now) == desk.now


def test_a_listing_after_the_answer_counts_though_it_shows_the_same(desk: Desk) -> None:
    """Slurm has it before sbatch has answered."""
    for _ in range(2):
        desk.now += 1.0
        desk.lists(listed("PENDING", "Priority", ""))
        desk.watch.over()
    assert desk.sees().queued == "is being submitted to Slurm"
    desk.now += 1.0
    desk.answer(SENT)
    desk.now += 1.0
    desk.lists(listed("PENDING", "Priority", ""))
    assert desk.watch.over() == {0}
    assert desk.sees().queued == "waits in Slurm's queue (pending: Priority)"
    desk.now += 1.0
    desk.lists(listed("PENDING", "Priority", ""))
    assert desk.watch.over() == set(), "it says nothing new"


def test_the_expected_start_is_told(desk: Desk) -> None:
    desk.answer(SENT)
    desk.now += 1.0
    desk.lists(Listed(7, "PENDING", "Resources", "", "2026-11-29T17:40:00"))
    wanted = "waits in Slurm's queue (pending: Resources); Slurm expects to start it at 2026-11-29T17:40:00"
    assert desk.sees().queued == wanted


def test_an_unclear_answer_is_settled_by_the_listing(desk: Desk) -> None:
    desk.answer(UNCLEAR)
    desk.lists(None)
    assert desk.sees(watching.LOST_AFTER - 1.0).launch_error is None
    desk.lists(listed("PENDING"))
    assert desk.sees(watching.LOST_AFTER).queued is not None, "it was found after all"


def test_what_is_never_listed_was_not_submitted(desk: Desk) -> None:
    desk.answer(UNCLEAR)
    desk.now += 1.0
    desk.lists(None)
    found = desk.sees(watching.LOST_AFTER)
    assert (found.launch_error, found.queued) == ("Slurm does not list it", None)


def test_a_listing_from_before_the_submission_says_nothing(desk: Desk) -> None:
    desk.lists(None)
    desk.now += 1.0
    desk.answer(UNCLEAR)
    assert desk.sees(10 * watching.LOST_AFTER).launch_error is None


def test_the_first_listing_after_the_submission_counts_though_it_says_what_the_one_before_did(desk: Desk) -> None:
    desk.lists(listed("PENDING", "Resources", ""))
    desk.now += 1.0
    desk.answer(SENT)
    assert desk.sees().queued == "was submitted to Slurm"
    desk.now += 1.0
    desk.lists(listed("PENDING", "Resources", ""))
    assert desk.watch.over() == {0}
    assert desk.sees().queued == "waits in Slurm's queue (pending: Resources)"


def test_a_clear_refusal_is_told_at_once(desk: Desk) -> None:
    desk.answer(Answer(1, "", "sbatch: error: AssocMaxSubmitJobLimit"))
    assert desk.sees().launch_error == "sbatch: AssocMaxSubmitJobLimit"
    desk.run_dir.revoke("one", 1, {})
    found = desk.sees()
    assert (found.claim, found.launch_error) == (Revoked(), "sbatch: AssocMaxSubmitJobLimit")


def test_a_task_that_slurm_could_not_start_is_named(desk: Desk) -> None:
    desk.answer(SENT)
    desk.lists(listed("FAILED", "JobLaunchFailure", "n2"))
    assert desk.sees().launch_error is None, "its claim may not be visible here yet"
    error = desk.sees(watching.SETTLES + 1.0).launch_error
    assert error is not None
    assert error.startswith("Slurm: FAILED (JobLaunchFailure) on n2")


def test_the_manager_takes_what_nobody_has_taken(desk: Desk) -> None:
    desk.claim()
    desk.run_dir.revoke("one", 1, {})
    assert not isinstance(desk.sees().claim, Revoked), "the task was first"


@pytest.mark.parametrize("row", [None, listed("FAILED"), listed("RUNNING"), Unreadable("squeue: away")])
def test_an_exit_record_outranks_slurm(desk: Desk, row: Listed | Unreadable | None) -> None:
    desk.claim()
    desk.end(0)
    (desk.paths.root / "out").touch()
    desk.lists(row)
    found = desk.sees()
    assert found.exit is not None
    assert found.exit.code == 0
    assert found.ended is not None
    assert found.ended.output is not None
    assert found.ended.output.fresh
    assert not found.inherited


def test_nothing_is_concluded_while_slurm_does_not_answer(desk: Desk) -> None:
    desk.claim()
    desk.now += 1.0
    desk.lists(Unreadable("squeue: Unable to contact slurm controller"))
    assert isinstance(desk.sees(86_400.0).alive, Unreadable)


def test_what_was_listed_counts_as_lost_only_once_it_has_been_missing_for_long(desk: Desk) -> None:
    """A controller that was started again may show a part of its queue first."""
    desk.answer(SENT)
    desk.lists(listed("PENDING"))
    desk.sees(86_400.0)
    desk.lists(None)
    assert desk.sees(watching.LOST_AFTER - 1.0).launch_error is None
    desk.lists(listed("PENDING"))
    assert desk.sees(10.0).queued == "waits in Slurm's queue (pending)"
    desk.lists(None)
    assert desk.sees(watching.LOST_AFTER).launch_error == "Slurm does not list it"


def test_a_task_that_slurm_takes_for_running_and_that_never_began_is_given_up(desk: Desk) -> None:
    desk.answer(SENT)
    desk.lists(listed("PENDING"))
    assert desk.sees(86_400.0).queued == "waits in Slurm's queue (pending)"
    desk.lists(listed("RUNNING"))
    assert desk.sees().queued == "waits in Slurm's queue (running)"
    assert desk.sees(watching.BEGINS_WITHIN - 1.0).launch_error is None
    assert desk.sees(1.0).launch_error == "Slurm takes it for running on n1, where it has not begun"


def test_what_somebody_takes_out_of_the_queue_is_not_submitted_again(desk: Desk) -> None:
    desk.answer(SENT)
    desk.now += 1.0
    rest = {(desk.batch.name, commands.REST): listed("CANCELLED", node="")}
    desk.cluster.listing = Listing(rest, desk.now)
    assert desk.sees().launch_error == "cancelled in Slurm's queue, by a person or by the cluster"
    desk.run_dir.revoke("one", 1, {})
    assert desk.sees().cancelled
    desk.watch.follow(0, desk.spec, desk.attempt, str(desk.paths.root))
    desk.files.claim.unlink()
    desk.lists(listed("PENDING"))
    desk.sees()
    desk.cluster.listing = Listing({(desk.batch.name, 1): listed("PENDING")}, desk.now)
    assert desk.sees(1.0).launch_error == "cancelled in Slurm's queue, by a person or by the cluster"
    desk.watch.follow(0, desk.spec, desk.attempt, str(desk.paths.root))
    desk.lists(listed("CANCELLED", node="n1"))
    desk.sees()
    assert desk.sees(watching.SETTLES).launch_error is not None
    desk.run_dir.revoke("one", 1, {})
    assert not desk.sees().cancelled, "its node did not start it"


NOT_THIS_START = [None, listed("NODE_FAIL"), listed("PREEMPTED"), listed("PENDING", "BeginTime"), listed("COMPLETED")]
"""What Slurm says of a task that it has lost, forgotten, or started again, which then finds its attempt taken."""


@pytest.mark.parametrize("row", NOT_THIS_START)
def test_a_task_that_slurm_has_lost_goes_on_as_long_as_it_beats(desk: Desk, row: Listed | None) -> None:
    desk.answer(SENT)
    desk.claim()
    desk.now = desk.files.claim.stat().st_mtime + 1.0
    desk.lists(row)
    desk.beat(ago=5.0)
    assert desk.sees().alive is True
    assert desk.sees(1000.0).alive is True, "it shows that it lives, whatever Slurm says"
    desk.beat(ago=1000.0)
    found = desk.sees()
    assert (found.alive, found.inherited) == (False, True), "lost to the machine: it costs no attempt"
    assert found.ended is not None


@pytest.mark.parametrize(("state", "oom"), [("OUT_OF_MEMORY", True), ("CANCELLED", False), ("TIMEOUT", False)])
def test_an_end_by_slurm_counts_once_an_exit_record_would_be_visible(desk: Desk, state: str, oom: bool) -> None:
    desk.answer(SENT)
    desk.claim()
    desk.now = desk.files.claim.stat().st_mtime + 1.0
    desk.beat(ago=1.0)
    desk.lists(listed(state))
    assert desk.sees().alive is True
    found = desk.sees(watching.SETTLES + 1.0)
    assert (found.alive, found.inherited) == (False, False)
    assert found.ended is not None
    assert found.ended.oom_kill is oom


@pytest.mark.parametrize(
    ("row", "charged"),
    [*((row, row is not None and row.state == "COMPLETED") for row in NOT_THIS_START), (listed("FAILED"), True)],
)
def test_a_job_that_the_cluster_ended_costs_no_attempt(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, row: Listed | None, charged: bool
) -> None:
    """Its wrapper was told to end, and has left an exit record. One that Slurm does not list was ended as unknown."""
    asked: list[float] = []
    monkeypatch.setattr(desk.cluster, "look", lambda: asked.append(desk.now))
    desk.claim()
    desk.end(143)
    desk.now = desk.files.exit.stat().st_mtime + 1.0
    assert desk.sees().alive is True, "nobody knows yet who ended it"
    assert desk.watch.close_up() == [0]
    desk.lists(listed("COMPLETING"))
    assert desk.sees(2.0).alive is True
    assert len(asked) == 2
    desk.lists(row)
    found = desk.sees()
    assert (found.alive, found.inherited, found.exit is not None) == (False, not charged, charged)
    assert found.ended is not None


@pytest.mark.parametrize("code", [0, 1])
def test_a_job_that_saves_its_work_when_it_is_told_to_end_was_ended_all_the_same(desk: Desk, code: int) -> None:
    desk.claim()
    desk.end(code)
    desk.now = desk.files.exit.stat().st_mtime + 1.0
    desk.lists(listed("PREEMPTED"))
    assert desk.sees().exit is not None, "nobody told it to end"
    (desk.files.root / "told").touch()
    found = desk.sees()
    assert (found.alive, found.inherited, found.exit) == (False, True, None)
    (desk.paths.root / "out").touch()
    assert (desk.sees().exit is None) == (code != 0), "it had finished before"


def test_a_job_that_we_ended_waits_for_nobody(desk: Desk) -> None:
    desk.claim()
    desk.attempt.stopping = desk.now
    desk.end(143)
    found = desk.sees()
    assert found.exit is not None
    assert found.ended is not None


def noted(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, list[tuple[str, int]]]]:
    """What the cluster is told, in place of telling it."""
    signalled: list[tuple[Any, list[tuple[str, int]]]] = []
    monkeypatch.setattr(
        desk.cluster, "tell", lambda make, tasks: signalled.append((make, list(tasks))) if tasks else None
    )
    monkeypatch.setattr(desk.cluster, "look", lambda: None)
    return signalled


def test_what_waits_for_an_attempt_that_is_over_leaves_the_queue(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was taken back while sbatch submitted it, or while Slurm did not answer."""
    signalled = noted(desk, monkeypatch)
    desk.answer(SENT)
    desk.lists(listed("PENDING"))
    desk.watch.over()
    assert signalled == []
    desk.watch.drop(0)
    for state in ("RUNNING", "COMPLETED", "PENDING"):
        desk.now += 1.0
        desk.lists(listed(state))
        desk.watch.over()
    assert signalled == [(commands.end, [(desk.batch.name, 0)])]
    desk.cluster.listing = Listing({("theirs", 0): listed("PENDING"), (desk.batch.name, 7): listed("PENDING")}, START)
    desk.watch.over()
    assert len(signalled) == 1


def test_a_task_is_held_and_released_until_the_listing_shows_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    signalled = noted(desk, monkeypatch)
    task = (desk.batch.name, 0)

    def says(reason: str) -> list[Any]:
        signalled.clear()
        desk.now += 1.0
        desk.lists(listed("PENDING", reason))
        desk.watch.over()
        return [make for make, tasks in signalled if tasks == [task]]

    assert says("Resources") == []
    desk.paused = True
    assert says("Resources") == [commands.hold]
    assert says("Resources") == [commands.hold], "it was not heard"
    assert says("JobHeldUser") == []
    desk.watch = desk.manager()
    desk.watch.follow(0, desk.spec, desk.attempt, str(desk.paths.root), inherited=True)
    desk.paused = False
    assert says("JobHeldUser") == [commands.release], "an earlier manager may have been killed before it did"
    assert says("JobHeldUser") == [commands.release]
    assert says("Resources") == []
    assert says("JobHeldUser") == [], "somebody else holds it"


def test_what_is_asked_at_each_turn_is_told_once_a_poll(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    signalled = noted(desk, monkeypatch)
    for kill in (False, True, True, True):
        desk.watch.stop(0, kill)
    desk.now += 5.0
    desk.watch.stop(0, True)
    assert [make for make, _ in signalled] == [commands.ask_to_end, commands.end, commands.end]


def test_a_later_manager_knows_the_batches_of_an_earlier_one(desk: Desk) -> None:
    (desk.batch.directory / "lock").touch()
    (desk.batch.directory / "sbatch.out").write_text("7\n")
    desk.watch = desk.manager()
    desk.watch.follow(0, desk.spec, desk.attempt, str(desk.paths.root), inherited=True)
    assert desk.watch.over() == {0}
    assert desk.sees().queued == "was submitted to Slurm"
    desk.now += 1.0
    desk.lists(listed("PENDING"))
    assert desk.sees().queued == "waits in Slurm's queue (pending)"


def test_a_later_manager_knows_what_was_never_handed_over(desk: Desk) -> None:
    desk.watch = desk.manager()
    desk.watch.follow(0, desk.spec, desk.attempt, str(desk.paths.root), inherited=True)
    desk.watch.over()
    found = desk.sees()
    assert found.launch_error is not None
    assert found.inherited
    assert batches.answer(desk.batch) == Answer(
        batches.NOT_CALLED, "", "error: it was not called, since the manager ended"
    )


def test_where_slurm_is_not_installed_that_is_said_and_nothing_is_waited_for(desk: Desk) -> None:
    found = batches.call(desk.batch, [], {"PATH": "/nowhere"})
    assert found == Answer(batches.NOT_CALLED, "", "error: sbatch: No such file or directory")
    desk.answer(found)
    assert desk.sees().launch_error == "sbatch: sbatch: No such file or directory"
    assert desk.admission.due(desk.now) is None, "no controller was asked, so none is busy"
    cluster = Cluster({"PATH": "/nowhere"}, lambda: START)
    cluster._configure()
    assert cluster.configuration == Configuration()


def test_a_mark_wakes_once(desk: Desk) -> None:
    (desk.store.claimed / "one~1").touch()
    assert desk.watch.over() == {0}
    assert desk.watch.over() == set()
    (desk.store.ended / "one~1").touch()
    assert desk.watch.over() == {0}
    desk.watch.drop(0)
    assert list(desk.store.ended.iterdir()) == []


class Recorded(Cluster):
    """Commands are noted in place of being run."""

    def __init__(self, text: str) -> None:
        super().__init__({}, lambda: START)
        self.text, self.argvs = text, list[Sequence[str]]()

    def _run(self, argv: Sequence[str]) -> subprocess.CompletedProcess[str] | str:
        if argv[0] != "squeue":
            self.argvs.append(argv)
        return subprocess.CompletedProcess(argv, 0, self.text, "")


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (commands.end, [["scancel", "--quiet", "12_1", "12_2"]]),
        (commands.ask_to_end, [["scancel", "--quiet", "--batch", "--signal=TERM", "12_1"]]),
        (commands.ask_to_read, [["scancel", "--quiet", "--batch", "--signal=USR2", "12_1"]]),
    ],
)
def test_only_what_has_our_name_is_ended(make: Any, wanted: list[list[str]]) -> None:
    """IDs are used again: 12_0 is over, and 14_3 is somebody else's by now. TERM is for what runs: with that option
    scancel takes all of an array that wait."""
    lines = [
        "12|0|COMPLETED|None|n1|N/A|ours",
        "12|1|RUNNING|None|n1|N/A|ours",
        "12|2|PENDING|Resources||N/A|ours",
        "14|3|RUNNING|None|n1|N/A|theirs",
    ]
    cluster = Recorded("\n".join(lines))
    cluster._tell(make, [("ours", index) for index in range(4)])
    assert cluster.argvs == wanted
    cluster.close()


def test_nothing_is_ended_while_slurm_does_not_answer() -> None:
    cluster = Recorded("")
    unknown: Mapping[str, Any] = {"tasks": Unreadable("squeue: away"), "asked": START}
    cluster._ask = lambda: Listing(**unknown)  # type: ignore[method-assign]
    cluster._tell(commands.end, [("ours", 0)])
    assert cluster.argvs == []
    cluster.close()


def test_batches_are_numbered_on(desk: Desk) -> None:
    again = Batches(desk.paths, "key", "run")
    made = again.make([[Task("two", 1, "tag")]], desk.now)
    assert made.directory.name == "2"
    assert [(one.name, one.tasks) for one in again.kept()] == [
        (desk.batch.name, (("one~1",),)),
        (made.name, (("two~1",),)),
    ]
    assert isinstance(desk.batch, Batch)


@pytest.mark.parametrize("code", [0, 1, 143])
@pytest.mark.parametrize(
    ("has_limit", "stopped", "lost"), [(False, False, True), (True, False, False), (False, True, False)]
)
def test_what_its_pilot_took_along_costs_no_attempt(
    desk: Desk, code: int, has_limit: bool, stopped: bool, lost: bool
) -> None:
    """But for one that met the limit of a time that it had from the beginning, or that we have ended ourselves."""
    batch = desk.share()
    desk.claim(pilot=batch.name)
    (desk.files.root / "told").touch()
    if has_limit:
        (desk.files.root / "limit").touch()
    desk.attempt.stopping = desk.now if stopped else None
    desk.end(code)
    found = desk.sees()
    assert found.ended is not None, "Slurm is not asked"
    assert (found.inherited, found.exit is None) == (lost, lost)


def test_the_end_of_a_job_beside_others_is_its_own(desk: Desk) -> None:
    """Whatever killed it: while the pilot lives, nobody took its allocation."""
    batch = desk.share()
    desk.claim(pilot=batch.name)
    desk.end(137)
    found = desk.sees()
    assert found.exit is not None
    assert not found.inherited


def test_a_job_may_outlive_its_pilot_and_is_lost_once_it_beats_no_more(desk: Desk) -> None:
    batch = desk.share()
    desk.claim(pilot=batch.name)
    desk.now = desk.files.claim.stat().st_mtime + 1.0
    desk.cluster.listing = Listing({(batch.name, 0): listed("FAILED")}, desk.now)
    desk.beat(ago=5.0)
    assert desk.sees().alive is True
    assert desk.sees(1000.0).alive is True
    desk.beat(ago=1000.0)
    found = desk.sees()
    assert (found.alive, found.inherited) == (False, True)


def test_batches_of_earlier_versions_are_known(desk: Desk) -> None:
    """Each line was a task."""
    (desk.batch.directory / "tasks").write_text("one~1\tone\ttag\ntwo~3\ttwo\ttag\n")
    assert [one.tasks for one in desk.store.kept()] == [(("one~1",), ("two~3",))]


def test_an_allocation_that_slurm_ends_for_its_memory_counts_as_an_attempt(desk: Desk) -> None:
    batch = desk.share()
    desk.claim(pilot=batch.name)
    desk.beat(ago=1000.0)
    desk.now = desk.files.claim.stat().st_mtime + 1.0
    desk.cluster.listing = Listing({(batch.name, 0): listed("OUT_OF_MEMORY")}, desk.now)
    desk.sees()
    found = desk.sees(1000.0)
    assert (found.alive, found.inherited) == (False, False)
    assert found.ended is not None
    assert found.ended.oom_kill


def test_memory_of_which_slurm_tells_at_the_end_of_a_pilot_is_not_that_of_all_its_jobs(desk: Desk) -> None:
    batch = desk.share()
    desk.claim(pilot=batch.name)
    (batch.directory / "0.out").write_text("slurmstepd: error: Detected 1 oom_kill event in StepId=8.batch.\n")
    desk.end(137)
    ended = desk.sees().ended
    assert ended is not None
    assert not ended.oom_kill
