"""STATUS.md of a run that is watched over: what runs where, when it is ended, and what was done about it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from queue_manager.core import events as ev
from queue_manager.core import health_policy, recover_policy
from queue_manager.core.events import Record
from queue_manager.core.health_policy import Policy
from queue_manager.core.judge import span
from queue_manager.core.manifest import JobSpec, Manifest
from queue_manager.core.markdown import code, inline
from queue_manager.core.times import iso
from skill.reports import reproduce, teardown_text
from skill.reports.checks import Check, line
from skill.runs import digest, recovery
from skill.runs.digest import Row

NOTES = "<!-- your notes: what stands below this line is kept -->"
_JOBS = 60
_ACTIONS = 200
_COMMAND = 200
_SPREAD = 6
NEEDLES = ('"AttemptSt', '"AttemptEnded"', '"CardQ', '"JobRetried"', '"JobCancelled"', '"Teardown', '"BoundReached"',
           '"Recovery')  # fmt: skip
"""What the journal lines have that `actions` reads."""


_STOPPED = {"recover": "unhealthy", "leftovers": "processes that it left running"}
"""Reasons for which an attempt is ended, where their name does not say it."""


class Action(NamedTuple):
    """Something that was done about a job, a GPU or a machine: when (epoch seconds), to what, why, and what came of
    it."""

    at: float
    target: str
    did: str
    effect: str


def actions(records: Sequence[Record], rows: Mapping[str, Row]) -> list[Action]:
    """What was done, oldest first: retries, steps of ladders, kills, quarantines, ends of machines."""
    found: list[Action] = []
    attempts: dict[tuple[str, int], list[int]] = {}
    """What was done to an attempt, or by it: places in `found`. Its end is the effect of all that."""
    pending: dict[str, int] = {}

    def effect(job: str, n: int, words: str) -> None:
        for place in attempts.get((job, n), ()):
            found[place] = found[place]._replace(effect=words)

    for record in records:
        event = record.event
        if isinstance(event, ev.RecoveryChosen):
            pending[event.job] = len(found)
            did = f"recover: {event.action}, because attempt {event.n} failed ({event.cause or event.failure})"
            found.append(Action(record.at, event.job, did, recovery.UNDER_WAY))
        elif isinstance(event, ev.AttemptStarting) and event.job in pending:
            attempts[event.job, event.n] = [pending[event.job]]
            effect(event.job, event.n, f"attempt {event.n} {_now(event.job, event.n, rows)}")
        elif isinstance(event, ev.RecoveryRan) and event.code and event.job in pending:
            place = pending[event.job]
            did = f"{found[place].did}; its command failed with exit code {event.code}"
            found[place] = found[place]._replace(did=did)
        elif isinstance(event, ev.AttemptStarting) and event.n > 1:
            attempts[event.job, event.n] = [len(found)]
            found.append(Action(record.at, event.job, f"started attempt {event.n}", _now(event.job, event.n, rows)))
        elif isinstance(event, ev.AttemptStopping):
            attempts.setdefault((event.job, event.n), []).append(len(found))
            did = f"ended attempt {event.n}: {_STOPPED.get(event.reason, event.reason)}"
            found.append(Action(record.at, event.job, did, "not ended yet"))
        elif isinstance(event, ev.AttemptEnded):
            effect(event.job, event.n, event.status if event.error is None else f"{event.status}: {event.error}")
            step = pending.get(event.job)
            if event.charged and step in attempts.get((event.job, event.n), ()):
                del pending[event.job]
        elif isinstance(event, ev.CardQuarantined):
            found.append(Action(record.at, event.card, "quarantined the GPU", event.reason))
        elif isinstance(event, ev.JobRetried):
            found.append(Action(record.at, event.job, "retried on request", "fresh attempts"))
        elif isinstance(event, ev.JobCancelled):
            found.append(Action(record.at, event.job, "cancelled on request", "cancelled"))
        elif isinstance(event, ev.BoundReached):
            found.append(Action(record.at, "run", "start no job any more", event.text))
        elif isinstance(event, ev.TeardownStarting):
            found.append(Action(record.at, f"instance {event.instance}", event.plan, event.reason))
        elif isinstance(event, ev.TeardownConfirmed):
            found.append(Action(record.at, f"instance {event.instance}", event.plan, "confirmed by its provider"))
    return found


def _now(job: str, n: int, rows: Mapping[str, Row]) -> str:
    row = rows.get(job)
    return "runs" if row is not None and row["attempt"] == n and row["status"] == "running" else "not known"


def text(
    document: Mapping[str, Any],
    manifest: Manifest,
    found: Sequence[Check],
    done: Sequence[Action],
    now: float,
    *,
    alive: bool,
) -> str:
    """All of the file but a person's notes, up to the line that marks them."""
    meta = document["meta"]
    parts = [
        f"# {inline(meta['run_id'])}",
        "",
        f"Written by `wavequeue babysit` at {iso(now)}. Edit only below the mark at the end: the rest is overwritten.",
        "",
        f"- {inline(digest.headline(document, alive, now))}",
        f"- jobs: {digest.counts_text(digest.counts(document)) or 'none'}",
        "- mandate: keep it running, fix failures, no idle spending, report milestones only",
        "",
        "## Machines",
        "",
        *_machines(document, manifest),
        "",
        "## Jobs under watch",
        "",
        *_jobs(document, manifest, found),
        "",
        "## When a job is ended",
        "",
        *(f"- {words}" for words in kill_criteria(manifest)),
        "",
        "## What was done",
        "",
        *_actions(done),
        "",
        NOTES,
    ]
    return "\n".join(parts) + "\n"


def with_notes(made: str, before: str | None) -> str:
    """The file as it is to be written: what a person wrote below the mark is kept, and all of a file without one."""
    if before is None:
        return made
    _, mark, notes = before.partition(NOTES)
    kept = notes.lstrip("\n") if mark else before
    return made + ("\n" + kept if kept.strip() else "")


def kill_criteria(manifest: Manifest) -> list[str]:
    """What ends a job or keeps it from another attempt, by what its spec says."""
    jobs = manifest.jobs
    retry = manifest.oom_retry
    words = [
        f"timeout: {_spread([span(job.timeout) if job.timeout else 'none' for job in jobs])}",
        f"idle with its output there for {span(manifest.stale_after)}",
        f"after TERM it has {_spread([span(manifest.grace_of(job)) for job in jobs])} to save, then KILL",
        f"out of memory: again after {span(retry.delay)}, {retry.max_attempts} attempts at most",
        f"other failures: {_spread([f'{job.retries} retries' for job in jobs])}",
    ]
    ladders = [", then ".join(map(recover_policy.words, recover_policy.ladder(job.recover))) for job in jobs]
    if any(ladders):
        words.append(f"then recover: {_spread([one or 'nothing' for one in ladders])}")
    policies = [health_policy.policy(job.health, job.metrics) for job in jobs]
    words.append(f"unhealthy: {_spread([_unhealthy(policy) for policy in policies])}")
    for name, limits in (("early stop", _early_stop), ("fewest steps", _fewest)):
        found = [limits(policy) for policy in policies]
        if any(found):
            words.append(f"{name}: {_spread([one or 'none' for one in found])}")
    return words


def _unhealthy(policy: Policy) -> str:
    """What counts as unhealthy, and what follows."""
    signs = ["its loss is NaN"]
    if policy.watches_steps:
        signs.append(f"no new step for {span(policy.stall) if policy.stall else 'far longer than usual'}")
    if policy.low is not None:
        signs.append(f"GPUs below {policy.low[0]:g} % for {span(policy.low[1])}")
    if policy.slow is not None:
        signs.append(f"slower than {policy.slow:g} % of its usual rate")
    for one in policy.bounds:
        signs += [f"{one.metric} above {one.above:g}"] if one.above is not None else []
        signs += [f"{one.metric} below {one.below:g}"] if one.below is not None else []
    follows = {"stop": "ended", "recover": "ended, and recovered"}.get(policy.then, "alert")
    return f"{follows} if {', or '.join(signs)}"


def _early_stop(policy: Policy) -> str:
    stop = policy.early_stop
    if stop is None:
        return ""
    better = f" by {stop.min_delta:g}" if stop.min_delta else ""
    return f"{stop.metric} not better{better} for {stop.patience} values in a row"


def _fewest(policy: Policy) -> str:
    return "" if policy.min_steps is None else f"{policy.min_steps}"


def _spread(values: Sequence[str]) -> str:
    """`30 s`, or several with how many jobs have each."""
    counts = Counter(values).most_common(_SPREAD)
    return values[0] if len(counts) == 1 else ", ".join(f"{value} ({count} jobs)" for value, count in counts)


def _machines(document: Mapping[str, Any], manifest: Manifest) -> list[str]:
    meta = document["meta"]
    policy = f"when done: {manifest.when_done}"
    for name, value in (("idle after", manifest.idle_after), ("deadline", manifest.deadline)):
        if value is not None:
            policy += f"; {name} {span(value) if isinstance(value, (int, float)) else value}"
    if manifest.max_cost is not None:
        policy += f"; at most ${manifest.max_cost:.2f}"
    rows = meta.get("hosts") or [{"name": meta["host"] or "this machine", "teardown": meta.get("teardown")}]
    lines = [f"- teardown policy: {inline(policy)}"]
    for host in rows:
        instance = (host.get("teardown") or {}).get("instance_id")
        lines.append(f"- {inline(host['name'])}: {'not rented' if instance is None else f'instance {instance}'}")
    lines += [f"- {inline(one.host)}: {inline(one.plan)}; {inline(one.cost)}" for one in teardown_text.lines(document)]
    return lines


def _jobs(document: Mapping[str, Any], manifest: Manifest, found: Sequence[Check]) -> list[str]:
    if not found:
        return ["No job is running, waiting for a retry or in need of a person."]
    rows = {row["id"]: row for row in document["jobs"]}
    specs: dict[str, JobSpec] = {job.id: job for job in manifest.jobs}
    lines = []
    for one in found[:_JOBS]:
        row = rows[one.job]
        lines.append(f"- {code(line(one))}")
        if one.job in specs:
            command = reproduce.command(recovery.spec_run(specs[one.job], row), ",".join(map(str, row["gpus"])))
            lines.append(f"  - command: {code(command if len(command) <= _COMMAND else command[:_COMMAND] + '…')}")
        lines.append(f"  - log: {code(row['log'])}" + (f" on {inline(row['host'])}" if row.get("host") else ""))
        lines += [f"  - {inline(words)}" for words in one.flags]
    if len(found) > _JOBS:
        lines.append(f"- and {len(found) - _JOBS} more: `wavequeue status --jobs`")
    return lines


def _actions(done: Sequence[Action]) -> list[str]:
    if not done:
        return ["Nothing was done so far."]
    lines = ["| time | target | action | effect |", "|---|---|---|---|"]
    lines += [
        f"| {iso(one.at)} | {inline(one.target)} | {inline(one.did)} | {inline(one.effect)} |"
        for one in sorted(done, key=lambda one: one.at)[-_ACTIONS:]
    ]
    return lines
