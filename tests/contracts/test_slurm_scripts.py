"""What is written in place of being submitted to Slurm."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from queue_manager.core.launchers import SLURM
from queue_manager.core.manifest import JobSpec, Manifest, Phase
from queue_manager.remote import slurm_scripts
from skill.common.errors import UseError
from skill.operations.write_scripts import write_scripts

OPTIONS = {"partition": "main", "time": 30}


def manifest(cwd: Path) -> Manifest:
    jobs = [
        JobSpec("t", "true", "teach", gpus=0, slurm=OPTIONS, env_from={"TOKEN": ("", "SECRET", "")}),
        *(JobSpec(f"s{n}", f"echo {n} >> ran", "learn", gpus=0, slurm={**OPTIONS, "bundle": 2}) for n in range(5)),
        *(JobSpec(f"g{n}", "true", "share", gpus=0, gpu_mem_mib=2000, slurm=OPTIONS) for n in range(3)),
    ]
    phases = (Phase("teach"), Phase("learn", ("teach",)), Phase("share"))
    return Manifest("p", tuple(jobs), phases, cwd=str(cwd), launcher=SLURM)


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Slurm's commands: scontrol knows a partition of an hour, and sbatch prints what it is called with."""
    folder = tmp_path / "bin"
    folder.mkdir()
    lines = {
        "scontrol": 'case "$2" in partition) echo PartitionName=main MaxTime=01:00:00 Default=YES State=UP ;; '
        "config) echo MaxArraySize = 2 ;; esac",
        "sbatch": 'printf "%s\\n" "$@"',
    }
    for name, line in lines.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("SECRET", "hush")
    return folder


@pytest.mark.usefixtures("bin_folder")
def test_all_that_would_be_submitted_is_written(tmp_path: Path) -> None:
    root = tmp_path / "look"
    found = slurm_scripts.write(manifest(tmp_path), root)["batches"]
    rows = [(row["phase"], row["jobs"], row["tasks"]) for row in found]
    # Five jobs of 30 minutes in a partition of an hour are three tasks, of which an array has two.
    assert rows == [("teach", 1, 1), ("learn", 4, 2), ("learn", 1, 1), ("share", 0, 1)]
    for row in found:
        script = root / row["directory"] / "submit.sh"
        called = subprocess.run(["bash", str(script)], check=True, capture_output=True, text=True).stdout
        assert called.splitlines() == row["command"][1:]
        assert (root / row["directory"] / "task.sh").exists()
    assert "--time=60" in found[1]["command"]
    assert "--array=0-1" in found[1]["command"]
    assert "echo 3 >> ran" in (root / "attempts/s3~1/job.sh").read_text()
    assert {path.name for path in root.iterdir()} == {"README.md", "attempts", "logs", "slurm"}
    assert not any(path.is_fifo() for path in root.rglob("*"))
    assert not any("hush" in path.read_text() for path in root.rglob("*") if path.is_file())


@pytest.mark.usefixtures("bin_folder")
def test_a_task_of_it_runs_as_in_a_run(tmp_path: Path) -> None:
    root = tmp_path / "look"
    batch = root / slurm_scripts.write(manifest(tmp_path), root)["batches"][1]["directory"]
    environment = {"SLURM_ARRAY_TASK_ID": "1", "SLURM_JOB_ID": "9", "PATH": "/usr/bin:/bin"}
    subprocess.run(["bash", str(batch / "task.sh")], cwd=batch, env=environment, check=True)
    assert (tmp_path / "ran").read_text() == "2\n3\n"
    assert (root / "attempts/s3~1/exit").read_text() == "0\n"


def test_a_directory_with_other_files_is_left_alone(tmp_path: Path) -> None:
    spec = tmp_path / "s.yaml"
    spec.write_text("project: p\njobs: [{id: a, cmd: 'true'}]\n")
    for output, words in (("here", "has other files"), ("s.yaml", "is not a directory"), ("no/where", "no directory")):
        (tmp_path / "here").mkdir(exist_ok=True)
        (tmp_path / "here/mine").touch()
        with pytest.raises(UseError, match=words):
            write_scripts(str(spec), str(tmp_path / output))
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["mine"]
