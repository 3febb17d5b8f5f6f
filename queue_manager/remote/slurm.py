"""What Slurm on this machine says of itself, and of what jobs ask of it. Starts no job."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from typing import Any

from queue_manager.core import slurm_needs
from queue_manager.core.manifest import Manifest
from queue_manager.core.slurm_asking import Asking
from queue_manager.slurm import commands, manager_job

PATIENCE = 30.0
"""Seconds for one command. A controller that is away makes it wait for 9 to 18."""
CLASSES = 20
"""So many different needs are tried at most."""
MANAGER = "the manager"
"""Stands for a job's id, where the spec says what the manager asks for as a job."""
NAMED = 20
"""Ids of jobs in an answer."""
_VERSION = re.compile(r"slurm(?:-wlm)? (\S+)")


def describe(manifest: Manifest) -> dict[str, Any]:
    """`version`; `fault`: why nothing can be submitted, or null; `max_array`, `max_jobs`, `min_job_age` (seconds) as
    Slurm is configured, null where unknown; `refused`: needs that Slurm can never meet, [{options, jobs, count, says}];
    `starts`: when it would start the first of each of the others, in its words; `untried`: needs that were too many."""
    found: dict[str, Any] = {"version": None, "fault": None, "refused": [], "starts": [], "untried": 0}
    found.update(commands.Configuration()._asdict())
    code, out, words = _run(["sbatch", "--version"])
    version = _VERSION.search(out)
    if code is None or version is None:
        found["fault"] = f"sbatch does not run here: {words or 'it is not that of Slurm'}" if code != 127 else _NONE
        return found
    found["version"] = version.group(1)
    code, out, words = _run(commands.CONFIGURATION)
    if code != 0:
        found["fault"] = f"Slurm's controller does not answer: {commands.complaint(words)}"
        return found
    found.update(commands.configuration(out)._asdict())
    _try_needs(manifest, found)
    return found


_NONE = "sbatch is not installed, or not in PATH: run this on a login node of the cluster, or name one with --host"


def _try_needs(manifest: Manifest, found: dict[str, Any]) -> None:
    needs: dict[tuple[str, ...], list[str]] = {}
    asking = Asking(manifest, manifest.jobs)
    for job in manifest.jobs:
        needs.setdefault(asking.options(job), []).append(job.id)
    found["untried"] = max(0, len(needs) - CLASSES)
    tried = list(needs.items())[:CLASSES]
    if manifest.slurm_manager:
        tried.append((("--ntasks=1", *slurm_needs.options(manager_job.settings(manifest))), [MANAGER]))
    for options, jobs in tried:
        code, _, words = _run(["sbatch", "--test-only", "--export=NIL", *options, "--wrap=true"])
        says = commands.complaint(words)
        if code == 0 and jobs == [MANAGER]:
            continue
        if code == 0:
            found["starts"].append(
                {"options": list(options), "count": len(jobs), "says": says.partition("sbatch: ")[2]}
            )
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
