"""Where each attempt of a run is in Slurm: in which task of which batch, and how that was submitted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from queue_manager.slurm import batches
from queue_manager.slurm.batches import Answer, Batch, Batches
from queue_manager.slurm.cluster import Cluster
from queue_manager.slurm.sent import Sent


class Place(NamedTuple):
    """The task of an attempt, by its number in the batch."""

    sent: Sent
    number: int

    @property
    def task(self) -> tuple[str, int]:
        """The name of its array, and its number there."""
        return self.sent.batch.name, self.number

    @property
    def attempts(self) -> tuple[str, ...]:
        """The attempts that the task runs in turn."""
        return self.sent.batch.tasks[self.number]

    @property
    def has_others(self) -> bool:
        """Whether the task runs several attempts."""
        return len(self.attempts) > 1


class Places:
    """Those of the attempts of one run, by their names, see Task.attempt. `kept`: the batches of earlier managers."""

    def __init__(self, store: Batches, cluster: Cluster) -> None:
        self._cluster = cluster
        self._places: dict[str, Place] = {}
        self._sent: dict[str, Sent] = {}
        self.kept = [self.add(batch) for batch in store.kept()]
        self._unanswered = list(self.kept)

    def add(self, batch: Batch) -> Sent:
        """Take note of a batch that is handed to sbatch, or was."""
        sent = self._sent[batch.name] = Sent(batch)
        for index, attempts in enumerate(batch.tasks):
            self._places.update({attempt: Place(sent, index) for attempt in attempts})
        return sent

    def settle(self, attempt: str, pilot: str, number: int) -> Place | None:
        """Take note that an attempt has begun, and return where: where a `pilot` runs it, in task `number` of that."""
        if pilot in self._sent:
            self._places[attempt] = Place(self._sent[pilot], number)
        place = self._places.get(attempt)
        if place is not None:
            place.sent.begun.add(place.number)
        return place

    def of(self, attempt: str) -> Place | None:
        """Return where an attempt is; None where it is in no batch."""
        return self._places.get(attempt)

    def held(self, attempts: Iterable[str]) -> int:
        """Return how many of these attempts Slurm has, as far as its answers tell."""
        sent = [place.sent for name in attempts if (place := self._places.get(name)) is not None]
        return sum(one.at is not None and one.refusal is None for one in sent)

    def drop(self, attempt: str) -> None:
        """Forget an attempt."""
        self._places.pop(attempt, None)

    def batches(self) -> Mapping[str, Batch]:
        """Return the batches of the run, by their names."""
        return {name: sent.batch for name, sent in self._sent.items()}

    def take_answers(self, now: float, puts_off: Callable[[Batch, Answer], bool]) -> list[Sent]:
        """Take note of how submissions ended, `now` in epoch seconds. Returns the batches of those that have.
        `puts_off` tells of an answer to this manager whether it is a refusal that passes by itself."""
        found = []
        for sent in list(self._unanswered):
            sent.answer = batches.answer(sent.batch)
            if sent.answer is not None:
                sent.at = now
                self._unanswered.remove(sent)
                found.append(sent)
        for batch, answer in self._cluster.answers():
            sent = self._sent[batch.name]
            sent.answer, sent.at = answer, now
            sent.put_off = puts_off(batch, answer)
            found.append(sent)
        return found
