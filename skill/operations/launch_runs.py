"""The way of claimed research runs to their workers: by the submit and the add that every run on hosts goes by.

Each step looks first what is there. Killed at any moment and begun again, it ends the same, and nothing runs twice.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from build_manifest.faults import listed
from queue_manager.core.layout import LOCAL_RUNS
from queue_manager.core.manifest import ManifestError, Phase
from queue_manager.core.requests import Request
from skill.common import files
from skill.common.errors import FailedError, UseError
from skill.hosts import health, probe, registry
from skill.hosts.bootstrap import Facts
from skill.hosts.connection import Host, Unreachable
from skill.hosts.registry import Worker
from skill.operations import check_hosts, submission, submit
from skill.operations.build_spec import Say
from skill.operations.dispatch_runs import Launched, Seen
from skill.operations.submission import Submission
from skill.planning import assign_added
from skill.research import dispatch
from skill.research.records import Record
from skill.research.store import Store
from skill.runs import assignment, digest, directory
from skill.runs.directory import Document, Run
from skill.runs.open import open_run
from skill.runs.requests import Asked

SLOTS = "slots"
"""Of a worker's resources: how many runs without a GPU it takes at a time; absent: one for each core."""


class Hosts:
    """Workers over SSH, or this machine. `where`: workers.yaml."""

    def __init__(self, where: Path, store: Store, say: Say) -> None:
        self._where, self._store, self._say = where, store, say

    # -- looking ----------------------------------------------------------------------------------------------------

    def look(self, worker: Worker, records: Sequence[Record]) -> Seen | str:
        """What a worker can take now, by its GPUs and by what its runs have not ended."""
        found = probe.probe_all([self._host(worker)])[worker.name]
        if isinstance(found.facts, Unreachable):
            return f"unknown, since it cannot be reached: {health.plain(found.facts.reason)}"
        if found.facts.python is None:
            return f"{found.facts.why_no_python}; set it up with: wavequeue hosts setup {worker.name}"
        probed = None if found.document is None else health.read(found.document)
        if probed is None:
            return f"it could not be asked how it is: {found.why or 'its answer cannot be understood'}"
        rows: list[Mapping[str, Any]] = []
        usable, known = set(), set()
        for name in _to_look_at(records):
            document = self._document(_run(self._store, records, name))
            if document is not None:
                usable.add(name)
                known |= {row["id"] for row in document["jobs"]}
                rows += [row for row in document["jobs"] if row["status"] not in digest.FINAL]
        rows += [  # what its run does not tell of may still run
            {"cards": record.get("gpus", 1), "gpus": []}
            for record in records
            if record["state"] in dispatch.OPEN and record["id"] not in known
        ]
        slots = worker.resources.get(SLOTS)
        cores = slots if type(slots) is int and slots >= 0 else probed.cpus or 1
        cards = {card.number: (card.total_mib or 0) - (card.free_mib or 0) for card in probed.cards if not card.note}
        return Seen(dispatch.room(cards, cores, rows), frozenset(usable))

    def _document(self, run: Run) -> Document | None:
        """The state of a run that can take more jobs; None where it cannot, as on a host that is another machine."""
        try:
            with open_run(run) as there:
                document = there.look(full=True)
        except (FailedError, UseError):
            return None
        hosts = document["meta"]["hosts"]
        # A manager that is just starting has no state yet, and takes more jobs all the same.
        return (
            document if all(row["reason"] is None and row["state"] == assignment.SUBMITTED for row in hosts) else None
        )

    def _host(self, worker: Worker) -> Host:
        return registry.connect(worker, self._where, submit.TRIES)

    # -- launching --------------------------------------------------------------------------------------------------

    def launch(self, worker: Worker, records: Sequence[Record]) -> Launched:
        """Bring claimed runs to their worker: see skill.operations.dispatch_runs."""
        found = Launched(frozenset())
        for name in dict.fromkeys(record["run"] for record in records):
            mine = [record for record in records if record["run"] == name]
            try:
                one = self._launch(worker, _run(self._store, mine, name), mine)
            except (FailedError, UseError, OSError) as error:
                one = Launched(frozenset(), why=str(error))
            why = "; ".join(filter(None, (found.why, one.why)))
            found = Launched(found.there | one.there, {**found.refused, **one.refused}, found.unsent | one.unsent, why)
        return found

    def _launch(self, worker: Worker, run: Run, records: Sequence[Record]) -> Launched:
        host = self._host(worker)
        facts: Mapping[str, Facts] = {}
        try:
            first = [record for record in records if dispatch.is_first(record)]
            if not run.root.exists():
                if not first:
                    raise FailedError(f"{run.root} no longer exists, so the outcome of its runs is unknown")
                made = self._submission(records[0], first)
                if isinstance(made, Launched):
                    return made
                checked = check_hosts.check(made, [host])
                if checked.faults:
                    return Launched(frozenset(), unsent=_ids(records), why="; ".join(checked.faults))
                facts = checked.fresh_facts()
                with files.in_turn(run.root.parent):
                    submit.create(made, [made.part(worker, [job.id for job in made.manifest.jobs])], name=run.id)
            made = self._kept(run, records[0])
            directory.note_submitted(run, Path.home())
            (outcome,) = submit.finish(run, made, [host], push=True, poll=None, say=self._say, facts=facts)
        finally:
            host.close()
        if outcome.fault is not None:
            return self._failed(run, records, outcome.fault)
        later = [record for record in records if not dispatch.is_first(record)]
        added = self._add(run, later) if later else Launched(frozenset())
        return added._replace(there=added.there | _ids(first))

    def _submission(self, one: Record, first: Sequence[Record]) -> Submission | Launched:
        """What a wavequeue run begins with. Runs that are no jobs are refused, and the rest has to be sent anew."""
        refused = {}
        for record in first:
            try:
                dispatch.job(record)
            except ManifestError as error:
                refused[record["id"]] = str(error)
        if refused:
            return Launched(frozenset(), refused, _ids(first) - refused.keys())
        try:
            manifest = dispatch.manifest(first)
        except ManifestError as error:
            return Launched(frozenset(), dict.fromkeys(_ids(first), str(error)))
        made = submission.prepare(manifest, str(self._base(one) / "spec"))
        return made._replace(beside=self._store.paths.study(one["project"]).root)

    def _kept(self, run: Run, one: Record) -> Submission:
        """The same for a run that was begun: with the manifest that it has."""
        made = submission.prepare(directory.read_manifest(run, ours=True), str(self._base(one) / "spec"))
        return made._replace(beside=self._store.paths.study(one["project"]).root)

    def _base(self, record: Record) -> Path:
        """The directory that a run's cwd is meant from: that of its spec, or of workers.yaml."""
        return Path(os.path.normpath(self._store.paths.root / dispatch.home(record).base))

    def _failed(self, run: Run, records: Sequence[Record], fault: str) -> Launched:
        """A run that could not be brought there. Where its host had nothing of it yet, its claims came to nothing."""
        found = assignment.read(run)
        never = found is not None and all(part.python is None for part in found.parts)
        if never:
            shutil.rmtree(run.root, ignore_errors=True)
        return Launched(frozenset(), unsent=_ids(records) if never else frozenset(), why=fault)

    def _add(self, run: Run, records: Sequence[Record]) -> Launched:
        """Add runs to a wavequeue run that has begun, by the requests that they were claimed with."""
        found = Launched(frozenset())
        with open_run(run) as there:
            document = there.look(full=True)
            for request in dict.fromkeys(record["claim"] for record in records):
                mine = [record for record in records if record["claim"] == request]
                known = {row["id"] for row in document["jobs"]} & _ids(mine)
                found = found._replace(there=found.there | known)
                new = [record for record in mine if record["id"] not in known]
                if not new:
                    continue
                try:
                    jobs = tuple(dispatch.job(record) for record in new)
                    phases = tuple(Phase(name) for name in dict.fromkeys(job.phase for job in jobs))
                    answers = there.add(
                        document, Request(request, "add", phases=phases, specs=jobs), assign_added.share
                    )
                except (ManifestError, UseError) as error:
                    found = found._replace(refused={**found.refused, **dict.fromkeys(_ids(new), str(error))})
                    continue
                found = _with_answer(found, _ids(new), answers[0].asked if answers else "its manager was not asked")
        return found


def _with_answer(found: Launched, ids: frozenset[str], asked: Asked | Unreachable | str) -> Launched:
    """Record what a manager answered to a request. Where it did not, the request lies there, or never came."""
    if isinstance(asked, Asked) and asked.answer is not None:
        if asked.answer.ok:
            return found._replace(there=found.there | ids)
        return found._replace(refused={**found.refused, **dict.fromkeys(ids, asked.answer.text)})
    words = asked if isinstance(asked, str) else asked.reason if isinstance(asked, Unreachable) else "no answer yet"
    return found._replace(why=f"{listed(sorted(ids))}: sent, and not confirmed ({words}); dispatch again to settle it")


def _ids(records: Sequence[Record]) -> frozenset[str]:
    return frozenset(record["id"] for record in records)


def _to_look_at(records: Sequence[Record]) -> list[str]:
    """The wavequeue runs of a worker that have something to do, and the newest of each home."""
    having = [record for record in records if "run" in record]
    newest = {dispatch.home(record): record["run"] for record in having}
    active = [record["run"] for record in having if record["state"] in dispatch.OPEN]
    return list(dict.fromkeys([*active, *newest.values()]))


def _run(store: Store, records: Sequence[Record], name: str) -> Run:
    """The directory of a wavequeue run; it need not exist."""
    project = next(record["project"] for record in records if record.get("run") == name)
    return Run.at(store.paths.study(project).root / LOCAL_RUNS / name)
