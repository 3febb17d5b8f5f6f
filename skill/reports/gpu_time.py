"""How the time of a run's GPUs was used: its attempts from the journal, those of each GPU, and the hours. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from queue_manager.core import events as ev
from queue_manager.core.events import Record
from queue_manager.core.launchers import SLURM
from queue_manager.core.times import epoch
from skill.reports.report import without_numbers
from skill.runs.digest import Row

NEEDLES = ('"AttemptStarting"', '"AttemptStarted"', '"AttemptEnded"')
"""What the journal's lines hold that `attempts` needs."""
COMPLETED, RUNNING, OOM, FAILED, CANCELLED, CUT_OFF = (
    "completed", "running", "out of memory", "failed", "cancelled", "cut off",
)  # fmt: skip
OUTCOMES = (COMPLETED, RUNNING, OOM, FAILED, CANCELLED, CUT_OFF)
"""How an attempt ended. Cut off: by something that is not the job's fault, as when the host went down."""
_USEFUL = frozenset({COMPLETED, RUNNING})


class Attempt(NamedTuple):
    """One try of a job. `host`: of a cluster the node; `gpus`: by index there; `start`, `end`: epoch seconds;
    one that runs ends now."""

    job: str
    n: int
    host: str
    gpus: tuple[int, ...]
    start: float
    end: float
    outcome: str
    error: str


class Lane(NamedTuple):
    """One GPU, or one of the slots in which jobs without a GPU ran side by side. `rows`: how many attempts it had at
    once; `bars`: each attempt with the row that it takes."""

    host: str
    name: str
    gpu: int | None
    bars: list[tuple[Attempt, int]]
    rows: int


class Hours(NamedTuple):
    """Hours of one GPU from the run's start to its end: with an attempt that completed or still runs; with none but
    attempts that failed; with none at all."""

    useful: float
    wasted: float
    idle: float

    @property
    def total(self) -> float:
        return self.useful + self.wasted + self.idle


def attempts(histories: Mapping[str, Iterable[Record]], rows: Sequence[Row], now: float) -> list[Attempt]:
    """All attempts, in the order of their starts.

    `histories`: the journal's records of each host, by its name; empty for a run on this machine. Of an attempt that
    they do not tell of, because the journal is not here, the job's row is what is known.
    """
    found: dict[tuple[str, str, int], Attempt] = {}
    queued: dict[tuple[str, str, int], Attempt] = {}
    by_id = {row["id"]: row for row in rows}
    for host, records in histories.items():
        for record in records:
            event = record.event
            if isinstance(event, ev.AttemptStarting) and event.job in by_id:
                key = (host, event.job, event.n)
                one = Attempt(event.job, event.n, host, event.indices, record.at, record.at, "", "")
                (queued if event.boot == SLURM else found)[key] = one
            elif isinstance(event, ev.AttemptStarted) and (host, event.job, event.n) in queued:
                key = (host, event.job, event.n)
                began = record.at if event.began is None else event.began
                one = queued.pop(key)._replace(gpus=event.indices, start=began, end=began)
                found[key] = one._replace(host=event.node or host)
            elif isinstance(event, ev.AttemptEnded) and (host, event.job, event.n) in found:
                key = (host, event.job, event.n)
                over = record.at if event.over is None else event.over
                found[key] = found[key]._replace(end=over, outcome=_outcome(event), error=event.error or "")
    for row in rows:
        key = (row.get("host", ""), row["id"], row["attempt"])
        if row["attempt"] and row["started"] and not (key in found and found[key].outcome):
            start = found[key].start if key in found else epoch(row["started"])
            end = (
                now
                if row["status"] == "running"
                else epoch(row.get("attempt_ended") or row["completed"] or row["started"])
            )
            made = Attempt(
                row["id"],
                row["attempt"],
                row.get("node") or key[0],
                tuple(row["gpus"]),
                start,
                max(start, end),
                _of_row(row),
                row["error"] or "",
            )
            found[key] = made
    ended = [one if one.outcome else one._replace(outcome=CUT_OFF) for one in found.values()]
    return sorted(ended, key=lambda one: (one.start, one.job, one.n))


def _outcome(event: ev.AttemptEnded) -> str:
    if event.status == "completed":
        return COMPLETED
    if event.status == "cancelled":
        return CANCELLED
    if not event.charged:
        return CUT_OFF
    return OOM if event.failure == "oom" or event.status == "failed_oom" else FAILED


def _of_row(row: Row) -> str:
    if row["status"] in (COMPLETED, RUNNING, CANCELLED):
        return str(row["status"])
    return OOM if row.get("failure") == "oom" or row["status"] == "failed_oom" else FAILED


def lanes(made: Sequence[Attempt], cards: Sequence[Mapping[str, Any]]) -> list[Lane]:
    """A lane for each GPU that the run may use or has used, then those of jobs without a GPU."""
    usable = [card for card in cards if "not among" not in card["note"]]
    known = {(card.get("host", ""), card["index"]) for card in usable}
    known |= {(one.host, gpu) for one in made for gpu in one.gpus}
    several = len({host for host, _ in known}) > 1
    by_gpu: dict[tuple[str, int], list[Attempt]] = {key: [] for key in sorted(known)}
    without: dict[str, list[Attempt]] = {}
    for one in made:
        for gpu in one.gpus:
            by_gpu[one.host, gpu].append(one)
        if not one.gpus:
            without.setdefault(one.host, []).append(one)
    found = [
        _lane(host, f"{host} GPU {gpu}" if several else f"GPU {gpu}", gpu, mine) for (host, gpu), mine in by_gpu.items()
    ]
    for host, mine in sorted(without.items()):
        if mine:
            found.append(_lane(host, f"{host} CPU" if several or len(without) > 1 else "CPU", None, mine))
    return found


def _lane(host: str, name: str, gpu: int | None, mine: Sequence[Attempt]) -> Lane:
    """Put attempts into as few rows as they need side by side."""
    ends: list[float] = []
    bars = []
    for one in mine:
        row = next((n for n, end in enumerate(ends) if end <= one.start), len(ends))
        ends[row : row + 1] = [max(one.end, one.start)]
        bars.append((one, row))
    return Lane(host, name, gpu, bars, max(1, len(ends)))


def hours(lane: Lane, begin: float, end: float) -> Hours:
    """The hours of one GPU between two moments, in epoch seconds."""
    busy = _covered(((one.start, one.end) for one, _ in lane.bars), begin, end)
    useful = _covered(((one.start, one.end) for one, _ in lane.bars if one.outcome in _USEFUL), begin, end)
    return Hours(useful / 3600, (busy - useful) / 3600, max(0.0, end - begin - busy) / 3600)


def _covered(spans: Iterable[tuple[float, float]], begin: float, end: float) -> float:
    """Seconds between two moments that at least one of the spans covers."""
    total, reached = 0.0, begin
    for first, last in sorted(spans):
        low, high = max(first, reached), min(last, end)
        if high > low:
            total += high - low
            reached = high
    return total


class Failure(NamedTuple):
    """Attempts that ended in one way, with words that differ in numbers only. `hours`: their GPU-hours; `jobs`: whose
    they were, `recovered`: how many of these completed in a later attempt."""

    outcome: str
    error: str
    attempts: int
    hours: float
    jobs: list[str]
    recovered: int


def failures(made: Iterable[Attempt], completed: Container[str]) -> list[Failure]:
    """Group failed attempts by how they ended, the most expensive first. `completed`: jobs that have completed."""
    groups: dict[tuple[str, str], list[Attempt]] = {}
    for one in made:
        if one.outcome not in _USEFUL:
            groups.setdefault((one.outcome, without_numbers(one.error)), []).append(one)
    found = []
    for (outcome, _), mine in groups.items():
        jobs = list(dict.fromkeys(one.job for one in mine))
        hours = sum((one.end - one.start) * len(one.gpus) for one in mine) / 3600
        found.append(Failure(outcome, mine[0].error, len(mine), hours, jobs, sum(job in completed for job in jobs)))
    return sorted(found, key=lambda one: (-one.hours, -one.attempts))


def gpu_price(document: Mapping[str, Any], lane: Lane, made: Sequence[Lane]) -> float | None:
    """Return USD per hour of this GPU: its part of the price of its rented machine; None where no price is known."""
    hosts = document["meta"].get("hosts")
    plans = {row["name"]: row.get("teardown") for row in hosts} if hosts else {"": document["meta"].get("teardown")}
    price = (plans.get(lane.host) or {}).get("usd_per_hour")
    count = sum(1 for one in made if one.host == lane.host and one.gpu is not None)
    return None if price is None or lane.gpu is None else float(price) / count
