"""Prepare hosts: programs, directories, the project's .env and setup.sh, and a log of what was found.

Step by step, each safe to do again. What fails names its step; the steps after it wait for the next time.
"""

from __future__ import annotations

import posixpath
import re
import shlex
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import NamedTuple, TypeVar

from queue_manager.core.times import iso
from skill.common.errors import FailedError
from skill.hosts import bootstrap, health, package_list
from skill.hosts.bootstrap import Facts
from skill.hosts.connection import CommandResult, Host, Unreachable, each, remote
from skill.hosts.dotenv import Chosen
from skill.hosts.health import plain

PATIENCE = 3 * 3600.0
"""Seconds for one host; setup.sh may install much."""
WORKSPACE = "~/wavequeue"
"""Where a worker without `workspace` has its projects, each in a directory of its name."""
ENV, LOG = ".env", "SETUP_LOG.txt"
_INSTALL_PATIENCE = 1200.0
_SCRIPT_PATIENCE = 2 * 3600.0
_BUSY, _DONE, _FAILED = 75, 76, 77
"""Exit codes of `_RUN_ONCE`; others are Python's."""
_CREDENTIALS = re.compile(r"://[^/@\s]+@")
T = TypeVar("T")


class Wanted(NamedTuple):
    """What hosts get. `env`: the content of .env, or None; `script`: the content of setup.sh, or None."""

    env: Chosen | None
    script: bytes | None


class Outcome(NamedTuple):
    """The result on one host. `fault`: the step that failed and why, or None."""

    host: str
    fault: str | None


class _Stop(Exception):
    """This step failed; says why."""


Say = Callable[[str, str], None]
"""Told of each step that is done, or begins and takes long: the host's name and a line."""


def setup(hosts: Sequence[Host], wanted: Wanted, say: Say) -> list[Outcome]:
    """Prepare all hosts at once. A failure on one stops no other."""
    found = each(hosts, lambda host: _Setup(host, wanted, say).go(), PATIENCE)
    return [
        Outcome(name, f"unreachable: {one.reason}") if isinstance(one, Unreachable) else one
        for name, one in found.items()
    ]


class _Setup:
    """The steps for one host, in their order; what one finds out serves the next."""

    def __init__(self, host: Host, wanted: Wanted, say: Say) -> None:
        self._host, self._wanted, self._say = host, wanted, say
        self._workspace = ""
        self._script = "none"

    def go(self) -> Outcome:
        step = ""
        steps = {
            "programs": self._programs, "directories": self._directories, ENV: self._env, "setup.sh": self._run_script,
            LOG: self._log,
        }  # fmt: skip
        try:
            for step, act in steps.items():
                done = act()
                if done:
                    self._say(self._host.name, f"{step}: {done}")
        except (_Stop, FailedError) as error:
            return Outcome(self._host.name, f"{step}: {error}")
        return Outcome(self._host.name, None)

    # -- programs ---------------------------------------------------------------------------------------------------

    def _programs(self) -> str:
        facts = self._facts = _reached(bootstrap.facts(self._host, None))
        missing = _missing(facts)
        if not missing:
            return _there(facts)
        result = _succeeded(self._host.script("id -u; command -v apt-get || :"))
        uid, *apt = result.out.decode(errors="replace").split()[:2] or [""]
        if uid != "0" or not apt:
            return self._by_hand(facts, missing, is_root=uid == "0")
        self._say(self._host.name, f"programs: apt-get installs {' '.join(missing)}")
        result = _reached(self._host.script(_INSTALL, *missing, timeout=_INSTALL_PATIENCE, limit=1 << 20))
        if result.code != 0:
            raise _Stop(f"apt-get install {' '.join(missing)} failed: {result.why}; see there {_INSTALL_LOG}")
        facts = self._facts = _reached(bootstrap.facts(self._host, None))
        left = [name for name in _missing(facts) if name != "rsync"]
        if left:
            why = f" ({facts.why_no_python})" if facts.python is None else ""
            raise _Stop(f"apt-get reports that it installed {', '.join(left)}, but it is not found{plain(why)}")
        return f"installed {', '.join(missing)}; {_there(facts)}"

    def _by_hand(self, facts: Facts, missing: Sequence[str], *, is_root: bool) -> str:
        """Say what a person has to install. Raises _Stop unless it is optional."""
        if is_root:
            way = f"apt-get is not available; install it there with its own package manager: {' '.join(missing)}"
        else:
            packages = " ".join(missing)
            way = f"only root may install it; run there: sudo apt-get update && sudo apt-get install -y {packages}"
        if missing == ["rsync"]:
            return f"{_there(facts)}; rsync is missing, so code is sent with tar instead. {way[0].upper()}{way[1:]}"
        why = f" ({facts.why_no_python})" if facts.python is None else ""
        raise _Stop(f"{' and '.join(missing)} missing{plain(why)}; {way}")

    # -- files ------------------------------------------------------------------------------------------------------

    def _directories(self) -> str:
        asked = self._host.worker.workspace or WORKSPACE
        result = _succeeded(self._host.script(_FOLDERS, remote(asked)), f"{asked} cannot be created")
        place = result.out.decode(errors="replace").rstrip("\n")
        if not place.startswith("/") or not place.isprintable():
            raise _Stop("what it says of its directories cannot be read")
        self._workspace = place
        return f"{place} and ~/.wavequeue are there"

    def _env(self) -> str:
        env = self._wanted.env
        if env is None:
            return ""
        path = posixpath.join(self._workspace, ENV)
        _succeeded(self._host.script('[ ! -d "$1" ] || { echo "it is a directory" >&2; exit 1; }', path), f"{path}")
        fault = self._host.put(path, env.text.encode(), 0o600)
        if isinstance(fault, Unreachable):
            raise _Stop(f"unreachable: {fault.reason}")
        if fault is not None:
            raise _Stop(plain(fault))
        return (
            f"{', '.join(env.names) or 'nothing'} in {path}; a job reads it with: set -a; . {shlex.quote(path)}; set +a"
        )

    def _run_script(self) -> str:
        script = self._wanted.script
        if script is None:
            return ""
        assert self._facts.python is not None
        digest = sha256(script).hexdigest()
        # Machines that have one home are set up one by one.
        own = b"" if self._facts.owner is None else self._facts.place.encode() + b"\0"
        key = sha256(own + self._workspace.encode() + b"\0" + script).hexdigest()[:32]
        output = f"~/.wavequeue/setup/{key}/output.log"
        self._script = digest
        self._say(self._host.name, f"setup.sh: runs unless it has run before; its output goes there to {output}")
        # Isolated: a module of the same name that lies in the home is not taken for Python's own.
        argv = [self._facts.python.path, "-I", "-S", "-c", _RUN_ONCE, key, self._workspace]
        result = _reached(self._host.run(argv, stdin=script, timeout=_SCRIPT_PATIENCE, limit=1 << 20))
        if result.code == _DONE:
            return "has run before and is unchanged"
        if result.code == _BUSY:
            raise _Stop(f"an earlier run of it, or a process that it started, is still running; see there {output}")
        if result.code == _FAILED:
            raise _Stop(f"it ended with {result.why}; see there {output}")
        if result.code != 0:
            raise _Stop(f"it could not be run: {result.why}")
        return "has run"

    # -- what was found ---------------------------------------------------------------------------------------------

    def _log(self) -> str:
        assert self._facts.python is not None
        result = _succeeded(
            self._host.script(*package_list.command(self._workspace, self._facts.python.path), timeout=120.0)
        )
        python, *packages = result.out.decode(errors="replace").splitlines() or ["?"]
        text = setup_log(iso(time.time()) or "", python, packages, self._cards(), self._script)
        fault = self._host.put(posixpath.join(self._workspace, LOG), text.encode(), 0o600)
        if fault is not None:
            raise _Stop(plain(fault.reason if isinstance(fault, Unreachable) else fault))
        return f"{len(packages)} packages of {plain(python)}, in {posixpath.join(self._workspace, LOG)}"

    def _cards(self) -> str:
        """List its GPUs, a line each; "No GPU" if it reports none."""
        try:
            result = bootstrap.in_passing(self._host, self._facts, bootstrap.bundle_for(self._facts), "probe")
        except FailedError as error:
            return f"GPU: unknown: {error}"
        probed = None if isinstance(result, Unreachable) else health.read(result.out)
        if probed is None or probed.cards_unreadable is not None:
            return f"GPU: unknown: {'no answer' if probed is None else probed.cards_unreadable}"
        sizes = (f"GPU {card.number}: {card.name}, {card.total_mib} MiB" for card in probed.cards)
        return "\n".join(sizes) or "No GPU"


def setup_log(at: str, python: str, packages: Sequence[str], cards: str, script: str) -> str:
    """Build the text of SETUP_LOG.txt. `script`: sha256 of setup.sh, or "none". Passwords in addresses are removed."""
    lines = [_CREDENTIALS.sub("://***@", plain(line)) for line in packages]
    head = [f"date: {at}", f"setup.sh: {script}", cards, f"python: {plain(python)}", "pip freeze:"]
    return "\n".join([*head, *(lines or ["(nothing)"])]) + "\n"


def _missing(facts: Facts) -> list[str]:
    """List the packages to be installed."""
    found = {"screen": facts.screen, "rsync": facts.rsync, "python3": facts.python}
    return [name for name, there in found.items() if there is None]


def _there(facts: Facts) -> str:
    found = [name for name, path in (("screen", facts.screen), ("rsync", facts.rsync)) if path is not None]
    if facts.python is not None:
        found.append(f"python {facts.python.version} ({facts.python.path})")
    return f"{', '.join(map(plain, found))} {'is' if len(found) == 1 else 'are'} there"


def _reached(answer: T | Unreachable) -> T:
    """Return a host's answer. Raises _Stop if it was not reached."""
    if isinstance(answer, Unreachable):
        raise _Stop(f"unreachable: {plain(answer.reason)}")
    return answer


def _succeeded(answer: CommandResult | Unreachable, what: str = "it failed") -> CommandResult:
    """Return the output of a command that has to succeed. Raises _Stop."""
    result = _reached(answer)
    if result.code != 0:
        raise _Stop(f"{what}: {result.why}")
    return result


_INSTALL_LOG = "~/.wavequeue/setup/programs.log"
# Lists that cannot be brought up to date, as of one repository among many, do not stop what the others have.
_INSTALL = """\
umask 077; mkdir -p .wavequeue/setup || exit 1
log=.wavequeue/setup/programs.log
export DEBIAN_FRONTEND=noninteractive
{
    apt-get update -q
    apt-get -o DPkg::Lock::Timeout=120 install -y -q --no-install-recommends "$@"
} </dev/null >$log 2>&1
code=$?
[ $code = 0 ] || tail -n 4 $log >&2
exit $code
"""

# What is there already keeps its mode: others may work in it.
_FOLDERS = """\
umask 077; mkdir -p -- .wavequeue "$1" && chmod 700 .wavequeue && cd -- "$1" || exit 1
[ -w . ] || { echo "no write permission" >&2; exit 1; }
pwd -P
"""

# The lock is inherited: should the connection be cut, it is held for as long as the script goes on.
_RUN_ONCE = f"""\
import fcntl, os, shutil, subprocess, sys
key, workspace = sys.argv[1:]
os.umask(0o077)
folder = os.path.join(os.path.expanduser("~"), ".wavequeue", "setup", key)
os.makedirs(folder, exist_ok=True)
script, done, output = (os.path.join(folder, name) for name in ("setup.sh", "done", "output.log"))
data = sys.stdin.buffer.read()
lock = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    sys.exit({_DONE} if os.path.exists(done) else {_BUSY})
if os.path.exists(done):
    sys.exit({_DONE})
with open(script, "wb") as file:
    file.write(data)
with open(output, "wb") as log:
    code = subprocess.run([shutil.which("bash") or "sh", script], cwd=workspace, stdin=subprocess.DEVNULL, stdout=log,
        stderr=log, start_new_session=True, pass_fds=(lock,)).returncode
if code:
    with open(output, "rb") as log:
        head = log.read(2000)
        log.seek(max(len(head), os.fstat(log.fileno()).st_size - 2000))
        head += b"\\n" + log.read()
    sys.stderr.write("exit code %d: %s" % (code, head.decode(errors="replace").strip() or "no output"))
    sys.exit({_FAILED})
open(done, "w").close()
"""
