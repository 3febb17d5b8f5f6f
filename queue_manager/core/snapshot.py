"""The snapshot that people and tools read: the state as rows of plain JSON values, and why a job does not run yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from queue_manager.core import activity, gpu_models, health, job_metrics, recovery
from queue_manager.core.boundary import Doing, ForeignLease, HealthReading
from queue_manager.core.card_words import holder
from queue_manager.core.launchers import CANNOT_START
from queue_manager.core.manifest import Phase
from queue_manager.core.model import Job, Need, QueueState
from queue_manager.core.placement import View, allowed, views
from queue_manager.core.readings import Card, Cards, Unreadable
from queue_manager.core.state_format import FORMAT, VERSION, phase_status
from queue_manager.core.status import BAD, RETRYING, Status
from queue_manager.core.tallies import shown
from queue_manager.core.times import iso

if TYPE_CHECKING:  # a manager that begins does not need what estimates it
    from queue_manager.core.eta import Eta


HANDED_OVER = "was submitted to Slurm"
OF_ONE = "; "
"""In the words about a job that waits in Slurm's queue, before what is of this job alone."""
_REASONS = 8
"""Most reasons that are named for which jobs wait in Slurm's queue."""


class Situation(NamedTuple):
    """What a snapshot shows beside the state: the last reading of the cards, what cannot be met, the paths, what is to
    become of a rented machine, what other runs held of the cards when they were last given away, what else a person
    should know (text and since when, by kind), what running attempts did and how they were when that was last looked
    at, where attempts wait that were handed over and have not begun, when the run will have ended, where that was
    estimated, and why an engine takes no more jobs for now, in words.

    These are looks at the world, made anew by each manager. All else in a snapshot is in the journal."""

    cards: Cards | Unreadable | None
    impossible: Mapping[Need, str]
    manager: str
    cwd: str
    poll: float
    screen_dir: str | None
    log_path: Callable[[str], str]
    teardown: dict[str, Any] | None = None
    foreign: tuple[ForeignLease, ...] = ()
    notices: Mapping[str, tuple[str, float]] = {}
    doing: Mapping[int, Doing] = {}
    health: Mapping[int, HealthReading] = {}
    queued: Mapping[int, str] = {}
    eta: Eta | None = None
    refuses: str | None = None


def queue_reason(state: QueueState, refuses: str | None = None) -> str | None:
    """What keeps every ready job from starting, in words; None if nothing does. Ready rows change with it. `refuses`:
    see Situation."""
    if state.paused:
        return "the run is paused; resume it with: wavequeue resume"
    if state.machine.closed is not None:
        return state.machine.closed
    for kind in ("disk", CANNOT_START):
        if kind in state.machine.conditions:
            return state.machine.conditions[kind][0]
    return refuses


def card_reason(state: QueueState) -> str | None:
    """What keeps every ready job that needs a card from starting; None if nothing does."""
    for kind in ("nvml", "leases"):
        if kind in state.machine.conditions:
            return state.machine.conditions[kind][0]
    return None


def waiting(state: QueueState, job: Job, impossible: Mapping[Need, str], refuses: str | None = None) -> str | None:
    """Why a job does not run yet, in words; None if it runs, or never will without a person. `refuses`: see
    Situation."""
    if job.status in RETRYING:
        return f"waits for its retry at {iso(job.due)}"
    if job.status is not Status.PENDING:
        return None
    if job.held is not None:
        return f"waits for a precondition: {job.held}"
    needs = state.graph.open_needs(job.order, 3)
    needs += [f"job {state.jobs[order].spec.id}" for order in state.graph.open_jobs(job.order, 3)]
    if needs:
        return f"waits for {', '.join(needs[:3])}" + (" and more" if len(needs) > 3 else "")
    reason = queue_reason(state, refuses)
    if reason is None and job.need.gpus:
        reason = impossible.get(job.need) or card_reason(state)
    if reason is not None:
        return reason
    if state.manifest.wave == "barrier":
        return "waits for the next wave"
    if job.spec.gpus == 0:
        return "waits for a free slot"
    cards = "a GPU" if job.spec.gpus == 1 else f"{job.spec.gpus} GPUs"
    cards += f" ({gpu_models.words(job.spec.gpu_model)})" if job.spec.gpu_model else ""
    share = f" with {job.spec.gpu_mem_mib} MiB available" if job.spec.gpu_mem_mib else " to be free"
    return f"waits for {cards}{share}"


def job_row(state: QueueState, job: Job, situation: Situation) -> dict[str, Any]:
    """One job as users read it."""
    spec, attempt = job.spec, job.attempt
    is_queued = attempt is not None and attempt.is_queued
    held = attempt.indices if attempt else job.indices
    reading = situation.health.get(job.order) if attempt else None
    return {
        "id": spec.id,
        "phase": spec.phase,
        "status": (Status.PENDING if is_queued else job.status).value,
        "queued": iso(attempt.starting) if attempt is not None and is_queued else None,
        "node": job.node,
        "gpu": held[0] if held else None,
        "gpus": list(held),
        "screen_name": job.session,
        "screen_pid": job.leader_pid,
        "pid": job.pid,
        "attempt": job.n,
        "attempts": job.attempts,
        "oom_attempts": job.oom_attempts,
        "host_ooms": job.host_ooms,
        "gpu_ooms": job.gpu_ooms,
        "time_limits": job.time_limits,
        "wave": job.wave,
        "started": None if is_queued else iso(job.started),
        "completed": iso(job.ended),
        "attempt_ended": iso(job.attempt_ended),
        "exit_code": job.exit_code,
        "expected_output": spec.expected_output,
        "error": job.error,
        "warning": job.warning,
        "failure": job.failure,
        "memory": job.memory,
        "log": situation.log_path(spec.id),
        "waiting": situation.queued.get(job.order, HANDED_OVER)
        if is_queued
        else waiting(state, job, situation.impossible, situation.refuses),
        "retry_at": iso(job.due) if job.status in RETRYING else None,
        "depends_on": list(spec.depends_on),
        "cards": spec.gpus,
        "gpu_mem_mib": spec.gpu_mem_mib,
        "gpu_model": list(spec.gpu_model),
        "priority": spec.priority,
        "code": job.code,
        "environment": job.environment,
        "skipped": job.skipped,
        "seq": job.seq,
        **job_metrics.row(job, reading.metrics if reading else None),
        **health.row(job, reading),
        **recovery.row(job),
        **activity.row(situation.doing.get(job.order) if attempt else None),
    }


def head(state: QueueState, situation: Situation, now: float) -> dict[str, Any]:
    """All of the document but the jobs: meta, phases, gpus, counts."""
    return {
        "meta": {
            "format": FORMAT,
            "version": VERSION,
            "project": state.manifest.project,
            "run_id": state.run_id,
            "started": iso(state.started),
            "updated": iso(now),
            "finished": iso(state.finished),
            "host": state.machine.host,
            "pid": state.machine.pid,
            "boot": state.machine.boot,
            "ticks": state.machine.ticks,
            "manager": situation.manager,
            "cwd": situation.cwd,
            "wave": state.manifest.wave,
            "current_wave": state.cards.wave,
            "paused": state.paused,
            "conditions": [
                {"kind": kind, "text": text, "since": iso(since)}
                for kind, (text, since) in {**situation.notices, **state.machine.conditions}.items()
            ],
            "manifest_sha256": state.manifest_sha256,
            "poll": situation.poll,
            "screen_dir": situation.screen_dir,
            "launcher": state.manifest.launcher,
            "seq": state.seq,
            "results_seq": state.results_seq,
            "pushed_seq": state.pushed_seq,
            "queued": state.tallies.queued,
            "queue": dict(
                Counter(text.partition(OF_ONE)[0] for text in situation.queued.values()).most_common(_REASONS)
            ),
            "idle_since": None if state.live else iso(state.idle_since),
            "teardown": situation.teardown,
            "eta": _eta(situation.eta),
        },
        "phases": [phase_row(state, phase) for phase in state.phases],
        "gpus": card_rows(state, situation.cards, now, situation.foreign),
        "counts": {status.value: count for status, count in sorted(state.tallies.shown.items())},
    }


def _eta(eta: Eta | None) -> dict[str, Any] | None:
    """When the run will have ended, where that was estimated."""
    return None if eta is None else {"at": iso(eta.at), "basis": list(eta.basis), "note": eta.note or None}


def phase_row(state: QueueState, phase: Phase) -> dict[str, Any]:
    """One phase as users read it."""
    tally = state.tallies.phases[phase.name]
    counts = shown(tally.counts, tally.queued)
    over = not tally.counts or set(tally.counts) <= BAD | {Status.COMPLETED}
    return {
        "name": phase.name,
        "depends_on": list(phase.depends_on),
        "status": phase_status(counts),
        "jobs": sum(tally.counts.values()),
        "counts": {status.value: count for status, count in sorted(counts.items())},
        "queued": tally.queued,
        "oom_retries": tally.oom_retries,
        "codes": dict(tally.codes),
        "started": iso(tally.started),
        "completed": iso(tally.ended) if over else None,
    }


def card_rows(
    state: QueueState, cards: Cards | Unreadable | None, now: float, foreign: Sequence[ForeignLease] = ()
) -> list[dict[str, Any]]:
    """The cards as last read, and what each is given to. `holder`: what keeps it from a job that wants it to itself, in
    words; `room_mib`: what may still be promised of it."""
    if not isinstance(cards, Cards):
        return []
    seen = views(state, cards.cards, foreign, now)
    rows = []
    for card in cards.cards:
        view, leases = seen.get(card.uuid), [lease for lease in foreign if lease.card == card.uuid]
        held = {"holder": holder(state, card, view, leases), "room_mib": max(0, view.room()) if view else 0}
        rows.append(_card_row(state, card, view) | held)
    usable = {card.uuid for card in allowed(state, cards.cards)}
    for row in rows:
        if row["uuid"] in state.cards.quarantined:
            row["note"] = f"in quarantine: {state.cards.quarantined[row['uuid']]}"
        elif row["uuid"] not in usable:
            row["note"] = "not among the GPUs of this run"
    for sick in cards.sick:
        rows.append(
            {"index": sick.index, "uuid": sick.uuid, "name": sick.name, "total_mib": None, "used_mib": None}
            | {"free_mib": None, "util": None, "jobs": [], "promised_mib": 0, "note": sick.reason}
            | {"holder": f"cannot be used: {sick.reason}", "room_mib": 0}
        )
    return sorted(rows, key=lambda row: row["index"])


def _card_row(state: QueueState, card: Card, view: View | None) -> dict[str, Any]:
    holders = state.cards.holders.get(card.uuid, [])
    return {
        "index": card.index,
        "uuid": card.uuid,
        "name": card.name,
        "total_mib": card.total_mib,
        "used_mib": card.used_mib,
        "free_mib": card.free_mib,
        "util": card.util,
        "jobs": [holder.job for holder in holders],
        "promised_mib": sum(holder.mib or 0 for holder in holders),
        "note": view.note if view else "",
    }
