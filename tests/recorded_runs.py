"""Real runs as data, by which the simulation is judged. `python -m tests.recorded_runs [NAME...]` makes them anew.

Each is a real manager with real jobs, which sleep, on the stand-in for NVIDIA's library; those of the demo train. Kept
are the manifest, the cards, the journal without what tells of the machine, and how busy that was meanwhile (load.json).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import build_manifest
from queue_manager.core import events as ev
from queue_manager.core.boundary import HealthReading
from queue_manager.core.events import Record
from queue_manager.core.manifest import Manifest, decode, encode
from queue_manager.core.readings import Card
from queue_manager.core.times import epoch
from tests import nvml
from tests.demo_copy import copy_manifests
from tests.e2e.runs import ROOT, Run, World

DATA = ROOT / "tests" / "data" / "simulated_runs"
SLEEPING = sorted(file.parent.name for file in DATA.glob("*/spec.yaml"))
"""The runs whose jobs sleep, by their folders; as many cards as the spec may use."""


WITH_HEALTH = ("demo_a", "demo_b", "demo_c")
"""Runs of the demo of which the progress of jobs was recorded as well."""
OF_THE_DEMO = ("demo_first", "demo", *WITH_HEALTH)


class Recorded(NamedTuple):
    """A run that was. `cards`: without the memory of its jobs; `health`: what was read of its jobs' logs, as far as
    that was recorded."""

    manifest: Manifest
    records: list[Record]
    cards: tuple[Card, ...]
    health: tuple[tuple[str, HealthReading], ...] = ()


def read(name: str) -> Recorded:
    """A run that was recorded."""
    folder = DATA / name
    cards = [Card(**row) for row in json.loads((folder / "cards.json").read_text())]
    records = [ev.decode(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    file = folder / "health.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    health = tuple(_reading(json.loads(line)) for line in lines)
    return Recorded(decode((folder / "manifest.json").read_text()), records, tuple(cards), health)


def _reading(row: dict[str, Any]) -> tuple[str, HealthReading]:
    job = row.pop("job")
    return job, HealthReading(**{**row, "at": epoch(row["at"])})


def _record(name: str, manifest: Manifest, root: Path, files: Path | None = None) -> None:
    """Run it, in `files` if they are given, and keep what is known of it then."""
    root.mkdir()
    load = os.getloadavg()[0]
    standin = nvml.Standin(root, nvml.cards(len(manifest.gpus or ())))
    world = World(root, standin.env)
    try:
        run = world.run(manifest, run_id=f"{name}-20260101-000000")
        if files is not None:
            run.paths.manifest.write_text(encode(manifest._replace(cwd=str(files))))
        run.start()
        over = threading.Event()
        health: list[str] = []
        watcher = threading.Thread(target=_watch_health, args=(run, over, health))
        watcher.start()
        code = run.finish(600)
        over.set()
        watcher.join()
        assert code == 0, run.story()
        folder = DATA / name
        folder.mkdir(parents=True, exist_ok=True)
        if health:
            (folder / "health.jsonl").write_text("".join(health))
        (folder / "manifest.json").write_text(encode(manifest))
        rows = [Card(one["index"], one["uuid"], one["name"], one["total_mib"], 3) for one in run.state()["gpus"]]
        (folder / "cards.json").write_text(json.dumps([vars(one) for one in rows], indent=1) + "\n")
        busy = {"cores": os.cpu_count(), "load at the beginning": load, "load at the end": os.getloadavg()[0]}
        (folder / "load.json").write_text(json.dumps(busy, indent=1) + "\n")
        records = [ev.decode(line) for line in run.paths.journal.read_text().splitlines()]
        (folder / "journal.jsonl").write_text("".join(ev.encode(_of_no_machine(record)) for record in records))
    finally:
        world.close()


def _watch_health(run: Run, over: threading.Event, found: list[str]) -> None:
    """Take note of what the state tells of running jobs' progress, whenever it is another one."""
    last: dict[str, object] = {}
    while not over.wait(0.1):
        document = run.state()
        for row in document.get("jobs", ()):
            health = row["health"] or {}
            shown = [row["attempt"], *(health.get(key) for key in ("step", "total", "rate", "eta_s"))]
            if health.get("step") is not None and last.get(row["id"]) != shown:
                last[row["id"]] = shown
                kept = {key: health[key] for key in ("step", "total", "rate", "eta_s")}
                found.append(json.dumps({"at": document["meta"]["updated"], "job": row["id"], **kept}) + "\n")


def _of_no_machine(record: Record) -> Record:
    event = record.event
    if isinstance(event, ev.ManagerStarted):
        event = replace(event, host="gpu-a", boot="boot")
    if isinstance(event, ev.AttemptStarting):
        event = replace(event, boot="boot")
    return record._replace(event=event)


def main(names: Sequence[str] = ()) -> None:
    """Record the runs of these names, else all; those that sleep at the same time."""
    wanted = set(names) or {*SLEEPING, *OF_THE_DEMO}
    if unknown := wanted - {*SLEEPING, *OF_THE_DEMO}:
        sys.exit(f"no such runs: {', '.join(sorted(unknown))}")
    if len(wanted) > 1:  # those that sleep at the same time, each in a process of its own
        command = [sys.executable, "-m", __spec__.name]
        sleeping = [subprocess.Popen([*command, name], cwd=ROOT) for name in sorted(wanted & set(SLEEPING))]
        codes = [process.wait() for process in sleeping]
        codes += [
            subprocess.run([*command, name], cwd=ROOT, check=False).returncode for name in OF_THE_DEMO if name in wanted
        ]
        sys.exit(max(codes))
    (name,) = wanted
    with tempfile.TemporaryDirectory(prefix="wqrec", ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        if name in SLEEPING:
            _record(name, _built(DATA / name / "spec.yaml"), root / name)
            return
        copy_manifests(root / "files", full=True)
        _record(name, _built(root / "files" / "demo.yaml"), root / name, root / "files" / "demo")


def _built(spec: Path) -> Manifest:
    return build_manifest.build(build_manifest.read(str(spec)), str(spec)).manifest


if __name__ == "__main__":
    main(sys.argv[1:])
