"""What Slurm takes of a run: how many tasks, on which nodes, and why no more for now. Pure.

It learns how submissions and looks at the queue ended. A controller that is busy is asked again later and later; while
one is away nothing is submitted.
"""

from __future__ import annotations

from collections.abc import Mapping

from queue_manager.core.boundary import Admitted
from queue_manager.core.launchers import ENGINE_LIMIT
from queue_manager.core.readings import Unreadable
from queue_manager.core.slurm_arrays import ARRAY
from queue_manager.slurm import commands, window
from queue_manager.slurm.batches import NOT_CALLED, Answer
from queue_manager.slurm.commands import Configuration, Refused
from queue_manager.slurm.nodes import Nodes

KIND = "slurm"
"""The kind of the condition that Slurm does not answer."""
PATIENCE = 300.0
"""Seconds for which a controller may be too busy to answer before a person is notified. One that does not answer at all
is reported at once."""
FIRST, LONGEST = 5.0, 300.0
"""Seconds from a submission whose answer is not clear to the next one: doubled where that is not clear either."""
SLOWEST = 8
"""How many times as rarely Slurm is asked at most, where it does not answer."""


class Admission:
    """What Slurm takes of one run. Times in epoch seconds. `most`: tasks that it is to have at a time; `conditions`: of
    the run's state, see Nodes."""

    def __init__(self, most: int, conditions: Mapping[str, tuple[str, float]]) -> None:
        self.window = window.whole(most)
        self.nodes = Nodes(conditions)
        self._configuration: Configuration | Unreadable | None = None
        self._opens = 0.0
        self._unclear = 0
        self._silence: Unreadable | None = None
        self._silent_since = 0.0
        self._silences = 0
        self._is_full = False

    # -- results -------------------------------------------------------------------------------------------------------

    def configured(self, configuration: Configuration | Unreadable) -> None:
        """Take note of what the cluster says of itself, or why it does not."""
        self._configuration = configuration

    def answered(self, answer: Answer, held: int, asked: int, now: float) -> bool:
        """Take note of how a submission of `asked` tasks ended, where Slurm has `held` of the run. Returns whether that
        is a refusal which passes by itself."""
        self._is_full = False
        if answer.code == 0:
            self.window, self._unclear = window.accepted(self.window), 0
            return False
        if answer.code == NOT_CALLED:
            return False
        kind = None if answer.code is None else commands.refused(answer.code, answer.words)
        if kind is Refused.LIMIT:
            self.window = window.refused(self.window, commands.limit(answer.words) or "a limit", held, asked, now)
        elif kind is Refused.NEVER and commands.NO_NODE in answer.words and self.nodes.excluded(now):
            self.nodes.trust(now)  # without those that are excluded there is no node for such jobs
        elif kind is None:
            self._opens = now + min(LONGEST, FIRST * 2**self._unclear)
            self._unclear += 1
            return False
        else:
            return False
        return True

    def listed(self, tasks: object, now: float) -> None:
        """Take note of a look at Slurm's queue: what it showed, or why not (Unreadable)."""
        if not isinstance(tasks, Unreadable):
            self._silence, self._silences = None, 0
            return
        self._silent_since = now if self._silence is None else self._silent_since
        self._silence = tasks
        self._silences += 1

    def waits(self, is_full: bool) -> None:
        """Take note whether the sbatch under way waits, since Slurm has as many jobs as it takes."""
        self._is_full = is_full

    # -- asked ------------------------------------------------------------------------------------------------------

    @property
    def array(self) -> int:
        """The most tasks of one array: one that is larger than MaxJobCount would never be taken."""
        known = self._configuration if isinstance(self._configuration, Configuration) else Configuration()
        size = ARRAY if known.max_array is None else known.max_array
        return max(1, size if known.max_jobs is None else min(size, known.max_jobs))

    @property
    def slower(self) -> int:
        """How many times as rarely as usual Slurm is asked, since it does not answer."""
        return min(SLOWEST, 1 << min(self._silences, 8))

    @property
    def is_full(self) -> bool:
        """Whether sbatch waits, since Slurm has as many jobs as it takes."""
        return self._is_full

    @property
    def is_silent(self) -> bool:
        """Whether it has to be asked whether Slurm answers, before anything can be submitted."""
        return self._away is not None or not isinstance(self._configuration, Configuration)

    @property
    def _away(self) -> str | None:
        silence = self._silence
        return silence.reason if silence is not None and commands.is_away(silence.reason) else None

    def look(self, live: int, waits: bool, now: float) -> Admitted:
        """Return what Slurm takes of the run now, where it has `live` tasks of it. `waits`: whether more are ready."""
        self.window = window.grown(self.window, now)
        reason = self._reason(now)
        is_closed = self.is_silent or now < self._opens
        room = 0 if is_closed else self.window.room(live, now)
        conditions = self.nodes.conditions(now)
        if self.window.limit is not None and waits:
            others = "the others are submitted as those end"
            conditions[ENGINE_LIMIT] = f"Slurm takes no more jobs of this run at a time ({self.window.limit}): {others}"
        fault = self._fault(now)
        if fault is not None:
            conditions[KIND] = f"{fault}; nothing is submitted or concluded until then, and running jobs go on"
        return Admitted(room, reason, conditions)

    def _fault(self, now: float) -> str | None:
        """Why Slurm does not answer, in words that do not change with each look; None where nobody has to know."""
        known = self._configuration
        silence = known if isinstance(known, Unreadable) else self._silence
        if silence is None:
            return None
        why = silence.reason.partition(": ")[2]
        if commands.is_away(why):
            return f"Slurm's controller does not answer: {why}"
        if self._silence is not None and now - self._silent_since < PATIENCE:
            return None
        return f"Slurm's controller is too busy to answer: {why}"

    def _reason(self, now: float) -> str | None:
        """Why no more is submitted."""
        known = self._configuration
        if self._away is not None:
            return "waits until Slurm's controller answers again"
        if isinstance(known, Unreadable):
            return f"waits until Slurm's controller answers: {known.reason}"
        if now < self._opens:
            return "waits a little, since Slurm's controller is busy"
        if self._is_full:
            return f"waits until Slurm takes more jobs: it has as many as it takes of all users ({commands.FULL})"
        if self.window.limit is not None:
            return f"waits until others end: Slurm takes no more jobs at a time ({self.window.limit})"
        return None

    def due(self, now: float) -> float | None:
        """Return when something changes by time alone; None where nothing does."""
        times = [self._opens, self.window.opens, self.nodes.due(now)]
        if self.window.limit is not None:
            times.append(self.window.grows)
        return min((at for at in times if at is not None and at > now), default=None)
