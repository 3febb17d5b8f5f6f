"""A host of a run that is lost: others do what it had not done, whatever is killed here meanwhile, and once only."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from build_manifest import build, read
from skill.hosts import registry
from skill.operations import submission, submit
from skill.runs import assignment, local_code
from skill.runs.directory import Run
from tests.e2e.runs import pause, wait_for
from tests.forked import Forked
from tests.laptop import Laptop, finish, state
from tests.sshd import Sshd

SPEC = """
project: lost
cwd: code
max_parallel: 4
phases:
  - name: make
    grid: {n: [1, 2, 3, 4, 5]}
    template:
      id: "j${n}"
      cmd: echo began >> began${n}; until [ -e go${n} ]; do PAUSE; done; cat input.txt > out${n}
      gpus: 0
      expected_output: "out${n}"
""".replace("PAUSE", pause())
TIED = """
project: lost
cwd: code
phases:
  - name: teach
    grid: {n: [1, 2]}
    template: {id: "t${n}", cmd: "until [ -e go${n} ]; do PAUSE; done; echo wisdom > t${n}", gpus: 0,
               expected_output: "t${n}"}
  - name: learn
    depends_on: teach
    grid: {n: [1, 2]}
    template: {id: "s${n}", cmd: "cat t1 t2 > s${n}; echo began >> began${n}", gpus: 0, expected_output: "s${n}"}
""".replace("PAUSE", pause())
CODE = Path("wavequeue/lost/code")
NUMBERS = (1, 2, 3, 4, 5)


def spread(laptop: Laptop, **jobs: tuple[str, ...]) -> Run:
    """A run of the spec that is there, submitted with these jobs on these hosts (gpu_a is gpu-a)."""
    spec = str(laptop.project / "spec.yaml")
    made = submission.prepare(build(read(spec), spec).manifest, spec)
    known = registry.Registry.load(laptop.project / "workers.yaml")
    hosts = {name.replace("_", "-"): names for name, names in jobs.items()}
    run = submit.create(made, [made.part(known.named(host), names) for host, names in hosts.items()])
    laptop.submit()
    return run


def statuses(host: Sshd, run: Run) -> dict[str, str]:
    document = state(host, run.id) or {"jobs": []}
    return {row["id"]: row["status"] for row in document["jobs"]}


def let(host: Sshd, *numbers: int) -> None:
    """Let these jobs end, if they run there."""
    for n in numbers:
        (workspace(host) / f"go{n}").touch()


def workspace(host: Sshd) -> Path:
    return host.home / CODE


def began(*homes: Path) -> dict[str, int]:
    """How often each job began, over all hosts."""
    found: dict[str, int] = {}
    for home in homes:
        for path in (home / CODE).glob("began*"):
            found[path.name] = found.get(path.name, 0) + len(path.read_text().splitlines())
    return found


def results(laptop: Laptop) -> dict[str, str]:
    code = laptop.project / "code"
    return {path.name: path.read_text() for path in code.iterdir() if path.name not in ("input.txt", "train.py")}


def part(run: Run, host: str) -> assignment.Part:
    found = assignment.read(run)
    assert found is not None
    return found.part(host)


@pytest.fixture
def two(laptop: Laptop) -> tuple[Sshd, Sshd]:
    return laptop.host("gpu-a"), laptop.host("gpu-b")


@pytest.fixture
def half(laptop: Laptop, two: tuple[Sshd, Sshd]) -> Run:
    """A run of which each host has completed one of its jobs: j1 of two, j3 of three; both have been pulled."""
    laptop.spec(SPEC)
    run = spread(laptop, gpu_a=("j1", "j2"), gpu_b=("j3", "j4", "j5"))
    a, b = two
    let(a, 1)
    let(b, 3)
    wait_for(lambda: statuses(a, run).get("j1") == statuses(b, run).get("j3") == "completed", say="j1 and j3")
    wait_for(lambda: began(*(host.home for host in two)) == {f"began{n}": 1 for n in NUMBERS}, say="all jobs to begin")
    laptop.call("pull")
    return run


def bury(host: Sshd) -> Path:
    """The host is gone for good; where its home lies now."""
    host.kill_all()
    return host.home.rename(host.root / "buried")


def test_a_host_that_is_gone_for_good_is_given_up_by_watch_and_its_jobs_run_by_the_other(
    laptop: Laptop, two: tuple[Sshd, Sshd], half: Run
) -> None:
    a, b = two
    _, err = laptop.call("rescue", half.id, "--from", "gpu-b", "--yes", code=1)
    assert f"gpu-b answers, so nothing was moved. Check it: wavequeue status --run {half.id}" in err
    buried = bury(b)
    _, err = laptop.call("rescue", "--from", "gpu-b", code=2)
    assert re.search(r"gpu-b was last read [\d.]+ s ago; .*refused the connection", err)
    assert "gpu-a gets 2 jobs: j4, j5" in err
    assert "add --yes" in err
    assert part(half, "gpu-b").state == assignment.SUBMITTED, "nothing is concluded before a person says so"
    watching = laptop.start("watch", "--after", "2s")  # which says so
    wait_for(lambda: part(half, "gpu-b").state == assignment.LOST, say="gpu-b to be given up")
    assert re.search(r"^ gpu-b  given up, 2 jobs moved  1/1 ", laptop.call("status")[0], re.MULTILINE)
    let(a, 2, 4, 5)
    out, err = watching.communicate(timeout=150)
    assert watching.returncode == 0, (out, err)
    assert "gpu-b has been unreachable for 2.0 s" in err
    assert json.loads(laptop.call("pull", "--json")[0])["ended"]
    assert results(laptop) == {f"out{n}": "one\n" for n in NUMBERS}
    assert began(a.home, buried) == {"began1": 1, "began2": 1, "began3": 1, "began4": 2, "began5": 2}
    assert statuses(a, half) == dict.fromkeys(("j1", "j2", "j4", "j5"), "completed")
    assert "nothing to do" in laptop.call("rescue", "--from", "gpu-b")[0]


def _killed(laptop: Laptop, run: Run, arguments: tuple[str, ...], seconds: float, later: float) -> Forked:
    """Kill a command so many seconds after its begin, or `later` seconds after it has written down where jobs are."""
    path = assignment.path(run)
    before = path.read_bytes()
    process = laptop.start(*arguments)
    until = time.monotonic() + seconds
    while process.poll() is None and path.read_bytes() == before and time.monotonic() < until:
        time.sleep(0.01)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(later)
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):  # as long as it has no group of its own
            os.killpg(process.pid, signal.SIGKILL)
        process.send_signal(signal.SIGKILL)
    process.communicate()
    return process


def test_killed_at_any_point_of_it_a_rescue_ends_the_same_and_a_host_that_comes_back_stops_what_others_do_now(
    laptop: Laptop, two: tuple[Sshd, Sshd], half: Run
) -> None:
    a, b = two
    c = laptop.host("gpu-c")
    # All hosts have one process table here, which tells jobs of one run apart by their attempts only.
    laptop.call("cancel", "j4", "j5")
    laptop.call("retry", "j4", "j5")
    wait_for(lambda: began(b.home) == {"began3": 1, "began4": 2, "began5": 2}, say="the second attempts")
    wait_for(
        lambda: (statuses(b, half)["j4"], statuses(b, half)["j5"]) == ("running", "running"), say="them to be told"
    )
    laptop.call("status")
    b.stop()  # its manager and its jobs go on
    arguments = ("rescue", half.id, "--from", "gpu-b", "--host", "gpu-c", "--host", "gpu-a", "--yes")
    moments = [0.2, 0.4, 0.6, 0.8, 1.0]  # of which each leaves all as it was: it asks hosts, and writes down nothing
    for later in itertools.cycle((0.0, 0.0, 0.2)):
        process = _killed(laptop, half, arguments, moments.pop(0) if moments else 150.0, later)
        if process.returncode != -signal.SIGKILL:
            break
    assert process.returncode == 0
    assert {name: part(half, name).own() for name in ("gpu-a", "gpu-c")} == {
        "gpu-a": ("j1", "j2", "j5"),
        "gpu-c": ("j4",),
    }
    let(a, 2, 5)
    let(c, 4)
    assert (finish(a, half.id), finish(c, half.id)) == (["j1", "j2", "j5"], ["j4"])
    assert statuses(b, half) == {"j3": "completed", "j4": "running", "j5": "running"}
    b.start()
    assert "given up" in laptop.call("status")[0]
    assert part(half, "gpu-b").revoked
    finish(b, half.id)
    assert statuses(b, half) == {"j3": "completed", "j4": "cancelled", "j5": "cancelled"}
    (workspace(b) / "out4").write_text("twice\n")  # as if that had been too late
    laptop.call("watch")
    assert json.loads(laptop.call("pull", "--json")[0])["ended"]
    laptop.call("pull", "--host", "gpu-b")
    assert results(laptop) == {f"out{n}": "one\n" for n in NUMBERS}
    assert began(a.home, b.home, c.home) == {"began1": 1, "began2": 1, "began3": 1, "began4": 3, "began5": 3}


def test_what_moved_jobs_and_their_waiters_need_is_brought_to_where_they_are(
    laptop: Laptop, two: tuple[Sshd, Sshd]
) -> None:
    a, b = two
    laptop.spec(TIED)
    run = spread(laptop, gpu_a=("s1",), gpu_b=("t1", "t2", "s2"))
    let(b, 1)
    wait_for(lambda: statuses(b, run).get("t1") == "completed", say="t1")
    laptop.call("pull")
    bury(b)
    # t1 is here and is not run again; t2 and s2 go where s1 waits for t1 and t2.
    out, err = laptop.call("rescue", "--from", "gpu-b", "--yes", "--json")
    assert json.loads(out)["jobs"]["moved"] == ["t2", "s2"]
    assert "1 job completed there and are not run again" in err
    assert not (workspace(a) / "t2").exists()
    let(a, 2)
    wait_for(lambda: statuses(a, run)["t2"] == "completed", say="t2")
    laptop.call("pull")
    assert finish(a, run.id) == ["s1", "t2", "s2"]
    assert json.loads(laptop.call("pull", "--json")[0])["ended"]
    assert results(laptop) == {"t1": "wisdom\n", "t2": "wisdom\n", "s1": "wisdom\n" * 2, "s2": "wisdom\n" * 2}
    assert began(a.home) == {"began1": 1, "began2": 1}


def test_the_only_host_is_replaced_by_one_that_is_named(laptop: Laptop) -> None:
    a = laptop.host("gpu-a")
    laptop.spec(SPEC)
    run = spread(laptop, gpu_a=tuple(f"j{n}" for n in NUMBERS))
    let(a, 1)
    wait_for(lambda: statuses(a, run).get("j1") == "completed", say="j1")
    bury(a)
    _, err = laptop.call("rescue", "--from", "gpu-a", "--yes", code=2)
    assert "is on no other host; say which one gets the jobs of gpu-a: --host NAME" in err
    assert "no jobs on gpu-z" in laptop.call("rescue", "--from", "gpu-z", "--yes", code=2)[1]
    assert (
        "gpu-a is the host that is given up" in laptop.call("rescue", "--from", "gpu-a", "--host", "gpu-a", code=2)[1]
    )
    b = laptop.host("gpu-b")
    (laptop.project / "code" / "train.py").write_text("new\n")
    out, err = laptop.call("rescue", "--from", "gpu-a", "--host", "gpu-b", "--yes")
    (push,) = part(run, "gpu-b").code
    assert push.name == local_code.name(laptop.project / "code") is not None
    assert f"{run.id}: gpu-a is given up, 5 jobs moved" in out
    assert "gpu-b has 5 of its jobs" in out, "j1 completed there, but it was never pulled"
    let(b, *NUMBERS)
    assert finish(b, run.id) == [f"j{n}" for n in NUMBERS]
    laptop.call("pull")
    assert results(laptop) == {f"out{n}": "one\n" for n in NUMBERS}


PICKY = """
project: lost
cwd: code
phases:
  - name: other
    template: {id: j0, cmd: "true", gpus: 0}
  - name: make
    recover: [{args: {bs: 16}}, other_host]
    template:
      id: j1
      args: {bs: 32}
      cmd: echo began >> began1; [ -e ~/large ] && echo ${bs} > out1
      gpus: 0
      expected_output: out1
  - name: after
    depends_on: make
    template: {id: j2, cmd: cat out1 > out2, gpus: 0, expected_output: out2}
"""


def test_a_job_whose_ladder_asks_for_another_host_runs_there_with_what_waits_for_it(
    laptop: Laptop, two: tuple[Sshd, Sshd]
) -> None:
    a, b = two
    (b.home / "large").touch()
    laptop.spec(PICKY)
    run = spread(laptop, gpu_a=("j1", "j2"), gpu_b=("j0",))
    wait_for(lambda: statuses(a, run) == {"j1": "stuck", "j2": "blocked"}, say="the end of its ladder there")
    assert f"wavequeue rescue {run.id} moves it to another host" in laptop.call("why", "j1")[0]
    out = json.loads(laptop.call("babysit", "--once", "--json")[0])
    assert out["problems"][0] == "gpu-b gets j1, j2, which failed on gpu-a"
    assert part(run, "gpu-a").own() == ()
    laptop.call("watch")
    laptop.call("pull")
    assert results(laptop) == {"out1": "16\n", "out2": "16\n"}
    assert (began(a.home), began(b.home)) == ({"began1": 2}, {"began1": 1})
    rows = {row["id"]: row for row in json.loads(laptop.call("status", "--json")[0])["jobs"]}
    assert (rows["j1"]["host"], rows["j1"]["outcome"]) == ("gpu-b", "recovered")
    assert "no job asks for another host" in laptop.call("rescue")[0]
