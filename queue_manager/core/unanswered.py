"""Alerts that are older than the checks of a run allow, and about which nothing was done: each is an alert itself.
Pure."""

from __future__ import annotations

from queue_manager.core import cadence
from queue_manager.core.model import QueueState
from queue_manager.core.status import Status
from queue_manager.core.times import iso

KIND = "unanswered"
LEFT = cadence.ALERT[-1]
"""Seconds after which an alert is to have been answered: the longest time between two checks while one stands."""
_NAMED = 5


def words(state: QueueState, now: float) -> str | None:
    """Which alerts nothing was done about, for longer than LEFT; None where there are none. An attempt that is being
    ended is answered, and so is a job that is retried, cancelled or accepted: it is no longer stuck."""
    found = [
        (flag.since, f"job {attempt.job}: {flag.kind}")
        for attempt in state.live.values()
        if attempt.stopping is None
        for flag in attempt.flags.values()
    ]
    if state.tallies.counts.get(Status.STUCK):
        found += [(job.ended, f"job {job.spec.id}: stuck") for job in state.jobs
                  if job.status is Status.STUCK and job.ended is not None]  # fmt: skip
    old = sorted(one for one in found if now - one[0] > LEFT)
    if not old:
        return None
    named = ", ".join(f"{what} since {(iso(since) or '')[11:16]}Z" for since, what in old[:_NAMED])
    more = " and more" if len(old) > _NAMED else ""  # no number: each new one would be a new line in alerts.jsonl
    return f"nothing was done for {LEFT / 60:.0f} min about {named}{more}; why, and what helps: wavequeue why JOB"
