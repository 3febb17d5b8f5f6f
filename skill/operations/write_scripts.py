"""Write what would be submitted to Slurm, for a look."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from queue_manager.core.launchers import SLURM
from queue_manager.core.manifest import encode
from skill.common.errors import UseError
from skill.operations.build_spec import Given, Say, beside, build_for, ignore, settle
from skill.runs.local_call import call


class Script(NamedTuple):
    """One array. `directory`: of its scripts; `jobs`: 0 for allocations that jobs share."""

    directory: str
    phase: str
    jobs: int
    tasks: int


def write_scripts(spec: Given, output: str, warn: Say = ignore) -> list[Script]:
    """Write the scripts of a spec into the directory `output`, which is new or empty. Submits nothing. `warn` gets a
    line for each warning. Raises SpecErrors, UseError and FailedError."""
    manifest = settle(build_for(spec, SLURM, warn), beside(spec))
    path = Path(output)
    if path.exists() and not path.is_dir():
        raise UseError(f"{output} is not a directory; give a new one")
    try:
        if path.is_dir() and any(path.iterdir()):
            raise UseError(f"{output} has other files; give a new directory")
    except OSError as error:
        raise UseError(f"{output} cannot be read: {error.strerror}") from None
    if not path.absolute().parent.is_dir():
        raise UseError(f"there is no directory {path.parent}")
    found = call("slurm_scripts", "--output", str(path.absolute()), stdin=encode(manifest))
    if "fault" in found:
        raise UseError(f"{output} cannot be written: {found['fault']}")
    rows = found["batches"]
    return [Script(f"{output}/{row['directory']}", row["phase"], row["jobs"], row["tasks"]) for row in rows]
