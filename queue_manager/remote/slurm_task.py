"""Tries whether a task of Slurm can run an attempt: it claims one in a directory as a run would have it."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from queue_manager.adapters.run_dir import RunDir
from queue_manager.core.layout import RunPaths
from queue_manager.slurm import attempt_files, commands
from queue_manager.slurm.attempt_files import Taken
from queue_manager.slurm.batches import Batches, Task
from queue_manager.slurm.commands import Listed

Run = Callable[[Sequence[str]], tuple[int | None, str, str]]
"""Runs a command: its exit code, None where there is none in time; stdout and stderr."""
WAIT = 30.0
"""Seconds for the task to begin."""
VISIBLE = 15.0
"""Seconds for its files to be seen here, once Slurm says that it has ended: NFS shows them late."""
_EVERY = 0.25
_JOB = "preflight"
_SAME = ("--partition=", "--account=", "--qos=", "--constraint=")
"""The needs of the jobs that the task has as well; all else would only make it wait longer."""


def try_task(place: Path, options: Sequence[str], run: Run) -> dict[str, Any]:
    """Run one task of a second as the runs below `place` would have them, and leave nothing behind. `options`: sbatch's
    of the jobs.

    Returns `state`: `ran`, `waits` (it was still in the queue), `failed` or `unknown`; `says`: why, in words; `node`:
    where it ran or failed; `seconds` from its submission to its claim.
    """
    there = next((one for one in (place, *place.parents) if one.is_dir()), Path("/"))
    try:
        root = Path(tempfile.mkdtemp(prefix=".wq-preflight-", dir=there))
    except OSError as error:
        return _found("failed", f"{there} cannot be written: {error.strerror}")
    try:
        return _try(root, there, options, run)
    except OSError as error:
        return _found("failed", f"{error.filename or there}: {error.strerror}")
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _found(state: str, says: str = "", node: str = "", seconds: float | None = None) -> dict[str, Any]:
    return {"state": state, "says": says, "node": node, "seconds": seconds}


def _try(root: Path, place: Path, options: Sequence[str], run: Run) -> dict[str, Any]:
    paths = RunPaths.of(root)
    run_dir = RunDir(paths)
    run_dir.prepare()
    files = run_dir.prepare_attempt(_JOB, 1, "sleep 1\n", {})
    store = Batches(paths, secrets.token_hex(8), _JOB)
    batch = store.make([[Task(_JOB, 1, _JOB)]], time.time())
    same = [option for option in options if option.startswith(_SAME)]
    begin = time.monotonic()
    code, _, words = run(commands.submit([*same, "--time=1"], batch.name, 1, batch.directory))
    if code != 0:
        name = batch.name
        _cancel(name, run)
        says = commands.complaint(words) if words.strip() else "sbatch did not answer in time"
        return _found("unknown" if code is None else "failed", says)
    gone_at: float | None = None
    row: Listed | None = None
    try:
        while True:
            claim = attempt_files.taken(files)
            now = time.monotonic()
            if isinstance(claim, Taken):
                return _found("ran", "", claim.node, round(now - begin, 1))
            row = _row(batch.name, run)
            if row is not None and row.state in commands.OVER:
                gone_at = gone_at or now
                if now - gone_at > VISIBLE or row.state in commands.NOT_STARTED:
                    return _found("failed", _why(row, place), row.node)
            elif now - begin > WAIT and (row is None or row.state != "RUNNING" or now - begin > WAIT + VISIBLE):
                if row is not None and row.state == "RUNNING":
                    return _found("failed", _why(row, place), row.node)
                reason = f" ({row.reason})" if row is not None else ""
                return _found("waits", f"a task still waits in Slurm's queue after {WAIT:g} s{reason}")
            time.sleep(_EVERY)
    finally:
        _wait_or_cancel(batch.name, files.exit, run)


def _why(row: Listed, place: Path) -> str:
    says = f"Slurm: {row.state}, {row.reason}"
    return (
        f"a task on node {row.node or 'unknown'} could not claim an attempt in {place} ({says}): the directory is not "
        "shared with the nodes, or cannot be written there; put the spec into one that is"
    )


def _row(name: str, run: Run) -> Listed | None:
    code, out, _ = run(commands.LISTING)
    return commands.listing(out).get((name, 0)) if code == 0 else None


def _cancel(name: str, run: Run) -> None:
    """Take the task out of the queue, by its name and its ID: IDs are used again."""
    row = _row(name, run)
    if row is not None and row.state not in commands.OVER:
        run(commands.end([f"{row.array}_0"]))


def _wait_or_cancel(name: str, record: Path, run: Run) -> None:
    """Let a task that runs end, since it takes a second; its directory is removed after it."""
    end = time.monotonic() + 5.0
    claim = record.with_name("claim")
    while claim.exists() and not record.exists() and time.monotonic() < end:
        time.sleep(0.05)
    if not record.exists():
        _cancel(name, run)
