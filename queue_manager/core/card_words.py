"""Say why a GPU is not given to a new job now: who holds it, and by which threshold. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from queue_manager.core.boundary import ForeignLease
from queue_manager.core.model import QueueState
from queue_manager.core.placement import View
from queue_manager.core.readings import Card
from queue_manager.core.state_types import Attempt

_NAMED = 3


def holder(state: QueueState, card: Card, view: View | None, foreign: Sequence[ForeignLease]) -> str | None:
    """Say what keeps a GPU from a job that wants it alone; None if nothing does.

    `view`: the GPU as placement sees it, None where this run does not use it. `foreign`: leases of other runs on it.
    """
    if card.uuid in state.cards.quarantined:
        return f"in quarantine ({state.cards.quarantined[card.uuid]}); to try it again: wavequeue resume"
    if view is None:
        return f"not among the GPUs of this run (gpus: {list(state.manifest.gpus or ())})"
    parts = [*_own(state.cards.holders.get(card.uuid, [])), *_foreign(foreign)]
    if parts:
        return "; ".join(parts)
    threshold = state.manifest.gpu_free_threshold_mib
    if card.used_mib < threshold:
        return None
    used = f"{card.used_mib} MiB used, threshold {threshold} (gpu_free_threshold_mib)"
    if not view.settled:
        return f"held by memory that a job has not released yet: {used}"
    return f"held by a process outside wavequeue: {used}"


def _own(holders: Sequence[Attempt]) -> list[str]:
    alone = [attempt.job for attempt in holders if attempt.mib is None]
    if alone:
        return [f"assigned to {alone[0]}"]
    if not holders:
        return []
    names = ", ".join(attempt.job for attempt in holders[:_NAMED])
    more = f" and {len(holders) - _NAMED} more" if len(holders) > _NAMED else ""
    return [f"shared by {names}{more}, {sum(attempt.mib or 0 for attempt in holders)} MiB reserved"]


def _foreign(leases: Sequence[ForeignLease]) -> list[str]:
    parts = []
    for run, owner in dict.fromkeys((lease.run_id, lease.owner) for lease in leases):
        mine = [lease for lease in leases if (lease.run_id, lease.owner) == (run, owner)]
        alone, mib = any(lease.mib is None for lease in mine), sum(lease.mib or 0 for lease in mine)
        if any(lease.is_agent for lease in mine):
            text = f"promised to agent {run} (AGENT_STATUS.json)"
        elif owner is not None:
            text = f"reserved by a run of {owner}"
        else:
            text = f"given to run {run}" if alone else f"promised to run {run}"
        parts.append(text if alone else f"{text}: {mib} MiB")
    return parts
