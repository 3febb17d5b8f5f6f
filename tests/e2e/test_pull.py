"""Pulling from real hosts on loopback: whole, once, whatever is cut off or away; and what is carried between hosts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from build_manifest import build, read
from skill.common.project import ProjectPaths
from skill.hosts import bootstrap, registry
from skill.hosts.connection import known_key
from skill.operations import pull_run, submission, submit
from skill.runs import assignment
from skill.runs.directory import Run
from tests import kept_runtime
from tests import laptop as laptops
from tests.cutter import Cutter
from tests.e2e.runs import PATIENCE
from tests.laptop import Laptop, finish, state, workspace
from tests.sshd import Sshd

SPEC = f"{laptops.SPEC}pull: [ran*]\n"
WAITING = f"{laptops.WAITING}pull: [ran*]\n"
TIED = """
project: small
cwd: code
phases:
  - name: teach
    template: {id: teacher, cmd: "echo wisdom > t.pt", gpus: 0, expected_output: t.pt}
  - name: learn
    depends_on: teach
    template: {id: student, cmd: "cat t.pt > s.txt; echo ran >> ran", gpus: 0, expected_output: s.txt}
"""
BOTH = ("--host", "gpu-a", "--host", "gpu-b")
WHOLE = {f"out{n}": "one\n" for n in range(1, 5)} | {f"ran{n}": "ran\n" for n in range(1, 5)}


def pulled(laptop: Laptop, *arguments: str, code: int = 0) -> dict[str, Any]:
    """Pull, and what it said, with its hosts by name."""
    out, _ = laptop.call("pull", "--json", *arguments, code=code)
    found: dict[str, Any] = json.loads(out)
    return {**found, "hosts": {row["name"]: row for row in found["hosts"]}}


def results(laptop: Laptop) -> dict[str, str]:
    """What is here beside the code."""
    code = laptop.project / "code"
    return {path.name: path.read_text() for path in code.iterdir() if path.is_file() and path.name != "input.txt"}


def run_of(laptop: Laptop) -> Run:
    return Run.at(laptop.project / "experiment_queue" / laptop.runs()[0])


def done(laptop: Laptop, *hosts: str) -> str:
    """Submit to the hosts and wait for the end; the run's id."""
    run_id: str = laptop.submit(*(word for name in hosts for word in ("--host", name)))["run_id"]
    for name in hosts:
        finish(laptop.hosts[name], run_id)
    return run_id


def spread(laptop: Laptop, jobs: dict[str, tuple[str, ...]]) -> Run:
    """A run of the spec that is there with its jobs on these hosts; nothing has been sent to them yet."""
    spec = str(laptop.project / "spec.yaml")
    made = submission.prepare(build(read(spec), spec).manifest, spec)
    known = registry.Registry.load(laptop.project / "workers.yaml")
    return submit.create(made, [made.part(known.named(host), names) for host, names in jobs.items()])


def make_run(laptop: Laptop, spec: str, **jobs: tuple[int, ...]) -> Run:
    """A run whose jobs (by their number) have written all that they write; no manager was needed for it."""
    laptop.spec(spec)
    run = spread(laptop, {name: tuple(f"j{n}" for n in numbers) for name, numbers in jobs.items()})
    path = laptop.project / "workers.yaml"
    for name, numbers in jobs.items():
        host = registry.connect(registry.Registry.load(path).named(name), path)
        facts = bootstrap.facts(host, None)
        assert isinstance(facts, bootstrap.Facts)
        assert facts.python is not None
        bundle = bootstrap.bundle_for(facts)
        assert bootstrap.place_runtime(host, facts, bundle) is None
        assert bootstrap.place_run(host, run.id, b"{}") is None
        named = bootstrap.claim_identity(host)
        assert isinstance(named, bootstrap.Named)
        host.close()
        with assignment.changed(run) as now:
            part = now.assigned.part(name)._replace(
                state=assignment.SUBMITTED, host_id=named.host_id, python=facts.python.path, runtime=bundle.digest
            )
            now.assigned = now.assigned.with_part(part)
        there = laptop.hosts[name].home / part.cwd
        there.mkdir(parents=True)
        for n in numbers:
            (there / f"out{n}").write_text("one\n")
            (there / f"ran{n}").write_text("ran\n")
    return run


# rsync, ssh and the shell each read paths in a way of their own.
@pytest.mark.parametrize("laptop", ['a b%h "$X"'], indirect=True)
def test_results_logs_and_state_are_pulled_once_from_all_hosts(laptop: Laptop) -> None:
    """Also from one whose login shell is none of sh, with a login file that goes elsewhere, writes and reads."""
    laptop.host("gpu-a").log_in_by("tcsh", ".tcshrc", "cd /\necho noise\nset x = $<\nalias python3 false\n")
    bare = laptop.host("gpu-b", bare=True)
    kept_runtime.give(bare.home)
    screen = shutil.which("screen")
    assert screen is not None
    (bare.bin / "screen").symlink_to(screen)
    laptop.spec(SPEC)
    run_id = done(laptop, "gpu-a", "gpu-b")
    first = pulled(laptop)
    assert first["ended"]
    assert results(laptop) == WHOLE
    run = run_of(laptop)
    for name, host in laptop.hosts.items():
        folder = assignment.host_folder(run, name)
        there = host.home / ".wavequeue" / "runs" / run_id
        for file in ("queue_state.json", "journal.jsonl", "queue_mgr.log", "summary.md"):
            assert (folder / file).read_bytes() == (there / file).read_bytes()
        assert sorted(path.name for path in (folder / "logs").iterdir()) == sorted(os.listdir(there / "logs"))
    text = run.paths.summary.read_text()
    assert "4 of 4 jobs completed" in text
    assert "| gpu-b | 2 | 2 |" in text
    bare.stop()  # it has given all that it had, and may be gone
    again = pulled(laptop, run_id)
    assert [(row["files"], row["kept"], row["reachable"]) for row in again["hosts"].values()] == [
        (0, [], True),
        (0, [], False),
    ]
    assert again["hosts"]["gpu-a"]["last_pull"] > first["hosts"]["gpu-a"]["last_pull"]


def test_a_host_that_is_away_or_another_machine_by_now_stops_no_other(laptop: Laptop) -> None:
    a, b = laptop.host("a"), laptop.host("b")
    make_run(laptop, SPEC, a=(1, 2), b=(3, 4))
    b.stop()
    out, _ = laptop.call("pull", code=1)
    assert "b: unreachable: " in out
    assert "never pulled before" in out
    assert results(laptop) == {name: text for name, text in WHOLE.items() if name[-1] in "12"}
    b.start()
    assert not pulled(laptop)["ended"]
    assert results(laptop) == WHOLE
    a.stop()
    (b.home / ".wavequeue" / "host_id").write_text("0123456789abcdef0123456789abcdef\n")
    (workspace(b) / "out3").write_text("another's\n")
    out, _ = laptop.call("pull", code=1)
    assert "b: it is not the machine" in out
    assert "a: unreachable: " in out
    assert "last pulled " in out
    assert results(laptop) == WHOLE


def test_the_first_connection_and_a_changed_host_key(laptop: Laptop) -> None:
    laptop.host("gpu")
    make_run(laptop, SPEC, gpu=(1, 2, 3, 4))
    known = ProjectPaths.of(laptop.project / "workers.yaml").known_hosts
    key = known_key(known, "gpu")
    known.unlink()
    assert pulled(laptop)["hosts"]["gpu"]["whole"]
    assert known_key(known, "gpu") == key
    other = laptop.hosts["gpu"].key.with_suffix(".pub").read_text()
    known.write_text(f"gpu {other}")
    assert "wavequeue hosts accept gpu" in pulled(laptop, code=1)["hosts"]["gpu"]["reason"]


def test_a_connection_that_is_cut_goes_on_where_it_was(laptop: Laptop) -> None:
    host = laptop.host("gpu")
    make_run(laptop, SPEC.replace("ran*", "large"), gpu=(1, 2, 3, 4))
    with (workspace(host) / "large").open("wb") as file:
        file.truncate(12 << 20)
    cutter = Cutter(host.port, 8 << 20)  # of each connection
    workers = laptop.project / "workers.yaml"
    workers.write_text(workers.read_text().replace(str(host.port), str(cutter.port)))
    out, errors = laptop.call("pull")
    cutter.close()
    assert "gpu: " in errors
    assert "going on (2 of 3)" in errors
    assert (laptop.project / "code" / "large").stat().st_size == 12 << 20
    assert "12.0 MiB" in out, "what came before the cut was not sent again"


def test_killed_at_any_moment_and_pulled_again_it_ends_the_same(laptop: Laptop) -> None:
    host = laptop.host("gpu")
    run = make_run(laptop, SPEC.replace("ran*", "ran*, large"), gpu=(1, 2, 3, 4))
    data = os.urandom(8 << 20)
    (workspace(host) / "large").write_bytes(data)
    begin = time.monotonic()
    assert laptop.start("pull").wait(PATIENCE) == 0  # a process, as those that are killed
    whole = time.monotonic() - begin
    code = laptop.project / "code"
    for part in (0.4, 0.6, 0.75, 0.85, 0.95):
        for path in [*code.glob("out*"), *code.glob("ran*"), code / "large"]:
            path.unlink(missing_ok=True)
        process = laptop.start("pull")
        time.sleep(whole * part)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert {name: WHOLE[name] for name in results_without_large(laptop)} == results_without_large(laptop)
        assert not (code / "large").exists() or (code / "large").read_bytes() == data
    laptop.call("pull")
    assert results_without_large(laptop) == WHOLE
    assert (code / "large").read_bytes() == data
    assert list((assignment.host_folder(run, "gpu") / ".receiving").iterdir()) == []


def results_without_large(laptop: Laptop) -> dict[str, str]:
    code = laptop.project / "code"
    return {path.name: path.read_text() for pattern in ("out*", "ran*") for path in code.glob(pattern)}


def test_what_moved_to_another_host_is_not_taken_from_the_first(laptop: Laptop) -> None:
    laptop.host("gpu")
    run = make_run(laptop, SPEC.replace("ran*", "out*"), gpu=(1, 2, 3, 4))
    with assignment.changed(run) as now:
        part = now.assigned.part("gpu")
        now.assigned = now.assigned.with_part(part._replace(moved=("j1", "j2")))
    laptop.call("pull")
    assert sorted(results(laptop)) == ["out3", "out4"]
    # A host that was given up is asked only by its name.
    with assignment.changed(run) as now:
        now.assigned = now.assigned.with_part(now.assigned.part("gpu")._replace(state=assignment.LOST))
    assert pulled(laptop)["hosts"] == {}
    assert pulled(laptop, "--host", "gpu")["hosts"]["gpu"]["same"] == 2


def test_every_goes_on_until_the_run_has_ended_and_ctrl_c_says_how_to_go_on(laptop: Laptop) -> None:
    a, b = laptop.host("gpu-a"), laptop.host("gpu-b")
    laptop.spec(WAITING)
    run_id = laptop.submit(*BOTH)["run_id"]
    process = laptop.start("pull", "--every", "30m")
    assert process.stdout is not None
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=150)
    assert process.returncode == 130
    assert f"Continue: wavequeue pull {run_id} --every 1800s" in errors
    assert "Traceback" not in errors
    b.stop()
    process = laptop.start("pull", "--every", "0.5s")
    assert process.stdout is not None
    line = process.stdout.readline()
    assert "gpu-b: unreachable" in line
    for host in (a, b):
        (workspace(host) / "stop").touch()
        finish(host, run_id)
    b.start()
    out, errors = process.communicate(timeout=150)
    assert process.returncode == 0, (out, errors)
    assert out.splitlines()[-1].endswith("; the run has ended")
    assert results(laptop) == WHOLE


def test_what_a_job_needs_of_another_host_is_carried_there(laptop: Laptop) -> None:
    a, b = laptop.host("gpu-a"), laptop.host("gpu-b")
    laptop.spec(TIED)
    run = spread(laptop, {"gpu-a": ("teacher",), "gpu-b": ("student",)})
    laptop.submit()
    finish(a, run.id)
    document = state(b, run.id)
    assert document is not None
    assert document["counts"] == {"pending": 1}
    b.stop()
    assert pulled(laptop, code=1)["carried"] == [], "nothing is brought to a host that was not reached"
    b.start()
    # Nothing is carried that is not what the teacher wrote.
    mine = laptop.project / "code" / "t.pt"
    mine.write_text("mine\n")
    _, errors = laptop.call("pull", code=1)
    assert "t.pt of teacher is newer here than on gpu-a" in errors
    mine.unlink()
    first = pulled(laptop)
    assert first["carried"] == [{"to": "gpu-b", "jobs": ["teacher"], "files": 1, "fault": None}]
    finish(b, run.id)
    # Killed before it was written down, it is done again and does no harm.
    (record,) = (assignment.host_folder(run, "gpu-b") / "carried").iterdir()
    record.unlink()
    assert len(pulled(laptop)["carried"]) == 1
    assert pulled(laptop)["carried"] == []
    assert results(laptop) == {"t.pt": "wisdom\n", "s.txt": "wisdom\n"}
    assert (workspace(b) / "ran").read_text() == "ran\n"


def test_results_of_code_that_was_on_the_host_come_into_the_run(laptop: Laptop) -> None:
    host = laptop.host("gpu-a")
    there = host.home / "there"
    there.mkdir()
    (there / "input.txt").write_text("one\n")
    laptop.spec(SPEC.replace("cwd: code", f"cwd: {there}"))
    done(laptop, "gpu-a")
    laptop.call("pull")
    folder = run_of(laptop).root / "results"
    assert {path.name: path.read_text() for path in folder.iterdir()} == WHOLE
    assert results(laptop) == {}


def test_what_is_meant_has_to_be_there(laptop: Laptop) -> None:
    assert "no run was submitted to hosts" in laptop.call("pull", code=2)[1]
    host = laptop.host("gpu")
    make_run(laptop, SPEC, gpu=(1, 2, 3, 4))
    assert "no jobs on gpu-z" in laptop.call("pull", "--host", "gpu-z", code=2)[1]
    assert "give RUN or --run" in laptop.call("pull", "x", "--run", "y", code=2)[1]
    shutil.rmtree(host.home / ".wavequeue" / "runtime")
    assert "wavequeue submit SPEC" in pulled(laptop, code=1)["hosts"]["gpu"]["reason"]


def test_this_machine_as_a_host_is_pulled_from_like_any_other(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    (laptop.project / "workers.yaml").write_text("workers:\n  here: {kind: local}\n")
    monkeypatch.setenv("HOME", str(laptop.home))
    laptop.hosts["here"] = _Here(laptop.home)
    kept_runtime.give(laptop.home)
    make_run(laptop, SPEC, here=(1, 2, 3, 4))
    assert pulled(laptop)["hosts"]["here"]["whole"]
    assert results(laptop) == WHOLE


class _Here(Sshd):
    """This machine, which needs no sshd."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def close(self) -> None:
        """Nothing was started."""


def test_pulls_from_a_host_that_openssh_enters_share_a_login(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    host = laptop.hosts.setdefault("box", Sshd(laptop.root / "box"))
    config = laptop.home / ".ssh" / "config"
    config.parent.mkdir(mode=0o700)
    config.write_text(
        f"Host box\n  HostName {host.address}\n  Port {host.port}\n  User root\n  IdentityFile {host.key}\n"
        "  Ciphers aes128-ctr\n"
    )
    kept_runtime.give(host.home)
    laptop.spec(SPEC)
    finish(host, laptop.submit("--host", "box")["run_id"])
    monkeypatch.setenv("HOME", str(laptop.home))
    monkeypatch.chdir(laptop.project)
    log = host.root / "sshd.log"
    before = log.read_text().count("Accepted publickey")
    with pull_run.Puller(run_of(laptop), (), print) as puller:
        assert puller.pull().last
        (laptop.project / "code" / "out1").unlink()
        assert puller.pull().last
    assert results(laptop) == WHOLE
    assert log.read_text().count("Accepted publickey") == before + 1, "a key that needs a touch is touched once"
