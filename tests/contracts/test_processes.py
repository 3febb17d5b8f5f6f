"""Processes by the real kernel: identity, tags, signals, activity, wake-ups."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_manager.adapters import processes
from queue_manager.adapters.processes import Activity, Stat, TagScan, parse_stat
from queue_manager.core.events import Proc
from queue_manager.core.readings import Unreadable
from tests.e2e.runs import wait_for

NOT_A_PROCESS = 2**22 + 1  # above the kernel's largest pid
RUN = f"r{os.getpid()}"  # tests may run beside each other
TAG = f"{RUN}/job/1"

Spawn = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    """Starts processes in `tmp_path`; they, and all that carries their variables, are ended afterwards."""
    begun: list[subprocess.Popen[bytes]] = []

    def start(*argv: str, variables: Mapping[str, str] = {}, program: Path | None = None) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "OF_THIS_TEST": str(tmp_path), **variables}
        process = subprocess.Popen(argv, executable=program, env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL)
        begun.append(process)
        return process

    yield start
    for process in begun:
        process.kill()
        process.wait()
    for other in psutil.process_iter():
        try:
            if other.environ().get("OF_THIS_TEST") == str(tmp_path):
                proc = proc_of(other.pid)
                other.kill()
                ended(proc)
        except psutil.Error:
            continue


def proc_of(pid: int) -> Proc:
    stat = processes.look_up(pid)
    assert isinstance(stat, Stat)
    return stat.proc


def ended(proc: Proc) -> None:
    wait_for(lambda: processes.alive(proc) is False, say=f"the end of {proc}")


# -- identity ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 2**22), st.text(st.characters(exclude_characters="\0"), max_size=15), st.integers(0, 2**63))
def test_parse_stat_whatever_the_name(pid: int, name: str, ticks: int) -> None:
    line = f"{pid} ({name}) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 {ticks} 20 21"
    assert parse_stat(line) == Stat(Proc(pid, ticks), "S", 1)
    assert parse_stat(line[: line.rindex(")") + 20]) is None


@pytest.mark.parametrize("line", ["", "x", "12", "12 (sh", "12 (sh)", "12 (sh) S", "a (sh) S" + " 1" * 30])
def test_a_line_that_is_no_stat(line: str) -> None:
    assert parse_stat(line) is None


def test_a_pid_that_is_used_again_is_another_process() -> None:
    me = proc_of(os.getpid())
    assert me.pid == os.getpid()
    assert processes.alive(me) is True
    assert processes.alive(Proc(me.pid, me.ticks - 1)) is False
    assert processes.alive(Proc(NOT_A_PROCESS, me.ticks)) is False
    assert processes.look_up(NOT_A_PROCESS) is None


@pytest.mark.parametrize("name", ["a) b", "a b", "(", ") S 1 2", "a\nb"])
def test_commands_of_any_name(spawn: Spawn, tmp_path: Path, name: str) -> None:
    program = tmp_path / name
    shutil.copy("/bin/sleep", program)
    pid = spawn("sleep", "1000", program=program).pid
    wait_for(lambda: psutil.Process(pid).name() == name, say="exec")
    proc = proc_of(pid)
    assert proc.pid == pid
    began = psutil.boot_time() + proc.ticks / os.sysconf("SC_CLK_TCK")
    assert began == pytest.approx(psutil.Process(pid).create_time(), abs=0.1)


def test_a_zombie_has_gone(spawn: Spawn) -> None:
    process = spawn("sleep", "1000")
    proc = proc_of(process.pid)
    assert processes.alive(proc) is True
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE, say="the zombie")
    assert processes.alive(proc) is False
    assert processes.activity([proc]) in (Activity(0.0, 0), processes.activity([]))


def test_what_proc_does_not_tell_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    alive = processes.alive(Proc(1, 1))
    assert isinstance(alive, Unreadable)
    assert "Permission denied" in alive.reason


# -- tags -------------------------------------------------------------------------------------------------------------


_DOUBLE_FORK = """
import os, sys, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
open("pid", "w").write(f"{os.getpid()}\\n")
time.sleep(1000)
"""


@pytest.mark.parametrize(
    "argv",
    [
        ["sh", "-c", "echo $$ > pid; exec sleep 1000"],
        ["setsid", "sh", "-c", "echo $$ > pid; exec sleep 1000"],
        ["sh", "-c", "nohup sleep 1000 > out 2>&1 & echo $! > pid"],
        [sys.executable, "-S", "-c", _DOUBLE_FORK],
    ],
    ids=["plain", "setsid", "nohup", "double fork"],
)
def test_what_a_job_started_is_found_by_its_tag(spawn: Spawn, tmp_path: Path, argv: list[str]) -> None:
    scan = TagScan(RUN)
    spawn(*argv, variables={"WAVEQUEUE_TAG": TAG})
    pid_file = tmp_path / "pid"
    proc = proc_of(int(wait_for(lambda: pid_file.exists() and pid_file.read_text(), say="its pid")))

    def found() -> bool:
        tagged = scan.tagged()
        assert not isinstance(tagged, Unreadable)
        assert set(tagged) <= {TAG}
        return proc in tagged.get(TAG, [])

    wait_for(found, say="the tagged process")
    os.kill(proc.pid, signal.SIGKILL)
    wait_for(lambda: scan.tagged() == {}, say="nothing to be left")


def test_no_others_are_found(spawn: Spawn, tmp_path: Path) -> None:
    others: list[Mapping[str, str]] = [
        {"WAVEQUEUE_TAG": f"{RUN}x/job/1"},
        {"WAVEQUEUE_TAG": f"x{TAG}"},
        {"WAVEQUEUE_TAG": RUN},
        {"MY_WAVEQUEUE_TAG": TAG},
        {"NOTE": f"WAVEQUEUE_TAG={TAG}"},
        {},
    ]
    for number, variables in enumerate(others):
        spawn("sh", "-c", f"echo > up{number}; while :; do sleep 1000; done", TAG, variables=variables)
    ours = spawn("sh", "-c", "echo > ours; exec sleep 1000", variables={"WAVEQUEUE_TAG": f"{RUN}/job.2,a=1/3"})
    wait_for(lambda: len(list(tmp_path.iterdir())) == len(others) + 1, say="all of them")
    assert TagScan(RUN).tagged() == {f"{RUN}/job.2,a=1/3": [proc_of(ours.pid)]}


def test_many_attempts_at_once(spawn: Spawn) -> None:
    wanted: dict[str, list[Proc]] = {}
    for n in range(6):
        tag = f"{RUN}/job{n % 3}/1"
        wanted.setdefault(tag, []).append(proc_of(spawn("sleep", "1000", variables={"WAVEQUEUE_TAG": tag}).pid))

    def found() -> bool:
        tagged = TagScan(RUN).tagged()
        return not isinstance(tagged, Unreadable) and {k: sorted(v) for k, v in tagged.items()} == wanted

    wait_for(found, say="all six, once each has come from fork to exec")


def test_a_process_that_was_seen_between_fork_and_exec_is_found_later(spawn: Spawn, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    scan = TagScan(RUN)
    process = spawn("bash", "-c", f"read line < gate; WAVEQUEUE_TAG={TAG} exec sleep 1000")
    assert scan.tagged() == {}
    (tmp_path / "gate").write_text("\n")
    proc = proc_of(process.pid)
    wait_for(lambda: scan.tagged() == {TAG: [proc]}, say="the tag")


@pytest.mark.parametrize(
    ("environments", "ends", "settled"),
    [
        ([b"A=1"], [], b"A=1"),
        ([b""], [None], b""),
        ([b""], [0], None),
        ([b"", b""], [7, 7], b""),
        ([b"", b"A=1"], [7], b"A=1"),  # an exec ended between the two looks
        ([b"", b""], [7, 9], None),  # one ended, and another one began
        ([b"", b""], [7, 0], None),
    ],
)
def test_what_is_in_exec_is_distinguished_from_what_has_no_environment(
    monkeypatch: pytest.MonkeyPatch, environments: list[bytes], ends: list[int | None], settled: bytes | None
) -> None:
    monkeypatch.setattr(processes, "_environment", lambda _pid: environments.pop(0))
    monkeypatch.setattr(processes, "_environment_end", lambda _pid: ends.pop(0))
    assert processes._settled_environment("7") == settled
    assert environments == [] == ends


def test_a_process_without_an_environment_is_waited_for_no_longer_than_its_exec(spawn: Spawn) -> None:
    process = spawn("env", "-i", shutil.which("sleep") or "", "1000")
    wait_for(lambda: psutil.Process(process.pid).name() == "sleep", say="its exec")
    wait_for(lambda: processes._settled_environment(str(process.pid)) == b"", say="what it has: nothing")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every process whose environment was read, by its pid."""
    found: list[str] = []
    read = processes._environment

    def counted(pid: str) -> bytes:
        found.append(pid)
        return read(pid)

    monkeypatch.setattr(processes, "_environment", counted)
    return found


def test_what_is_not_looked_at_again_hides_no_later_process(
    spawn: Spawn, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TagScan, "_BELIEVED_AFTER", 0.0)
    scan = TagScan(RUN)
    assert scan.tagged() == {}
    monkeypatch.setattr(TagScan, "_BELIEVED_AFTER", 1e-9)
    scan.tagged()
    again = reads.count(str(os.getpid()))
    scan.tagged()
    assert reads.count(str(os.getpid())) == again  # this process is believed to be another's by now
    process = spawn("sleep", "1000", variables={"WAVEQUEUE_TAG": TAG})
    wait_for(lambda: b"WAVEQUEUE_TAG" in Path(f"/proc/{process.pid}/environ").read_bytes(), say="exec")
    assert scan.tagged() == {TAG: [proc_of(process.pid)]}


def test_what_ran_before_the_run_is_not_read_and_hides_nothing_of_it(spawn: Spawn, reads: list[str]) -> None:
    scan = TagScan(RUN)
    scan.pass_over_present()
    process = spawn("sleep", "1000", variables={"WAVEQUEUE_TAG": TAG})
    wait_for(lambda: b"WAVEQUEUE_TAG" in Path(f"/proc/{process.pid}/environ").read_bytes(), say="exec")
    assert scan.tagged() == {TAG: [proc_of(process.pid)]}
    assert str(process.pid) in reads
    assert str(os.getpid()) not in reads


def test_a_proc_that_cannot_be_listed_is_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    assert isinstance(TagScan(RUN).tagged(), Unreadable)


# -- signals ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[True, False], ids=["pidfd", "no pidfd"])
def _pidfd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        monkeypatch.delattr(os, "pidfd_open")


@pytest.mark.usefixtures("_pidfd")
def test_signals_reach_all_and_kill_those_that_ignore_term(spawn: Spawn, tmp_path: Path) -> None:
    mild = [spawn("sh", "-c", f"echo > m{n}; exec sleep 1000") for n in range(3)]
    stubborn = [spawn("sh", "-c", f"trap '' TERM; echo > s{n}; exec sleep 1000") for n in range(3)]
    wait_for(lambda: len(list(tmp_path.iterdir())) == 6, say="all of them")
    gone = Proc(NOT_A_PROCESS, 1)
    procs = [gone, *(proc_of(one.pid) for one in (*stubborn, *mild))]
    processes.send(procs, signal.SIGTERM)
    assert [one.wait(150) for one in mild] == [-signal.SIGTERM] * 3
    assert [one.poll() for one in stubborn] == [None] * 3
    processes.send(procs, signal.SIGKILL)
    assert [one.wait(150) for one in stubborn] == [-signal.SIGKILL] * 3
    processes.send(procs, signal.SIGKILL)


@pytest.mark.usefixtures("_pidfd")
def test_who_has_the_pid_now_is_not_signalled(spawn: Spawn) -> None:
    process = spawn("sleep", "1000")
    proc = proc_of(process.pid)
    processes.send([Proc(proc.pid, proc.ticks - 1), Proc(proc.pid, proc.ticks + 1)], signal.SIGKILL)
    processes.send([proc], signal.SIGTERM)
    assert process.wait(150) == -signal.SIGTERM  # KILL would have come first


# -- activity ---------------------------------------------------------------------------------------------------------


def _activity(*procs: Proc) -> Activity:
    found = processes.activity(procs)
    assert isinstance(found, Activity)
    return found


def test_work_is_seen(spawn: Spawn) -> None:
    proc = proc_of(spawn("sh", "-c", "while :; do :; done").pid)
    before = _activity(proc)
    wait_for(lambda: _activity(proc).cpu > before.cpu, say="CPU time")


def test_writing_is_seen(spawn: Spawn, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    proc = proc_of(spawn("sh", "-c", "read line < gate; printf 12345; read line < gate").pid)
    wait_for(lambda: psutil.Process(proc.pid).name() == "sh", say="exec")
    before = _activity(proc)
    (tmp_path / "gate").write_text("\n")
    wait_for(lambda: _activity(proc).written == before.written + 5, say="five bytes")


def test_one_that_waits_does_nothing(spawn: Spawn) -> None:
    process = spawn("sleep", "1000")
    sleeper = psutil.Process(process.pid)
    wait_for(lambda: sleeper.name() == "sleep" and sleeper.status() == psutil.STATUS_SLEEPING, say="sleep")
    proc, busy = proc_of(process.pid), proc_of(spawn("sh", "-c", "while :; do :; done").pid)
    before, other = _activity(proc), _activity(busy)
    wait_for(lambda: _activity(busy).cpu > other.cpu, say="another one to have worked")
    assert _activity(proc) == before
    assert _activity(proc, busy).cpu > before.cpu + other.cpu


def test_what_has_ended_counts_no_more(spawn: Spawn) -> None:
    process = spawn("true")
    proc = proc_of(process.pid)
    process.wait(150)
    assert processes.activity([proc, Proc(NOT_A_PROCESS, 1)]) == Activity(0.0, 0)


def test_what_the_kernel_does_not_count_is_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(psutil.Process, "io_counters")
    assert isinstance(processes.activity([proc_of(os.getpid())]), Unreadable)


# -- wake-ups ---------------------------------------------------------------------------------------------------------


def test_a_pidfd_wakes_when_its_process_ends(spawn: Spawn) -> None:
    process = spawn("sleep", "1000")
    fd = processes.open_pidfd(proc_of(process.pid))
    assert fd is not None
    assert select.select([fd], [], [], 0) == ([], [], [])
    process.kill()
    assert select.select([fd], [], [], 30) == ([fd], [], [])
    os.close(fd)


def test_there_is_none_of_a_process_that_has_ended(spawn: Spawn) -> None:
    process = spawn("sleep", "1000")
    proc = proc_of(process.pid)
    open_fds = len(os.listdir("/proc/self/fd"))
    assert processes.open_pidfd(Proc(proc.pid, proc.ticks - 1)) is None
    assert processes.open_pidfd(Proc(NOT_A_PROCESS, 1)) is None
    os.kill(proc.pid, signal.SIGKILL)
    ended(proc)
    assert processes.open_pidfd(proc) is None  # a zombie by now
    assert len(os.listdir("/proc/self/fd")) == open_fds


@pytest.mark.parametrize(("module", "name"), [(os, "pidfd_open"), (signal, "pidfd_send_signal")])
def test_a_python_without_pidfd_says_so(monkeypatch: pytest.MonkeyPatch, module: object, name: str) -> None:
    monkeypatch.delattr(module, name)
    with pytest.raises(OSError, match="no pidfd"):
        processes.open_pidfd(proc_of(os.getpid()))
