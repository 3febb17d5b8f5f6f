"""A real Slurm cluster of two nodes on this machine, fenced off in a network namespace of its own.

Its daemons listen on all addresses, so the namespace keeps them from everybody else. It needs root, iproute2 and
Debian's slurm-wlm and munge; `missing` says what is not there.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_NUMBERS = itertools.count()
_PORT = 16817
"""Of slurmctld."""
_CLIENTS = ("sbatch", "squeue", "scancel", "scontrol", "sinfo", "sdiag", "sacct", "srun")
_CONF = """\
ClusterName=wq
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={base}/run/munge.sock
CredType=cred/munge
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool/%n
SlurmctldPidFile={base}/run/slurmctld.pid
SlurmdPidFile={base}/run/slurmd-%n.pid
SlurmctldLogFile={base}/slurmctld.log
SlurmdLogFile={base}/slurmd-%n.log
SlurmctldPort={port}
SlurmdPort=16818
MpiDefault=none
ProctrackType=proctrack/{tracks}
TaskPlugin=task/{limits}
JobAcctGatherType=jobacct_gather/linux
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
MinJobAge={min_job_age}
MaxArraySize={max_array}
MaxJobCount={max_jobs}
KillWait=2
SlurmdTimeout=30
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
AccountingStorageType=accounting_storage/none
NodeName={nodes[0]} NodeHostname={host} NodeAddr=127.0.0.1 Port=16821 CPUs={cpus} RealMemory={memory} Gres=gpu:4
NodeName={nodes[1]} NodeHostname={host} NodeAddr=127.0.0.1 Port=16822 CPUs={cpus} RealMemory={memory} Gres=gpu:4
PartitionName=main Nodes=ALL Default=YES DefaultTime=60 DefMemPerCPU=100 PriorityTier=1
PartitionName=high Nodes=ALL MaxTime=60 DefMemPerCPU=100 PriorityTier=10 PreemptMode=off
"""


def missing() -> str | None:
    """Return why no cluster can be had here; None if one can."""
    if os.geteuid() != 0:
        return "a Slurm cluster needs root"
    programs = ("slurmctld", "slurmd", "munged", "sbatch", "ip", "nsenter")
    absent = [name for name in programs if _which(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            os.mknod(Path(folder) / "gpu", 0o20600, os.makedev(1, 3))
        except OSError as error:
            return f"no device can be made here: {error.strerror}"
    return None


def missing_limits() -> str | None:
    """Return why no cluster can be had here that limits memory; None if one can."""
    if not Path("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists():
        return "Debian's Slurm limits memory by control groups of version 1"
    return missing()


def _which(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


class SlurmCluster:
    """A cluster whose files are below `base`. `bin`: Slurm's commands, as its users would have them in PATH.
    `limits_memory`: a job that uses more than it has asked for is killed, see `missing_limits`; `cpus`: that each node
    poses to have."""

    def __init__(
        self,
        base: Path,
        max_array: int = 1001,
        min_job_age: int = 300,
        limits_memory: bool = False,
        cpus: int = 8,
        max_jobs: int = 10_000,
    ) -> None:
        self.base, self.bin = base, base / "bin"
        self._limits_memory = limits_memory
        self._namespace = f"wq-slurm-{os.getpid()}-{next(_NUMBERS)}"
        # Control groups are named after nodes, and all clusters of this machine share them.
        self.nodes = (f"a{os.getpid()}", f"b{os.getpid()}") if limits_memory else ("n1", "n2")
        self._options = {
            "max_array": max_array,
            "max_jobs": max_jobs,
            "min_job_age": min_job_age,
            "cpus": cpus,
            "memory": 1000 * cpus,
            "tracks": "cgroup" if limits_memory else "linuxproc",
            "limits": "cgroup" if limits_memory else "none",
            "nodes": self.nodes,
            "port": _PORT,
        }

    @property
    def environment(self) -> dict[str, str]:
        """What a user of the cluster adds to their environment."""
        return {"PATH": f"{self.bin}:{os.environ['PATH']}", "SLURM_CONF": str(self.base / "etc/slurm.conf")}

    def up(self) -> None:
        """Start all daemons, and return once both nodes take jobs."""
        for name in ("etc", "run", "state", "spool", "dev", "bin"):
            (self.base / name).mkdir(parents=True)
        for parent in (self.base, *self.base.parents):  # munged wants nobody else to write there
            with contextlib.suppress(OSError):
                parent.chmod(parent.stat().st_mode & ~0o022 if parent.name != "tmp" else parent.stat().st_mode)
        _run("ip", "netns", "add", self._namespace)
        self._inside("ip", "link", "set", "lo", "up")
        # With 127.0.0.1 alone getaddrinfo(AI_ADDRCONFIG) resolves no address at all.
        self._inside("ip", "address", "add", "127.0.0.2/32", "dev", "lo")
        for n in range(4):
            os.mknod(self.base / f"dev/gpu{n}", 0o20666, os.makedev(1, 3))
        host = socket.gethostname().partition(".")[0]
        conf = self.base / "etc/slurm.conf"
        conf.write_text(_CONF.format(host=host, base=self.base, **self._options))
        (self.base / "etc/gres.conf").write_text(f"Name=gpu File={self.base}/dev/gpu[0-3]\n")
        limits = "yes" if self._limits_memory else "no"
        (self.base / "etc/cgroup.conf").write_text(
            f"CgroupAutomount=yes\nConstrainRAMSpace={limits}\nConstrainSwapSpace={limits}\nAllowedSwapSpace=0\n"
        )
        key = self.base / "etc/munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        for name in _CLIENTS:
            program = self.bin / name
            program.write_text(
                f'#!/bin/sh\nSLURM_CONF={conf} exec nsenter --net=/run/netns/{self._namespace} {_which(name)} "$@"\n'
            )
            program.chmod(0o755)
        self._inside(
            "munged", "--force", f"--socket={self.base}/run/munge.sock", f"--key-file={key}", "--num-threads=1",
            f"--pid-file={self.base}/run/munged.pid", f"--log-file={self.base}/munged.log",
            f"--seed-file={self.base}/run/munged.seed",
        )  # fmt: skip
        self.start_controller()
        for node in self.nodes:
            self.start_node(node)
        self.until(lambda: self.sinfo().count("idle") == 2, "both nodes are idle")

    def start_controller(self) -> None:
        """Start slurmctld, from the state that it has, and return once it can be asked."""
        self._inside("slurmctld", "-f", str(self.base / "etc/slurm.conf"))
        self.until(self._listens, "slurmctld listens")  # a slurmd that it does not hear tries again after a second

    def _listens(self) -> bool:
        with contextlib.suppress(OSError):
            listening = Path(f"/proc/{self._pid('slurmctld')}/net/tcp").read_text()
            return f":{_PORT:04X} 00000000:0000 0A" in listening
        return False

    def lose_jobs(self) -> None:
        """Kill slurmctld, and start it as one that knows of no job: it gives their IDs out again."""
        self.kill("slurmctld")
        for path in (self.base / "state").glob("job_state*"):
            path.unlink()
        self.start_controller()

    def start_node(self, node: str, without: Path | None = None) -> None:
        """Start the slurmd of a node, on which a directory is empty: `without`."""
        argv = (_which("slurmd") or "slurmd", "-f", str(self.base / "etc/slurm.conf"), "-N", node)
        if without is None:
            self._inside(*argv)
        else:  # the mount ends with the node's processes
            script = 'mount -t tmpfs none "$1" && shift && exec "$@"'
            self._inside("unshare", "--mount", "sh", "-c", script, "sh", str(without), *argv)

    def kill(self, daemon: str, number: int = signal.SIGKILL) -> None:
        """Signal a daemon (slurmctld, slurmd-n1, slurmd-n2, munged), and wait for its end."""
        pid = self._pid(daemon)
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        self.until(lambda: not Path(f"/proc/{pid}").exists() or _is_zombie(pid), f"{daemon} has ended")

    def runs(self, daemon: str) -> bool:
        """Whether a daemon runs."""
        pid = self._pid(daemon)
        return pid is not None and Path(f"/proc/{pid}").exists() and not _is_zombie(pid)

    def _pid(self, daemon: str) -> int | None:
        try:
            return int((self.base / f"run/{daemon}.pid").read_text())
        except (OSError, ValueError):
            return None

    def down(self) -> None:
        """Cancel all jobs and end all daemons; nothing of the cluster is left running."""
        with contextlib.suppress(subprocess.SubprocessError, OSError):
            self._cancel_all(20)
        for daemon in ("slurmctld", *(f"slurmd-{node}" for node in self.nodes), "munged"):
            self.kill(daemon, signal.SIGTERM)
        self._end_the_rest()
        for node in self.nodes if self._limits_memory else ():
            for group in Path("/sys/fs/cgroup").glob(f"*/slurm_{node}"):
                group.rmdir()
        _run("ip", "netns", "delete", self._namespace)

    def _end_the_rest(self) -> None:
        """Kill what is still in the namespace: job steps whose slurmd was killed."""
        found = _run("ip", "netns", "pids", self._namespace).split()
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        self.until(lambda: not _run("ip", "netns", "pids", self._namespace).split(), "the namespace is empty")

    def call(self, program: str, *arguments: str, timeout: float = 60.0) -> str:
        """Run one of Slurm's commands. Returns what it prints; raises CalledProcessError."""
        return subprocess.run(
            [str(self.bin / program), *arguments], check=True, capture_output=True, text=True, timeout=timeout
        ).stdout

    def submit(self, command: str, *options: str) -> None:
        """Have somebody else's job run a command."""
        self.call("sbatch", "--output=/dev/null", "--job-name=other", *options, f"--wrap={command}")

    def sinfo(self) -> str:
        """The state of each node, one a line; empty while the controller does not answer."""
        try:
            return self.call("sinfo", "-h", "-N", "-p", "main", "-o", "%N %T")
        except subprocess.CalledProcessError:
            return ""

    def clear(self) -> None:
        """Leave the cluster to the next test as this one has found it: repaired, and without a job."""
        self.repair()
        self._cancel_all()

    def repair(self) -> None:
        """Have all that was killed run again, and both nodes take jobs."""
        if not self.runs("slurmctld"):
            self.start_controller()
        for node in self.nodes:
            if not self.runs(f"slurmd-{node}"):
                self.start_node(node)
        self.until(self._resume, "both nodes take jobs")

    def _cancel_all(self, seconds: float = 60.0) -> None:
        if self._jobs():
            self.call("scancel", "--user=root", timeout=seconds)
            self.until(lambda: not self._jobs(), "no job is left", seconds)

    def _jobs(self) -> str:
        return self.call("squeue", "-h").strip()

    def _resume(self) -> bool:
        """Resume what was drained or down. Returns whether nothing is."""
        states = dict(line.split() for line in self.sinfo().splitlines())
        bad = [node for node, state in states.items() if state not in ("idle", "mixed", "allocated", "completing")]
        for node in (node for node in bad if states[node].startswith(("down", "drain"))):
            with contextlib.suppress(subprocess.CalledProcessError):
                self.call("scontrol", "update", f"NodeName={node}", "State=RESUME")
        return len(states) == 2 and not bad

    def _inside(self, program: str, *arguments: str) -> None:
        _run("nsenter", f"--net=/run/netns/{self._namespace}", _which(program) or program, *arguments)

    @staticmethod
    def until(holds: object, what: str, seconds: float = 60.0) -> None:
        """Wait until a condition holds. Raises AssertionError that says which."""
        assert callable(holds)
        begin = time.monotonic()
        while not holds():
            past = time.monotonic() - begin
            assert past < seconds, f"not within {seconds:g} s: {what}"
            time.sleep(max(0.02, past / 10))


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return True


def _run(*argv: str, environment: Mapping[str, str] | None = None) -> str:
    words: Sequence[str] = argv
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout
