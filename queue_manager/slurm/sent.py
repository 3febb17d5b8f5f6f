"""A batch that was handed to sbatch, and what is known of that."""

from __future__ import annotations

from queue_manager.slurm import batches, commands
from queue_manager.slurm.batches import Answer, Batch
from queue_manager.slurm.commands import Refused


class Sent:
    """A batch that was handed to sbatch. `at`: since when its answer is known (epoch seconds), None: not yet.
    `put_off`: it was refused for a reason that passes by itself; `begun`: the tasks that have begun an attempt, for all
    that this manager has seen."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.answer: Answer | None = None
        self.at: float | None = None
        self.put_off = False
        self.begun: set[int] = set()

    @property
    def refusal(self) -> str | None:
        """Why it was surely not submitted, in Slurm's words."""
        answer = self.answer
        if answer is None or answer.code is None:
            return None
        if answer.code != batches.NOT_CALLED and commands.refused(answer.code, answer.words) is None:
            return None
        return f"sbatch: {commands.complaint(answer.words)}"

    @property
    def never(self) -> bool:
        """Whether Slurm has said that it can never run such a task."""
        answer = self.answer
        if self.put_off or answer is None or answer.code is None:
            return False
        return commands.refused(answer.code, answer.words) is Refused.NEVER
