"""Build the command that opens a shell beside a job that runs on Slurm, in its allocation and on its node. Pure.

It runs on the login node, as srun does. IDs are used again, so the name is looked at first; and srun takes no second
step beside a running one before Slurm 20.11, which brought --overlap.
"""

from __future__ import annotations

from collections.abc import Sequence

# In one line, since a login shell may be csh, whose quotes end with the line.
_OPEN = "; ".join((
    'id="$1" prefix="$2" cwd="$3" instead="$4"',
    'no() { echo "$1; follow its log instead: $instead" >&2; exit 1; }',
    'command -v srun >/dev/null 2>&1 || no "srun is not installed here, or not in PATH"',
    'srun --help 2>&1 | grep -q -e --overlap || no "$(srun --version 2>&1) has no srun --overlap, as 20.11 and later"',
    'name=$(squeue --noheader --jobs="$id" --format=%j 2>/dev/null)',
    'case "$name" in "$prefix"*) ;; *) no "Slurm does not list it as job $id" ;; esac',
    'exec srun --jobid="$id" --overlap --nodes=1 --ntasks=1 --chdir="$cwd" --pty "${SHELL:-/bin/bash}"',
))  # fmt: skip


def build_shell(job_id: int, prefix: str, cwd: str, instead: Sequence[str]) -> list[str]:
    """The command for the job of Slurm with this ID, whose name begins with `prefix`. `cwd`: where the shell begins;
    `instead`: the command that is named where there can be no shell."""
    return ["sh", "-c", _OPEN, "wavequeue", str(job_id), prefix, cwd, " ".join(instead)]
