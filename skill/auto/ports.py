"""Interfaces of the loop: an agent, a source of code, and a queue."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from skill.auto.config import Settings
from skill.auto.replies import Reply, Role

if TYPE_CHECKING:
    from skill.auto.campaign import Campaign


@dataclass(frozen=True)
class Request:
    """A call of the agent. `ask`: its number in the journal, which names its files in logs/; `node`: what it is about
    (edit, repair, analyze); `want`: how many proposals; `complaint`: what was wrong with the reply or the edit before,
    to be said to the agent."""

    ask: int
    role: Role
    node: str | None = None
    want: int = 0
    complaint: str = ""


@dataclass(frozen=True)
class Answer:
    """A valid reply. `usd`: None where the cost is unknown."""

    reply: Reply
    usd: float | None
    seconds: float


@dataclass(frozen=True)
class Trouble:
    """No valid reply. `text`: for a person, and of a malformed reply the parser's message; `until`: when a usage limit
    ends (epoch seconds), where the agent said so. `interrupted`: it was ended because the loop ends."""

    kind: Literal["malformed", "usage_limit", "timeout", "failed", "interrupted"]
    text: str
    usd: float | None = None
    seconds: float = 0.0
    until: float | None = None


class Agent(Protocol):
    """Calls the agent's command; several threads may do so at once."""

    def ask(self, request: Request, campaign: Campaign, cwd: Path | None, stop: threading.Event) -> Answer | Trouble:
        """Render the prompt, run the command, read the reply; write prompt, output and cost into logs/.

        `cwd`: the node's worktree for edit and repair; None: an empty directory. Once `stop` is set, the command and
        all that it started are killed at once, and the answer is Trouble("interrupted"). Raises nothing but our own
        faults.
        """


@dataclass(frozen=True)
class Accepted:
    """An edit that passed the gate and was committed. `tree`: the hash of its content; `diff`: lines for a table."""

    commit: str
    tree: str
    files: tuple[str, ...]
    added: int
    removed: int


@dataclass(frozen=True)
class Refused:
    """An edit that did not pass, and why, in words for the agent."""

    reason: str


class Source(Protocol):
    """Worktrees and branches of the user's repository. All methods can be repeated after a kill."""

    def prepare(self, node: str, base: str) -> Path:
        """Give a node a clean worktree at commit `base`, on the branch wq/CAMPAIGN/NODE. What was there and not
        accepted is dropped. Raises FailedError."""

    def gate(self, node: str, base: str, stop: threading.Event) -> Accepted | Refused:
        """Check what was edited in the worktree against the scope, run `launch.check`, and commit it. Once `stop` is
        set, the check is killed. Raises FailedError, also for that."""

    def build(self, node: str, stop: threading.Event) -> str | Refused:
        """Run `launch.build` in the node's worktree; the last line that it prints. Once `stop` is set, it is killed.
        Raises FailedError, also for that."""

    def directory(self, node: str) -> Path:
        """The worktree of a node."""

    def tree(self, commit: str) -> str:
        """The hash of the content of a commit."""

    def altered(self, node: str, commit: str) -> Sequence[str]:
        """The protected files of a node's worktree that are not as they are in `commit`."""

    def remove(self, node: str) -> None:
        """Take a node's worktree away; its branch stays."""


@dataclass(frozen=True)
class JobToRun:
    """A job NODE_sSEED. `directory`: the node's worktree; `settings`: all of them; `image`: what the build of its code
    printed last; `gpu_model`: the full name of the only GPU model that will do, empty: as the configuration says."""

    id: str
    node: str
    seed: int
    settings: Settings
    directory: Path
    commit: str
    image: str = ""
    gpu_model: str = ""


@dataclass(frozen=True)
class JobSeen:
    """What the queue says of a job. `status` as in queue_state.json; `ended`: epoch seconds; `gpu`: the model of its
    GPU, empty for a job without one; `error`: why it failed, in words."""

    status: str
    metrics: Mapping[str, float]
    error: str = ""
    gpu: str = ""
    host: str = ""
    started: float | None = None
    ended: float | None = None


class Queue(Protocol):
    """The runs of a campaign, on this machine or on hosts: on hosts one for each GPU model that its jobs were tied to.
    Raises FailedError where it cannot be reached. `gpu_model`: that of the jobs that are meant.

    `interval`: seconds between two looks at it, at most.
    """

    interval: float

    def gpus(self) -> Mapping[str, int]:
        """How many jobs can run at a time on GPUs of each model, on the machines that answer."""

    def gone(self, after: float) -> str | None:
        """Why no job comes back of the run that was last looked at: none of its hosts was reached for `after` seconds,
        or all were given up. None where that is not so."""

    def submit(self, jobs: Sequence[JobToRun]) -> None:
        """Add jobs to the run, which is made where it is not there. A job that it has already is left alone."""

    def look(self, gpu_model: str) -> Mapping[str, JobSeen]:
        """All jobs of the run; empty where there is none yet."""

    def cancel(self, jobs: Sequence[str], gpu_model: str) -> None:
        """Cancel jobs that have not ended."""
