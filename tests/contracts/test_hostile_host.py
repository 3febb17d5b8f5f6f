"""A host whose every answer is forged: whatever it says, nothing here changes but the outputs that it may write.

Each case is one answer to a pull, taken in by the command itself with a process in place of ssh. After each, what
is on this machine outside of the declared outputs is byte for byte what it was, and what was refused is said in words.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ruamel.yaml import YAML

from queue_manager.core import transfer_protocol
from queue_manager.core.manifest import encode
from queue_manager.core.transfer_protocol import HOST, RESULTS
from skill.cli import main
from skill.hosts import bootstrap
from skill.hosts.connection import CommandResult, Host, Unreachable
from skill.hosts.registry import Worker
from skill.operations import check_hosts, pull_run
from skill.operations.submission import Submission
from skill.runs import assignment, state_cache, state_schema
from skill.runs.assignment import SUBMITTED, Assigned, Part, part_manifest
from skill.runs.directory import Run
from skill.runs.path_map import map_paths, wanted
from skill.transfer import pull as pulls
from skill.transfer import receiver, write_gate
from tests import in_process
from tests.e2e.runs import ROOT
from tests.skill.story import RUN_ID, Story, job, manifest
from tests.sshd import Sshd

NONCE = "0123456789abcdef"
NOW = 1_790_000_000_000_000_000
"""Nanoseconds of a file's time that is past."""
MADE = manifest(
    job("a1", expected_output="out/a1.json"),
    job("a2", expected_output="own/*"),
    job("a3", expected_output="away/x"),
    job("a4", expected_output="inner/y.txt"),
    job("a5", expected_output="ckpt"),
    job("a6", expected_output="made.sh"),
    job("a7", expected_output=".hidden/x"),
    job("b1", expected_output="out/b1.json"),
    job("b2", expected_output="theirs/*"),
    cwd="code",
    pull=("shared", "*", "."),
)
PARTS = tuple(
    Part(host, tuple(one.id for one in MADE.jobs if one.id[0] == host[-1]), SUBMITTED, "wq/demo", "wq/demo")
    for host in ("gpu-a", "gpu-b")
)


class World:
    """A person's project under git with a run on two hosts, and things beside it that are nobody's business."""

    def __init__(self, root: Path, template: Path) -> None:
        self.root = root
        shutil.copytree(template, root, symlinks=True, dirs_exist_ok=True)
        self.project = root / "project"
        self.run = Run.at(self.project / "experiment_queue" / RUN_ID)
        self.run.root.mkdir(parents=True)
        self.run.paths.manifest.write_text(encode(MADE))
        self.assigned = Assigned(RUN_ID, "demo", "sha", "2026-01-01T10:00:00.000Z", str(self.project), PARTS)
        assignment.write(self.run, self.assigned)
        self.before = self.tree()

    def tree(self) -> dict[str, object]:
        """All that is here but what is ours alone: bytes of files and targets of links, by name below the root."""
        found: dict[str, object] = {}
        for path in sorted(self.root.rglob("*")):
            if not {"experiment_queue", ".wavequeue"}.isdisjoint(path.parts):
                continue
            name = str(path.relative_to(self.root))
            if path.is_symlink():
                found[name] = os.readlink(path)
            elif path.is_file():
                found[name] = (path.read_bytes(), path.stat().st_mode)
        return found

    def patterns(self, host: str) -> tuple[str, ...]:
        part = self.assigned.part(host)
        return wanted(map_paths(self.run, self.assigned, MADE, part), MADE, part).patterns

    def result(self, name: str) -> Path:
        return self.project / name


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The machine before anything was pulled."""
    root = tmp_path_factory.mktemp("template")
    files = {
        "project/train.py": "print('mine')\n",
        "project/input.txt": "one\n",
        "project/kept/deleted.txt": "tracked\n",
        "project/notes.txt": "mine, and not in git\n",
        "project/.envrc": "export MINE=1\n",
        "project/own/old": "of an earlier run on this machine\n",
        "project/run.sh": "#!/bin/sh\n",
        "project/data/keep.txt": "data\n",
        "outside/x": "outside of the project\n",
        "home/.bashrc": "mine\n",
        "home/.ssh/authorized_keys": "mine\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "project/run.sh").chmod(0o755)
    (root / "project/away").symlink_to("../outside")
    (root / "project/inner").symlink_to("data")
    (root / "project/gitlink").symlink_to(".git")
    git = ["git", "-C", str(root / "project")]
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    subprocess.run([*git, "init", "-q", "--template="], check=True, env=environment)
    subprocess.run([*git, "add", "train.py", "input.txt", "kept"], check=True, env=environment)
    (root / "project/kept/deleted.txt").unlink()
    return root


class Forged(Host):
    """A host that answers a pull with what stands in a file, and then does as a line of shell says."""

    def __init__(self, name: str, answer: Path, then: str) -> None:
        super().__init__(Worker(name), answer.parent / "no_known_hosts")
        self._answer, self._then = answer, then

    def ssh_command(self) -> list[str]:
        return ["sh", "-c", f'cat "$0"; {self._then or "exit 0"}', str(self._answer)]

    def run(self, *_arguments: object, **_options: object) -> CommandResult:
        return CommandResult(0, b"", "")


class Case(NamedTuple):
    """One forged answer. `rows`: what is sent after the greeting; `says`: what is told of it; `comes`: results that are
    taken all the same; `then`: what the host does after its answer, in shell; `second`: what it sends the next time."""

    rows: bytes
    says: str
    comes: frozenset[str] = frozenset()
    then: str = ""
    host: str = "gpu-a"
    first: tuple[str, bytes] | None = None


def row(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def send(name: str, by: str | int = ".", data: bytes = b"forged\n", host: str = "gpu-a", **fields: Any) -> bytes:
    """A result, as an honest sender puts it on the wire. `by`: the pattern that it says it found it by."""
    index = _by(by, host) if isinstance(by, str) else by
    head = {"file": name, "place": RESULTS, "by": index, "size": len(data), "mtime_ns": NOW, "begin": 0, **fields}
    return row(**head) + data + row(sha256=hashlib.sha256(data).hexdigest(), fault=None)


def _by(pattern: str, host: str) -> int:
    own = [one.expected_output for one in MADE.jobs if one.id[0] == host[-1]]
    return [*own, *MADE.pull].index(pattern)


def document(name: str, data: bytes, **fields: Any) -> bytes:
    return send(name, 0, data, place=HOST, **fields)


def state(*completed: str, host: str = "gpu-a", **meta: Any) -> bytes:
    """The state of a manager, by which these jobs have completed."""
    part = next(one for one in PARTS if one.host == host)
    story = Story(part_manifest(MADE, part, RUN_ID), Path("/runs") / RUN_ID)
    for name in completed:
        story.complete(name)
    made = story.document()
    made["meta"].update(meta)
    return document("queue_state.json", json.dumps(made).encode(), mtime_ns=NOW + len(completed))


END = row(end=True, same=0)
GOOD = send("out/a1.json", "out/a1.json", b"{}\n")
YEAR_NS = 365 * 86_400 * 1_000_000_000

CASES: dict[str, Case] = {
    # -- names ----------------------------------------------------------------------------------------------------
    "a tracked file by a glob": Case(send("train.py", "*"), "train.py is a program"),
    "a tracked text by a glob": Case(send("input.txt", "*"), "input.txt is tracked by git here"),
    "a tracked file that is deleted here": Case(send("kept/deleted.txt"), "kept/deleted.txt is tracked by git"),
    "a tracked file in another case": Case(send("INPUT.TXT", "*"), "INPUT.TXT is tracked by git"),
    "a file of a person": Case(send("notes.txt", "*"), "notes.txt existed here before"),
    "a file of a person in another case": Case(send("Notes.TXT", "*"), "differs only in case from notes.txt"),
    "a directory of a person in another case": Case(send("DATA/keep.txt"), "differs only in case from data/keep.txt"),
    "an output of an earlier run here": Case(send("own/old", "own/*"), "move the local file away, and pull again"),
    "a hidden file of a person": Case(send(".envrc"), ".envrc is hidden"),
    "a new hidden file": Case(send(".profile"), ".profile is hidden"),
    "a hidden file in an output": Case(send("ckpt/.config", "ckpt"), "ckpt/.config is hidden"),
    "a hidden directory in an output": Case(send("ckpt/.vscode/tasks.json", "ckpt"), "is hidden"),
    "git's own files": Case(send(".git/config", "."), "not asked for"),
    "git's own files in another case": Case(send(".GIT/config"), ".GIT/config has a name that is never pulled"),
    "git's own files with a sign unseen": Case(send(".g\u200cit/config"), "that is never pulled"),
    "git's own files as Windows has them": Case(send("GIT~1/config"), "that is never pulled"),
    "git's own files with a dot more": Case(send(".git./config"), "that is never pulled"),
    "hooks of a repository inside": Case(send("sub/.Git/hooks/pre-commit"), "that is never pulled"),
    "the hosts of the project": Case(send("Workers.yaml"), "that is never pulled"),
    "secrets": Case(send(".Env"), "that is never pulled"),
    "our own directory": Case(send("Experiment_Queue/x"), "that is never pulled"),
    "a module that Python would import": Case(send("json.py"), "json.py is a program"),
    "a test configuration that runs": Case(send("conftest.py", "*"), "conftest.py is a program"),
    "a Makefile": Case(send("makefile"), "makefile is a program"),
    "a library in an output": Case(send("ckpt/x.so.1", "ckpt"), "ckpt/x.so.1 is a program"),
    "a script by its first line": Case(send("ckpt/innocent", "ckpt", b"#!/bin/sh\nrm x\n"), "is a program"),
    "a program by its first bytes": Case(send("ckpt/innocent", "ckpt", b"\x7fELF\2\1\1"), "is a program"),
    "a program of a person": Case(send("run.sh", "*"), "run.sh is a program"),
    "a path up": Case(send("../outside/x"), "leads out of its directory"),
    "a path up in the middle": Case(send("ckpt/../train.py", "ckpt"), "leads out of its directory"),
    "an absolute path": Case(send("/etc/cron.d/x"), "is an absolute path"),
    "a path with dots": Case(send("./train.py"), "is not a plain path"),
    "a doubled slash": Case(send("ckpt//x", "ckpt"), "is not a plain path"),
    "a command for the terminal in a name": Case(send("ckpt/\x1b]52;c;x\x07", "ckpt"), "has control characters"),
    "half a character in a name": Case(send("ckpt/\udc80", "ckpt"), "is not UTF-8"),
    "a name too long": Case(send("ckpt/" + "x" * 300, "ckpt"), "too long a name"),
    "a directory in place of a file": Case(send("own", "*"), "own existed here before"),
    "a file in place of a directory": Case(send("notes.txt/x"), "cannot be written here"),
    # -- what was never asked for -----------------------------------------------------------------------------------
    "an output of a job elsewhere": Case(send("out/b1.json"), "out/b1.json is written by a job on gpu-b"),
    "an output of a job elsewhere by its glob": Case(send("theirs/1"), "theirs/1 is written by a job on gpu-b"),
    "an output of a job elsewhere in another case": Case(send("OUT/B1.json"), "is written by a job on gpu-b"),
    "a pattern that does not find it": Case(send("train.py", "out/a1.json"), "not asked for"),
    "a pattern that there is not": Case(send("train.py", 99), "not asked for"),
    "a pattern below none": Case(send("train.py", -1), "not asked for"),
    "a pattern that is no number": Case(send("train.py", 0).replace(b'"by": 0', b'"by": "."'), "not asked for"),
    "a place that there is not": Case(send("train.py", place="home"), "not asked for"),
    "our manifest": Case(document("manifest.json", b"{}"), "not asked for"),
    "who has which jobs": Case(document("hosts.json", b"{}"), "not asked for"),
    "our record of what came": Case(document("written.jsonl", b"{}"), "not asked for"),
    "a log that leads out": Case(document("logs/../../hosts.json", b"{}"), "leads out of its directory"),
    # -- files of another host ------------------------------------------------------------------------------------
    "a result that another host brought": Case(
        send("shared/x", "shared", host="gpu-b", mtime_ns=NOW + 9), "shared/x came from gpu-a", host="gpu-b",
        first=("gpu-a", send("shared/x", "shared", b"first\n")), comes=frozenset({"shared/x"}),
    ),
    "a result that another host brought, in another case": Case(
        send("Shared/X", host="gpu-b", mtime_ns=NOW + 9), "Shared/X came from gpu-a", host="gpu-b",
        first=("gpu-a", send("shared/x", "shared", b"first\n")), comes=frozenset({"shared/x"}),
    ),
    "an output that its own job on another host wrote": Case(
        send("out/a1.json", host="gpu-b", mtime_ns=NOW + 9), "out/a1.json came from gpu-a", host="gpu-b",
        first=("gpu-a", GOOD), comes=frozenset({"out/a1.json"}),
    ),
    # -- links ------------------------------------------------------------------------------------------------------
    "through a link here that leads out": Case(send("away/x", "away/x"), "behind a link that leads out"),
    "through a link here into git": Case(send("gitlink/config", "*"), "that is never pulled"),
    "a link here itself": Case(send("gitlink", "*"), "gitlink existed here before"),
    # -- what is right comes all the same -----------------------------------------------------------------------------
    "the rest of a bad answer": Case(
        GOOD + send("train.py", "*") + send("own/1", "own/*") + send(".envrc") + send("ckpt/deep/w.pt", "ckpt"),
        "train.py is a program", comes=frozenset({"out/a1.json", "own/1", "ckpt/deep/w.pt"}),
    ),
    "what is spelt out": Case(
        send("made.sh", "made.sh", b"#!/bin/sh\n") + send(".hidden/x", ".hidden/x") + row(skip="z", why="w"), "z w",
        comes=frozenset({"made.sh", ".hidden/x"}),
    ),
    "through a link here that stays inside": Case(
        send("inner/y.txt", "inner/y.txt") + row(skip="z", why="w"), "z w", comes=frozenset({"data/y.txt"})
    ),
    # -- clocks -------------------------------------------------------------------------------------------------------
    "a time in the future": Case(
        send("out/a1.json", "out/a1.json", mtime_ns=NOW + 100 * YEAR_NS) + row(skip="z", why="w"),
        "dated in the future by the host's clock", comes=frozenset({"out/a1.json"}),
    ),
    "a time that no clock has": Case(
        send("out/a1.json", "out/a1.json", mtime_ns=(1 << 63) - 1) + row(skip="z", why="w"),
        "dated in the future by the host's clock", comes=frozenset({"out/a1.json"}),
    ),
    "a time that no number holds": Case(send("out/a1.json", "out/a1.json", mtime_ns=1 << 63), "something other"),
    # -- records that do not agree ----------------------------------------------------------------------------------
    "an output of a job that never ran": Case(
        state("a2", "a3", "a4", "a5", "a6", "a7", manager="finished") + GOOD, "a1 never ran there: do not rely on it",
        comes=frozenset({"out/a1.json"}),
    ),
    "a job that has completed, and no output": Case(
        state("a1", "a2"), "a1 has completed there, but its output out/a1.json is not here"
    ),
    "an output that was here before and does not come": Case(
        state("a5"), "a5 has completed there, but its output ckpt is not here"
    ),
    # -- sizes, hashes and rows that are none -----------------------------------------------------------------------
    "another hash": Case(GOOD.replace(b'"sha256": "', b'"sha256": "0'), "was damaged on the way"),
    "more bytes than announced": Case(GOOD.replace(b"{}\n", b"{}{}\n"), "something other than files"),
    "fewer bytes than announced": Case(GOOD.replace(b"{}\n", b"{"), "something other than files"),
    "more than there is room": Case(send("out/a1.json", "out/a1.json", size=1 << 62), "more than was agreed"),
    "less than nothing": Case(send("out/a1.json", "out/a1.json", size=-5), "something other than files"),
    "a size of 400 digits": Case(
        GOOD.replace(b'"size": 3', b'"size": ' + b"9" * 400), "something other than files"
    ),
    "a size of 5000 digits": Case(
        GOOD.replace(b'"size": 3', b'"size": ' + b"9" * 5000), "something other than files"
    ),
    "a size that is no number": Case(GOOD.replace(b'"size": 3', b'"size": NaN'), "something other than files"),
    "a part that was never begun": Case(send("out/a1.json", "out/a1.json", begin=2), "more than was agreed"),
    "900 levels": Case(b'{"file": ' + b"[" * 900 + b"]" * 900 + b"}\n", "something other than files"),
    "30000 levels": Case(b'{"file": ' + b"[" * 30_000 + b"\n", "something other than files"),
    "a number": Case(b"1\n", "something other than files"),
    "zeros": Case(b"\0" * 1000 + b"\n", "something other than files"),
    "a fault with a command for the terminal": Case(row(fault="\x1b[2J"), "it refuses"),
    "a reason with a command for the terminal": Case(
        row(skip="\x1b]0;x\x07", why="\x1b[31m"), "\\x1b]0;x\\x07 \\x1b[31m"
    ),
    "a line too long": Case(b"x" * (3 << 20), "an endless line"),
    # -- slow and endless -------------------------------------------------------------------------------------------
    "silence": Case(b"", "0 s", then="exec sleep 600"),
    "a byte now and then": Case(b"", "0 s", then="while :; do printf x; sleep 0.02; done"),
    "an endless line": Case(GOOD, "an endless line", frozenset({"out/a1.json"}), "exec cat /dev/zero"),
    "endless rows": Case(b"", "it lists more than 500 files", then="""exec yes '{"keep": "x"}'"""),
    "an endless file": Case(
        row(file="out/a1.json", place=RESULTS, by=0, size=3 << 20, mtime_ns=NOW, begin=0), "an endless line",
        then="exec cat /dev/zero",
    ),
    "nothing at all": Case(b"", "the connection was dropped", then="exit 0"),
    "an end in the middle of a file": Case(GOOD[:-80], "the connection was dropped", then="exit 0"),
    "an end with a word": Case(b"", "no \\x1b[2J room", then="printf 'no \\033[2J room' >&2; exit 1"),
}  # fmt: skip


def damaged(change: Callable[[dict[str, Any]], object]) -> bytes:
    """A state with something changed in it."""
    made = Story(part_manifest(MADE, PARTS[0], RUN_ID), Path("/runs") / RUN_ID).complete("a1").document()
    change(made)
    return json.dumps(made).encode()


def many(made: dict[str, Any], jobs: int) -> None:
    made["jobs"] = [{**made["jobs"][0], "id": f"j{n}"} for n in range(jobs)]


STATES: dict[str, bytes | Callable[[dict[str, Any]], object]] = {
    "nothing": b"",
    "not JSON": b"{",
    "no object": b"[1]",
    "zeros": b"\0" * 5000,
    "another format": lambda made: made["meta"].update(format="x"),
    "a newer version": lambda made: made["meta"].update(version=99),
    "900 levels": b'{"meta": ' + b"[" * 900 + b"]" * 900 + b"}",
    "100000 levels": b'{"meta": ' + b"[" * 100_000,
    "a number of 400 digits": lambda made: made["meta"].update(seq=10**400),
    "a number of 5000 digits": damaged(lambda made: made["meta"].update(seq=2)).replace(
        b'"seq": ', b'"seq": ' + b"1" * 5000
    ),
    "no meta": lambda made: made.pop("meta"),
    "a job that is a number": lambda made: made.update(jobs=[1]),
    "a job without a status": lambda made: made["jobs"][0].pop("status"),
    "an unknown status": lambda made: made["jobs"][0].update(status="fine"),
    "fewer attempts than none": lambda made: made["jobs"][0].update(attempts=-1),
    "a month 13": lambda made: made["meta"].update(updated="2026-13-45T99:99:99Z"),
    "an end that is no time": lambda made: made["jobs"][0].update(completed="soon"),
    "jobs that nobody submitted": lambda made: many(made, 20_000),
}
"""What a host may send for its state, each after a good one: bytes, or what changes a good one."""


def answer(world: World, rows: bytes, host: str = "gpu-a", then: str = "") -> Forged:
    path = world.root / "experiment_queue" / f"{host}.answer"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(transfer_protocol.greeting(NONCE) + rows + (b"" if then else END))
    return Forged(host, path, then)


Pull = Callable[..., tuple[int, str]]


@pytest.fixture
def world(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    found = World(tmp_path, template)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(found.project)
    monkeypatch.setattr("skill.transfer.pull.secrets.token_hex", lambda _size: NONCE)
    monkeypatch.setattr(pulls, "TRIES", 1)
    return found


@pytest.fixture
def pull(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Pull:
    """The command, with these hosts as the only ones that can be asked: its exit code and all that it said."""
    assert world.run.root.is_dir()

    def call(*hosts: Forged) -> tuple[int, str]:
        monkeypatch.setattr(pull_run, "connect", lambda _run, _names, _say: {host.name: host for host in hosts})
        code = main.main(["pull", RUN_ID, *(word for host in hosts for word in ("--host", host.name))])
        errors = capsys.readouterr()
        assert "Traceback" not in errors.err
        assert "\x1b" not in errors.out + errors.err
        return code, errors.out + errors.err

    return call


@pytest.mark.parametrize("name", CASES)
def test_nothing_here_changes_but_what_the_host_may_write(
    name: str, world: World, pull: Pull, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    monkeypatch.setattr(transfer_protocol, "MAX_FILES", 500)
    if case.says == "0 s":
        monkeypatch.setattr(receiver, "SILENCE", 0.2)
    if case.first is not None:
        assert pull(answer(world, case.first[1], case.first[0]))[0] == 0
    code, errors = pull(answer(world, case.rows, case.host, case.then))
    assert (code, case.says in errors) == (1, True), errors
    after = world.tree()
    assert {key: after.get(key) for key in world.before} == world.before
    assert {key for key in after if key not in world.before} == {f"project/{key}" for key in case.comes}
    for key in case.comes:
        assert not os.access(world.project / key, os.X_OK)


def test_the_floor_on_progress_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    try:
        stream = receiver._Stream(reading, threading.Event())
        os.write(writing, b"x" * 10)
        assert stream.take(10) == b"x" * 10
        monkeypatch.setattr(receiver, "SILENCE", -1.0)
        os.write(writing, b"x")
        with pytest.raises(Exception, match="only 10 bytes were received in -1 s, less than the required 64 KiB"):
            stream.take(10)
    finally:
        os.close(reading)
        os.close(writing)


def test_what_was_pinned_by_a_time_in_the_future_is_replaced(world: World, pull: Pull) -> None:
    """The first version came with a time that is far ahead; the right one is older than that by its host."""
    late = send("own/1", "own/*", b"wrong\n", mtime_ns=NOW + 100 * YEAR_NS)
    assert pull(answer(world, late))[0] == 0
    path = world.project / "own/1"
    assert path.stat().st_mtime <= time.time()
    right = send("own/1", "own/*", b"right\n", mtime_ns=time.time_ns() + 1_000_000_000)
    assert pull(answer(world, right))[0] == 0
    assert path.read_bytes() == b"right\n"


def test_a_refused_large_file_is_asked_for_once(world: World, pull: Pull) -> None:
    """The next request tells the host to leave it out, and what it says of that is told with the reason as before."""
    big = send("ckpt/big.so", "ckpt", bytes(1 << 20))
    assert "ckpt/big.so is a program" in pull(answer(world, big))[1]
    code, errors = pull(answer(world, row(skip="ckpt/big.so", closed=True)))
    assert (code, "ckpt/big.so is a program" in errors) == (1, True), errors


def test_what_came_before_a_pull_was_killed_is_known_as_its_hosts(world: World, pull: Pull) -> None:
    assert pull(answer(world, send("own/1", "own/*")))[0] == 0
    record = world.run.root / "written.jsonl"
    record.write_bytes(record.read_bytes() + b'{"name": "notes.txt", "ho')
    newer = send("own/1", "own/*", b"newer\n", mtime_ns=NOW + 1)
    assert pull(answer(world, newer + send("own/2", "own/*")))[0] == 0
    assert (world.project / "own/1").read_bytes() == b"newer\n"
    assert pull(answer(world, send("own/2", "own/*", b"newer\n", mtime_ns=NOW + 1)))[0] == 0
    assert (world.project / "own/2").read_bytes() == b"newer\n"


@pytest.mark.parametrize(
    "damage", [b"", b"\0" * 99, b"[" * 9999, b"1\n[]\n{}\n", b'{"name": 1, "host": [], "pattern": {}}\n']
)
def test_a_damaged_record_refuses_more_and_never_less(world: World, pull: Pull, damage: bytes) -> None:
    assert pull(answer(world, send("own/1", "own/*") + GOOD))[0] == 0
    (world.run.root / "written.jsonl").write_bytes(damage)
    rows = send("own/1", "own/*", b"newer\n", mtime_ns=NOW + 1) + send("notes.txt", "*")
    code, errors = pull(answer(world, rows + send("out/a1.json", "out/a1.json", b"newer\n", mtime_ns=NOW + 1)))
    assert code == 1
    assert "own/1 existed here before" in errors
    assert "notes.txt existed here before" in errors
    assert (world.project / "out/a1.json").read_bytes() == b"newer\n"


def test_a_record_that_is_no_file_is_reported(world: World, pull: Pull) -> None:
    os.mkfifo(world.run.root / "written.jsonl")
    code, errors = pull(answer(world, GOOD))
    assert (code, "written.jsonl is not a regular file; move it away" in errors) == (1, True), errors


def test_what_earlier_versions_pulled_goes_on_being_pulled(world: World, pull: Pull) -> None:
    """They kept no record: what is newer than the run and matches a job's pattern came from its host."""
    (world.project / "own/1").write_text("pulled by an earlier version\n")
    os.utime(world.project / "own/1", ns=(NOW, NOW))
    assignment.host_folder(world.run, "gpu-a").mkdir(parents=True)
    assignment.write(world.run, world.assigned._replace(pulled={"gpu-a": "2026-01-01T11:00:00.000Z"}))
    rows = send("own/1", "own/*", b"newer\n", mtime_ns=NOW + 1) + send("train.py", "*")
    assert pull(answer(world, rows))[0] == 1
    assert (world.project / "own/1").read_bytes() == b"newer\n"
    assert (world.project / "train.py").read_text() == "print('mine')\n"


def test_a_host_that_jobs_were_taken_from_gives_way(world: World, pull: Pull) -> None:
    assert pull(answer(world, send("shared/x", "shared", b"first\n"), "gpu-a"))[0] == 0
    given_up = world.assigned.part("gpu-a")._replace(state=assignment.LOST)
    assignment.write(world.run, world.assigned.with_part(given_up))
    rows = send("shared/x", "shared", b"once more\n", "gpu-b", mtime_ns=NOW + 1)
    assert pull(answer(world, rows, "gpu-b"))[0] == 0
    assert (world.project / "shared/x").read_bytes() == b"once more\n"


def test_a_summary_of_a_host_that_lists_what_is_not_here_is_not_taken_for_ours(world: World, pull: Pull) -> None:
    assignment.write(world.run, world.assigned._replace(parts=(PARTS[0],)))
    lie = document("summary.md", b"# demo: 7 of 7 jobs completed\n\n- `out/a1.json` (a1)\n")
    parse_snapshot = state("a1", "a2", "a3", "a4", "a5", "a6", "a7", manager="finished")
    code, errors = pull(answer(world, lie + parse_snapshot))
    assert code == 1
    assert "a1 has completed there, but its output out/a1.json is not here" in errors
    text = world.run.paths.summary.read_text()
    here, _, away = text.partition("## Result files that are not here, though their jobs completed")
    assert "`out/a1.json`" not in here
    assert "`out/a1.json`" in away


@pytest.mark.parametrize("name", STATES)
def test_a_state_that_is_none_never_replaces_the_last_good_one(name: str, world: World, pull: Pull) -> None:
    assert "is not here" in pull(answer(world, state("a1")))[1]
    kept = assignment.host_folder(world.run, "gpu-a") / "queue_state.json"
    before = kept.read_bytes()
    found = STATES[name]
    sent = found if isinstance(found, bytes) else damaged(found)
    code, errors = pull(answer(world, document("queue_state.json", sent, mtime_ns=NOW + 99) + GOOD))
    assert (code, "queue_state.json" in errors, "; the previous one is kept" in errors) == (1, True, True), errors
    assert kept.read_bytes() == before
    assert (world.project / "out/a1.json").exists(), "everything else comes"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"home=relative\nmachine=x\n",
        b"home=/root\nmachine=x\x1b[2J\n",
        b"home=/root\nmachine=x\n" + b"x" * 70_000 + b"=1\n" + b"y=" + b"z" * 70_000 + b"\n",
        b"home=/root\nmachine=x\nfacts=" + b"[" * 60_000 + b"\n",
        b"home=/root\nmachine=x\nfacts=[1]\n",
        b'home=/root\nmachine=x\nfacts={"host_id": 1}\npython=3.11.1 /x\n',
        b"home=" + b"/x" * 9000 + b"\nmachine=x\n",
        b"\xff\xfe\0\0",
    ],
)
def test_facts_that_are_none_are_no_answer(answer: bytes) -> None:
    assert isinstance(bootstrap.parse_facts(CommandResult(0, answer, "")), Unreachable)


@pytest.mark.parametrize(
    "change",
    [
        {"state": [1]}, {"state": {"meta": {}}}, {"alive": 1}, {"alive": None}, {"tails": [1]}, {"tails": {"a": 3}},
        {"added": [1]}, {"added": ["{}"]}, {"added": "x"}, {"added": ["[" * 5000]},
    ],
)  # fmt: skip
def test_a_look_that_is_none_is_reported(change: dict[str, Any]) -> None:
    good: dict[str, Any] = {"state": None, "alive": False, "tails": {}, "added": []}
    assert not isinstance(state_cache.parse_snapshot(good), str)
    assert isinstance(state_cache.parse_snapshot({**good, **change}), str)


CHILD = """
import pathlib, sys
from skill.cli import main
from skill.operations import pull_run
from skill.transfer import pull as pulling
from tests.contracts.test_hostile_host import NONCE, RUN_ID, Forged
pulling.secrets.token_hex = lambda _size: NONCE
pulling.TRIES = 1
host = Forged("gpu-a", pathlib.Path(sys.argv[1]), sys.argv[2])
pull_run.connect = lambda _run, _names, _say: {"gpu-a": host}
main.main(["pull", RUN_ID, "--host", "gpu-a"])
status = pathlib.Path("/proc/self/status").read_text()
print("KiB", status.partition("VmHWM:")[2].split()[0])
"""
"""The most memory is read from the process itself: what getrusage tells counts that of its parent, too."""


def test_no_answer_takes_more_than_300_mib(world: World) -> None:
    """A large state, very many rows, a large file of which nothing is kept, and an endless line at the end."""
    size = len(damaged(lambda made: many(made, 10_000))) // 10_000 + 2  # of a row, and of longer ids
    count = state_schema.most_bytes(0) // size
    largest = document("queue_state.json", damaged(lambda made: many(made, count)))
    rows = b"".join(row(skip=f"{n}" + "x" * 200, why="y" * 200) for n in range(50_000))
    large = row(file="ckpt/big.so", place=RESULTS, by=_by("ckpt", "gpu-a"), size=400 << 20, mtime_ns=NOW, begin=0)
    host = answer(world, largest + large, then="true")
    more = world.run.root / "more"
    more.write_bytes(rows)
    then = f"head -c {400 << 20} /dev/zero; printf '{{}}\\n'; cat '{more}'; exec cat /dev/zero"
    path = host.ssh_command()[-1]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, path, then], cwd=world.project, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "an endless line" in done.stdout, (done.stdout, done.stderr)
    assert "ckpt/big.so is a program" in done.stderr
    assert "queue_state.json" not in done.stderr, "it is taken, as large as it is"
    assert "Traceback" not in done.stderr
    assert 20 << 10 < int(done.stdout.rpartition("KiB")[2]) < 300 << 10


DEEP = bool(os.environ.get("WAVEQUEUE_DEEP"))
SILENCE = receiver.SILENCE
FAR = (
    "a file of a person", "a tracked file in another case", "a new hidden file", "a script by its first line",
    "through a link here that leads out", "the rest of a bad answer", "a time in the future", "an endless line",
    "an end in the middle of a file",
)  # fmt: skip
_FORGER = """#!/bin/sh
nonce=$(sed 's/.*"nonce": "\\([^"]*\\)".*/\\1/')
printf 'wavequeue-send 1 %s\\n' "$nonce"
cat "$HOME/answer"
. "$HOME/then"
"""


def test_the_same_over_ssh(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cases with a real sshd between us, on which our own sender has been replaced; a handful without
    WAVEQUEUE_DEEP."""
    monkeypatch.setattr(pulls, "TRIES", 1)
    monkeypatch.setattr(transfer_protocol, "MAX_FILES", 500)
    chosen = [name for name, case in CASES.items() if case.first is None and case.host == "gpu-a"] if DEEP else FAR
    with Sshd(tmp_path / "far") as far:
        python = far.home / "python"
        python.write_text(_FORGER)
        python.chmod(0o755)
        (far.home / ".wavequeue" / "runtime" / "r").mkdir(parents=True)
        (far.home / ".wavequeue" / "host_id").write_text("f" * 32)
        for n, name in enumerate(chosen):
            case = CASES[name]
            monkeypatch.setattr(receiver, "SILENCE", 0.2 if case.says == "0 s" else SILENCE)
            world = World(tmp_path / f"near{n}", template)
            part = PARTS[0]._replace(python=str(python), runtime="r", host_id="f" * 32)
            assignment.write(world.run, world.assigned._replace(parts=(part, PARTS[1])))
            YAML(typ="safe").dump({"workers": {"gpu-a": far.entry()}}, world.project / "workers.yaml")
            before = world.tree()
            (far.home / "answer").write_bytes(case.rows + (b"" if case.then else END))
            (far.home / "then").write_text(case.then + "\n")
            environment = {**os.environ, "HOME": str(world.root / "home")}
            done = in_process.run(("pull", RUN_ID, "--host", "gpu-a"), world.project, environment)
            assert (done.returncode, case.says in done.stdout + done.stderr) == (1, True), (name, done)
            after = world.tree()
            assert {key: after.get(key) for key in before} == before, name
            assert {key for key in after if key not in before} == {f"project/{key}" for key in case.comes}, name


def test_where_git_refuses_only_what_is_spelt_out_comes(world: World, pull: Pull) -> None:
    (world.project / ".git" / "index").write_bytes(b"damaged")
    code, errors = pull(answer(world, GOOD + send("own/1", "own/*")))
    assert (code, "own/1 may be tracked by git here: " in errors) == (1, True), errors
    assert (world.project / "out/a1.json").exists()
    assert not (world.project / "own/1").exists()


def test_what_a_pull_would_leave_alone_is_reported_before_the_run(world: World) -> None:
    made = Submission(MADE._replace(cwd="."), "", "", world.project, world.project, ".")
    (text,) = check_hosts.output_warnings(made)
    assert text.startswith("own/old: these files exist here")
    assert "move them away before you pull" in text
    (world.project / "own/old").unlink()
    (world.project / "out").mkdir()
    (world.project / "out/a1.json").write_text("spelt out: it is replaced where the host's is newer")
    assert check_hosts.output_warnings(made) == []


def test_results_of_an_earlier_run_give_way_to_those_of_the_next(world: World, pull: Pull) -> None:
    assert pull(answer(world, GOOD + send("own/1", "own/*", b"first")))[0] == 0
    again = world.run.root.with_name("demo-20260102-100000")
    shutil.copytree(world.run.root, again)
    (again / "written.jsonl").unlink()
    shutil.rmtree(again / "mirror", ignore_errors=True)
    assignment.write(Run.at(again), world.assigned._replace(run_id=again.name, pulled={}))
    assert write_gate.brought_by_runs(again.parent, world.project, again) >= {"own/1"}
    made = Submission(MADE._replace(cwd="."), "", "", world.project, world.project, ".")
    assert "own/1" not in check_hosts.output_warnings(made)[0]
    gate = write_gate.open_gate(Run.at(again), world.assigned._replace(run_id=again.name), MADE)
    with gate:
        index = world.patterns("gpu-a").index("own/*")
        assert gate.of("gpu-a").fault("own/1", index) is None
        assert "existed here before" in (gate.of("gpu-a").fault("own/old", index) or "")
