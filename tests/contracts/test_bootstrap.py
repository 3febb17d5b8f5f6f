"""Bringing our side to real hosts: what they are, the runtime, the run's directory, and a manager that outlives us."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_manager.adapters import facts as host_facts
from queue_manager.core.layout import HostPaths, RunPaths
from queue_manager.core.manifest import encode
from queue_manager.remote import check
from skill.hosts import bootstrap, runtime_bundle, survival
from skill.hosts.bootstrap import Facts, Named
from skill.hosts.connection import CommandResult, Host, Unreachable, each
from skill.hosts.registry import Worker
from tests import kept_runtime
from tests.e2e.runs import job, lives, manifest, until, wait_for
from tests.sshd import PYTHON, Sshd
from tests.sshd_killing import make_killing

WAITS = f"{until('stop')}; echo done"


def connect(server: Sshd, name: str = "a") -> Host:
    return Host(server.worker(name), server.root / "known_hosts")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    """A bare host; screen, where a test wants it, is linked into its bin."""
    with Sshd(tmp_path / "host", bare=True) as made:
        yield made


@pytest.fixture
def host(server: Sshd) -> Iterator[Host]:
    made = connect(server)
    yield made
    made.close()


def add_screen(server: Sshd) -> None:
    screen = shutil.which("screen")
    assert screen is not None
    (server.bin / "screen").symlink_to(screen)


def named(found: Named | Unreachable) -> str:
    """The identity that a host has claimed."""
    assert isinstance(found, Named), found
    return found.host_id


def look(host: Host, run_id: str | None = None) -> Facts:
    found = bootstrap.facts(host, run_id)
    assert isinstance(found, Facts), found
    return found


def prepared(host: Host) -> tuple[str, str]:
    """The host's python and runtime, once it has both."""
    facts = look(host)
    assert facts.python is not None
    made = bootstrap.bundle_for(facts)
    assert bootstrap.place_runtime(host, facts, made) is None
    return facts.python.path, made.digest


def place(host: Host, run_id: str, cmd: str, **fields: Any) -> bytes:
    text = encode(manifest(job("j", cmd), cwd="~", **fields)).encode()
    assert bootstrap.place_run(host, run_id, text) is None
    return text


def started(host: Host, run_id: str) -> int:
    python, runtime = prepared(host)
    pid = bootstrap.start(host, python, runtime, run_id, 0.1)
    assert isinstance(pid, int), pid
    return pid


def run_paths(server: Sshd, run_id: str) -> RunPaths:
    return RunPaths.of(HostPaths.of(server.home).runs / run_id)


def job_row(server: Sshd, run_id: str) -> dict[str, Any]:
    with contextlib.suppress(FileNotFoundError):
        row: dict[str, Any] = json.loads(run_paths(server, run_id).state.read_text())["jobs"][0]
        return row
    return {}


def wait_completed(server: Sshd, run_id: str) -> str:
    """Wait until the job has completed; its log."""
    wait_for(lambda: job_row(server, run_id).get("status") == "completed", say="the job's end")
    return run_paths(server, run_id).log("j").read_text()


# -- facts ------------------------------------------------------------------------------------------------------------


def test_a_bare_host_says_what_it_has_and_nothing_is_left_there(server: Sshd, host: Host) -> None:
    facts = look(host)
    assert (facts.home, facts.screen, facts.rsync) == (str(server.home), None, None)
    assert facts.python is not None
    assert facts.python.path in (str(server.bin / "python3"), PYTHON)
    assert (facts.machine, facts.libc.split()[0]) == (os.uname().machine, "glibc")
    assert facts.writable
    assert abs((facts.disk_free_mib or 0) - shutil.disk_usage(server.home).free // (1 << 20)) < 1 << 12
    assert (facts.host_id, facts.runtimes, facts.manifest_sha256, facts.manager_pid) == (None, frozenset(), None, None)
    assert list(server.home.iterdir()) == []


def test_what_every_command_begins_with_imports_nothing_large() -> None:
    tree = ast.parse(Path(host_facts.__file__).read_text(encoding="utf-8"))
    names = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in tree.body
             if isinstance(node, (ast.Import, ast.ImportFrom))}  # fmt: skip
    assert names == {"__future__", "collections", "fcntl", "json", "os", "re", "stat", "sys", "time"}


def test_programs_that_are_there_are_reported(tmp_path: Path) -> None:
    with Sshd(tmp_path / "host") as server:
        host = connect(server)
        facts = look(host)
        assert (facts.screen, facts.rsync) == (shutil.which("screen"), shutil.which("rsync"))
        host.close()


def fake(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_where_path_leads_to_an_old_python_the_usual_places_are_looked_at(server: Sshd, host: Host) -> None:
    fake(server.bin / "python3", "echo old=3.6.9")
    fake(server.bin / "python3.11", "exit 127")
    real = server.home / "miniconda3" / "bin" / "python3"
    real.parent.mkdir(parents=True)
    real.symlink_to(PYTHON)
    found = look(host).python
    assert found is not None
    assert found.path in (str(real), PYTHON)


def test_where_no_python_will_do_it_says_which_were_found(
    server: Sshd, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "PLACES", ("$HOME/conda/bin",))
    fake(server.bin / "python3", "echo old=2.7.18")
    fake(server.home / "conda" / "bin" / "python3.9", "echo Segmentation fault")
    facts = look(host)
    assert facts.python is None
    assert facts.why_no_python == (
        f"no python of 3.9 or newer was found (too old: 2.7.18 {server.bin}/python3; "
        f"does not run: {server.home}/conda/bin/python3.9)"
    )
    (server.bin / "python3").unlink()
    (server.home / "conda" / "bin" / "python3.9").unlink()
    assert look(host).why_no_python == "no python of 3.9 or newer was found"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("uname", "printf 'x86_64\\n\\033[2J\\n'"),
        ("uname", "head -c 3000000 /dev/zero"),
        ("uname", "exit 1"),
        ("python3", "printf 'python=3.11.2 /bin/python3\\nfacts={\"host_id\": 7}\\n'"),
        ("python3", "printf 'python=3.11.2 python3\\nfacts=null\\n'"),
    ],
)
def test_a_host_that_answers_anything_else_is_not_believed(server: Sshd, host: Host, name: str, says: str) -> None:
    fake(server.bin / name, says)
    found = bootstrap.facts(host, None)
    assert isinstance(found, Unreachable)
    assert found.kind == "other"
    assert found.reason.isprintable()


def test_a_shell_that_ends_at_once_is_not_believed(server: Sshd, host: Host) -> None:
    (server.home / "greeting").write_text("echo home=/root; exit 0\n")
    assert isinstance(bootstrap.facts(host, None), Unreachable)


GOOD = {
    "host_id": "0" * 32, "runtimes": ["1" * 32], "libc": "glibc 2.36", "manifest_sha256": "2" * 64, "manager_pid": 7,
    "ended": False, "place": ".wavequeue/hosts/node-7-0123abcd", "owner": "node-8\x1b", "named": True,
    "machine_digest": "3" * 32,
}  # fmt: skip
ANSWER = (
    "home=/root\nmachine=x86_64\nscreen=\nrsync=/usr/bin/rsync\ndisk=2048\nwritable=1\n"
    "python=3.11.2 /bin/python3\nfacts="
)


def test_an_answer_in_order_is_taken() -> None:
    found = bootstrap.parse_facts(CommandResult(0, f"{ANSWER}{json.dumps(GOOD)}\n".encode(), ""))
    assert isinstance(found, Facts)
    assert (found.python, found.disk_free_mib, found.manager_pid) == (("3.11.2", "/bin/python3"), 2, 7)
    assert (found.host_id, found.runtimes) == ("0" * 32, frozenset({"1" * 32}))
    assert (found.place, found.owner, found.machine) == (GOOD["place"], r"node-8\x1b", "x86_64")


@pytest.mark.parametrize(
    "change",
    [
        {"host_id": "0" * 31}, {"host_id": "../../x"}, {"runtimes": "1"}, {"runtimes": [1]}, {"manager_pid": -1},
        {"manager_pid": True}, {"manager_pid": 1 << 40}, {"manifest_sha256": 5},
        {"ended": 1}, {"libc": None}, {"place": "/etc"},
        {"place": ".wavequeue/hosts/../x-1"}, {"place": ".wavequeue/hosts/.."}, {"owner": 7},
        {"named": None}, {"machine_digest": ""},
    ],
)  # fmt: skip
def test_an_answer_with_one_wrong_value_is_not_taken(change: dict[str, Any]) -> None:
    found = bootstrap.parse_facts(CommandResult(0, f"{ANSWER}{json.dumps({**GOOD, **change})}\n".encode(), ""))
    assert isinstance(found, Unreachable)


@given(st.binary(max_size=60), st.integers(0, 400), st.integers(0, 60))
def test_no_bytes_break_the_reader_nor_reach_a_terminal(junk: bytes, at: int, cut: int) -> None:
    whole = f"{ANSWER}{json.dumps(GOOD)}\n".encode()
    found = bootstrap.parse_facts(
        CommandResult(0, whole[:at] + junk + whole[at + cut :], junk.decode(errors="replace"))
    )
    texts = [found.reason] if isinstance(found, Unreachable) else [found.home, found.machine, found.why_no_python]
    assert all(text.isprintable() for text in texts)


# -- identity and runtime -----------------------------------------------------------------------------------------


def test_of_several_who_name_a_host_at_once_all_get_the_same_name(server: Sshd) -> None:
    hosts = [connect(server, name) for name in ("a", "b", "c")]
    gate = server.root / "gate"
    gate.mkdir()
    # Each waits before its last step until all are there.
    for name in ("ln", "mv", "cp"):
        real = shutil.which(name)
        fake(server.bin / name, f'touch {gate}/$$; until [ $(ls {gate} | wc -l) -ge 3 ]; do :; done; {real} "$@"')
    file = HostPaths.of(server.home).host_id
    found = each(hosts, bootstrap.claim_identity, 30)
    assert set(found.values()) == {Named(file.read_text().strip(), ".wavequeue")}
    assert (look(hosts[0]).host_id, bootstrap.claim_identity(hosts[0])) == (named(found["a"]), found["a"])
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert sorted(path.name for path in file.parent.iterdir()) == ["host_id", "machine"]
    for host in hosts:
        host.close()


def test_a_file_system_without_hard_links_has_its_host_named_and_gets_its_manifest(server: Sshd, host: Host) -> None:
    fake(server.bin / "ln", "echo 'ln: Operation not permitted' >&2; exit 1")
    found = bootstrap.claim_identity(host)
    assert bootstrap.claim_identity(host) == found
    assert named(found) == HostPaths.of(server.home).host_id.read_text().strip()
    for _ in range(2):
        assert bootstrap.place_run(host, "r", b"the manifest") is None
    assert "contains another manifest" in str(bootstrap.place_run(host, "r", b"another"))
    assert [path.name for path in run_paths(server, "r").root.iterdir()] == ["manifest.json"]


def runtimes(server: Sshd) -> list[str]:
    return sorted(path.name for path in HostPaths.of(server.home).runtimes.glob("*"))


_TRIED_TOGETHER = b"""
import os, sys, time
home = os.path.expanduser("~")
if sys.argv[1] == "queue_manager.check":
    open(f"{home}/tried.{os.getpid()}", "w").close()
    while sum(name.startswith("tried.") for name in os.listdir(home)) < 3:
        time.sleep(0.01)
print("it runs")
"""
"""A runtime that is small. When it is tried, it waits until it has been tried three times."""


def test_a_runtime_that_was_cut_off_is_never_used_and_two_pushes_at_once_do_no_harm(server: Sshd, host: Host) -> None:
    facts = look(host)
    made = runtime_bundle.pack({"__main__.py": _TRIED_TOGETHER})
    argv = [PYTHON, "-c", bootstrap.UNPACK, made.digest, sha256(made.data).hexdigest()]
    result = host.run(argv, stdin=made.data[: len(made.data) // 2])
    assert isinstance(result, CommandResult)
    assert (result.code, result.err) == (1, "the transfer was cut off\n")
    assert runtimes(server) == []

    def kill() -> bool:
        """Everything that runs on the host, once the runtime lies there and is tried."""
        found = any(server.home.glob("tried.*"))
        if found:
            server.kill_all()
        return found

    other = connect(server, "b")
    found = each(
        [host, other], lambda one: bootstrap.place_runtime(one, facts, made) if one is host else wait_for(kill), 60
    )
    assert isinstance(found["a"], (str, Unreachable))
    (left,) = runtimes(server)
    assert left.startswith(".new-")
    server.start()
    assert look(host).runtimes == frozenset()
    day_ago = time.time() - 86400
    os.utime(HostPaths.of(server.home).runtimes / left, (day_ago, day_ago))
    assert each([host, other], lambda one: bootstrap.place_runtime(one, facts, made), 60) == {"a": None, "b": None}
    assert len(list(server.home.glob("tried.*"))) == 3, "both were tried at the same moment"
    assert runtimes(server) == [made.digest]
    assert look(host).runtimes == {made.digest}
    assert (HostPaths.of(server.home).runtime(made.digest)).stat().st_mode & 0o777 == 0o700
    assert facts.python is not None
    result = host.run(bootstrap.module(facts.home, facts.python.path, made.digest, "probe"))
    assert isinstance(result, CommandResult)
    assert result.out == b"it runs\n"
    other.close()


def test_a_runtime_that_does_not_run_there_is_not_kept(server: Sshd, host: Host) -> None:
    made = runtime_bundle.pack({"__main__.py": b"import sys; sys.exit(f'nothing_of_the_kind for {sys.argv[1]}')"})
    found = bootstrap.place_runtime(host, look(host), made)
    assert isinstance(found, str)
    assert "does not run with" in found
    assert "nothing_of_the_kind for queue_manager.check" in found
    assert runtimes(server) == []


def test_a_runtime_runs_where_all_that_a_manager_needs_later_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check.main() == 0
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(ImportError):
        check.main()


def test_in_passing_nothing_is_left(server: Sshd, host: Host) -> None:
    temporary = server.root / "temporary"
    temporary.mkdir()
    server.variables["TMPDIR"] = str(temporary)
    server._write_config()
    facts = look(host)
    made = bootstrap.bundle_for(facts)
    result = bootstrap.in_passing(host, facts, made, "probe", "--path", "/")
    assert isinstance(result, CommandResult)
    assert json.loads(result.out)["path"] == "/"
    result = bootstrap.in_passing(host, facts, made, "agents")
    assert isinstance(result, CommandResult)
    assert json.loads(result.out) == {"agents": []}
    argv = [PYTHON, "-I", "-S", "-B", "-c", bootstrap._IN_PASSING, str(len(made.zipped)), "queue_manager.probe"]
    result = host.run(argv, stdin=made.zipped[:-1])
    assert isinstance(result, CommandResult)
    assert (result.code, result.out, result.err) == (1, b"", "the transfer was cut off\n")
    assert [*server.home.iterdir(), *temporary.iterdir()] == []


# -- the run ----------------------------------------------------------------------------------------------------------


def test_a_manifest_is_placed_whole_and_another_one_is_refused(server: Sshd, host: Host) -> None:
    cut = host.script(bootstrap._PLACE, "r", "tmp", "100", stdin=b"only this came")
    assert isinstance(cut, CommandResult)
    assert (cut.code, cut.err) == (1, "the transfer was cut off\n")
    paths = run_paths(server, "r")
    assert list(paths.root.iterdir()) == []
    cut = host.script(bootstrap._PLACE, "r", "tmp", "4", "7", "skip", stdin=b"onlythis")
    assert isinstance(cut, CommandResult)
    assert (cut.code, cut.err) == (1, "the transfer was cut off\n")
    assert list(paths.root.iterdir()) == []
    for _ in range(2):
        assert bootstrap.place_run(host, "r", b"the manifest") is None
    found = bootstrap.place_run(host, "r", b"another")
    assert isinstance(found, str)
    assert "contains another manifest" in found
    assert paths.manifest.read_bytes() == b"the manifest"
    assert [path.name for path in paths.root.iterdir()] == ["manifest.json"]
    assert (paths.root.stat().st_mode & 0o777, paths.manifest.stat().st_mode & 0o777) == (0o700, 0o600)
    assert look(host, "r").manifest_sha256 == sha256(b"the manifest").hexdigest()
    for text in (b"first", b"later"):  # which comes too late: a manager may have taken the first
        assert bootstrap.place_run(host, "q", b"the manifest", ("skip", text)) is None
        other = run_paths(server, "q")
        assert (other.manifest.read_bytes(), other.request("skip").read_bytes()) == (b"the manifest", b"first")
        assert sorted(path.name for path in other.root.iterdir()) == ["inbox", "manifest.json"]


def test_a_home_without_hard_links_takes_a_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ln").write_text("#!/bin/sh\necho 'ln: Operation not permitted' >&2; exit 1\n")
    (tmp_path / "bin" / "ln").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    here = Host(Worker("here", kind="local"), tmp_path / "known_hosts")
    found = bootstrap.claim_identity(here)
    assert named(found)
    assert bootstrap.claim_identity(here) == found
    assert bootstrap.place_run(here, "r", b"{}") is None
    assert bootstrap.place_run(here, "r", b"{}") is None
    assert "contains another manifest" in str(bootstrap.place_run(here, "r", b"{ }"))
    assert sorted(path.name for path in (tmp_path / ".wavequeue" / "runs" / "r").iterdir()) == ["manifest.json"]


def test_a_manager_goes_on_without_us_and_is_seen_alive_dead_and_finished(server: Sshd, host: Host) -> None:
    add_screen(server)
    kept_runtime.give(server.home, tried=False)
    place(host, "r", WAITS)
    make_killing(server, may_linger=True)
    host.close()
    assert survival.fault(host, look(host)) is None
    assert look(host).survival == survival.SCOPE
    pid = started(host, "r")
    wait_for(lambda: job_row(server, "r").get("status") == "running", say="the job to run")
    process = psutil.Process(pid)
    assert os.getsid(pid) == pid
    assert process.terminal() is None
    assert (look(host, "r").manager_pid, look(host, "r").ended) == (pid, False)
    assert started(host, "r") == pid  # one that is there is meant

    server.stop()  # sshd and all its sessions
    assert lives(pid)
    server.start()
    assert look(host, "r").manager_pid == pid

    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not lives(pid), say="the manager's end")
    assert (look(host, "r").manager_pid, look(host, "r").ended) == (None, False)
    again = started(host, "r")
    assert look(host, "r").manager_pid == again != pid

    (server.home / "stop").touch()
    assert wait_completed(server, "r") == "done\n"
    wait_for(lambda: not lives(again), say="the manager's end")
    assert (look(host, "r").manager_pid, look(host, "r").ended) == (None, True)


def test_a_manager_that_just_takes_the_run_counts_as_one(tmp_path: Path) -> None:
    lock = tmp_path / "manager.lock"
    assert host_facts.held_by(lock) is None
    lock.touch()
    assert host_facts.held_by(lock) == 0
    os.utime(lock, (1, 1))
    assert host_facts.held_by(lock) is None
    lock.write_text(json.dumps({"pid": os.getpid(), "host": os.uname().nodename}))
    assert host_facts.held_by(lock) is None  # the process is another one: nobody holds the lock


def test_a_lock_or_an_identity_that_cannot_be_read_is_not_taken_for_none(server: Sshd) -> None:
    kept_runtime.give(server.home)
    add_screen(server)
    host = connect(server)
    place(host, "r", WAITS)
    python, digest = prepared(host)
    lock = server.home / ".wavequeue" / "runs" / "r" / "manager.lock"
    lock.mkdir()
    found = bootstrap.facts(host, "r")
    assert isinstance(found, Unreachable)
    assert found.reason == f"{lock} cannot be read there: Is a directory"
    result = bootstrap.start(host, python, digest, "r", None)
    assert result == f"{lock}: Is a directory"
    lock.rmdir()
    for name in ("host_id", "machine"):
        file = server.home / ".wavequeue" / name
        file.unlink(missing_ok=True)
        file.mkdir()
        found = bootstrap.facts(host, "r")
        assert isinstance(found, Unreachable)
        assert found.reason == f"{file} cannot be read there: Is a directory"
        claimed = bootstrap.claim_identity(host)
        assert isinstance(claimed, Unreachable)
        assert "Is a directory" in claimed.reason
        file.rmdir()
        file.symlink_to(file)  # stat fails, as with a stale file handle
        claimed = bootstrap.claim_identity(host)
        assert isinstance(claimed, Unreachable)
        assert "symbolic link" in claimed.reason
        assert file.is_symlink(), "it is not replaced"
        file.unlink()


def test_a_df_that_fails_is_reported_in_its_own_words(server: Sshd) -> None:
    host = connect(server)
    (server.bin / "df").unlink()
    (server.bin / "df").write_text("#!/bin/sh\necho 'df: /home: Stale file handle' >&2; exit 1\n")
    (server.bin / "df").chmod(0o755)
    found = look(host)
    assert (found.disk_free_mib, found.disk_fault) == (None, "df: /home: Stale file handle")


def test_two_starts_at_once_give_one_manager(server: Sshd) -> None:
    kept_runtime.give(server.home)
    add_screen(server)
    hosts = [connect(server, name) for name in ("a", "b", "c")]
    place(hosts[0], "r", WAITS)
    python, runtime = prepared(hosts[0])
    found = each(hosts, lambda host: bootstrap.start(host, python, runtime, "r", 0.1), 60)
    assert len(set(found.values())) == 1
    assert look(hosts[0], "r").manager_pid == found["a"]
    (server.home / "stop").touch()
    assert wait_completed(server, "r") == "done\n"
    for host in hosts:
        host.close()


def test_a_manager_that_cannot_start_says_why(server: Sshd, host: Host) -> None:
    kept_runtime.give(server.home)
    assert bootstrap.place_run(host, "r", b"no manifest at all") is None
    python, runtime = prepared(host)
    found = bootstrap.start(host, python, runtime, "r", None)
    assert isinstance(found, str)
    assert found.startswith("the manager did not start: queue_manager: ")
    assert "manifest.json" in found
    assert bootstrap.start(host, python, runtime, "x", None) == "there is no run x here"


@pytest.mark.parametrize("value", [None, "{0}/lib"])
def test_jobs_have_the_pythonpath_of_their_host_and_not_ours(tmp_path: Path, value: str | None) -> None:
    library = tmp_path / "lib"
    library.mkdir()
    for name in ("json", "psutil"):  # what lies there is the jobs' own, and would end us
        (library / f"{name}.py").write_text("raise SystemExit('not for us')\n")
    wanted = None if value is None else value.format(tmp_path)
    with Sshd(tmp_path / "host", bare=True, environment={"PYTHONPATH": wanted} if wanted else None) as server:
        kept_runtime.give(server.home)
        add_screen(server)
        host = connect(server)
        place(host, "r", 'echo "[${PYTHONPATH-none}] [${PYTHONDONTWRITEBYTECODE-none}]"')
        started(host, "r")
        assert wait_completed(server, "r") == f"[{wanted or 'none'}] [none]\n"
        host.close()


def test_this_machine_is_a_host_like_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sshd(tmp_path / "host") as server:  # for its home and its end
        kept_runtime.give(server.home)
        monkeypatch.setenv("HOME", str(server.home))
        monkeypatch.setenv("SCREENDIR", str(server.screens))
        host = Host(Worker("here", kind="local"), tmp_path / "known_hosts")
        assert named(bootstrap.claim_identity(host)) == look(host).host_id
        place(host, "r", "echo here")
        started(host, "r")
        assert wait_completed(server, "r") == "here\n"
