"""Every file name of a run, the names of sessions, and the rules for names. No other module contains a path."""

from __future__ import annotations

import re
from collections.abc import Container
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

ID_MAX = 120
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=+,@-]*")
_PROJECT = re.compile(r"[A-Za-z0-9._-]+")
# screen cuts session names at 80 characters, and its socket path has to fit in 108.
_SESSION_MAX = 60
SESSION_PREFIX = "wq."
"""Prefix of the names of all sessions of all runs."""


def id_fault(name: str) -> str | None:
    """Return why `name` cannot be a job id, a run id or a phase name; None if it can."""
    if not name:
        return "is empty"
    if len(name) > ID_MAX:
        return f"has {len(name)} characters; at most {ID_MAX} are allowed"
    if not _ID.fullmatch(name):
        return "is not a safe file name: use letters, digits and . _ - = + , @, and begin with a letter, digit or _"
    return None


def project_fault(name: str) -> str | None:
    """Return why `name` cannot be a project name; None if it can."""
    if not _PROJECT.fullmatch(name) or name.startswith((".", "-")):
        return "may have letters, digits, . _ - only, and may not begin with . or -"
    return None if len(name) <= 60 else f"has {len(name)} characters; at most 60 are allowed"


def _digest(text: str) -> str:
    import hashlib  # it loads OpenSSL, which a status query need not wait for

    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def slurm_name(run_id: str) -> str:
    """Return how the names of all jobs of a run begin in Slurm's queue."""
    return f"wq.{run_id[:60]}."


def session_name(run_id: str, job: str, n: int) -> str:
    """Return the name of the session of attempt `n` of `job`: unique over runs, shortened by a hash where it is
    long."""
    name = f"{SESSION_PREFIX}{run_id}.{job}.{n}"
    if len(name) <= _SESSION_MAX:
        return name
    digest = _digest(name)[:12]
    return f"{SESSION_PREFIX}{job[:30]}.{digest}.{n}"


def run_key(run_id: str, run_dir: str) -> str:
    """Return a key for a run as one manager has it. `run_dir`: its real path.

    A run has parts on several hosts, and two of them may be homes of one machine: by the run's id alone one manager
    would take the other's processes for its own.
    """
    return f"{run_id}@{_digest(run_dir)[:12]}"


def tag(key: str, job: str, n: int) -> str:
    """Return the value of the environment variable by which an attempt's processes are found. `key`: see `run_key`."""
    return f"{key}/{job}/{n}"


TAG_VARIABLE = "WAVEQUEUE_TAG"
STALE_AFTER = 90.0
"""Seconds after its last sign of life from which a manager on another machine counts as gone: see adapters.run_lock."""


def beat_of(lock: Path) -> Path:
    """Return the file that a manager touches as long as it lives, where several machines share the run's directory."""
    return lock.with_suffix(".beat")


class RunPaths(NamedTuple):
    """The files of one run. `state` names the run directory; logs may be elsewhere."""

    manifest: Path
    state: Path
    log_dir: Path

    @classmethod
    def of(cls, run_dir: Path) -> RunPaths:
        """The standard layout of a run directory."""
        return cls(run_dir / "manifest.json", run_dir / "queue_state.json", run_dir / "logs")

    @property
    def root(self) -> Path:
        return self.state.parent

    @property
    def journal(self) -> Path:
        return self.root / "journal.jsonl"

    @property
    def manager_log(self) -> Path:
        return self.root / "queue_mgr.log"

    @property
    def alerts(self) -> Path:
        return self.root / "alerts.jsonl"

    @property
    def notified(self) -> Path:
        """Which alerts were sent to whom, one line of JSON each."""
        return self.root / "notified.jsonl"

    @property
    def health(self) -> Path:
        """What is known of the health of running attempts beside the journal, so that a later manager goes on."""
        return self.root / "health.json"

    @property
    def metrics(self) -> Path:
        """The metrics of completed jobs, one line of JSON each."""
        return self.root / "metrics.jsonl"

    @property
    def durations(self) -> Path:
        """Durations of jobs in earlier runs of the project, for estimates; see core.durations."""
        return self.root / "durations.json"

    @property
    def summary(self) -> Path:
        return self.root / "summary.md"

    @property
    def status_notes(self) -> Path:
        """What `babysit` writes about the run for people, with their notes."""
        return self.root / "STATUS.md"

    @property
    def instance(self) -> Path:
        """The rented machine that the run was sent to, and its price."""
        return self.root / "instance.json"

    @property
    def acknowledged(self) -> Path:
        """Up to which line of the journal the results have been pulled."""
        return self.root / "acknowledged"

    @property
    def teardown(self) -> Path:
        """What the manager was about to do to the machine, and why."""
        return self.root / "teardown.md"

    @property
    def lock(self) -> Path:
        return self.root / "manager.lock"

    @property
    def slurm(self) -> Path:
        """What a run on Slurm has beside; other runs have no such directory."""
        return self.root / "slurm"

    @property
    def manager_job(self) -> Path:
        """The script of the manager, where that runs as a job of Slurm; without it the manager runs where it is
        started."""
        return self.slurm / "manager.sh"

    @property
    def bell(self) -> Path:
        """A FIFO: one byte written into it wakes the manager."""
        return self.root / "bell"

    @property
    def ballast(self) -> Path:
        """Reserved disk space, so that a full disk can still be reported."""
        return self.root / "ballast"

    @property
    def inbox(self) -> Path:
        return self.root / "inbox"

    def request(self, request_id: str) -> Path:
        return self.inbox / f"{request_id}.json"

    def answer(self, request_id: str) -> Path:
        return self.root / "answers" / f"{request_id}.json"

    @property
    def wrapper(self) -> Path:
        return self.root / "wrapper.sh"

    @property
    def screenrc(self) -> Path:
        return self.root / "screenrc"

    @property
    def attempts(self) -> Path:
        return self.root / "attempts"

    def attempt(self, job: str, n: int) -> AttemptPaths:
        return AttemptPaths(self.attempts / f"{job}~{n}")

    def log(self, job: str) -> Path:
        """Log of the newest attempt."""
        return self.log_dir / f"{job}.log"

    def earlier_log(self, job: str, n: int, ids: Container[str]) -> Path:
        """Log of attempt `n` once a later one has begun. `ids`: all job ids, so that no other job's log is hit."""
        name = f"{job}.{n}"
        return self.log_dir / (f"{job}~{n}.log" if name in ids else f"{name}.log")


def damaged(path: Path, at: float, n: int = 0) -> Path:
    """Return the new name of a file of a run that was found damaged at `at` (epoch seconds); the `n`th at that time."""
    stamp = datetime.fromtimestamp(at, timezone.utc).strftime("%Y%m%d-%H%M%S")
    return path.with_name(f"{path.name}.damaged-{stamp}" + (f"-{n}" if n else ""))


class AttemptPaths(NamedTuple):
    """The files of one attempt, which exist from its launch until its end is in the journal."""

    root: Path

    @property
    def script(self) -> Path:
        return self.root / "job.sh"

    @property
    def claim(self) -> Path:
        """Exists once the attempt was claimed, and says by whom: its wrapper, or the manager that revoked it."""
        return self.root / "claim"

    @property
    def claimed_by(self) -> Path:
        """Says who claimed an attempt of an earlier version, without hard links: `claim` is a directory."""
        return self.claim / "by"

    @property
    def revoking(self) -> Path:
        """Says that the manager is about to claim the attempt itself."""
        return self.root / "revoking"

    @property
    def started(self) -> Path:
        return self.root / "started"

    @property
    def exit(self) -> Path:
        return self.root / "exit"

    @property
    def recovered(self) -> Path:
        """Exit code of the command that a rung of the job's ladder had run before the job's own."""
        return self.root / "recovered"

    @property
    def environment(self) -> Path:
        """Says which environment the attempt got."""
        return self.root / "environment"

    def go(self, n: int) -> Path:
        """A FIFO at which the wrapper of a session waits that came up before the attempt began, the `n`th one of its
        manager."""
        return self.root / f"go.{n}"

    @property
    def gate(self) -> Path:
        """A FIFO that all processes of the job hold open, so that its end shows that none is left."""
        return self.root / "gate"

    @property
    def complaint(self) -> Path:
        """Screen's error output at its start."""
        return self.root / "screen.out"


class HostPaths(NamedTuple):
    """Files that all runs of one user on one host share: `~/.wavequeue`, or a subdirectory of it where hosts share one
    home.

    `base`: `~/.wavequeue` where `root` is a subdirectory; None where it is the same.
    """

    root: Path
    base: Path | None = None

    @classmethod
    def of(cls, home: Path) -> HostPaths:
        return cls(home / ".wavequeue")

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def submitted(self) -> Path:
        """Links to the directories of runs that this user submitted from here."""
        return (self.base or self.root) / "submitted"

    @property
    def others(self) -> Path:
        """Subdirectories of machines that share one home, each but the first."""
        return (self.base or self.root) / "hosts"

    @property
    def runtimes(self) -> Path:
        """Runtimes that were pushed, for all hosts that share the home."""
        return (self.base or self.root) / "runtime"

    def runtime(self, digest: str) -> Path:
        """What must be on sys.path for our code to run there: packages and modules, never changed afterwards."""
        return self.runtimes / digest

    @property
    def host_id(self) -> Path:
        """The identity of this host: 32 hex characters, created once. A machine rented to somebody else has another."""
        return self.root / "host_id"

    @property
    def ports(self) -> Path:
        """Ports that are assigned to attempts: one file each, by number."""
        return self.root / "ports"

    @property
    def agents(self) -> Path:
        """Who works here besides our runs, and what GPU memory each was promised."""
        return self.root / "AGENT_STATUS.json"

    @property
    def environments(self) -> Path:
        """Environments that runs were started with: outside of their directories, which are pulled, packed and
        shown."""
        return self.root / "environments"

    @property
    def squeue(self) -> Path:
        """What Slurm listed last of this user's tasks."""
        return self.root / "squeue"

    @property
    def cards_lock(self) -> Path:
        return self.root / "cards.lock"

    @property
    def leases(self) -> Path:
        return self.root / "leases"


LOCK_DIR_VARIABLE = "WAVEQUEUE_LOCK_DIR"
"""Names the directory that all users of a host share, where it is not one of SHARED_PLACES."""
SHARED_PLACES = ("/run/lock", "/var/tmp")
_SHARED_FOLDER = re.compile(r"wavequeue-(\d{1,10})(-[0-9a-f]{8})?")
_SHARED_LEASE = re.compile(r"[0-9a-f]{16}\.json")


class SharedPaths(NamedTuple):
    """What all users of one host share: a lock, and a folder for each user."""

    root: Path

    @property
    def cards_lock(self) -> Path:
        return self.root / "wavequeue.lock"


def shared_folder(uid: int, other: str = "") -> str:
    """Return the name of a user's folder in the shared directory; `other`: 8 hex characters, where the plain name is
    taken."""
    return f"wavequeue-{uid}" + (f"-{other}" if other else "")


def uid_of_folder(name: str) -> int | None:
    """Return the uid in the name of such a folder; None for another name."""
    found = _SHARED_FOLDER.fullmatch(name)
    return int(found.group(1)) if found else None


def shared_name(key: str) -> str:
    """Name a run in the shared directory without revealing its id. `key`: see `run_key`."""
    return _digest(key)[:16]


def shared_lease(key: str) -> str:
    """Return the name of the file there that says which GPUs a run has."""
    return f"{shared_name(key)}.json"


def is_shared_lease(name: str) -> bool:
    return _SHARED_LEASE.fullmatch(name) is not None


def shared_port(port: object) -> str:
    """Return the name of the file there by which a run has a port; the pattern of all of them, where `port` is a
    `*`."""
    return f"{port}.port"


LOCAL_RUNS = "experiment_queue"
"""Directory beside the spec for local runs, and for what was pulled of remote ones."""

CONDA_BASES = (
    "$HOME/miniconda3", "$HOME/anaconda3", "$HOME/miniforge3", "$HOME/mambaforge", "/opt/conda", "/opt/miniconda3",
    "/opt/miniforge3", "/root/miniconda3", "/workspace/miniconda3", "/usr/local/miniconda3",
)  # fmt: skip
"""Where conda is looked for, as sh reads it between double quotes."""
