"""The contract of the Slurm engine, over a fake of Slurm's commands that breaks as a table says and, where nothing
breaks, over a real cluster: no attempt runs twice, no job is lost, and nothing is submitted again on an unclear
answer."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from queue_manager.core.manifest import JobSpec
from queue_manager.core.requests import Request
from tests import forked, slurm_cluster
from tests.e2e.runs import Run, World, wait_for
from tests.e2e.slurm_runs import UNTIL_GO, job, on_slurm, ran
from tests.fake_slurm import FakeSlurm
from tests.slurm_cluster import SlurmCluster

ARRAY = 4
"""Tasks of one array at most."""
POLL = 0.05
REAL = [] if slurm_cluster.missing() else ["cluster"]


class Slurm:
    """A cluster, and the worlds of its runs."""

    def __init__(self, world: World, fake: FakeSlurm | None) -> None:
        self.world, self._fake = world, fake

    @property
    def fake(self) -> FakeSlurm:
        assert self._fake is not None
        return self._fake

    def run(self, *jobs: JobSpec, **fields: Any) -> Run:
        """A run of these jobs; no manager yet."""
        found = on_slurm(self.world, *jobs, **fields)
        found.poll = POLL
        return found

    def start(self, run: Run) -> None:
        """Start a manager that is impatient."""
        run.manager = forked.start("tests.impatient", run.argv()[3:], run.directory, self.world.environment)

    def finish(self, run: Run, code: int = 0) -> None:
        """Start a manager where none runs, and wait until all is done."""
        if run.manager is None or run.manager.poll() is not None:
            self.start(run)
        assert run.finish() == code, run.story()


@pytest.fixture
def small_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    made = SlurmCluster(tmp_path_factory.mktemp("slurm") / "cluster", max_array=ARRAY)
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Slurm]:
    """A run on the fake."""
    fake = FakeSlurm(tmp_path / "slurm").install(max_array=ARRAY)
    world = World(tmp_path, fake.environment)
    yield Slurm(world, fake)
    world.close_processes()
    fake.close()
    world.close()


@pytest.fixture
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Slurm]:
    """A run on the fake or on a real cluster, whose fixture the parameter names."""
    if request.param == "fake":
        yield request.getfixturevalue("slurm")
        return
    cluster: SlurmCluster = request.getfixturevalue(request.param)
    world = World(tmp_path, cluster.environment)
    yield Slurm(world, None)
    world.close()
    cluster.clear()


on_both = pytest.mark.parametrize("both", ["fake", *REAL], indirect=True)


def once(run: Run, *names: str) -> None:
    """Each of these jobs ran, no attempt twice; and one attempt each is counted."""
    found = ran(run)
    assert set(found.values()) == {1}, found
    assert {line.split()[0] for line in found} == set(names or run.jobs())
    assert {row["attempts"] for name, row in run.jobs().items() if name in {line.split()[0] for line in found}} == {1}


def arrays(run: Run) -> list[int]:
    """How many tasks each batch had."""
    folders = (run.directory / "slurm/batches").iterdir()
    return [
        len((folder / "tasks").read_text().splitlines()) for folder in sorted(folders, key=lambda one: int(one.name))
    ]


def alerts(run: Run) -> list[tuple[str, str]]:
    return [(row["kind"], row["text"]) for row in map(json.loads, run.paths.alerts.read_text().splitlines())]


def waiting(run: Run) -> str:
    """Why jobs wait, all reasons in one text."""
    return " / ".join({row["waiting"] or "" for row in run.jobs().values()})


def conditions(run: Run) -> str:
    return " / ".join(row["text"] for row in run.state().get("meta", {}).get("conditions", ()))


# -- where nothing breaks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("both", ["fake", *(f"small_{name}" for name in REAL)], indirect=True)
def test_all_run_once_in_arrays_as_large_as_the_cluster_takes(both: Slurm) -> None:
    run = both.run(*(job(f"j{n}", "true") for n in range(2 * ARRAY + 1)), job("fails", "exit 3"))
    both.finish(run, 3)
    assert Counter(run.statuses().values()) == {"completed": 2 * ARRAY + 1, "stuck": 1}
    assert run.jobs()["fails"]["exit_code"] == 3
    once(run)
    assert arrays(run) == [ARRAY, ARRAY, 2]


@on_both
def test_a_manager_that_is_killed_loses_nothing(both: Slurm) -> None:
    run = both.run(*(job(f"j{n}", UNTIL_GO) for n in range(3)))
    both.start(run)
    answer = run.directory / "slurm/batches/1/sbatch.out"
    wait_for(lambda: answer.exists() and answer.stat().st_size, say="sbatch to have submitted")
    run.kill()
    both.start(run)
    run.wait_running("j1")
    run.kill()
    (both.world.root / "work/go").touch()
    both.finish(run)
    once(run)
    assert arrays(run) == [3], "what was submitted is not submitted again"


# -- answers that are no answers --------------------------------------------------------------------------------------


def apart(n: int) -> JobSpec:
    """A job that asks for something of its own, so that it goes as an array of its own."""
    return job(f"j{n}", "true", retries=0, slurm={"mem": f"{n + 1}M"})


def test_what_was_submitted_is_not_submitted_again_whatever_sbatch_says(slurm: Slurm) -> None:
    faults = ("hides", "cluster", "warns", "slow")
    for fault in faults:
        slurm.fake.breaks("sbatch", fault, 1)
    slurm.fake.set(cpus=0)
    run = slurm.run(*(apart(n) for n in range(len(faults))))
    slurm.start(run)
    # None has begun by then, so that nothing but the listing tells that it was submitted.
    queued = "waits in Slurm's queue"
    wait_for(lambda: [queued in (row["waiting"] or "") for row in run.jobs().values()] == [True] * len(faults))
    slurm.fake.set(cpus=8)
    slurm.finish(run)
    once(run)
    assert len(slurm.fake.calls("sbatch")) == len(faults)


def test_what_was_not_submitted_is_submitted_later_at_no_cost(slurm: Slurm) -> None:
    """sbatch says an ID and has submitted nothing, or something that leaves it open."""
    faults = ("claims", "busy", "away", "dies")
    for fault in faults:
        slurm.fake.breaks("sbatch", fault, 1)
    run = slurm.run(*(apart(n) for n in range(len(faults))))
    slurm.finish(run)
    once(run)
    assert {row["attempt"] for row in run.jobs().values()} == {2}
    assert len(slurm.fake.calls("sbatch")) == 2 * len(faults)
    assert run.paths.alerts.read_text() == "", "it passes by itself"


def test_an_id_that_is_given_again_is_not_taken_for_the_job_that_had_it(slurm: Slurm) -> None:
    run = slurm.run(job("one", UNTIL_GO), job("two", UNTIL_GO, depends_on=("zero",)), job("zero", "true"))
    slurm.start(run)
    run.wait_running("one")
    slurm.fake.breaks("sbatch", "reuses")
    run.wait_running("two")
    assert run.ask(Request("cancel-1", "cancel", ("two",))).ok
    run.wait_status("two", "cancelled")
    assert run.jobs()["one"]["status"] == "running"
    (slurm.world.root / "work/go").touch()
    assert run.finish() == 3
    once(run)


def test_a_listing_that_shows_nothing_ends_nothing(slurm: Slurm) -> None:
    run = slurm.run(job("one", UNTIL_GO))
    slurm.start(run)
    run.wait_running("one")
    faults = ("empty", "busy", "away", "deaf", "empty")
    for fault in faults:
        slurm.fake.breaks("squeue", fault, 1)
    all_of_them = len(slurm.fake.calls("squeue")) + len(faults) + 1
    wait_for(lambda: len(slurm.fake.calls("squeue")) >= all_of_them, say="so many looks")
    assert run.jobs()["one"]["status"] == "running"
    (slurm.world.root / "work/go").touch()
    slurm.finish(run)
    once(run)


# -- a controller that is away or full --------------------------------------------------------------------------------


def test_a_controller_that_is_away_is_waited_for_and_said(slurm: Slurm) -> None:
    slurm.fake.breaks("*", "away")
    run = slurm.run(job("one", "true"))
    slurm.start(run)
    wait_for(lambda: "connect failure" in conditions(run), say="the state to say it")
    assert "controller" in run.jobs()["one"]["waiting"]
    assert slurm.fake.calls("sbatch") == [], "nothing is handed to a controller that is away"
    slurm.fake.mends()
    slurm.finish(run)
    once(run)
    assert [kind for kind, _ in alerts(run)] == ["slurm", "slurm_over"]
    assert "connect failure" in alerts(run)[0][1]


def test_a_full_cluster_is_waited_for_and_said(slurm: Slurm) -> None:
    """sbatch waits, and is left to wait."""
    slurm.fake.set(max_jobs=1)
    run = slurm.run(job("one", "true"), job("two", "true"))
    slurm.start(run)
    wait_for(lambda: "MaxJobCount" in waiting(run), say="the state to say it")
    run.manager.send_signal(15)  # type: ignore[union-attr]
    assert run.finish(20) == 1, "a manager that is told to end does not wait for sbatch"
    slurm.start(run)
    slurm.fake.set(max_jobs=None)
    slurm.finish(run)
    once(run)
    assert len(slurm.fake.calls("sbatch")) == 1


def test_a_limit_on_submitted_jobs_halves_what_is_handed_over(slurm: Slurm) -> None:
    slurm.fake.set(max_submit=2)
    names = [f"j{n}" for n in range(5)]
    run = slurm.run(*(job(name, UNTIL_GO) for name in names))
    slurm.fake.set(max_array=1001)
    slurm.start(run)
    wait_for(lambda: sum(bool(row["pid"]) for row in run.jobs().values()) == 2, say="two to run")
    assert "AssocMaxSubmitJobLimit" in waiting(run)
    assert "AssocMaxSubmitJobLimit" in conditions(run)
    (slurm.world.root / "work/go").touch()
    slurm.finish(run)
    once(run, *names)
    assert arrays(run)[:2] == [5, 2]
    assert run.paths.alerts.read_text() == ""
    assert conditions(run) == ""


def test_a_job_that_slurm_can_never_run_is_named_and_stops_no_other(slurm: Slurm) -> None:
    """Such as one that asks for more than there is, since it ran out of memory before."""
    slurm.fake.breaks("sbatch", "never", 1)
    run = slurm.run(job("big", "true", retries=9, slurm={"mem": "9G"}), job("one", "true"))
    slurm.finish(run, 3)
    row = run.jobs()["big"]
    assert (row["status"], row["attempts"], row["failure"]) == ("stuck", 0, "refused")
    assert (
        row["error"]
        == "not started: sbatch: Batch job submission failed: Requested node configuration is not available"
    )
    assert run.statuses()["one"] == "completed"
    assert [kind for kind, _ in alerts(run)] == ["stuck"]


# -- nodes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("both", REAL, indirect=True)
def test_a_node_that_does_not_see_the_run_is_excluded(both: Slurm, cluster: SlurmCluster) -> None:
    """Slurm starts nothing there, and says so in the queue alone: JobLaunchFailure, and no log anywhere."""
    run = both.run(*(job(f"j{n}", UNTIL_GO, retries=0, slurm={"cpus": 8}) for n in range(2)))
    cluster.kill("slurmd-n2")
    cluster.start_node("n2", without=run.directory)
    try:
        both.start(run)
        wait_for(lambda: "node n2 gets no more jobs" in conditions(run), say="the node to be named")
        wait_for(lambda: "waits in Slurm's queue" in waiting(run), say="the other job to wait for the other node")
        assert cluster.call("squeue", "-h", "-t", "pending", "-o", "%x") == "n2\n"
    finally:
        (both.world.root / "work/go").touch()
        cluster.kill("slurmd-n2")
        cluster.start_node("n2")
    both.finish(run)
    once(run)
    assert "JobLaunchFailure" in dict(alerts(run))["node"]


def test_a_node_on_which_nothing_starts_is_excluded_also_by_the_next_manager(slurm: Slurm) -> None:
    slurm.fake.set(bad=["n2"])
    run = slurm.run(
        *(job(f"j{n}", "true", retries=0) for n in range(2)), job("last", UNTIL_GO, depends_on=("j0", "j1"))
    )
    slurm.start(run)
    run.wait_running("last")
    assert "node n2 gets no more jobs" in conditions(run)
    run.kill()
    (slurm.world.root / "work/go").touch()
    slurm.finish(run)
    once(run)
    calls = slurm.fake.calls("sbatch")
    assert ["--exclude=n2" in words for words in calls] == [False, True, True]
    assert [kind for kind, _ in alerts(run)] == ["node"]
    assert run.paths.journal.read_text().count('"ConditionBegan"') == 1
