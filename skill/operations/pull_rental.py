"""Pull the results of a run from a rented machine repeatedly, with a line for each pull that brought something new."""

from __future__ import annotations

from skill.common.errors import FailedError
from skill.fleet.follow_rental import Took
from skill.operations import pull_text
from skill.operations.build_spec import Say
from skill.operations.pull_run import assignment_of, pull_run
from skill.runs import pulled_states
from skill.runs.directory import Run


class RentalPulls:
    """Pulls of one run on a rented machine, with a line for each that brought something new."""

    def __init__(self, say: Say, tell: Say) -> None:
        self._say, self._tell = say, tell
        self._last: tuple[str, bool] | None = None

    def once(self, run: Run, patience: float) -> Took:
        """Pull once, within `patience` seconds. A failure is reported and not raised."""
        try:
            done = pull_run(run, (), self._say, patience)
        except FailedError as error:  # another process is pulling it now
            self._say(str(error))
            return Took(is_last=False, is_reached=True)
        for text in pull_text.details(done.turns.values(), done.relayed):
            self._say(text)
        found = assignment_of(run)
        rows = [row for state in pulled_states.documents(run, found).values() for row in state["jobs"]]
        counts = {word: sum(row["status"] == word for row in rows) for word in ("completed", "running")}
        how = f"{counts['completed']} of {len(rows)} jobs completed, {counts['running']} running"
        if self._last != (how, bool(done.away)) or done.last:
            rest = "all of it is here" if done.last else pull_text.line(done.turns.values(), found, ended=done.ended)
            self._tell(f"{how}; {rest}")
        self._last = how, bool(done.away)
        reasons = [turn.reason for turn in done.turns.values() if not turn.whole]
        refused = sum(len(turn.received.refused) for turn in done.turns.values())
        return Took(done.last, not done.away, "; ".join(filter(None, reasons)) or None, refused)
