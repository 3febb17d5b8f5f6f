"""Every verb that reads a local file, with that file damaged in every way: one clear message and nothing else.

Nothing is asked over a network, and no manager is started. A verb that finds a file of no use ends with exit code 1 or
2 and a line for a person, and leaves the directory as it was.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest

from queue_manager.core.manifest import encode
from skill.cli import main
from skill.common.errors import FailedError
from skill.common.http import NoReply, Reply, Request, Server
from skill.common.project import ProjectPaths
from skill.fleet import ledger
from skill.fleet.ledger import Offered
from skill.hosts.connection import CommandResult, Host, Unreachable
from skill.runs import assignment, local_manager, logs
from skill.runs.assignment import SUBMITTED, Assigned, Part
from skill.runs.directory import Run
from tests.skill.story import RUN_ID, T0, Story, job, manifest

HERE, THERE = f"experiment_queue/{RUN_ID}", "experiment_queue/far-20260101-110000"
PATIENCE = 60
SPEC = "project: demo\ncwd: .\njobs:\n  - {id: a, cmd: run a, gpus: 0}\n"
WORKERS = """\
workers:
  gpu-a: {ssh: {host: 127.0.0.1, port: 1}}
  vast1: {ssh: {host: 127.0.0.1, port: 2}, instance_id: 99}
"""
VAST = "profiles:\n  mine: {cards: 1}\nrent: {tries: 2}\nwatcher: {every: 5m}\n"


class Table(NamedTuple):
    """A file, what is written where its kinds of values are wrong, and the verbs that read it.

    `needed`: no verb does its work with a file that cannot be read; else it may do without.
    """

    file: str
    wrong: str
    verbs: tuple[str, ...]
    needed: bool = True


NEAR, FAR = f"--run {HERE}", f"--run {THERE}"
OF_STATE = (
    "status", "status --json", "status --jobs", "status --status stuck", "watch", "why a", "why b --json", "logs a",
    "logs b -n 3", "attach a", "report", "report --json", "cancel a --yes", "retry b", "pause", "add --id z --cmd x",
)  # fmt: skip
OF_HOSTS = (
    "status", "status --json", "watch", "why a", "logs a", "attach a", "report --json", "cancel a --yes", "retry a",
    "pause", "add --id z --cmd x", "resume",
)  # fmt: skip
OF_WORKERS = (
    "hosts list", "hosts list --json", "hosts check", "hosts check gpu-a", "hosts add gpu-b root@127.0.0.1:1",
    "hosts remove gpu-a", "hosts accept gpu-a", "hosts setup gpu-a", "preflight spec.yaml --host gpu-a",
    "submit spec.yaml --host gpu-a", f"status {FAR}", f"pull {THERE}", "vast instances", "vast reconcile",
)  # fmt: skip
TABLE = (
    Table(f"{HERE}/queue_state.json", '{"meta": [1], "jobs": {"a": 3}}', tuple(f"{verb} {NEAR}" for verb in OF_STATE)),
    Table(f"{HERE}/manifest.json", '{"jobs": 3, "phases": [1]}', (f"why a {NEAR}", f"report {NEAR}",
          f"report --json {NEAR}")),
    Table(f"{HERE}/journal.jsonl", '{"seq": "x", "event": []}\n{"job":"a", "event": "JobsAdded"}\n',
          (f"why a {NEAR}", f"report {NEAR}"), needed=False),
    Table(f"{HERE}/logs/a.log", "\x1b]0;x\x07", (f"logs a -n 9 {NEAR}",), needed=False),
    Table(f"{HERE}/manager.lock", '{"pid": []}', (f"status {NEAR}",), needed=False),
    Table(f"{THERE}/hosts.json", '{"format": "wavequeue-hosts", "version": 1, "parts": [{"host": 3}]}',
          (*(f"{verb} {FAR}" for verb in OF_HOSTS), f"pull {THERE}", f"rescue {THERE} --from gpu-a --yes")),
    Table(f"{THERE}/manifest.json", '{"jobs": 3}', (f"status {FAR}", f"why a {FAR}", f"report {FAR}", f"pull {THERE}",
          f"rescue {THERE} --from gpu-a --yes"), needed=False),
    Table(f"{THERE}/hosts/gpu-a/queue_state.json", '{"meta": [1]}', (f"status {FAR}", f"why a {FAR}", f"report {FAR}"),
          needed=False),
    Table(f"{THERE}/hosts/gpu-a/look.json", '{"at": "x", "state": 1}', (f"status {FAR}", f"logs a {FAR}"),
          needed=False),
    Table("workers.yaml", "workers: [1, 2]\n", OF_WORKERS),
    Table("vast.yaml", "profiles: 3\nrent: [1]\nwatcher: x\n", ("vast hunt", "vast rent --best --yes",
          "vast watcher status")),
    Table("vast_blacklist.json", '[{"machine_id": "x"}]', ("vast blacklist list", "vast blacklist add 8 --reason slow",
          "vast blacklist remove 7")),
    Table(".wavequeue/ledger.jsonl", '{"event": "created", "label": [], "at": 3}\n', ("vast ledger",
          "vast ledger --json")),
    Table(".wavequeue/known_hosts", "gpu-a\n", ("hosts list", "hosts remove gpu-a", "hosts accept gpu-a --yes"),
          needed=False),
    Table("spec.yaml", "project: [1]\njobs: {a: 3}\n", ("build spec.yaml", "build spec.yaml -o m.json",
          "plan spec.yaml", "run spec.yaml --detach", "preflight spec.yaml --host gpu-a",
          "submit spec.yaml --host gpu-a", f"add spec.yaml {NEAR}", "vast hunt spec.yaml")),
    Table(".env", "1 2 3\n", ("doctor", "hosts setup gpu-a")),
)  # fmt: skip


def _huge(path: Path) -> None:
    path.write_bytes(b"{")
    os.truncate(path, 1 << 40)


DAMAGE: dict[str, Callable[[Path, str], object]] = {
    "missing": lambda _path, _wrong: None,
    "empty": lambda path, _wrong: path.write_bytes(b""),
    "binary": lambda path, _wrong: path.write_bytes(bytes(range(256)) * 8),
    "truncated": lambda path, wrong: path.write_text(wrong[: len(wrong) // 2]),
    "wrong types": lambda path, wrong: path.write_text(wrong),
    "deep": lambda path, _wrong: path.write_text("[" * 3000 + "]" * 3000 + "\n"),
    "huge": lambda path, _wrong: _huge(path),
    "fifo": lambda path, _wrong: os.mkfifo(path),
    "directory": lambda path, _wrong: path.mkdir(),
    "link away": lambda path, _wrong: path.symlink_to("/dev/zero"),
    "no permission": lambda path, wrong: path.write_text(wrong),  # and see `refusing`: root may read all the same
}
BAD = frozenset(DAMAGE) - {"missing", "empty", "truncated"}
"""What is no file of its kind, whatever its kind is."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with a run here and one on a host, and all the files of a person's."""
    top = tmp_path_factory.mktemp("world")
    (top / "home").mkdir()
    project = top / "project"
    story = Story(manifest(job("a"), job("b")), project / HERE).complete("a").start("b").end("b", "stuck", error="boom")
    story.write("halted")
    story.paths.log("a").write_text("fine\n")
    story.paths.log("b").write_text("boom\n")
    story.paths.lock.write_text("{}")
    far = Run.at(project / THERE)
    folder = far.root / "hosts" / "gpu-a"
    folder.mkdir(parents=True)
    far.paths.manifest.write_text(encode(manifest(job("a"))))
    part = Part("gpu-a", ("a",), SUBMITTED, "w", "w", "f" * 32, "/usr/bin/python3", "0" * 32)
    assignment.write(far, Assigned(far.id, "demo", "sha", "2026-01-01T10:00:00.000Z", str(project), (part,)))
    document = Story(manifest(job("a"))).start("a").document()
    (folder / "queue_state.json").write_text(json.dumps(document))
    (folder / "look.json").write_text(json.dumps({"at": T0, "state": document}))
    for name, text in (("workers.yaml", WORKERS), ("vast.yaml", VAST), ("spec.yaml", SPEC), (".env", "HF_TOKEN=x\n")):
        (project / name).write_text(text)
    (project / "vast_blacklist.json").write_text('[{"machine_id": 7, "reason": "slow", "added": ""}]')
    ledger_path = ProjectPaths.of(project / "workers.yaml").ledger
    ledger_path.parent.mkdir()
    offered = Offered(1, 2, "1x A", 0.5, 0.1, 8.0)
    ledger_path.write_text(ledger.line("intended", "l1", T0, **ledger.intent("x", "l1", "w", offered, {})))
    (ledger_path.parent / "known_hosts").write_text("gpu-a ssh-ed25519 AAAA\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(top / "home"))
        patch.setenv("VAST_API_KEY", "k" * 40)
        patch.setenv("VAST_URL", "http://127.0.0.1:1")
        for name in ("WANDB_API_KEY", "HF_TOKEN", "GITHUB_TOKEN", "NETRC"):
            patch.delenv(name, raising=False)
        patch.chdir(project)
        patch.setattr(local_manager, "start", _no_manager)
        patch.setattr(Host, "run", _no_host)
        patch.setattr(Server, "ask", _no_server)
        patch.setattr(logs, "_MOST", 1 << 16)
        patch.setattr(time, "sleep", lambda _seconds: None)
        yield project


def _no_manager(*_: object) -> int:
    raise FailedError("no manager is started here")


def _no_host(*_: object, **_named: object) -> CommandResult | Unreachable:
    return Unreachable("nobody is there", "refused")


def _no_server(_self: Server, _request: Request) -> Reply | NoReply:
    return NoReply("nobody is there", sent=False)


def tree(top: Path) -> dict[str, Any]:
    """What is in a directory, without locks."""
    found: dict[str, Any] = {}
    for folder, _, names in os.walk(top):
        for name in names:
            if not name.endswith(".lock"):
                path = os.path.join(folder, name)
                info = os.lstat(path)
                data = b""
                if stat.S_ISREG(info.st_mode) and info.st_size < 1 << 20:
                    with open(path, "rb") as file:
                        data = file.read()
                found[path] = (info.st_mode, info.st_size, data)
    return found


@contextlib.contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Refuse to open one file, as the system does to those who may not read it."""
    opened = os.open

    def open_other(name: Any, *arguments: Any, **named: Any) -> int:
        if Path(os.path.abspath(name)) == path:
            raise PermissionError(13, "Permission denied", str(name))
        return opened(name, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", open_other)
        yield


def _hangs(_number: int, _frame: FrameType | None) -> None:
    raise AssertionError("it waits")


def call(words: str) -> tuple[int, str]:
    """The exit code of a command and what it says on stderr."""
    out, err = io.StringIO(), io.StringIO()
    signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(PATIENCE)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main.main(words.split())
    finally:
        signal.alarm(0)
    return code, err.getvalue()


def faults(words: str, world: Path, path: Path, *, refused: bool) -> str | None:
    """What is wrong with how a command takes a damaged file; None if it is as it should be. `refused`: it cannot do
    without."""
    before = tree(world) if refused else {}
    try:
        code, errors = call(words)
    except BaseException as error:  # each is a traceback to a person
        return f"{type(error).__name__}: {error}"
    if code not in (0, 1, 2, 3):
        return f"exit code {code}"
    if "Traceback" in errors or len(errors) > 3000:
        return f"says {errors[:200]!r}"
    if not refused:
        return None
    if code not in (1, 2):
        return f"exit code {code}, as if all were well"
    if path.name not in errors:
        return f"does not name the file: {errors[:200]!r}"
    after = tree(world)
    if after != before:
        return f"changed {sorted(set(after.items()) ^ set(before.items()))[:2]}"
    return None


@pytest.mark.parametrize("row", TABLE, ids=[row.file for row in TABLE])
def test_a_damaged_file_is_named_and_nothing_is_changed(row: Table, world: Path) -> None:
    path = world / row.file
    whole = path.read_bytes()
    wrong = []
    for damage, do in DAMAGE.items():
        for words in row.verbs:
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
            do(path, row.wrong)
            with refusing(path) if damage == "no permission" else contextlib.nullcontext():
                words_of_it = faults(words, world, path, refused=row.needed and damage in BAD)
            if words_of_it is not None:
                wrong.append(f"{words} | {damage}: {words_of_it}")
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.write_bytes(whole)
    assert wrong == []


def test_the_table_has_its_documented_size() -> None:
    assert sum(len(row.verbs) for row in TABLE) * len(DAMAGE) >= 400
    assert all(len(set(row.verbs)) == len(row.verbs) for row in TABLE)
