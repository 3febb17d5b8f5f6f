"""Slurm's commands as one program, which goes by the name it is called with: tasks run as processes of this machine,
and faults come from a table.

Its state is one file. Each array has a process of its own, which starts its tasks, and ends once all have ended. Words,
exit codes and formats are those of Slurm 22.05, and only those that wavequeue uses.

Managers call these commands all the time, so that they import only what takes no time: not json, pathlib, subprocess.
"""

from __future__ import annotations

import fcntl
import marshal
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sacct", "sinfo")
OVER = ("COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL")
TIMED_OUT = "Socket timed out on send/recv operation"
AWAY = "Unable to contact slurm controller (connect failure)"
_TICK = 0.02
_FORMAT = 2
"""Of marshal: one in which equal values are equal bytes."""


_KILL, _PIPE, _TERM = 9, 13, 15


class FakeSlurm:
    """A cluster whose files are below `base`: commands in `bin`, and a state that tests may look at and change."""

    def __init__(self, base: str | os.PathLike[str]) -> None:
        self.base = os.fspath(base)
        self.bin = f"{self.base}/bin"

    def install(self, max_array: int = 1001, nodes: tuple[str, ...] = ("n1", "n2")) -> FakeSlurm:
        """Put the commands in place."""
        os.makedirs(self.bin)
        # Imported, it is compiled once for all calls.
        here = os.path.dirname(os.path.abspath(__file__))
        calls = f"import sys; sys.path.append({here!r}); import fake_slurm; sys.exit(fake_slurm.main(*sys.argv[1:]))"
        for name in COMMANDS:
            with open(f"{self.bin}/{name}", "w") as program:
                program.write(f'#!/bin/sh\nexec {sys.executable} -I -S -c "{calls}" {self.base} {name} "$@"\n')
                os.fchmod(program.fileno(), 0o755)
        _write(f"{self.base}/state", marshal.dumps({
            "next": 1, "max_array": max_array, "nodes": nodes, "tasks": [], "faults": [], "calls": [], "pids": [],
        }, _FORMAT))  # fmt: skip
        return self

    @property
    def environment(self) -> dict[str, str]:
        """What a user of the cluster adds to their environment."""
        return {"PATH": f"{self.bin}:{os.environ['PATH']}"}

    def state(self) -> _State:
        """The state, locked; what is changed of it is kept. `tasks`: rows of `squeue`; `faults`: [command, fault,
        times], where times None means always, and the first that is left counts; `calls`: the arguments of each call,
        the command first; `max_submit` and `max_jobs`: limits; `bad`: nodes that start nothing; `cpus`: tasks that run
        at a time."""
        return _State(self.base)

    def breaks(self, command: str, fault: str, times: int | None = None) -> None:
        """Have a command break, so many times."""
        with self.state() as state:
            state["faults"].append([command, fault, times])

    def mends(self) -> None:
        """No command breaks any more."""
        with self.state() as state:
            state["faults"] = []

    def set(self, **fields: object) -> None:
        """Change the cluster, see `state`."""
        with self.state() as state:
            state.update(fields)

    def tasks(self) -> list[dict[str, Any]]:
        """All tasks that were submitted."""
        with self.state() as state:
            found: list[dict[str, Any]] = state["tasks"]
            return found

    def calls(self, command: str) -> list[list[str]]:
        """The arguments of all calls of a command."""
        with self.state() as state:
            return [words for name, *words in state["calls"] if name == command]

    def close(self) -> None:
        """End all tasks; nothing of the cluster is left running."""
        with self.state() as state:
            state["closed"] = True
            pids = state["pids"]
        end = time.monotonic() + 20
        while any(_lives(pid) for pid in pids):
            assert time.monotonic() < end, "a task of the fake cluster does not end"
            time.sleep(_TICK)


class _State:
    """See `FakeSlurm.state`."""

    def __init__(self, base: str) -> None:
        self._base = base

    def __enter__(self) -> dict[str, Any]:
        self._lock = os.open(f"{self._base}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        with open(f"{self._base}/state", "rb") as file:
            self._found = file.read()
        state: dict[str, Any] = marshal.loads(self._found)
        self._state = state
        return state

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        fresh = marshal.dumps(self._state, _FORMAT)
        if failed is None and fresh != self._found:
            _write(f"{self._base}/state", fresh)
        os.close(self._lock)


def _write(path: str, data: bytes) -> None:
    with open(f"{path}.new", "wb") as file:
        file.write(data)
    os.replace(f"{path}.new", path)


def _stat(pid: int | str) -> list[str]:
    """What the kernel says of a process, from its state on; empty if there is none."""
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def _lives(pid: int) -> bool:
    return _stat(pid)[:1] not in ([], ["Z"])


# -- the commands -----------------------------------------------------------------------------------------------------


def main(base: str, command: str, *arguments: str) -> int:
    """Carry out one command. Returns its exit code."""
    fake, words = FakeSlurm(base), list(arguments)
    with fake.state() as state:
        state["calls"].append([command, *words])
        fault = _fault(state, command)
    if fault == "deaf":
        time.sleep(600)
    if fault == "slow":
        time.sleep(0.3)
    if fault == "away":
        return _fail(command, AWAY, 8 if command == "scancel" else 1)
    if fault == "busy":
        return _fail(command, TIMED_OUT)
    if fault == "warns":
        print(f"{command}: warning: a warning of the site, and no error", file=sys.stderr)
    if command == "sacct":
        print("Slurm accounting storage is disabled", file=sys.stderr)
        return 1
    if "--version" in words:
        print("slurm-wlm 22.05.8")
        return 0
    if "--test-only" in words:
        print("sbatch: Job 1 to start at 2026-01-01T00:00:00 using 1 processors on nodes n1", file=sys.stderr)
        return 0
    if command == "sbatch":
        return _sbatch(fake, words, fault)
    if command == "squeue":
        return _squeue(fake, fault)
    return {"scancel": _scancel, "scontrol": _scontrol, "sinfo": _sinfo}[command](fake, words)


def _fault(state: dict[str, Any], command: str) -> str | None:
    for row in state["faults"]:
        if row[0] in (command, "*") and row[2] != 0:
            row[2] = None if row[2] is None else row[2] - 1
            return str(row[1])
    return None


def _fail(command: str, words: str, code: int = 1) -> int:
    prefix = "Batch job submission failed: " if command == "sbatch" else ""
    print(f"{command}: error: {prefix}{words}", file=sys.stderr)
    return code


def _live(state: dict[str, Any]) -> int:
    return sum(task["state"] not in OVER for task in state["tasks"])


def _sbatch(fake: FakeSlurm, words: list[str], fault: str | None) -> int:
    options = {word.partition("=")[0]: word.partition("=")[2] for word in words if word.startswith("--")}
    first, last = map(int, options["--array"].split("-"))
    count = last - first + 1
    if fault == "claims":  # it says that it has submitted, and has not
        print("999")
        return 0
    if fault == "dies":
        os.kill(os.getpid(), _KILL)
    if fault == "never":
        return _fail("sbatch", "Requested node configuration is not available")
    warned = False
    while True:
        with fake.state() as state:
            refused = _refused(state, options, last, count)
            full = state.get("max_jobs") is not None and _live(state) + count > state["max_jobs"]
            if state.get("closed"):
                return 1
            if refused is None and not full:
                number = _enter(state, options, first, last, fault)
                break
        if refused is not None:
            return _fail("sbatch", *refused)
        if not warned:
            print("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying", file=sys.stderr)
            sys.stderr.flush()
            warned = True
        time.sleep(0.05)
    _serve_array(fake, number, options, words[-1])
    if fault == "hides":  # it has submitted, and says that it does not know
        return _fail("sbatch", TIMED_OUT)
    if fault == "hangs":
        time.sleep(600)
    print(f"{number};wq" if fault == "cluster" else number)
    return 0


def _refused(state: dict[str, Any], options: dict[str, str], last: int, count: int) -> tuple[str, int] | None:
    """What sbatch says and its exit code, where it refuses."""
    if last >= state["max_array"]:
        return "Invalid job array specification", 1
    excluded = set(filter(None, options.get("--exclude", "").split(",")))
    if excluded >= set(state["nodes"]):
        return "Requested node configuration is not available", 1
    most = state.get("max_submit")
    if most is not None and _live(state) + count > most:
        print("sbatch: error: AssocMaxSubmitJobLimit", file=sys.stderr)
        return "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", 1
    return None


def _enter(state: dict[str, Any], options: dict[str, str], first: int, last: int, fault: str | None) -> int:
    """Enter an array into the queue. Returns its ID."""
    if fault == "reuses":  # as a controller that was killed: it has forgotten its newest jobs, which run on
        number = max((task["array"] for task in state["tasks"]), default=1)
        state["tasks"] = [task for task in state["tasks"] if task["array"] != number]
    else:
        number = state["next"]
        state["next"] += 1
    for index in range(first, last + 1):
        state["tasks"].append({
            "array": number, "index": index, "name": options["--job-name"], "state": "PENDING", "reason": "Resources",
            "node": "", "pid": None, "exclude": options.get("--exclude", "").split(","), "signal": None,
        })  # fmt: skip
    return number


def _serve_array(fake: FakeSlurm, number: int, options: dict[str, str], script: str) -> None:
    """Leave a process that runs the tasks of an array."""
    pid = os.fork()
    if pid:
        with fake.state() as state:
            state["pids"].append(pid)
        return
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for number_of_stream in range(3):
        os.dup2(nothing, number_of_stream)
    os.closerange(3, 256)  # the lock of whoever called sbatch, too
    code = 1
    try:
        _Array(fake, number, options, script).serve()
        code = 0
    finally:
        os._exit(code)


class _Array:
    """The process that runs the tasks of one array."""

    def __init__(self, fake: FakeSlurm, number: int, options: dict[str, str], script: str) -> None:
        self._fake, self._number, self._options, self._script = fake, number, options, script
        self._running: dict[int, int] = {}
        """Of each task that runs its process."""

    def serve(self) -> None:
        os.chdir(self._options["--chdir"])
        while True:
            with self._fake.state() as state:
                mine = [task for task in state["tasks"] if self._is_mine(task) and task["state"] not in OVER]
                for task in mine:
                    self._step(state, task)
            if not mine:
                return
            time.sleep(_TICK)

    def _is_mine(self, task: dict[str, Any]) -> bool:
        return bool(task["array"] == self._number and task["name"] == self._options["--job-name"])

    def _step(self, state: dict[str, Any], task: dict[str, Any]) -> None:
        pid = self._running.get(task["index"])
        if pid is None:
            if state.get("closed") or task["signal"] == "KILL":
                task.update(state="CANCELLED", reason="None")
            elif task["reason"] != "JobHeldUser":
                self._start(state, task)
            return
        ended, code = os.waitpid(pid, os.WNOHANG)
        if ended:
            how = "CANCELLED" if task["signal"] == "KILL" else "COMPLETED" if code == 0 else "FAILED"
            task.update(state=how, reason="None" if code == 0 else "NonZeroExitCode")
            _kill_all(pid)
        elif state.get("closed") or task["signal"] == "KILL":
            _kill_all(pid)
        elif task["signal"] == "TERM":
            task["signal"] = None
            os.kill(pid, _TERM)

    def _start(self, state: dict[str, Any], task: dict[str, Any]) -> None:
        running = sum(one["state"] == "RUNNING" for one in state["tasks"])
        nodes = [node for node in state["nodes"] if node not in task["exclude"]]
        if not nodes or running >= state.get("cpus", 64):
            return
        bad = [node for node in nodes if node in state.get("bad", ())]  # on which there is always room
        node = (bad or nodes)[0]
        if bad:
            task.update(state="FAILED", reason="JobLaunchFailure", node=node)
            return
        own = 100_000 + 1000 * self._number + task["index"]
        environment = {
            **os.environ, "SLURM_JOB_ID": str(own), "SLURM_ARRAY_JOB_ID": str(self._number),
            "SLURM_ARRAY_TASK_ID": str(task["index"]), "SLURMD_NODENAME": node,
        }  # fmt: skip
        output = self._options["--output"].replace("%a", str(task["index"]))
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawnp(
            "bash", ["bash", self._script], environment, setsid=True, setsigdef=[_PIPE],
            file_actions=[(os.POSIX_SPAWN_OPEN, 1, output, append, 0o666), (os.POSIX_SPAWN_DUP2, 1, 2)],
        )  # fmt: skip
        self._running[task["index"]] = pid
        task.update(state="RUNNING", reason="None", node=node, pid=pid)


def _kill_all(leader: int) -> None:
    """Kill a task's session: its script, and the job that has a process group of its own."""
    for name in os.listdir("/proc"):
        if name.isdigit() and _stat(name)[3:4] == [str(leader)]:
            try:
                os.kill(int(name), _KILL)
            except ProcessLookupError:
                pass


def _squeue(fake: FakeSlurm, fault: str | None) -> int:
    if fault == "empty":
        return 0
    with fake.state() as state:
        rows = state["tasks"]
    for row in rows:
        print(
            "|".join(str(row.get(key, "N/A")) for key in ("array", "index", "state", "reason", "node", "start", "name"))
        )
    return 0


def _scancel(fake: FakeSlurm, words: list[str]) -> int:
    how = "TERM" if "--signal=TERM" in words else "KILL"
    with fake.state() as state:
        for task in _named(state, words):
            task["signal"] = how
    return 0


def _scontrol(fake: FakeSlurm, words: list[str]) -> int:
    with fake.state() as state:
        if words[:2] == ["show", "config"]:
            print(f"MaxArraySize            = {state['max_array']}\nMaxJobCount             = 10000")
            print("MinJobAge               = 300 sec")
        elif words[0] in ("hold", "release"):
            for task in _named(state, words[1].split(",")):
                if task["state"] == "PENDING":
                    task["reason"] = "JobHeldUser" if words[0] == "hold" else "Resources"
    return 0


def _named(state: dict[str, Any], words: list[str]) -> Iterator[dict[str, Any]]:
    """The tasks that are not over among those that are named ARRAY_INDEX."""
    for task in state["tasks"]:
        if f"{task['array']}_{task['index']}" in words and task["state"] not in OVER:
            yield task


def _sinfo(fake: FakeSlurm, _words: list[str]) -> int:
    with fake.state() as state:
        for node in state["nodes"]:
            print(node, "idle")
    return 0
