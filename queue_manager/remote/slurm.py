"""What Slurm on this machine says of itself, and of what jobs ask of it. Starts no job, but for one where that is asked
for."""

from __future__ import annotations

import getpass
import math
import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from queue_manager.core import slurm_needs
from queue_manager.core.manifest import Manifest
from queue_manager.core.slurm_asking import Asking
from queue_manager.remote import slurm_task
from queue_manager.slurm import commands, limits, manager_job, partitions

PATIENCE = 30.0
"""Seconds for one command. A controller that is away makes it wait for 9 to 18."""
CLASSES = 20
"""So many different needs are tried at most."""
MANAGER = "the manager"
"""Stands for a job's id, where the spec says what the manager asks for as a job."""
NAMED = 20
"""Ids of jobs in an answer."""
_VERSION = re.compile(r"slurm(?:-wlm)? (\S+)")


def describe(manifest: Manifest, place: Path | None = None) -> dict[str, Any]:
    """`version`; `fault`: why nothing can be submitted, or null; `max_array`, `max_jobs`, `min_job_age` (seconds) as
    Slurm is configured, null where unknown; `refused`: needs that Slurm can never meet, [{options, jobs, count, says}];
    `starts`: when it would start the first of each of the others, in its words, and what time in seconds they may ask
    for: [{options, count, says, max_time}]; `untried`: needs that were too many;
    `notes`: what a person should know, in words; `most_running`, `most_submitted`: how many jobs this user may have,
    null where there is no limit or it is unknown. `place`: a directory as that of the run, in which one task is tried:
    `task`, see slurm_task; null without it."""
    found: dict[str, Any] = {"version": None, "fault": None, "refused": [], "starts": [], "untried": 0, "notes": []}
    found.update(task=None, most_running=None, most_submitted=None)
    found.update(commands.Configuration()._asdict())
    code, out, words = _run(["sbatch", "--version"])
    version = _VERSION.search(out)
    if code is None or version is None:
        found["fault"] = (
            f"sbatch does not run here: {commands.complaint(words) if words.strip() else 'it is not that of Slurm'}"
            if code != 127
            else _NONE
        )
        return found
    found["version"] = version.group(1)
    code, out, words = _run(commands.CONFIGURATION)
    if code != 0:
        found["fault"] = f"Slurm's controller does not answer: {commands.complaint(words)}"
        return found
    found.update(commands.configuration(out)._asdict())
    needs = _needs(manifest)
    code, out, _ = _run(partitions.LISTING)
    known = partitions.partitions(out) if code == 0 else {}
    found["notes"] += limits.closed(needs, known)
    _ask_for_limits(needs, found)
    _try_needs(manifest, needs, known, found)
    if place is not None and not found["refused"] and needs:
        found["task"] = slurm_task.try_task(place, next(iter(needs)), _run)
    return found


_NONE = "sbatch is not installed, or not in PATH: run this on a login node of the cluster, or name one with --host"


def _needs(manifest: Manifest) -> dict[tuple[str, ...], list[str]]:
    """The ids of jobs by sbatch's options for one of them."""
    found: dict[tuple[str, ...], list[str]] = {}
    asking = Asking(manifest, manifest.jobs)
    for job in manifest.jobs:
        found.setdefault(asking.options(job), []).append(job.id)
    return found


def _ask_for_limits(needs: Iterable[Sequence[str]], found: dict[str, Any]) -> None:
    """Ask how many jobs this user may have; sites without accounting do not say."""
    accounts = {option.partition("=")[2] for options in needs for option in options if option.startswith("--account=")}
    code, out, _ = _run([*limits.ASSOCIATIONS, f"user={getpass.getuser()}"])
    if code == 0:
        account = next(iter(accounts)) if len(accounts) == 1 else None
        found["most_running"], found["most_submitted"] = limits.most_jobs(out, account)


def _try_needs(
    manifest: Manifest,
    needs: Mapping[tuple[str, ...], list[str]],
    known: Mapping[str, partitions.Partition],
    found: dict[str, Any],
) -> None:
    found["untried"] = max(0, len(needs) - CLASSES)
    tried = list(needs.items())[:CLASSES]
    if manifest.slurm_manager:
        tried.append((("--ntasks=1", *slurm_needs.options(manager_job.settings(manifest))), [MANAGER]))
    for options, jobs in tried:
        too_long = limits.over_time(options, known)
        if too_long is not None:
            found["refused"].append({
                "options": list(options), "jobs": jobs[:NAMED], "count": len(jobs), "says": too_long,
            })  # fmt: skip
            continue
        code, _, words = _run(["sbatch", "--test-only", "--export=NIL", *options, "--wrap=true"])
        says = commands.complaint(words)
        if code == 0 and jobs == [MANAGER]:
            continue
        if code == 0:
            most = partitions.longest(options, known)
            found["starts"].append({
                "options": list(options), "count": len(jobs), "says": says.partition("sbatch: ")[2],
                "max_time": None if most is None or math.isinf(most) else most,
            })  # fmt: skip
        elif code is not None:
            row = {"options": list(options), "jobs": jobs[:NAMED], "count": len(jobs), "says": says}
            found["refused"].append(row)


def _run(argv: Sequence[str]) -> tuple[int | None, str, str]:
    """Exit code, None where there is none in time; stdout, stderr."""
    try:
        done = subprocess.run(
            argv,
            env=commands.scrubbed(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
        )
    except FileNotFoundError:
        return 127, "", ""
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, "", str(error)
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
