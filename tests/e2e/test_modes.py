"""Modes of every file that we make, whatever the umask; what jobs write has the mode of the user's umask."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from queue_manager.core.layout import RunPaths
from tests.e2e.runs import PATIENCE, World, job, manifest, pause, wait_for
from tests.e2e.test_cli import Desk
from tests.laptop import Laptop, finish, workspace

SHOWN = ("queue_state.json", "summary.md", "queue_mgr.log", "alerts.jsonl")
UMASKS = [0o000, 0o077]
"""That which takes nothing away and that which takes all: what 022 would show, the first one shows as well."""
SPEC = """
project: small
cwd: code
jobs:
  - {id: one, cmd: "mkdir made; echo x > made/it; until [ -e stop ]; do PAUSE; done", gpus: 0}
""".replace("PAUSE", pause())


def faults(top: Path) -> Iterator[str]:
    """What below a directory of ours has another mode than it should, itself included."""
    for folder, _, names in os.walk(top):
        mode = stat.S_IMODE(os.stat(folder).st_mode)
        if mode != 0o700:
            yield f"{folder} {mode:o}"
        for name in names:
            path = Path(folder, name)
            info = path.lstat()
            becomes = re.sub(r"^\.(.+?)(\.\d+)+\.tmp$", r"\1", name)
            shown = becomes in SHOWN or name.endswith(".log")
            wanted = 0o644 if shown else 0o600
            mode = stat.S_IMODE(info.st_mode)
            if stat.S_ISLNK(info.st_mode) or (mode == 0o700 and "runtime" in path.parts):
                continue
            if mode != wanted:
                yield f"{path} {mode:o}, not {wanted:o}"


@pytest.mark.parametrize("umask", UMASKS)
def test_on_this_machine(world: World, umask: int) -> None:
    desk = Desk(world)
    (desk.place / "code").mkdir()
    desk.spec(SPEC)
    done = subprocess.run(
        desk.argv("run", "spec.yaml", "--detach", "--json", "--poll", "0.1"), cwd=desk.place, env=world.environment,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, umask=umask, check=True,
    )  # fmt: skip
    paths = RunPaths.of(Path(json.loads(done.stdout)["directory"]))
    made = desk.place / "code" / "made"
    wait_for((made / "it").exists, say="the job's file")
    wait_for(lambda: list(paths.attempts.glob("*/claim")), say="its claim")
    assert stat.S_IMODE((made / "it").stat().st_mode) == 0o666 & ~umask
    assert stat.S_IMODE(made.stat().st_mode) == 0o777 & ~umask
    places = (desk.place / "experiment_queue", world.home / ".wavequeue")
    assert {path.name for path in paths.attempts.glob("*/*")} >= {"job.sh", "claim", "started"}
    assert [fault for place in places for fault in faults(place)] == []
    (desk.place / "code" / "stop").touch()
    desk.call("watch")
    assert paths.summary.exists()
    assert [fault for place in places for fault in faults(place)] == []


@pytest.mark.parametrize("umask", UMASKS)
def test_on_a_host(laptop: Laptop, umask: int) -> None:
    host = laptop.host("gpu-a", new=umask == 0)
    (host.home / "greeting").write_text(f"umask {umask:03o}\n")
    laptop.spec(SPEC)
    before = os.umask(umask)
    try:
        run_id = laptop.submit()["run_id"]
        wait_for((workspace(host) / "made" / "it").exists, say="the job's file")
        assert stat.S_IMODE((workspace(host) / "made" / "it").stat().st_mode) == 0o666 & ~umask
        assert list(faults(host.home / ".wavequeue")) == []
        (workspace(host) / "stop").touch()
        finish(host, run_id)
        laptop.call("pull", "--run", run_id)
    finally:
        os.umask(before)
    for top in (host.home / ".wavequeue", laptop.project / "experiment_queue", laptop.home / ".wavequeue"):
        assert list(faults(top)) == []


def test_what_others_could_write_into_is_corrected_at_the_start(world: World) -> None:
    run = world.run(manifest(job("one", "echo one")))
    run.paths.attempts.mkdir()
    run.paths.log_dir.mkdir()
    for path, mode in ((run.directory, 0o777), (run.paths.attempts, 0o777), (run.paths.log_dir, 0o775)):
        path.chmod(mode)
    assert run.go() == 0
    assert f"{run.paths.attempts} had mode 0777; it is 0755 now" in run.story()
    for path in (run.directory, run.paths.attempts, run.paths.log_dir):
        assert stat.S_IMODE(path.stat().st_mode) & 0o002 == 0
