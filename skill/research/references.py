"""What is wrong with a record beside its columns: names of what is not there, and runs that no manifest takes. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from queue_manager.core import manifest as manifests
from queue_manager.core import metric_rules
from queue_manager.core.manifest import ManifestError
from skill.research import dispatch, run_records
from skill.research.record_faults import Path, RecordFault, unknown
from skill.research.records import Record


class Known(NamedTuple):
    """The names that records may use; None: it is not known which there are."""

    projects: Collection[str]
    ideas: Collection[str] | None
    runs: Collection[str] | None
    pools: Collection[str] | None


_NONE = "remove it, or write the id of one that is there"


def faults(records: Sequence[Record], known: Known) -> Iterator[RecordFault]:
    """All that is wrong with records whose columns are right."""
    for number, record in enumerate(records):
        names: list[tuple[str, Path, Any, Collection[str] | None]] = [
            ("project", ("project",), record["project"], known.projects),
            ("idea", ("idea",), record.get("idea"), known.ideas),
            ("pool", ("pool",), record.get("pool"), known.pools),
            *(("run", ("depends_on", n), one, known.runs) for n, one in enumerate(record.get("depends_on", ()))),
        ]
        for what, at, name, there in names:
            if name is not None and there is not None and name not in there:
                yield RecordFault((number, *at), *unknown(what, name, there, _NONE))
        if "command" in record:
            yield from _job_faults(record, (number,))


def _job_faults(run: Record, at: Path) -> Iterator[RecordFault]:
    for name, rule in metric_rules.rules(run.get("metrics")).items():
        if isinstance(rule, str):
            yield RecordFault((*at, "metrics", name), f"the rule of {name} {rule}", "write it as in a spec")
    job, settings = run.get("job", {}), run.get("settings", {})
    before = [
        *_unknown_keys(job, run_records.JOB_KEYS, "a job", (*at, "job")),
        *_unknown_keys(settings, run_records.SETTINGS, "a manifest", (*at, "settings")),
    ]
    yield from before
    if before:
        return
    for column, fault in (("job", _job_fault(run)), ("settings", _settings_fault(settings))):
        if fault is not None:
            yield RecordFault((*at, column), f"{column} cannot be used: {fault}", "write it as a manifest has it")


def _unknown_keys(found: Mapping[str, Any], known: Collection[str], what: str, at: Path) -> Iterator[RecordFault]:
    for key in found:
        if key not in known:
            name, hint = unknown(f"key of {what}", key, known, "")
            yield RecordFault((*at, key), name, hint)


def _job_fault(run: Record) -> str | None:
    try:
        dispatch.job(run)
    except ManifestError as error:
        return str(error)
    return None


def _settings_fault(settings: Mapping[str, Any]) -> str | None:
    head = {"format": manifests.FORMAT, "version": manifests.VERSION, "project": "research", "jobs": [], "phases": []}
    try:
        manifests.decode(json.dumps({**settings, **head}))
    except ManifestError as error:
        return str(error)
    return None
