"""Hosts registered, checked, accepted, set up and removed, over real sshd on loopback."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from queue_manager.core.layout import HostPaths, RunPaths
from queue_manager.core.terminal_text import one_line
from skill.cli import main
from skill.hosts import transport
from skill.runs import assignment
from skill.runs.assignment import Assigned, Part
from skill.runs.directory import Run
from tests import kept_runtime
from tests.e2e.runs import processes_of, until, wait_for
from tests.skill.story import Story, job, manifest
from tests.sshd import Sshd, make_key, with_apt


class Project:
    """A project on a person's machine, and the hosts beside it. The command runs in this process."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.folder, self._capsys = root, root / "my project", capsys
        self.folder.mkdir()
        self.workers = self.folder / "workers.yaml"
        self.keys = self.folder / ".wavequeue" / "known_hosts"
        self.hosts: list[Sshd] = []

    def host(self, name: str, *, bare: bool = False) -> Sshd:
        """One more host; not registered."""
        made = Sshd(self.root / name, bare=bare)
        if not bare:
            kept_runtime.give(made.home)
        self.hosts.append(made)
        return made

    def call(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """Run `wavequeue hosts ...`: what it said on stdout and stderr."""
        self._capsys.readouterr()
        found = main.main(["hosts", *arguments])
        printed = self._capsys.readouterr()
        assert found == code, printed
        return printed.out, printed.err

    def add(self, name: str, made: Sshd, *options: str) -> tuple[str, str]:
        return self.call("add", name, f"root@{made.address}:{made.port}", "--key", str(made.key), *options)

    def check(self, *names: str, code: int = 0) -> dict[str, dict[str, Any]]:
        """What `hosts check --json` says, by host."""
        found = json.loads(self.call("check", *names, "--json", code=code)[0])
        assert found["ok"] is (code == 0)
        return {row["name"]: row for row in found["hosts"]}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Project]:
    made = Project(tmp_path, capsys)
    (tmp_path / "laptop").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "laptop"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.chdir(made.folder)
    yield made
    for one in made.hosts:
        one.close()


def shown_key(made: Sshd) -> str:
    """The fingerprint of a host's key, as OpenSSH tells it."""
    command = ["ssh-keygen", "-lf", str(made.root / "host_key.pub")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[1]


def new_key(made: Sshd) -> None:
    """The host is set up anew: it shows another key."""
    made.stop()
    make_key(made.root / "host_key", "ecdsa")
    made.start()


# -- add, list ----------------------------------------------------------------------------------------------------


def test_a_host_is_entered_before_it_is_registered_and_its_key_is_shown(project: Project) -> None:
    made = project.host("gpu-a")
    out, err = project.add("gpu-a", made, "--pool", "lab", "--workspace", "/data/w", "--notes", "under the desk")
    assert f"ecdsa-sha2-nistp256 {shown_key(made)}" in out
    assert err == ""
    (row,) = json.loads(project.call("list", "--json")[0])["hosts"]
    assert row["host_key"] == f"ecdsa-sha2-nistp256 {shown_key(made)}"
    assert (row["name"], row["pool"], row["workspace"], row["notes"]) == ("gpu-a", "lab", "/data/w", "under the desk")
    assert row["ssh"] == {"host": made.address, "port": made.port, "user": "root", "key": str(made.key)}
    before = project.workers.read_text()
    assert "first: wavequeue hosts remove gpu-a" in project.call("add", "gpu-a", "h", code=2)[1]
    assert project.workers.read_text() == before


def test_a_host_that_is_away_is_registered_and_said_to_be_unverified(project: Project) -> None:
    made = project.host("gpu-a")
    made.stop()
    out, err = project.add("gpu-a", made)
    assert "registered in" in out
    assert "entered" not in out
    assert "warning: gpu-a is not verified: " in err
    assert "refused the connection" in err
    made.start()
    assert project.check()["gpu-a"]["reachable"]


def test_a_gateway_for_terminals_is_reported_with_the_way_out(project: Project) -> None:
    made = project.host("gpu-a")
    made.log_in_to('echo "Error: Your SSH client doesn\'t support PTY"; exit 1')
    _, err = project.add("gpu-a", made)
    assert "warning: gpu-a is not verified: its login shell ended (exit code 1) before our command and printed" in err
    assert "Error: Your SSH client doesn't support PTY; this is a gateway that serves terminals only" in err
    assert "register the direct address of the machine" in err


def test_names_of_the_ssh_config_serve(project: Project) -> None:
    made = project.host("box")
    config = Path.home() / ".ssh" / "config"
    config.parent.mkdir()
    config.write_text(
        f"Host box\n  HostName {made.address}\n  Port {made.port}\n  User root\n  IdentityFile {made.key}\nHost other\n"
    )
    assert project.check("box")["box"]["reachable"]
    project.call("add", "box")
    assert project.workers.read_text() == "workers:\n  box:\n    kind: ssh\n"
    made.stop()
    out = project.call("list")[0]
    assert "by ~/.ssh/config" in out
    assert "names in ~/.ssh/config also work: other" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a/b", "h"], "is not a safe file name"),
        (["a"], "say where a is: wavequeue hosts add a USER@HOST:PORT"),
        (["a", "root@h:99999"], "'99999' is not a port"),
        (["a", "ssh -p"], "ends after -p"),
        (["a", "h", "--key", "missing"], "the key missing does not exist"),
        (["a", "h", "--local"], "--local registers this machine"),
        (["a", "h", "--pol", "x"], "No such option"),
    ],
)
def test_what_cannot_be_registered_is_reported_and_nothing_written(
    project: Project, arguments: list[str], words: str
) -> None:
    assert words in project.call("add", *arguments, code=2)[1]
    assert list(project.folder.iterdir()) == []


# -- check --------------------------------------------------------------------------------------------------------


def test_all_are_asked_at_once_and_a_dead_one_delays_nobody(
    project: Project, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    well, away, greets, garbage = (project.host(name) for name in ("well", "away", "greets", "garbage"))
    bare = project.host("bare", bare=True)
    for made in project.hosts:
        project.add(made.root.name, made)
    away.stop()
    (greets.home / "greeting").write_text("printf 'Welcome\\033[2J\\n'; printf 'mind the dog\\n' >&2\n")
    for name in ("json", "tempfile", "fcntl"):  # what lies in a home is not taken for Python's own
        (greets.home / f"{name}.py").write_text("raise SystemExit(5)\n")
    (garbage.home / "greeting").write_text("exec head -c 300000 /dev/urandom\n")
    paths = RunPaths.of(HostPaths.of(well.home).runs / "demo-1")
    paths.root.mkdir(parents=True)
    paths.state.write_text("{}")
    paths.lock.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    monkeypatch.setattr(transport, "CONNECT", 6.0)
    before = sorted(bare.home.rglob("*"))
    with paths.lock.open() as held, socket.socket() as silent:
        fcntl.flock(held, fcntl.LOCK_EX)
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # takes connections, and says nothing
        entry = f"{{ssh: {{host: 127.0.0.1, port: {silent.getsockname()[1]}, key: {json.dumps(str(well.key))}}}}}"
        silents = "".join(f"  silent-{number}: {entry}\n" for number in range(12))
        project.workers.write_text(project.workers.read_text() + silents)
        begin = time.monotonic()
        rows = project.check(code=1)
        took = time.monotonic() - begin
    assert took < 60, "one after the other would need 72 s"
    assert [row["name"] for row in rows.values() if row["reachable"]] == ["well", "greets", "bare"]
    assert (rows["well"]["runs"], rows["well"]["faults"]) == (["demo-1"], [])
    assert 0 <= rows["well"]["heartbeat_s"] < 300
    assert abs(rows["well"]["clock_s"]) <= rows["well"]["clock_within_s"]
    assert rows["well"]["python"]["version"].startswith("3.")
    assert rows["well"]["disk_free_mib"] > 0
    assert [text for text in rows["bare"]["faults"] if "screen is missing" in text]
    assert [text for text in rows["bare"]["warnings"] if "rsync is missing" in text]
    assert sorted(bare.home.rglob("*")) == before
    assert caplog.records == []  # a library that logs would print a traceback
    out, _ = project.call("check", "away", "greets", "garbage", "well", code=1)
    assert all(one_line(line) == line for line in out.splitlines())
    assert "away: unreachable: " in out
    assert "garbage: unreachable: " in out
    assert "failed" not in out


def test_a_host_that_misses_nothing_is_well(project: Project) -> None:
    project.add("well", project.host("well"), "--pool", "lab")
    assert "ok" in project.call("check", "--pool", "lab")[0]
    assert "no enabled host is in the pool fast" in project.call("check", "--pool", "fast", code=2)[1]
    assert "did you mean well?" in project.call("check", "wel", code=2)[1]


def test_without_hosts_there_is_nothing_to_check(project: Project) -> None:
    assert "no host is registered yet" in project.call("check", code=2)[1]
    assert "no host is registered yet" in project.call("list")[0]


# -- accept -------------------------------------------------------------------------------------------------------


def test_a_changed_key_is_refused_until_a_person_accepts_it(project: Project) -> None:
    made = project.host("gpu-a")
    project.add("gpu-a", made)
    project.add("gpu-b", project.host("gpu-b"))
    old = shown_key(made)
    assert "nothing to accept" in project.call("accept", "gpu-a")[0]
    new_key(made)
    kept = project.keys.read_text()
    assert "wavequeue hosts accept gpu-a" in project.check("gpu-a", code=1)["gpu-a"]["unreachable"]
    out, err = project.call("accept", "gpu-a", code=2)
    assert f"kept:  ecdsa-sha2-nistp256 {old}\nshown: ecdsa-sha2-nistp256 {shown_key(made)}" in out
    assert "add --yes" in err
    assert project.keys.read_text() == kept
    project.call("accept", "gpu-a", "--yes")
    assert stat.S_IMODE(project.keys.stat().st_mode) == 0o600
    assert all(row["reachable"] for row in project.check().values())
    made.stop()
    kept = project.keys.read_text()
    assert "is unreachable, and nothing was changed" in project.call("accept", "gpu-a", "--yes", code=1)[1]
    assert project.keys.read_text() == kept


class Terminal(io.StringIO):
    """What a person types at a terminal."""

    def isatty(self) -> bool:
        return True


def test_at_a_terminal_accept_asks(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    made = project.host("gpu-a")
    project.add("gpu-a", made)
    new_key(made)
    kept = project.keys.read_text()
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    project.call("accept", "gpu-a", code=130)
    assert project.keys.read_text() == kept
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    project.call("accept", "gpu-a")
    assert project.check()["gpu-a"]["reachable"]


# -- remove -------------------------------------------------------------------------------------------------------


def test_a_host_is_removed_with_its_key_and_the_rest_of_the_file_stays(project: Project) -> None:
    project.workers.write_text("# ours\nworkers:\n  z: {kind: local}  # here\n")
    before = project.workers.read_text()
    made = project.host("gpu-a")
    project.add("gpu-a", made)
    assert "host key removed" in project.call("remove", "gpu-a")[0]
    assert project.workers.read_text() == before
    assert "gpu-a" not in project.keys.read_text()
    assert "gpu-a is not registered; there are: z" in project.call("remove", "gpu-a", code=2)[1]


def test_a_host_with_unfinished_jobs_is_kept_unless_forced(project: Project, tmp_path: Path) -> None:
    made = project.host("gpu-a")
    project.add("gpu-a", made)
    run = Run.at(project.folder / "specs" / "experiment_queue" / "demo-1")
    run.root.mkdir(parents=True)
    run.paths.manifest.write_text("{}")
    part = Part("gpu-a", ("j1", "j2"), state=assignment.SUBMITTED)
    assignment.write(run, Assigned("demo-1", "demo", "0" * 64, "2026-01-01T00:00:00.000Z", "/", (part,)))
    assert "still has jobs of demo-1" in project.call("remove", "gpu-a", code=1)[1]
    state = RunPaths.of(HostPaths.of(made.home).runs / "demo-1").state
    state.parent.mkdir(parents=True)
    made.stop()
    assert "still has jobs of demo-1" in project.call("remove", "gpu-a", code=1)[1]
    assert "gpu-a" in project.workers.read_text()
    folder = assignment.host_folder(run, "gpu-a") / "queue_state.json"
    folder.parent.mkdir(parents=True)
    story = Story(manifest(job("j1"), job("j2")), tmp_path / "demo-1").complete("j1").start("j2")
    folder.write_text(json.dumps(story.document()))
    assert "still has jobs of demo-1" in project.call("remove", "gpu-a", code=1)[1]
    folder.write_text(json.dumps(story.end("j2", "stuck").document("finished")))
    project.call("remove", "gpu-a")
    project.add("gpu-a", made)
    folder.unlink()
    project.call("remove", "gpu-a", "--force")
    assert "gpu-a" not in project.workers.read_text()


# -- setup --------------------------------------------------------------------------------------------------------


def test_a_bare_host_is_made_ready_and_a_second_time_nothing_is_done_again(project: Project) -> None:
    made = project.host("gpu-a", bare=True)
    with_apt(made)
    project.add("gpu-a", made)
    (made.home / "fcntl.py").write_text("raise SystemExit(5)\n")
    (made.home / ".wavequeue").mkdir(mode=0o755)
    (project.folder / ".env").write_text("HF_TOKEN='hf $ecret'\nAWS_KEY=never\nMINE=mine\n")
    # As an editor of Windows writes it.
    script = b'\xef\xbb\xbf. ./.env\r\nprintf %s "$HF_TOKEN" > seen\r\necho once >> times\r\necho hello\r\n'
    (project.folder / "setup.sh").write_bytes(script)
    project.workers.write_text(project.workers.read_text() + "env_allow: [MINE]\n")
    out, err = project.call("setup", "gpu-a")
    assert "installed screen, rsync" in out
    assert "ecret" not in out + err
    assert "setup.sh has Windows line endings" in err
    assert "not allowed to leave this machine: AWS_KEY" in err
    assert project.check()["gpu-a"]["faults"] == []
    place = made.home / "wavequeue"
    assert (place / ".env").read_text() == "HF_TOKEN='hf $ecret'\nMINE=mine\n"
    assert (place / "seen").read_text() == "hf $ecret"
    log = (place / "SETUP_LOG.txt").read_text()
    assert log.startswith("date: 20")
    assert "\nNo GPU\n" in log
    assert "\npip freeze:\n" in log
    for path, mode in ((place, 0o700), (made.home / ".wavequeue", 0o700), (place / ".env", 0o600)):
        assert stat.S_IMODE(path.stat().st_mode) == mode, path
    (output,) = (made.home / ".wavequeue" / "setup").glob("*/output.log")
    assert output.read_text() == "hello\n"
    out, _ = project.call("setup", "gpu-a")
    assert "has run before and is unchanged" in out
    assert (place / "times").read_text() == "once\n"
    assert len((made.home / "apt-calls").read_text().splitlines()) == 2
    (project.folder / "setup.sh").write_text("echo twice >> times\n")
    project.call("setup", "gpu-a")
    assert (place / "times").read_text() == "once\ntwice\n"


def test_what_fails_is_named_with_its_step_and_host_and_stops_no_other(project: Project) -> None:
    ready, bare = project.host("ready"), project.host("bare", bare=True)
    (bare.bin / "id").unlink()
    (bare.bin / "id").write_text("#!/bin/sh\necho 1000\n")
    (bare.bin / "id").chmod(0o755)
    for made in (ready, bare):
        project.add(made.root.name, made)
    (project.folder / "setup.sh").write_text("echo begin; echo 'no such package' >&2; exit 3\n")
    project.add("away", project.host("away"))
    project.hosts[2].stop()
    _, err = project.call("setup", "ready", "bare", "away", code=1)
    assert "ready: setup.sh: it ended with exit code 3: begin / no such package" in err
    assert "bare: programs: screen and rsync missing; only root may install it; run there: sudo apt-get update" in err
    assert "away: programs: unreachable: " in err
    assert "none.env does not exist" in project.call("setup", "ready", "--env-file", "none.env", code=2)[1]
    (project.folder / "setup.sh").write_text("echo mended\n")
    assert "setup.sh: has run" in project.call("setup", "ready")[0]


@pytest.mark.parametrize("runner_dies", [False, True])
def test_a_setup_that_was_cut_off_is_not_begun_a_second_time_beside_it(project: Project, runner_dies: bool) -> None:
    made = project.host("gpu-a")
    project.add("gpu-a", made)
    (project.folder / "setup.sh").write_text(f"echo once >> times; {until('go')}\n")
    place = made.home / "wavequeue"
    codes: list[int] = []
    first = threading.Thread(target=lambda: codes.append(main.main(["hosts", "setup", "gpu-a"])))
    first.start()
    wait_for((place / "times").exists, say="setup.sh to begin")
    made.stop()
    first.join()
    assert codes == [1]
    if runner_dies:
        for process in of_script(made):
            if process.name().startswith("python"):
                process.kill()
    made.start()
    busy = "setup.sh: an earlier run of it, or a process that it started, is still running"
    assert busy in project.call("setup", "gpu-a", code=1)[1]
    (place / "go").touch()
    wait_for(lambda: not of_script(made), say="the end of setup.sh")
    # Without its runner nobody has seen that it ended well.
    assert ("has run before and is unchanged" in project.call("setup", "gpu-a")[0]) is not runner_dies
    assert (place / "times").read_text() == "once\n" * (1 + runner_dies)


def of_script(made: Sshd) -> list[psutil.Process]:
    """What runs setup.sh on a host: the script, and what waits for it."""
    found = []
    for process in processes_of(made.home):
        with contextlib.suppress(psutil.Error):
            found += [process] if any("setup.sh" in word for word in process.cmdline()) else []
    return found
