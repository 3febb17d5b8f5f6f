"""A real manager on a real run directory, with a home and a screen directory of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from queue_manager.core.events import seal, unseal
from queue_manager.core.layout import HostPaths, RunPaths
from queue_manager.core.manifest import JobSpec, Manifest, Phase, encode
from queue_manager.core.requests import Answer, Request, decode_answer, encode_request
from tests import forked, lock_dir

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 150.0
"""Seconds for which a test waits for what it wants: far more than it takes, on a busy machine, too."""


def wait_for(what: Callable[[], Any], patience: float = PATIENCE, say: str = "the condition") -> Any:
    """Poll until `what` gives something true, and return it. What takes long, and what has been waited for long, is
    asked less often, for it takes from what is waited for."""
    first = time.monotonic()
    while (begin := time.monotonic()) < first + patience:
        found = what()
        if found:
            return found
        now = time.monotonic()
        time.sleep(min(1.0, max(0.01, 2 * (now - begin), min(0.1, (now - first) / 10))))
    raise AssertionError(f"waited {patience} s for {say}")


def pause(seconds: float = 0.05) -> str:
    """A command of bash that waits without a process, for what never comes. Those of `sleep`, in all jobs that wait for
    a test to go on, took more than the jobs."""
    return f"read -rt {seconds} <> <(:) || :"


def until(path: str) -> str:
    """A command of bash that waits for a file."""
    return f"until [ -e {path} ]; do {pause()}; done"


def lives(pid: int) -> bool:
    """Whether a process runs; what only waits to be reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def processes_of(home: Path) -> list[psutil.Process]:
    """The processes that run with this home, but for this one."""
    found, wanted = [], f"\0HOME={home}\0".encode()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError, psutil.Error), open(f"/proc/{name}/environ", "rb", buffering=0) as file:
                if wanted in b"\0" + file.read():
                    found.append(psutil.Process(int(name)))
    return [process for process in found if _lives(process)]


class World:
    """One host: a home, a screen directory, an environment for managers."""

    def __init__(self, root: Path, extra: Mapping[str, str] | None = None) -> None:
        self.root = root
        self.home = root / "home"
        # Short, since screen cuts a session's name where its socket's path would grow over 108 characters.
        self.screens = Path(tempfile.mkdtemp(prefix="wq"))
        self.home.mkdir()
        self.environment = {
            **os.environ,
            "HOME": str(self.home),
            "SCREENDIR": str(self.screens),
            "PYTHONPATH": str(ROOT),
            **lock_dir.make(root / "lock"),
            **(extra or {}),
        }
        for name in ("CUDA_VISIBLE_DEVICES", "STY", "WAVEQUEUE_TAG"):
            if name not in (extra or {}):
                self.environment.pop(name, None)
        self.host = HostPaths.of(self.home)
        self.runs: list[Run] = []

    def run(self, manifest: Manifest, name: str = "run", poll: float = 0.2, run_id: str | None = None) -> Run:
        """A run directory with this manifest; no manager yet. `run_id` None: the manager makes one."""
        directory = self.root / name
        directory.mkdir(exist_ok=True)
        run = Run(self, directory, poll, run_id)
        run.paths.manifest.write_text(encode(manifest))
        self.runs.append(run)
        return run

    def sessions(self) -> list[str]:
        """Names of the screen sessions that are up."""
        return [path.name for path in self.screens.iterdir()]

    def close(self) -> None:
        """End all that this world began."""
        self.close_processes()
        shutil.rmtree(self.screens)

    def close_processes(self) -> None:
        """End every process that this world began: its managers, and what has its home in the environment."""
        for run in self.runs:
            if run.manager is not None and run.manager.poll() is None:
                run.kill()
        mine = processes_of(self.home)
        for process in mine:
            with contextlib.suppress(psutil.Error):
                process.kill()
        # Who adopted them may reap them late, or never.
        wait_for(lambda: not any(map(_lives, mine)), say="the end of all processes")


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


class Run:
    """One run of a world."""

    def __init__(self, world: World, directory: Path, poll: float, run_id: str | None = None) -> None:
        self.world, self.directory, self.poll, self.run_id = world, directory, poll, run_id
        self.paths = RunPaths.of(directory)
        self.program = "queue_manager"
        self.manager: subprocess.Popen[str] | forked.Forked | None = None
        self._read: tuple[tuple[int, int, int], dict[str, Any]] | None = None
        """The state file that was read last, and what is in it."""

    def argv(self, python: str = sys.executable) -> list[str]:
        return [
            python, "-m", "queue_manager", "--manifest", str(self.paths.manifest), "--state", str(self.paths.state),
            "--log-dir", str(self.paths.log_dir), "--poll", str(self.poll),
            *([] if self.run_id is None else ["--run-id", self.run_id]),
        ]  # fmt: skip

    def start(self, python: str = sys.executable, **environment: str) -> subprocess.Popen[str] | forked.Forked:
        """Start a manager."""
        variables = {**self.world.environment, **environment}
        if python == sys.executable:
            self.manager = forked.start(self.program, self.argv()[3:], self.directory, variables)
            return self.manager
        self.manager = subprocess.Popen(
            self.argv(python),
            env=variables,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self.manager

    def finish(self, patience: float = PATIENCE) -> int:
        """Wait for the manager's end; its exit code."""
        assert self.manager is not None
        try:
            _, self.stderr = self.manager.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the manager goes on:\n{self.story()}") from None
        return self.manager.wait()

    def go(self, patience: float = PATIENCE) -> int:
        """Start a manager and wait for its end."""
        self.start()
        return self.finish(patience)

    def kill(self) -> None:
        """SIGKILL the manager."""
        assert self.manager is not None
        self.manager.send_signal(signal.SIGKILL)
        self.manager.communicate()

    def story(self) -> str:
        with contextlib.suppress(OSError):
            return self.paths.manager_log.read_text()
        return ""

    def state(self) -> dict[str, Any]:
        """The state file; {} as long as there is none. Whatever is there has to be whole."""
        try:
            status = os.stat(self.paths.state)
            which = (status.st_ino, status.st_mtime_ns, status.st_size)
            if self._read is None or self._read[0] != which:
                self._read = which, json.loads(self.paths.state.read_text())
        except FileNotFoundError:
            return {}
        return self._read[1]

    def jobs(self) -> dict[str, dict[str, Any]]:
        return {row["id"]: row for row in self.state().get("jobs", [])}

    def statuses(self) -> dict[str, str]:
        return {name: row["status"] for name, row in self.jobs().items()}

    def wait_status(self, job: str, *statuses: str) -> dict[str, Any]:
        def there() -> dict[str, Any] | None:
            row = self.jobs().get(job)
            return row if row and row["status"] in statuses else None

        try:
            row: dict[str, Any] = wait_for(there)
        except AssertionError:
            raise AssertionError(f"{job} is not {statuses}: {self.jobs().get(job)}\n{self.story()}") from None
        return row

    def wait_running(self, job: str) -> dict[str, Any]:
        """Wait until the job's own process is there."""

        def there() -> dict[str, Any] | None:
            row = self.jobs().get(job)
            return row if row and row["status"] == "running" and row["pid"] else None

        row: dict[str, Any] = wait_for(there, say=f"{job} to run")
        return row

    def ask(self, request: Request) -> Answer:
        """Send a request and wait for its answer."""
        self.paths.inbox.mkdir(exist_ok=True)
        temporary = self.directory / "request.tmp"
        temporary.write_text(encode_request(request))
        temporary.replace(self.paths.request(request.id))
        with contextlib.suppress(OSError):
            fd = os.open(self.paths.bell, os.O_WRONLY | os.O_NONBLOCK)
            os.write(fd, b"r")
            os.close(fd)
        answer = self.paths.answer(request.id)
        wait_for(answer.exists, say=f"an answer to {request.id}")
        return decode_answer(answer.read_text())

    def events(self) -> Iterator[dict[str, Any]]:
        for line in self.paths.journal.read_text().splitlines():
            yield json.loads(line)

    def edit_journal(self, change: Callable[[str], str]) -> None:
        """Change the journal's lines by hand, each with a checksum that fits."""
        text = "".join(change(unseal(line)[0]) + "\n" for line in self.paths.journal.read_text().splitlines())
        self.paths.journal.write_text(sealed(text))

    def log(self, job: str) -> str:
        return self.paths.log(job).read_text()

    def alerts(self) -> list[dict[str, Any]]:
        try:
            return [json.loads(line) for line in self.paths.alerts.read_text().splitlines()]
        except FileNotFoundError:
            return []


def sealed(text: str) -> str:
    """Lines of a journal, each with its checksum."""
    return "".join(seal(line) + "\n" for line in text.splitlines())


def job(name: str, cmd: str, **fields: Any) -> JobSpec:
    """A job without a card, unless `gpus` says otherwise."""
    return JobSpec(name, cmd, fields.pop("phase", "main"), **{"gpus": 0, **fields})


def manifest(*jobs: JobSpec, phases: tuple[Phase, ...] | None = None, **fields: Any) -> Manifest:
    """A manifest of these jobs, in one phase unless `phases` are given."""
    return Manifest("test", jobs, phases or (Phase("main"),), **fields)
