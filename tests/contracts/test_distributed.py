"""Ports of attempts, and what torchrun and W&B are told: read back by bash."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from build_manifest import SpecErrors, build
from queue_manager.adapters import distributed
from queue_manager.adapters.distributed import Ports, wandb_run_id
from queue_manager.adapters.shared_ports import SharedPorts
from queue_manager.core.manifest import JobSpec, Manifest, Phase
from queue_manager.launchers import script
from tests import lock_dir

NEW = {"wandb": True, "rendezvous": True}


def ports(root: Path, key: str, boot: str = "boot", home: str = "ports") -> Ports:
    """The ports of a run of this user, in one of their homes."""
    return Ports(root / home, key, boot, SharedPorts(lock_dir.of(root), boot))


def shown(root: Path) -> list[str]:
    """Ports that other users see to be taken."""
    return [path.name for path in (root / "lock").rglob("*.port")]


def test_no_port_is_given_to_two_attempts_of_a_host(tmp_path: Path) -> None:
    runs = [ports(tmp_path, f"run{n}") for n in range(3)]
    given = [run.take("job", n) for run in runs for n in range(20)]
    assert None not in given
    assert len(set(given)) == 60
    runs[0].give_back("job", 3)
    assert len(list((tmp_path / "ports").iterdir())) == 59
    again = ports(tmp_path, "run0")  # a second manager, after the first was killed
    again.keep({("job", 5)})
    assert len(list((tmp_path / "ports").iterdir())) == 41
    again.give_back("job", 5)
    assert not (tmp_path / "ports" / str(given[5])).exists()
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in (tmp_path / "ports").iterdir())
    ports(tmp_path, "other", "another boot")
    assert list((tmp_path / "ports").iterdir()) == []
    assert shown(tmp_path) == []


def test_nor_to_two_users_or_two_homes_of_one(tmp_path: Path) -> None:
    first, second = ports(tmp_path, "run", home="a"), ports(tmp_path, "run", home="b")
    wanted = first.take("job", 1)
    assert wanted is not None
    mine = second.take("job", 1)
    assert mine not in (None, wanted)
    theirs = lock_dir.put(lock_dir.of(tmp_path), f"{distributed.FIRST}.port", b"")
    before = sorted(shown(tmp_path))
    shared = SharedPorts(lock_dir.of(tmp_path), "boot")
    assert not shared.claim(distributed.FIRST, "run")
    assert not shared.claim(wanted, "other")
    shared.give_back(wanted, "other")  # it is not that run's
    assert sorted(shown(tmp_path)) == before
    theirs.unlink()
    assert shared.claim(distributed.FIRST, "run")
    first.give_back("job", 1)
    assert f"{wanted}.port" not in shown(tmp_path)
    ports(tmp_path, "later", "boot.of.a.restarted.container", home="c")
    assert f"{mine}.port" in shown(tmp_path)
    ports(tmp_path, "later", "another", home="c")
    assert shown(tmp_path) == []


def test_whoever_says_to_have_all_ports_keeps_nobody_from_one(tmp_path: Path) -> None:
    folder = lock_dir.put(lock_dir.of(tmp_path), "0.port", b"").parent
    for port in range(distributed.FIRST, distributed.FIRST + distributed.COUNT):
        os.close(os.open(folder / f"{port}.port", os.O_CREAT))
        os.chown(folder / f"{port}.port", lock_dir.NOBODY, -1)
    assert ports(tmp_path, "run").take("job", 1) is not None


def test_a_port_on_which_somebody_listens_is_not_given(tmp_path: Path) -> None:
    for host in "ab":
        (tmp_path / host).mkdir()
    first = ports(tmp_path / "a", "run").take("job", 1)
    assert first is not None
    with socket.socket() as one:
        one.bind(("", first))
        one.listen()
        second = ports(tmp_path / "b", "run").take("job", 1)
    assert second not in (None, first)


def test_where_no_file_can_be_made_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "ports").write_text("in the way")
    assert ports(tmp_path, "run").take("job", 1) is None


def job_environment(
    manifest: dict[str, bool], environment: dict[str, str], cmd: str = "", **fields: object
) -> dict[str, str]:
    """What a job sees of the variables that we set."""
    spec = JobSpec("s1", f"{cmd}\nenv", "p", **fields)  # type: ignore[arg-type]
    made = Manifest("p", (spec,), (Phase("p"),), **manifest)  # type: ignore[arg-type]
    text = script.job_script(made, spec, "run-7", 2, (), "/", script.Given(port=23456))
    lines = text.split("\n")
    bare = "\n".join(line for line in lines if "started" not in line)
    done = subprocess.run(
        ["bash", "-c", bare], env={"PATH": "/usr/bin:/bin", **environment}, capture_output=True, text=True
    )
    found = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    return {name: value for name, value in found.items() if re.match("MASTER|PET_|WANDB_", name)}


FULL = {
    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "23456", "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": "23456",
    "WANDB_RUN_GROUP": "run-7", "WANDB_NAME": "s1", "WANDB_RUN_ID": "run-7-s1", "WANDB_RESUME": "allow",
}  # fmt: skip


def test_a_job_is_reported() -> None:
    assert job_environment(NEW, {}) == FULL
    assert job_environment({}, {}) == {}  # a manifest that was built before keeps its meaning
    assert job_environment(NEW, {}, "# torchrun --rdzv-backend=c10d") == {
        **FULL,
        "PET_RDZV_ENDPOINT": "127.0.0.1:23456",
    }
    assert job_environment(NEW, {}, "# torchrun --rdzv-backend=c10d --rdzv-endpoint=a:1") == FULL


@pytest.mark.parametrize("by", ["environment", "spec"])
def test_what_the_user_sets_stays(by: str) -> None:
    own = {"MASTER_PORT": "1", "WANDB_RUN_ID": "mine", "WANDB_NAME": ""}
    found = job_environment(NEW, own) if by == "environment" else job_environment(NEW, {}, env=own)
    expected = {**FULL, **own}
    del expected["WANDB_RESUME"]
    assert found == expected


def test_off_leaves_wandb_alone() -> None:
    assert not [name for name in job_environment(NEW, {}, wandb=False) if name.startswith("WANDB")]
    jobs = [{"id": "a", "cmd": "x"}, {"id": "b", "cmd": "x", "wandb": "off"}]
    yaml = "project: p\nwandb: {}\njobs:\n  - {{id: a, cmd: x}}\n  - {{id: b, cmd: x, wandb: off}}\n"
    on, off = (build(yaml.format(word), "s.yaml").manifest for word in ("on", "off"))
    assert (on.wandb, off.wandb, on.rendezvous) == (True, False, True)
    assert [job.wandb for job in on.jobs] == [None, False]
    with pytest.raises(SpecErrors, match="write on or off"):
        build(json.dumps({"project": "p", "jobs": jobs, "wandb": "perhaps"}), "s.json")


def test_a_run_of_wandb_has_one_id_for_all_attempts_of_a_job() -> None:
    assert wandb_run_id("run-1", "a,b+c") != wandb_run_id("run-1", "a_b_c")
    for name in (wandb_run_id("r" * 60, "j" * 120), wandb_run_id("run", "lr=1e-3,x@y")):
        assert len(name) <= 128
        assert not set(name) & set("/\\#?%:,@")
    assert wandb_run_id("run", "s1") == "run-s1"
    assert distributed.is_free(1) in (True, False)
