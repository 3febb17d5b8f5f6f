"""A loop on a small campaign whose world is simulated, killed at a chosen point and begun again from its directory."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from skill.auto import overview, page, pictures, store, tables
from skill.auto.campaign import Campaign, Record
from skill.auto.config import Config
from skill.auto.drawing import svg
from skill.auto.events import LoopStarted
from skill.auto.journal import Journal, encode
from skill.auto.layout import WorkDir
from skill.auto.loop import Loop
from skill.auto.ports import Accepted, Answer, JobSeen, JobToRun, Refused, Request, Trouble
from skill.auto.replies import AnalyzeReply, EditReply, Finding, PlanReply, Proposal, Reply

T = TypeVar("T")
MODEL = "NVIDIA L4"
_TICK = 7.0
_MOST = 1000
"""Steps after which a loop is taken for one that waits for nothing."""


class Moment(NamedTuple):
    """All that is left when a loop is killed at a point."""

    words: str
    now: float
    jobs: dict[str, float]
    starts: dict[str, int]
    trees: dict[str, str]
    journal: bytes


class Killed(BaseException):
    """What SIGKILL is to a real loop: nothing after it is done."""


@dataclass
class World:
    """What outlives a loop: the clock, the queue's jobs, the worktrees. Jobs take a minute.

    `deeds`: all points that were passed, in words; the one with the number `die_at` kills the loop. `moments`: what is
    left when it is killed at each, if `keeps_moments`. `settings_only`: as many proposals as are wanted, each of
    settings, and the jobs of each node take 20 s longer than those of the one before.
    """

    root: Path
    now: float = 1000.0
    jobs: dict[str, float] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)
    trees: dict[str, str] = field(default_factory=dict)
    deeds: list[str] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    keeps_moments: bool = False
    die_at: int | None = None
    interval: float = 1.0
    settings_only: bool = False

    def point(self, words: str, torn: bytes = b"") -> None:
        """A moment at which the loop may be killed. `torn`: the part of a line that is in the journal by then."""
        self.deeds.append(words)
        if self.keeps_moments:
            journal = WorkDir(self.root).journal.read_bytes() + torn
            left = Moment(words, self.now, dict(self.jobs), dict(self.starts), dict(self.trees), journal)
            self.moments.append(left)
        if self.die_at is not None and len(self.deeds) == self.die_at:
            raise Killed(words)

    def around(self, words: str, deed: Callable[[], T]) -> T:
        self.point(f"before {words}")
        found = deed()
        self.point(f"after {words}")
        return found

    def pass_time(self, *, until_a_job_ends: bool) -> None:
        """Go on by one tick, or by as many as pass before the loop can see that one more job has ended."""
        ends = [end for name, at in self.jobs.items() if (end := self._end(name, at)) > self.now]
        ticks = math.ceil((min(ends) - self.now) / _TICK) if ends and until_a_job_ends else 1
        self.now += ticks * _TICK

    # -- the agent

    def ask(self, request: Request, campaign: Campaign, cwd: Path | None, stop: threading.Event) -> Answer | Trouble:
        assert (cwd is not None) == (request.role in ("edit", "repair"))
        assert not stop.is_set()
        return Answer(self.around(f"{request.role} {request.node}", lambda: self._reply(request, campaign)), 0.25, 3.0)

    def _reply(self, request: Request, campaign: Campaign) -> Reply:
        if request.role == "plan" and self.settings_only:
            first = 1 + sum(len(planned.proposals) for planned in campaign.rounds)
            return PlanReply(tuple(Proposal("a setting", settings={"x": first + n}) for n in range(request.want)))
        if request.role == "plan":
            number = len(campaign.rounds)
            edit = Proposal("an edit", edit=f"variant {number}", settings={"x": 10 * number + 1})
            return PlanReply((edit, Proposal("a setting", settings={"x": 10 * number + 2}), Proposal("none")))
        if request.role in ("edit", "repair"):
            assert request.node is not None
            self.trees[request.node] = f"{request.role} {request.complaint}"
            return EditReply("edited")
        assert request.node is not None
        return AnalyzeReply(f"{request.node} is seen", (Finding("known", (request.node,)),))

    # -- the source

    def prepare(self, node: str, base: str) -> Path:
        self.around(f"prepare {node}", lambda: self.directory(node).mkdir(parents=True, exist_ok=True))
        self.trees[node] = base
        return self.directory(node)

    def gate(self, node: str, base: str, stop: threading.Event) -> Accepted | Refused:
        assert base
        assert not stop.is_set()
        found = self.around(f"gate {node}", lambda: self.trees[node])
        if node == "n001" and not found.startswith("repair") and "protected" not in found:
            return Refused("it touches a protected file")
        return Accepted(f"commit {found}", f"tree {node} {found}", ("train.py",), 3, 1)

    def build(self, node: str, stop: threading.Event) -> str | Refused:
        assert not stop.is_set()
        return self.around(f"build {node}", lambda: f"image of {node}")

    def directory(self, node: str) -> Path:
        return self.root / "code" / node

    def tree(self, commit: str) -> str:
        return f"tree of {commit}"

    def altered(self, node: str, commit: str) -> Sequence[str]:
        assert node
        assert commit
        return ()

    def remove(self, node: str) -> None:
        raise AssertionError(f"nobody asked to remove {node}")

    # -- the queue

    def submit(self, jobs: Sequence[JobToRun]) -> None:
        def add() -> None:
            for job in jobs:
                assert job.gpu_model == MODEL
                if job.id not in self.jobs:
                    self.jobs[job.id] = self.now
                    self.starts[job.id] = self.starts.get(job.id, 0) + 1

        self.around(f"submit {' '.join(job.id for job in jobs)}", add)

    def gpus(self) -> Mapping[str, int]:
        return self.around("gpus", lambda: {MODEL: 2})

    def gone(self, after: float) -> str | None:
        assert after == 1800.0
        return None

    def look(self, gpu_model: str) -> Mapping[str, JobSeen]:
        assert gpu_model == MODEL
        return {name: self._seen(name, at) for name, at in self.jobs.items()}

    def _end(self, name: str, at: float) -> float:
        """When a job ends that was submitted at a time."""
        return at + 60 + 20 * self.settings_only * int(name[1:4])

    def _seen(self, name: str, at: float) -> JobSeen:
        node, seed = name.rsplit("_s", 1)
        end = self._end(name, at)
        if self.now < end:
            return JobSeen("running", {}, started=at)
        if node == "n003" and not self.settings_only:  # an edit that breaks the program; its repair works
            return JobSeen("stuck", {}, "exit code 1", MODEL, started=at, ended=end)
        value = float(node[1:4]) + int(seed) * 0.01
        return JobSeen("completed", {"score": value}, "", MODEL, started=at, ended=end)

    def cancel(self, jobs: Sequence[str], gpu_model: str) -> None:
        raise AssertionError(f"nobody asked to cancel {jobs} on {gpu_model}")


class _DyingJournal(Journal):
    """Kills before a line, in the middle of it, and after it."""

    def __init__(self, world: World, path: Path, length: int) -> None:
        super().__init__(path, length)
        self._world = world

    def append(self, records: Sequence[Record]) -> None:
        names = " ".join(type(record.event).__name__ for record in records)
        self._world.point(f"before {names}")
        data = "".join(map(encode, records)).encode()
        self._world.point(f"in the middle of {names}", data[: len(data) * 2 // 3])
        super().append(records)
        self._world.point(f"after {names}")


def work_until_killed(world: World) -> Campaign | None:
    """One life of a loop: the campaign if it came to its end, None if it was killed."""
    work = WorkDir(world.root)
    try:
        campaign, length = store.load(work)
        with closing(_DyingJournal(world, work.journal, length)) as journal:
            loop = Loop(
                work, campaign, journal, world, world, world,
                say=lambda _text: None, changed=lambda _campaign: None, clock=lambda: world.now,
            )  # fmt: skip
            loop.record(LoopStarted(1))
            for _ in range(_MOST):
                seq = loop.campaign.seq
                if not loop.step():
                    return loop.campaign
                is_idle = loop.campaign.seq == seq and not loop._threads
                while loop._threads:
                    loop._ended.get(timeout=30)()
                world.pass_time(until_a_job_ends=is_idle)
            raise AssertionError(f"it does not end: {loop.campaign}")
    except Killed:
        return None


def begin(root: Path, config: Config, *, settings_only: bool = False) -> World:
    root.mkdir(parents=True)
    store.begin(WorkDir(root), config)
    return World(root, keeps_moments=True, settings_only=settings_only)


def after(moment: Moment, root: Path, late: float = 0.0, *, settings_only: bool = False) -> World:
    """The world of a loop that was killed at a moment, `late` seconds after that, in a directory of its own."""
    root.mkdir(parents=True)
    WorkDir(root).journal.write_bytes(moment.journal)
    for node in moment.trees:
        (root / "code" / node).mkdir(parents=True)
    return World(
        root, moment.now + late, dict(moment.jobs), dict(moment.starts), dict(moment.trees), settings_only=settings_only
    )


def calm(campaign: Campaign) -> Campaign:
    """What must be the same, however often the loop was killed: all but times, and calls of the agent, which may be
    made again."""
    found = replace(campaign.snapshot(), started=0.0, updated=0.0, seq=0, asks={}, stopped_at=0.0)
    found.rounds = [replace(planned, ask=0) for planned in found.rounds]
    for node in found.nodes.values():
        node.created, node.judged = 0.0, 0.0 if node.judged is not None else None
        node.earlier = [replace(job, ended=0.0) for job in node.earlier]
        node.jobs = {seed: replace(job, ended=0.0) for seed, job in node.jobs.items()}
    return found


def views(campaign: Campaign) -> dict[str, Any]:
    """The tree, the tables and the report of it."""
    return {
        **overview.document(campaign),
        "master_table.tsv": tables.master(campaign),
        "summary.md": tables.summary(campaign),
        "hypothesis_tree.svg": svg(pictures.hypothesis_tree(campaign)),
        "progress.svg": svg(pictures.progress(campaign)),
        "report.html": page.page(campaign),
    }
