"""The queue of a campaign: its nodes as jobs of one run, on this machine or on hosts."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from build_manifest import Built
from build_manifest.faults import Shown, SpecErrors, listed
from queue_manager.core.layout import LOCAL_RUNS
from queue_manager.core.manifest import Manifest
from queue_manager.core.readings import may_use
from queue_manager.core.times import duration, epoch
from skill.auto import gate, protection, repository
from skill.auto.campaign import COMPLETED
from skill.auto.config import Config
from skill.auto.layout import WorkDir, hashes_of
from skill.auto.ports import JobSeen, JobToRun
from skill.auto.protection import Protected
from skill.common import files
from skill.common.errors import FailedError, UseError
from skill.hosts.connection import Unreachable
from skill.operations import (
    add_jobs,
    build_spec,
    change_run,
    check_hosts,
    remove_on_hosts,
    rescue,
    start_run,
    submission,
    submit_spec,
    survey,
)
from skill.operations.build_spec import MadeSpec, Say
from skill.operations.submit import Outcome
from skill.runs import assignment, directory, local_manager, removal
from skill.runs.directory import Document, Run
from skill.runs.open import open_run
from skill.runs.requests import Asked

_NAME = re.compile(r"(?<!\$)\$\{(\w+)\}")
SEED = "seed"
_TRIES = 5
_RESCUE_AGAIN = 60.0
"""Seconds after which a rescue that failed is tried again."""
READING = "reading"
"""Status of a completed job whose metrics its manager has not read yet."""


def spec_of(
    config: Config,
    work: WorkDir,
    jobs: Sequence[JobToRun],
    cwd: str | None = None,
    protected: Mapping[str, Protected] | None = None,
) -> MadeSpec:
    """The spec of some jobs: each in its node's worktree, with the settings that the launch command names. `cwd`: where
    the worktrees are, for the run; None: where they are here. `protected`: files that jobs check, by node."""
    top: dict[str, Any] = {**config.run, "project": config.name, "metrics": dict(config.metrics)}
    top["cwd"] = str(work.code) if cwd is None else cwd
    top["jobs"] = [_job(config, work, job, (protected or {}).get(job.node)) for job in jobs]
    text = json.dumps(top, indent=1, ensure_ascii=False)
    return MadeSpec(f"the jobs of campaign {config.name}", text, text, len(jobs), work.code, Shown.NAMES, None)


def _job(config: Config, work: WorkDir, job: JobToRun, protected: Protected | None) -> dict[str, Any]:
    values = {**job.settings, SEED: job.seed}
    named = dict.fromkeys(_NAME.findall(config.launch.command))
    env = {**config.job.get("env", {}), "WQ_SEED": str(job.seed), "WQ_NODE": job.node}
    if job.image:
        env["IMAGE"] = job.image
    command, own = config.launch.command, dict(config.job)
    if protected is not None and protected.number:
        command = protection.guarded(command, protected, job.directory, config.subdir)
        own["metrics"] = {**own.get("metrics", {}), protection.METRIC: dict(protection.RULE)}
    return {
        **own,
        "id": job.id,
        "cmd": command,
        "args": {name: values[name] for name in named if name in values},
        "cwd": str((job.directory / config.subdir).relative_to(work.code)),
        "env": env,
        **({"gpu_model": job.gpu_model} if job.gpu_model else {}),
    }


class LocalQueue:
    """One run on this machine; see skill.auto.ports.Queue."""

    interval = 0.5

    def __init__(self, config: Config, work: WorkDir, say: Say) -> None:
        self._config, self._work, self._say = config, work, say

    def run(self, gpu_model: str = "") -> Run | None:
        """The campaign's run; there is one at most, and its manifest is there before anything runs."""
        del gpu_model  # this machine has one run for all
        return next(directory.in_folder(self._work.code / LOCAL_RUNS), None)

    def gpus(self) -> Mapping[str, int]:
        made = self._any_job()
        probe = local_manager.preflight(made.manifest)["probe"]
        return _at_a_time(made.manifest, [[(row["index"], row["name"]) for row in probe["gpus"]]])

    def gone(self, after: float) -> str | None:
        assert after >= 0
        return None  # this machine is here

    def submit(self, jobs: Sequence[JobToRun]) -> None:
        model = jobs[0].gpu_model if jobs else ""
        run = self.run(model)
        try:
            if run is None:
                self._begin(self._spec(jobs), model)
                return
            self._renew(run)
            known = self.look(model)
            new = [job for job in jobs if job.id not in known]
            if new:
                self._add(run, new)
        except (UseError, SpecErrors) as error:
            raise FailedError(str(error)) from None

    def look(self, gpu_model: str = "") -> Mapping[str, JobSeen]:
        run = self.run(gpu_model)
        return {} if run is None else seen(self._document(run))

    def cancel(self, jobs: Sequence[str], gpu_model: str = "") -> None:
        run, known = self.run(gpu_model), self.look(gpu_model)
        ids = [job for job in jobs if job in known]
        if run is not None and ids:
            change_run.cancel_jobs(run, ids)

    def forget(self) -> None:
        """Remove what an ended run has left, and on hosts the code that was pushed for it. Raises FailedError."""
        run = self.run()
        if run is not None:
            removal.remove(run, Path.home())

    def _document(self, run: Run) -> Document:
        try:
            with open_run(run) as there:
                return there.look(full=True)
        except UseError as error:
            raise FailedError(str(error)) from None

    def _any_job(self) -> Built:
        """What a job of the campaign is like, to ask machines about."""
        place = self._work.code / "n000"
        job = JobToRun("n000_s0", "n000", 0, self._config.launch.settings, place, self._config.anchor)
        try:
            return build_spec.build(self._spec([job]))
        except (UseError, SpecErrors) as error:
            raise FailedError(str(error)) from None

    def _spec(self, jobs: Sequence[JobToRun]) -> MadeSpec:
        return spec_of(self._config, self._work, jobs)

    def _begin(self, spec: MadeSpec, _gpu_model: str) -> None:
        """Make the run. Raises UseError, SpecErrors, FailedError."""
        start_run.start_run(spec, again=True, say=self._say)

    def _renew(self, run: Run) -> None:
        """Finish a start that was interrupted by a kill."""
        with open_run(run) as there:
            there.begin()

    def _add(self, run: Run, jobs: Sequence[JobToRun]) -> None:
        """A request that has no answer yet stays, and counts; what it adds is seen once it was taken."""
        done = add_jobs.add_spec(run, self._spec(jobs)).added
        for outcome in done.outcomes if done is not None else ():
            found = outcome.asked
            if isinstance(found, Asked):
                if found.answer is not None and not found.answer.ok:
                    raise FailedError(f"run {run.id}: {found.answer.text}")
            else:
                reason = found if isinstance(found, str) else found.reason
                raise FailedError(f"{outcome.host}: {reason}")


class HostsQueue(LocalQueue):
    """A run on hosts for each GPU model, on those that have it. The worktrees are pushed before jobs that need them are
    added; what is there already is not sent again. Each job checks the protected files where it runs."""

    interval = 5.0

    def __init__(self, config: Config, work: WorkDir, say: Say) -> None:
        super().__init__(config, work, say)
        self._protected: dict[str, Protected] = {}
        self._models: dict[str, tuple[str, ...]] = {}
        self._hosts: dict[str, list[str]] | None = None
        self._away: dict[str, float | None] = {}
        self._again: dict[str, float] = {}

    def run(self, gpu_model: str = "") -> Run | None:
        """The newest of the campaign's runs whose jobs are tied to this model, or else one that is tied to none."""
        found: Run | None = None
        for run in directory.in_folder(self._work.code / LOCAL_RUNS):
            if run.id not in self._models:
                self._models[run.id] = directory.read_manifest(run, ours=True).jobs[0].gpu_model
            models = self._models[run.id]
            if models == (gpu_model,) or not gpu_model:
                return run
            found = found if models else run
        return found

    def gpus(self) -> Mapping[str, int]:
        manifest = self._any_job().manifest
        made = submission.prepare(manifest, self._spec(()), push=False)
        hosts = check_hosts.connect(made, (), None, self._say)
        try:
            found = survey.survey_hosts(made, hosts)
        finally:
            for host in hosts:
                host.close()
        cards: dict[str, list[tuple[int, str]]] = {}
        silent = []
        for name, one in found.items():
            if one.document is None:
                silent.append(f"{name}: {one.facts.reason if isinstance(one.facts, Unreachable) else one.why}")
            else:
                cards[name] = [(row["index"], row["name"]) for row in one.document["probe"]["gpus"]]
        if not any(cards.values()) and silent:
            raise FailedError("; ".join(silent))
        for text in silent:
            self._say(f"warning: {text}; its GPUs are not counted on")
        self._hosts = {}
        for name, rows in cards.items():
            for model in _at_a_time(manifest, [rows]):
                self._hosts.setdefault(model, []).append(name)
        return _at_a_time(manifest, list(cards.values()))

    def gone(self, after: float) -> str | None:
        if not self._away or any(age is not None and age < after for age in self._away.values()):
            return None
        return f"{listed(list(self._away), 3)} was not reached for {duration(after)}, or was given up"

    def submit(self, jobs: Sequence[JobToRun]) -> None:
        if globs := self._config.scope.protected:
            for job in {job.node: job for job in jobs}.values():
                tracked = repository.files(Path(self._config.repo), job.commit)
                names = (name for name in tracked if gate.covers(globs, name))
                found = self._protected[job.node] = protection.hashes(job.directory, names)
                files.write_whole(hashes_of(job.directory), os.fsencode(found.listed))
        super().submit(jobs)

    def forget(self) -> None:
        run = self.run()
        if run is None:
            return
        nodes = {job.cwd.split("/")[0] for job in directory.read_manifest(run, ours=True).jobs if job.cwd}
        names = [name for node in sorted(nodes) for name in (node, hashes_of(self._work.code / node).name)]
        for left in reversed(range(_TRIES)):
            try:
                remove_on_hosts.remove_there(run, names)
                break
            except FailedError:  # its manager has written that it ended, and is about to
                if not left:
                    raise
                time.sleep(1.0)
        super().forget()

    def _document(self, run: Run) -> Document:
        document = super()._document(run)
        rows = document["meta"].get("hosts", [])
        self._away = {row["name"]: _silence(row) for row in rows}
        if any(row["reachable"] and row["state"] != assignment.LOST for row in rows):
            for name, age in self._away.items():
                if age and age >= self._config.lost_after:
                    self._give_up(run, name)
        return document

    def _give_up(self, run: Run, name: str) -> None:
        """Have the jobs of a host that was not reached for long run on the others of the run."""
        if time.monotonic() < self._again.get(name, 0.0):
            return
        self._again[name] = time.monotonic() + _RESCUE_AGAIN
        try:
            made, _ = rescue.move(run, name, (), None, lambda _made: None, lambda _text: None)
        except (UseError, FailedError, OSError) as error:
            self._say(f"warning: {name} has been unreachable for {duration(self._away[name] or 0.0)}: {error}")
            return
        moved = 0 if made is None else len(made.moving.moved)
        self._say(f"{name} has been unreachable for too long, and is given up: {moved} of its jobs run elsewhere")

    def _spec(self, jobs: Sequence[JobToRun]) -> MadeSpec:
        return spec_of(self._config, self._work, jobs, ".", self._protected)

    def _begin(self, spec: MadeSpec, gpu_model: str) -> None:
        if gpu_model and self._hosts is None:
            self.gpus()
        names = (self._hosts or {}).get(gpu_model, [])
        _check(submit_spec.submit_spec(spec, names, again=True, say=self._say).outcomes)

    def _renew(self, run: Run) -> None:
        """Bring every host of the run to the state that its submit decided, and the code to all of them."""
        _check(submit_spec.push_again(run, self._spec(()), self._say))


def _silence(row: Mapping[str, Any]) -> float | None:
    """Seconds for which a host was not reached, by a row of `meta.hosts`; None: it was given up."""
    if row["state"] == assignment.LOST:
        return None
    return 0.0 if row["reachable"] else row["age_s"] or 0.0


def _at_a_time(manifest: Manifest, hosts: Sequence[Sequence[tuple[int, str]]]) -> dict[str, int]:
    """How many jobs like the first of a manifest can run at a time on GPUs of each model. `hosts`: index and name of
    the GPUs of each."""
    wanted, found = max(1, manifest.jobs[0].gpus), Counter[str]()
    for cards in hosts:
        usable = Counter(name for index, name in cards if may_use(index, manifest.gpus))
        found.update({name: count // wanted for name, count in usable.items()})
    return {name: count for name, count in sorted(found.items()) if count}


def _check(outcomes: Sequence[Outcome]) -> None:
    """Raises FailedError where something failed on a host; what was done on the others is not done again."""
    faults = [f"{one.host}: {one.fault}" for one in outcomes if one.fault is not None]
    if faults:
        raise FailedError("; ".join(faults))


def seen(document: Document) -> dict[str, JobSeen]:
    """What the state of a run says of its jobs."""
    models = {(row.get("host", ""), row["index"]): row["name"] for row in document["gpus"]}
    return {row["id"]: _seen(row, models) for row in document["jobs"]}


def _seen(row: Mapping[str, Any], models: Mapping[tuple[str, int], str]) -> JobSeen:
    host = row.get("host", "")
    found = row.get("metrics") or {}
    metrics = {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}
    errors = [f"{name}: {why}" for name, why in (row.get("metric_errors") or {}).items()]
    status = row["status"]
    if status == COMPLETED and not found and not errors:
        status = READING
    error = row["error"] or "; ".join(errors)
    if status == COMPLETED and (protection.METRIC in found or protection.METRIC in (row.get("metric_errors") or {})):
        changed = protection.fault(metrics.pop(protection.METRIC, None))
        if changed is not None:
            metrics, error = {}, changed
    return JobSeen(
        status,
        metrics,
        error,
        "" if row["gpu"] is None else models.get((host, row["gpu"])) or "unknown GPU",
        host,
        _at(row["started"]),
        _at(row["completed"] or row["attempt_ended"]),
    )


def _at(text: str | None) -> float | None:
    return None if text is None else epoch(text)


def queue_of(config: Config, work: WorkDir, say: Say) -> LocalQueue:
    """The queue of a campaign: on the hosts that its configuration names, or on this machine."""
    on_hosts = "hosts" in config.run or "ssh" in config.run
    return HostsQueue(config, work, say) if on_hosts else LocalQueue(config, work, say)
