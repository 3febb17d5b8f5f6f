"""Nodes on which nothing starts: which of them get no more tasks of a run. Pure.

A node that fails at once is always free, so that Slurm gives it one task after the other. After two failures it is
excluded, for an hour, or until a person resumes the run. But where nothing starts anywhere, the fault is not a node's:
then none is excluded.
"""

from __future__ import annotations

from collections.abc import Mapping

from queue_manager.core.times import iso
from queue_manager.slurm.commands import NODE_LOST

KIND = "node"
"""Prefix of the kind of a condition that says that a node is excluded; its name follows."""
FAILURES = 2
"""Failures on one node that exclude it, with no job that ended there between them."""
HOUR = 3600.0
"""Seconds for which a node is excluded, and after which a failure counts no more."""
QUICK = 600.0
"""Seconds from a job's start within which the loss of its node counts as a failure to start there: Slurm notices that
a node is gone only after some minutes (SlurmdTimeout)."""
MANY = 3
"""So many nodes excluded, with no task begun anywhere: the fault is not theirs."""


class Nodes:
    """The nodes of one run. Times in epoch seconds. `conditions`: those of the run's state, text and since by kind."""

    def __init__(self, conditions: Mapping[str, tuple[str, float]]) -> None:
        prefix = f"{KIND}:"
        self._excluded = {kind[len(prefix) :]: found for kind, found in conditions.items() if kind.startswith(prefix)}
        self._failures: dict[str, list[float]] = {}
        self._has_begun = False
        self._trusted_until = 0.0

    def failed(self, node: str, why: str, now: float) -> bool:
        """Take note that a task could not start on a node. Returns whether that counts as the node's fault."""
        if now < self._trusted_until:
            return False
        recent = [at for at in self._failures.get(node, ()) if now - at < HOUR]
        self._failures[node] = [*recent, now]
        if len(recent) + 1 < FAILURES or node in self.excluded(now):
            return True
        until = iso(round(now + HOUR))
        text = f"node {node} gets no more jobs until {until}: {why}; to use it again now: wavequeue resume"
        self._excluded[node] = (text, now)
        if len(self.excluded(now)) >= MANY and not self._has_begun:
            self.trust(now)
            return False
        return True

    def begun(self) -> None:
        """Take note that a task has begun, wherever."""
        self._has_begun = True
        self._trusted_until = 0.0

    def ended(self, node: str, state: str | None, after: float, now: float) -> None:
        """Take note that a job ended on a node, `after` seconds. `state`: what Slurm says of one that has left no exit
        code; None of one that has, so that the node is sound."""
        if state is None:
            self._failures.pop(node, None)
        elif state in NODE_LOST and after < QUICK:
            self.failed(node, f"Slurm: {state} of a job that had just begun there", now)

    def excluded(self, now: float) -> tuple[str, ...]:
        """Return the names of the nodes that get no tasks."""
        return tuple(sorted(name for name, (_, since) in self._excluded.items() if now < since + HOUR))

    def conditions(self, now: float) -> dict[str, str]:
        """Return what a person should know, in words, by kind."""
        return {f"{KIND}:{name}": self._excluded[name][0] for name in self.excluded(now)}

    def trust(self, now: float) -> None:
        """Exclude none for the next hour, unless a task begins: the fault is not a node's."""
        self.forgive()
        self._trusted_until, self._has_begun = now + HOUR, False

    def forgive(self) -> None:
        """Exclude no node any more."""
        self._excluded.clear()
        self._failures.clear()

    def due(self, now: float) -> float | None:
        """Return when a node comes back; None where none is excluded."""
        return min((since + HOUR for name, (_, since) in self._excluded.items() if now < since + HOUR), default=None)


def with_excluded(options: tuple[str, ...], nodes: tuple[str, ...]) -> tuple[str, ...]:
    """Return sbatch's options with nodes excluded, beside those that the options exclude: only the last one counts."""
    if not nodes:
        return options
    own, left = [], []
    words = iter(options)
    for word in words:
        name, equals, value = word.partition("=")
        if name == "--exclude":
            own.append(value if equals else next(words, ""))
        elif word.startswith("-x") and not word.startswith("--"):
            own.append(word[2:].lstrip("=") or next(words, ""))
        else:
            left.append(word)
    return (*left, f"--exclude={','.join(filter(None, (*own, *nodes)))}")
