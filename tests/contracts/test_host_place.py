"""Which directory is a host's own where several have one home: the same answer in Python and in sh."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from queue_manager.adapters import facts, host_place
from queue_manager.core.layout import HostPaths
from queue_manager.remote import control
from skill.hosts import bootstrap
from skill.hosts.bootstrap import PLACE, Named
from skill.hosts.connection import Host
from skill.hosts.registry import Worker
from skill.transfer import pull

ROOT = Path(__file__).resolve().parents[2]
BOTH = f"""
cd "$1" || exit 1
"$2" -c 'import pathlib; from queue_manager.adapters import facts; print(facts.place(pathlib.Path(".wavequeue")))' ||
  exit 1
{PLACE}
echo "$w"
"""
RENAMED = "import os, socket, sys; socket.sethostname(sys.argv[1]); os.execvp(sys.argv[2], sys.argv[2:])"


def both(home: Path, name: str = "") -> str:
    """What Python and sh say, which is the same, on a machine of this name (empty: on this one)."""
    renamed = ["unshare", "--uts", sys.executable, "-c", RENAMED, name] if name else []
    command = [*renamed, "sh", "-c", BOTH, "sh", str(home), sys.executable]
    done = subprocess.run(
        command, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    python, sh = done.stdout.splitlines()
    assert (python, done.stderr) == (sh, "")
    return sh


@pytest.mark.parametrize("owner", ["", "\n", "me", "me\n"])
def test_a_home_that_is_this_hosts_or_nobodys(owner: str, tmp_path: Path) -> None:
    (tmp_path / ".wavequeue").mkdir()
    if owner:
        (tmp_path / ".wavequeue" / "machine").write_text(owner.replace("me", facts.machine()))
    assert both(tmp_path) == ".wavequeue"
    assert host_place.of(tmp_path) == HostPaths.of(tmp_path)


def test_a_home_of_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".wavequeue").mkdir()
    (tmp_path / ".wavequeue" / "machine").write_text("node-7\n" + "f" * 32 + "\n")
    places = {both(tmp_path, name) for name in ("node-7", "node-8", "a_b!c")}
    assert len(places) == 3
    assert {place.rpartition("-")[0] for place in places} == {
        f".wavequeue/hosts/{n}" for n in ("node-7", "node-8", "a_b_c")
    }
    found = host_place.of(tmp_path)
    assert found.base == tmp_path / ".wavequeue"
    assert found.root.parent == tmp_path / ".wavequeue" / "hosts"
    assert found.runs == found.root / "runs"
    assert found.runtimes == tmp_path / ".wavequeue" / "runtime"
    monkeypatch.setenv("HOME", str(tmp_path))
    claimed = bootstrap.claim_identity(Host(Worker("here", kind="local"), tmp_path / "known_hosts"))
    assert claimed == Named(found.host_id.read_text().strip(), str(found.root.relative_to(tmp_path)))


def test_a_machine_that_was_renamed_gets_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its runs are there, and another machine's by what is known."""
    base = tmp_path / ".wavequeue"
    base.mkdir()
    (base / "machine").write_text("old-name\n")
    (base / "host_id").write_text("a" * 32)
    monkeypatch.setenv("HOME", str(tmp_path))
    way = "If it is old-name under a new name, run there: rm ~/.wavequeue/machine"
    with pytest.raises(control.ControlError, match="not the machine that the run was submitted to.*" + way):
        control.answer("some-run", {"op": "look", "host_id": "a" * 32})
    described = facts.describe("")
    assert (described["owner"], described["host_id"], described["named"]) == ("old-name", None, True)
    (base / "machine").unlink()
    with pytest.raises(control.ControlError, match="run some-run does not exist"):
        control.answer("some-run", {"op": "look", "host_id": "a" * 32})


def test_a_run_on_slurm_is_that_of_every_host_with_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was submitted to one login node, and is followed from another; a run on a host's own GPUs is not."""
    base = tmp_path / ".wavequeue"
    for run in ("on-slurm", "on-host"):
        (base / "runs" / run).mkdir(parents=True)
    (base / "runs/on-slurm/slurm").mkdir()
    (base / "machine").write_text("login1\n")
    (base / "host_id").write_text("a" * 32)
    monkeypatch.setenv("HOME", str(tmp_path))
    here = host_place.here()
    here.root.mkdir(parents=True)
    (here.root / "host_id").write_text("b" * 32)
    assert here.root != base
    asked = {"op": "journal", "needles": [], "host_id": "a" * 32}
    assert control.answer("on-slurm", asked) == {"lines": []}
    assert host_place.of_run(here, "on-slurm") == HostPaths(base)
    for run in ("on-host", "nothing"):
        assert host_place.of_run(here, run) == here
        with pytest.raises(control.ControlError, match="not the machine that the run was submitted to"):
            control.answer(run, asked)
    with pytest.raises(control.ControlError, match="not the machine that the run was submitted to"):
        control.answer("on-slurm", {**asked, "host_id": "c" * 32})
    guarded = subprocess.run(
        ["sh", "-c", pull._GUARD, "sh", "a" * 32, "f" * 32, "hello", "on-slurm", "true"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "no runtime" in guarded.stdout  # it is the right machine
    guarded = subprocess.run(
        ["sh", "-c", pull._GUARD, "sh", "a" * 32, "f" * 32, "hello", "on-host", "true"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "another machine" in guarded.stdout
