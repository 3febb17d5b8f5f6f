"""When a shell is opened beside a job on Slurm, and what is said where it is not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from skill.common.errors import UseError
from skill.operations.attach_job import attach_command
from skill.runs.directory import Run
from skill.runs.slurm_attach import build_shell
from tests.skill.story import RUN_ID, Story, job, manifest
from tests.skill.test_attach_command import program

HELP = "echo '  --overlap  share the resources'"
INSTEAD = "follow its log instead: wavequeue logs one -f"


@pytest.mark.parametrize(
    ("srun", "queue", "code", "shown"),
    [
        (HELP, "echo wq.run-1.k.3", 0, "--jobid=7 --overlap --nodes=1 --ntasks=1 --chdir=/my code --pty /bin/tcsh"),
        (None, "echo wq.run-1.k.3", 1, f"srun is not installed here, or not in PATH; {INSTEAD}"),
        ("echo slurm 20.02", "echo wq.run-1.k", 1, f"slurm 20.02 has no srun --overlap, as 20.11 and later; {INSTEAD}"),
        (HELP, "echo theirs", 1, f"Slurm does not list it as job 7; {INSTEAD}"),
        (HELP, "echo 'slurm_load_jobs error' >&2; exit 1", 1, f"Slurm does not list it as job 7; {INSTEAD}"),
    ],
)  # fmt: skip
def test_a_shell_beside_a_job(tmp_path: Path, srun: str | None, queue: str, code: int, shown: str) -> None:
    """IDs are used again: a job of that ID with another name is not ours."""
    if srun is not None:
        program(tmp_path, "srun", f'case "$1" in --help|--version) {srun} ;; *) echo "$*" ;; esac')
    program(tmp_path, "squeue", queue)
    program(tmp_path, "grep", 'exec /usr/bin/grep "$@"')
    command = ["/bin/sh", *build_shell(7, "wq.run-1.", "/my code", ["wavequeue logs one", "-f"])[1:]]
    environment = {"PATH": str(tmp_path), "SHELL": "/bin/tcsh"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, (done.stdout + done.stderr).strip()) == (code, shown)


def test_only_a_job_that_slurm_has_started_can_have_one(tmp_path: Path) -> None:
    story = Story(manifest(job("one"), launcher="slurm"), tmp_path).submit("one")
    story.queued = {0: "waits in Slurm's queue (pending: Resources)"}
    run = Run(tmp_path.name, story.write())
    with pytest.raises(UseError, match="job one is not running: it is pending"):
        attach_command(run, "one")
    story.begin("one", "n1").write()
    found = attach_command(run, "one")
    assert found.command[-4:-2] == ["7", f"wq.{RUN_ID}."]
    assert "exit ends the shell, and the job keeps running" in found.leave
