"""Describe what a spec would run: as a document for programs, and in lines for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from build_manifest.faults import listed
from queue_manager.core import gpu_models
from queue_manager.core.durations import Durations
from queue_manager.core.manifest import JobSpec, Manifest, Phase
from queue_manager.core.readings import Card, may_use
from queue_manager.core.state_types import need_of
from queue_manager.core.times import duration
from skill.common import fitting
from skill.common.text_table import columns
from skill.planning import forecast, slurm_plan
from skill.planning.assign_jobs import Offer, Sharing, serving
from skill.runs.dependencies import Dependencies

if TYPE_CHECKING:
    from rich.text import Text

MAX_EDGES = 1_000_000
"""Above so many pairs the document names groups and phases instead of each job."""
_FIRST_JOBS = 3


class Place(NamedTuple):
    """Where the spec would run. `words`: the hosts or offer, for people; `prices`: USD per hour by host."""

    words: str
    offers: tuple[Offer, ...]
    sharing: Sharing
    prices: Mapping[str, float] = {}


def plan(
    manifest: Manifest,
    place: Place,
    durations: Durations,
    warnings: Sequence[str],
    slurm: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return the document that `plan --json` prints.

    A job's `depends_on` holds ids, with groups and phases resolved, as long as the whole stays below a million pairs
    (`totals.resolved`); `waits_for` holds the same as names of jobs, groups and phases. `slurm`: see slurm_plan.rows.
    """
    dependencies = Dependencies(manifest)
    edges = dependencies.edges()
    resolved = edges <= MAX_EDGES
    jobs = [_job(spec, dependencies, resolved) for spec in manifest.jobs]
    by_phase = {name: [dependencies.jobs[job] for job in ids] for name, ids in dependencies.members.items()}
    phases = [_phase(phase, by_phase[phase.name], manifest, place, durations) for phase in manifest.phases]
    found = forecast.forecast(manifest, place.offers, place.sharing, durations, place.prices)
    return {
        "project": manifest.project,
        "cwd": manifest.cwd,
        "where": place.words,
        "hosts": [_host(offer, manifest, place) for offer in place.offers],
        "phases": phases,
        "jobs": jobs,
        "totals": {
            "jobs": len(jobs),
            "edges": edges,
            "resolved": resolved,
            "most_cards": max((spec.gpus for spec in manifest.jobs), default=0),
            "at_once": max((row["at_once"] for row in phases), default=0),
        },
        **({} if slurm is None else {"slurm": list(slurm)}),
        "estimate": forecast.document(found),
        "how_long": forecast.words(found),
        "cost": forecast.cost_words(found, list(place.prices)),
        "warnings": list(warnings),
    }


def brief(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document that `plan --json --brief` prints: the same without most jobs, of less than 4 KB.

    `hosts`, `phases`, `warnings`, `slurm` and `jobs` hold as much as there is room for; `left_out` tells how much more
    there is.
    """
    lists = {name: document[name] for name in ("phases", "hosts", "warnings", "slurm", "jobs") if name in document}
    found = {**document, **{name: [] for name in lists}, "left_out": {name: len(rows) for name, rows in lists.items()}}
    few = {**lists, "jobs": lists["jobs"][:_FIRST_JOBS]}
    fitting.fill(found, {name: iter(rows) for name, rows in few.items()}, fitting.MOST, len(document["jobs"]))
    found["left_out"] = {name: len(rows) - len(found[name]) for name, rows in lists.items()}
    return found


def _host(offer: Offer, manifest: Manifest, place: Place) -> dict[str, Any]:
    return {
        "name": offer.name,
        "jobs": len(place.sharing.parts.get(offer.name, ())),
        "cores": offer.cores,
        "cards_mib": [card.total_mib for card in _usable(manifest, offer)],
        "usd_per_hour": place.prices.get(offer.name),
    }


def _job(spec: JobSpec, dependencies: Dependencies, resolved: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": spec.id,
        "phase": spec.phase,
        "cmd": spec.cmd,
        "waits_for": [need.name for need in dependencies.needs(spec.id)],
        "cards": spec.gpus,
        "gpu_mem_mib": spec.gpu_mem_mib,
        "gpu_model": list(spec.gpu_model),
        "expected_output": spec.expected_output,
        "params": dict(spec.params),
    }
    if resolved:
        row["depends_on"] = dependencies.resolved(spec.id)
    return row


def _phase(
    phase: Phase, specs: Sequence[JobSpec], manifest: Manifest, place: Place, durations: Durations
) -> dict[str, Any]:
    at_once = max((sum(_at_once(spec, manifest, offer) for offer in place.offers) for spec in specs), default=0)
    return {
        "name": phase.name,
        "jobs": len(specs),
        "depends_on": list(phase.depends_on),
        "match": list(phase.match),
        "cards": sorted({spec.gpus for spec in specs}),
        "gpu_mem_mib": sorted({spec.gpu_mem_mib for spec in specs if spec.gpu_mem_mib is not None}),
        "gpu_model": sorted({gpu_models.words(spec.gpu_model) for spec in specs if spec.gpu_model}),
        "outputs": sum(spec.expected_output is not None for spec in specs),
        "at_once": min(at_once, len(specs)),
        "seconds_per_job": durations.of_phases(specs).get(phase.name),
        "measured_on": durations.measured(phase.name),
        "first_jobs": [spec.id for spec in specs[:_FIRST_JOBS]],
    }


def _usable(manifest: Manifest, offer: Offer) -> list[Card]:
    return [card for card in offer.cards if may_use(card.index, manifest.gpus)]


def _at_once(spec: JobSpec, manifest: Manifest, offer: Offer) -> int:
    """How many jobs like this can run at a time on a host."""
    most = manifest.max_parallel
    if spec.gpus == 0:
        return offer.cores if most is None else most
    cards = serving(need_of(spec), manifest, offer)
    if spec.gpu_mem_mib is None:
        slots = len(cards) // spec.gpus
    else:
        slots = sum(card.total_mib // spec.gpu_mem_mib for card in cards) // spec.gpus
    return slots if most is None else min(most, slots)


def lines(document: Mapping[str, Any], width: int) -> list[Text]:
    """Return the document as lines for people."""
    from rich.text import Text

    phases, totals = document["phases"], document["totals"]
    table: list[list[str | Text]] = [["phase", "jobs", "waits for", "GPUs", "outputs", "at once", "per job"]]
    table += [
        [
            row["name"],
            str(row["jobs"]),
            ", ".join(row["depends_on"]) + (f" with its {', '.join(row['match'])}" if row["match"] else "") or "-",
            "by Slurm" if "slurm" in document else _cards(row),
            str(row["outputs"]),
            str(row["at_once"]),
            "unknown" if row["seconds_per_job"] is None else duration(row["seconds_per_job"]),
        ]
        for row in phases
    ]
    found = [Text(f"{document['project']}: {_count(totals['jobs'], 'job')} in {_count(len(phases), 'phase')}", "bold")]
    found += columns(table, width, right=(1, 4, 5), head=True)
    if "slurm" in document:
        found.append(Text("asked of Slurm", "bold"))
        asked: list[list[str | Text]] = [[*slurm_plan.cells(row)] for row in document["slurm"]]
        found += columns(asked, width, indent=1)
    found.append(Text("first jobs", "bold"))
    by_id = {row["id"]: row for row in document["jobs"]}
    found += columns(
        [
            [row["id"], _waits(row), " ".join(row["cmd"].split())]
            for phase in phases
            for row in (by_id[name] for name in phase["first_jobs"])
        ],
        width,
        indent=1,
    )
    found.append(Text(f"where: {document['where']}; jobs run in {document['cwd']}"))
    found.append(Text(f"how long: {document['how_long']}"))
    found.append(Text(f"cost: {document['cost']}"))
    if "advice" in document:
        found.append(Text(f"best run: {_advised(document['advice'])}"))
    return found


def _advised(advice: Mapping[str, Any]) -> str:
    kinds = {"local": "on this machine", "remote": "on another machine", "remote-gpu": "on another machine, with a GPU"}
    rent = f"; to rent one: wavequeue up SPEC --profile {advice['profile']}" if advice["profile"] else ""
    other = "" if advice["overruled"] else " (--where says otherwise)"
    return f"{kinds[advice['where']]}: {advice['reason']}{rent}{other}"


def host_words(manifest: Manifest, offer: Offer) -> str:
    """What a host has that the jobs may use: `8 cores, 2 GPUs`."""
    cards = len(_usable(manifest, offer))
    return f"{_count(offer.cores, 'core')}, {_count(cards, 'GPU') if cards else 'no GPU'}"


def _waits(row: Mapping[str, Any]) -> str:
    ids = row.get("depends_on", row["waits_for"])
    return f"after {listed(ids, 3)}" if ids else ""


def _cards(row: Mapping[str, Any]) -> str:
    counts = "-".join(map(str, dict.fromkeys((row["cards"][0], row["cards"][-1])))) if row["cards"] else "0"
    if counts == "0":
        return "none (CPU)"
    share = f" x {listed(map(str, row['gpu_mem_mib']))} MiB" if row["gpu_mem_mib"] else ""
    return counts + share + (f" ({listed(row['gpu_model'])})" if row["gpu_model"] else "")


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")
