"""Set up our side on a host: facts about it, the runtime, the run's directory, and its manager. Each step is done
completely or not, and may be repeated. Answers of a host are checked before they are used."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from queue_manager.core import layout
from queue_manager.core.excerpt import excerpt
from queue_manager.core.layout import HostPaths
from queue_manager.core.terminal_text import escaped, one_line
from skill.common import typed_json
from skill.hosts.connection import CommandResult, Host, Unreachable

if TYPE_CHECKING:
    from skill.hosts.runtime_bundle import Bundle

_LOOK_PATIENCE = 60.0
_PUSH_PATIENCE = 300.0
_START_PATIENCE = 90.0
_LONGEST = 4096
_HEX32 = re.compile("[0-9a-f]{32}")
_PLACE_NAME = re.compile(r"\.wavequeue(/hosts/[A-Za-z0-9._-]{1,300}-[0-9A-Za-z]{0,8})?")
_HEX64 = re.compile("[0-9a-f]{64}")


class Python(NamedTuple):
    """An interpreter of a host. `path` is absolute."""

    version: str
    path: str


class Facts(NamedTuple):
    """Facts about a host, and how far a run is set up there.

    `home` is absolute. `why_no_python`: in words, where `python` is None. `machine`: as uname -m says; `libc`: "glibc
    2.36", empty where it is another one. `screen` and `rsync` are paths. `disk_free_mib` None: not known, by df's words
    in `disk_fault`. `writable`: whether runs can be kept in the home. `host_id`: who it is; None: nobody has named it
    yet. `runtimes`: digests of what was pushed. `manifest_sha256`: of the run's manifest there. `manager_pid`: of the
    manager that holds the run now (0: one whose process is not known); `ended`: the run's state says that it has
    finished. `place`: where runs lie, below the home; `owner`: the name of the machine to which the home belongs, where
    it is another one that has the same home; `named`: whether it is written down there to whom it belongs;
    `machine_digest`: of the machine's name. `survival`: how what outlives a session has to be started, None where that
    was not tried since it started.
    """

    home: str
    python: Python | None
    why_no_python: str
    machine: str
    screen: str | None
    rsync: str | None
    disk_free_mib: int | None
    writable: bool
    host_id: str | None
    runtimes: frozenset[str]
    manifest_sha256: str | None
    manager_pid: int | None
    ended: bool
    libc: str = ""
    place: str = ".wavequeue"
    owner: str | None = None
    named: bool = True
    machine_digest: str = ""
    survival: str | None = None
    disk_fault: str = ""


def module(home: str | None, python: str, runtime: str, name: str, *args: str) -> list[str]:
    """The command that runs `queue_manager.NAME` from a runtime (a digest) with its arguments.

    `home` None: the command begins in the home, as those of Host.run do. No environment variable is set, since what
    is started would inherit it.
    """
    folder = HostPaths.of(Path(home or "")).runtime(runtime)
    return [python, "-E", "-s", "-S", "-B", str(folder), f"queue_manager.{name}", *args]


# -- facts --------------------------------------------------------------------------------------------------------


def facts(host: Host, run_id: str | None) -> Facts | Unreachable:
    """Ask for facts about a host, and how far a run is set up there. One round trip."""
    places = " ".join(place.replace("$HOME", '"$HOME"') for place in PLACES)
    result = host.script(
        _LOOK.replace("@PLACES@", places), run_id or "", _source(), _TRY, timeout=_LOOK_PATIENCE, limit=1 << 20
    )
    return result if isinstance(result, Unreachable) else parse_facts(result)


def _source() -> str:
    return (Path(layout.__file__).parents[1] / "adapters" / "facts.py").read_text(encoding="utf-8")


# Sent as a text to each Python that is found: an old one has to understand it, too, so that it goes without -I. A
# json.py that lies in the home is not taken for Python's own.
_TRY = """\
import sys
sys.path[:] = [one for one in sys.path if one]
if sys.version_info < (3, 9):
    print("old=%d.%d.%d" % sys.version_info[:3])
    sys.exit(9)
source = sys.argv.pop(1)
print("python=%d.%d.%d %s" % (sys.version_info[:3] + (sys.executable,)))
sys.stdout.write("facts=")
exec(compile(source, "facts", "exec"))
"""

PLACES = (
    "/venv/main/bin", *(f"{base}/bin" for base in layout.CONDA_BASES), "/usr/local/bin", "/usr/bin",
    "$HOME/.pyenv/versions/*/bin", "$HOME/.local/share/uv/python/*/bin", "$HOME/.local/bin",
)  # fmt: skip
"""Where a Python may be that PATH does not lead to; sh expands them."""

# PATH comes first. Non-interactive ones are short, so then the usual places. A name in PATH may be anything: what does
# not print our line is no Python.
_LOOK = r"""
run=$1 source=$2 try=$3
printf 'home=%s\nmachine=%s\nscreen=%s\nrsync=%s\n' \
    "$HOME" "$(uname -m)" "$(command -v screen)" "$(command -v rsync)"
place=$HOME; [ ! -d "$HOME/.wavequeue" ] || place=$HOME/.wavequeue
if output=$(df -Pk "$place" 2>&1); then
    printf '%s\n' "$output" | { read -r _; read -r _ _ _ free _ && printf 'disk=%s\n' "$free"; }
else printf 'disk_fault=%s\n' "$(printf %s "$output" | tr -c '[:print:]' ' ')"; fi
if [ -w "$place" ] && [ -x "$place" ]; then printf 'writable=1\n'; fi
seen=:
look() {
    case $seen in *":$1:"*) return 1 ;; esac
    seen=$seen$1:
    [ -f "$1" ] && [ -x "$1" ] || return 1
    output=$("$1" -E -s -S -c "$try" "$source" "$run" </dev/null 2>/dev/null)
    case $output in
        python=*facts=*) printf '%s\n' "$output"; exit 0 ;;
        old=*) printf '%s %s\n' "$output" "$1" ;;
        *) printf 'broken=%s\n' "$1" ;;
    esac
}
for name in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 python; do
    found=$(command -v "$name") && look "$found"
done
for folder in @PLACES@; do
    for name in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9; do look "$folder/$name"; done
done
exit 0
"""


def parse_facts(result: CommandResult) -> Facts | Unreachable:
    """Parse the output of the look; Unreachable if it is not an answer of ours."""
    rows: list[tuple[str, str]] = []
    text = result.out.decode(errors="replace")
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if not equals or len(value) > 1 << 16 or not value.isprintable():
            return _strange("its answer cannot be understood", result)
        rows.append((name, value))
    one = dict(rows)
    if not one.get("home", "").startswith("/") or len(one["home"]) > _LONGEST or not one.get("machine"):
        return _strange("it does not say where its home is", result)
    try:
        document = typed_json.decode(one["facts"], 1 << 16) if "facts" in one else None
        if isinstance(document, dict) and isinstance(document.get("fault"), str):
            return Unreachable(one_line(document["fault"], 300), "other")
        described = _describe(document or {}) if "facts" in one else None
        version, _, path = one.get("python", "").partition(" ")
    except (ValueError, TypeError, KeyError, RecursionError):
        return _strange("its description of itself cannot be understood", result)
    if described is not None and not (re.fullmatch(r"3\.\d+\.\d+", version) and path.startswith("/")):
        return _strange("it does not say which python it has", result)
    disk = one.get("disk", "")
    found = Facts(
        home=one["home"],
        python=None,
        why_no_python=_why_no_python(rows),
        machine=one["machine"][:64],
        screen=_path(one.get("screen")),
        rsync=_path(one.get("rsync")),
        disk_free_mib=int(disk) // 1024 if re.fullmatch(r"[0-9]{1,18}", disk) else None,
        disk_fault=one_line(one.get("disk_fault", ""), 300),
        writable=one.get("writable") == "1",
        host_id=None,
        runtimes=frozenset(),
        manifest_sha256=None,
        manager_pid=None,
        ended=False,
    )
    return found if described is None else found._replace(**described, python=Python(version, path), why_no_python="")


def _describe(found: Mapping[str, Any]) -> dict[str, Any]:
    """Check what queue_manager.adapters.facts printed. Raises ValueError, TypeError, KeyError."""
    identity, digest, pid, libc = (found[name] for name in ("host_id", "manifest_sha256", "manager_pid", "libc"))
    if not (
        (identity is None or _HEX32.fullmatch(identity))
        and (digest is None or _HEX64.fullmatch(digest))
        and (pid is None or (type(pid) is int and 0 <= pid < 1 << 31))
        and isinstance(libc, str)
        and isinstance(found["ended"], bool)
        and isinstance(found["runtimes"], list)
        and all(isinstance(name, str) for name in found["runtimes"])
        and _PLACE_NAME.fullmatch(found["place"])
        and (found["owner"] is None or isinstance(found["owner"], str))
        and isinstance(found["named"], bool)
        and _HEX32.fullmatch(found["machine_digest"])
    ):
        raise ValueError
    return {
        "host_id": identity,
        "runtimes": frozenset(name for name in found["runtimes"] if _HEX32.fullmatch(name)),
        "manifest_sha256": digest,
        "manager_pid": pid,
        "ended": found["ended"],
        "survival": found.get("survival") if found.get("survival") in ("plain", "scope") else None,
        "libc": libc[:64],
        "place": found["place"],
        "owner": None if found["owner"] is None else one_line(found["owner"], 64),
        "named": found["named"],
        "machine_digest": found["machine_digest"],
    }


def _path(value: str | None) -> str | None:
    """Return where a program is; None if the shell names an alias or a function instead."""
    return value if value and value.startswith("/") and len(value) <= _LONGEST else None


def _why_no_python(rows: list[tuple[str, str]]) -> str:
    old = [value for name, value in rows if name == "old"]
    broken = [value for name, value in rows if name == "broken"]
    problems = []
    if old:
        problems.append("too old: " + ", ".join(old[:5]))
    if broken:
        problems.append("does not run: " + ", ".join(broken[:5]))
    return "no python of 3.9 or newer was found" + (f" ({'; '.join(problems)})" if problems else "")


def _strange(what: str, result: CommandResult) -> Unreachable:
    words = excerpt(result.err)
    return Unreachable(f"{what}{f': {words}' if words else ''} (exit code {result.code})", "other")


# -- identity and runtime -----------------------------------------------------------------------------------------


class Named(NamedTuple):
    """A host that has an identity. `place`: where its runs lie, below the home."""

    host_id: str
    place: str


def claim_identity(host: Host) -> Named | Unreachable:
    """Return the host's identity; create one if it has none. If two do so at once, both get the same.

    Of several machines that have one home, such as NFS, the first to be named has it, and each other one a place of its
    own in it, with an identity, runs and leases of its own.
    """
    result = host.script(_CLAIM, secrets.token_hex(16), limit=1 << 16)
    if isinstance(result, Unreachable):
        return result
    found, _, place = result.out.decode(errors="replace").strip().partition("\n")
    if result.code == 0 and _HEX32.fullmatch(found) and _PLACE_NAME.fullmatch(place):
        return Named(found, place)
    return Unreachable(f"~/.wavequeue/host_id cannot be created or read there: {result.why}", "other")


# The first of several who do so gives the file its name, and the others see all of it. A file system without hard links
# has no such step: there who makes the directory goes first, and one that was killed in between is waited for a while.
_FIRST = """
first() {
    ln "$1" "$2" 2>/dev/null && return 0
    there "$2" && return 1
    for _ in 1 2 3 4 5; do
        mkdir "$2.lock" 2>/dev/null && break
        sleep 1
        there "$2" && return 1
    done
    there "$2" || mv -- "$1" "$2"; set -- "$?" "$2"
    rmdir "$2.lock" 2>/dev/null
    return "$1"
}
"""
PLACE = r"""
there() { [ -e "$1" ] || ls -a "$(dirname "$1")" 2>/dev/null | grep -qxF "${1##*/}"; }
me=$(uname -n; cat /etc/machine-id 2>/dev/null); w=.wavequeue owner=
if there "$w/machine"; then owner=$(cat "$w/machine") || exit 1; fi
[ -z "$owner" ] || [ "$owner" = "$me" ] ||
  w=$w/hosts/$(uname -n | tr -c 'A-Za-z0-9.\n-' _)-$(head -c 8 /etc/machine-id 2>/dev/null)
"""
"""In sh: $w is where all that is this host's own lies, as queue_manager.adapters.facts.place says. A file that its
directory lists is `there` even if it cannot be looked at, as one whose file handle is stale."""

_CLAIM = f"""{_FIRST}
umask 077; mkdir -p .wavequeue || exit 1
{PLACE}
[ -n "$owner" ] || {{
    printf '%s\\n' "$me" > ".wavequeue/machine.$1" || exit 1
    first ".wavequeue/machine.$1" .wavequeue/machine
    rm -f ".wavequeue/machine.$1"
}}
{PLACE}
mkdir -p -- "$w" && cd -- "$w" || exit 1
[ -s host_id ] || {{
    printf '%s\\n' "$1" > "host_id.$1" || exit 1
    first "host_id.$1" host_id
    rm -f "host_id.$1"
}}
cat host_id; printf '%s\\n' "$w"
"""


def bundle_for(facts: Facts) -> Bundle:
    """Build the runtime for a host. Raises FailedError if it cannot be built."""
    from skill.hosts import runtime_bundle  # only who brings one needs it

    return runtime_bundle.bundle(facts.machine, facts.libc)


def place_runtime(host: Host, facts: Facts, made: Bundle) -> str | Unreachable | None:
    """Push a runtime, if it is not there yet. Returns what went wrong."""
    if made.digest in facts.runtimes:
        return None
    if facts.python is None:
        return facts.why_no_python
    argv = [facts.python.path, "-I", "-S", "-B", "-c", UNPACK, made.digest, sha256(made.data).hexdigest()]
    return _fault(host.run(argv, stdin=made.data, timeout=_PUSH_PATIENCE, limit=1 << 20), "the runtime")


# Unpacked beside, compiled and tried, and only then renamed. What was cut off is swept away after some hours.
UNPACK = """\
import compileall, glob, hashlib, io, os, shutil, subprocess, sys, tarfile, tempfile, time
digest, packed = sys.argv[1:]
data = sys.stdin.buffer.read()
if hashlib.sha256(data).hexdigest() != packed:
    sys.exit("the transfer was cut off")
os.umask(0o077)
top = os.path.join(os.path.expanduser("~"), ".wavequeue", "runtime")
os.makedirs(top, exist_ok=True)
for left in glob.glob(os.path.join(glob.escape(top), ".new-*")):
    if os.path.getmtime(left) < time.time() - 7200:
        shutil.rmtree(left, ignore_errors=True)
new = tempfile.mkdtemp(prefix=".new-", dir=top)
try:
    safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    tarfile.open(fileobj=io.BytesIO(data)).extractall(new, **safe)
    def tried():
        argv = [sys.executable, "-E", "-s", "-S", "-B", new, "queue_manager.check"]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return None if done.returncode == 0 else done.stdout.decode(errors="replace").strip()
    compileall.compile_dir(new, quiet=2, stripdir=new, prependdir=os.path.join(top, digest))
    if tried() is not None:
        for cache in glob.glob(os.path.join(glob.escape(new), "**", "__pycache__"), recursive=True):
            shutil.rmtree(cache)
        output = tried()
        if output is not None:
            sys.exit("it does not run with %s: %s" % (sys.executable, output or "no output"))
    for folder, _, names in os.walk(new):
        for name in names:
            fd = os.open(os.path.join(folder, name), os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
    try:
        os.rename(new, os.path.join(top, digest))
    except OSError:
        if not os.path.isdir(os.path.join(top, digest)):
            raise
except OSError as error:
    sys.exit(str(error))
finally:
    shutil.rmtree(new, ignore_errors=True)
"""


def in_passing(
    host: Host, facts: Facts, made: Bundle, name: str, *args: str, stdin: bytes = b"", timeout: float = 60.0
) -> CommandResult | Unreachable:
    """Run `queue_manager.NAME`, which may need no compiled part, on a host that has a Python: from its runtime or, if
    that is missing, from a temporary file. Leaves nothing on the host."""
    assert facts.python is not None
    if made.digest in facts.runtimes:
        return host.run(module(None, facts.python.path, made.digest, name, *args), stdin=stdin, timeout=timeout)
    data = made.zipped
    argv = [facts.python.path, "-I", "-S", "-B", "-c", _IN_PASSING, str(len(data)), f"queue_manager.{name}", *args]
    return host.run(argv, stdin=data + stdin, timeout=timeout)


# A file, and not the memory alone: what is run may start a Python of its own that imports from it, too. What comes
# behind it is for what is run, so that not a byte more is read.
_IN_PASSING = """\
import sys, tempfile, zipimport
left = int(sys.argv[1])
with tempfile.NamedTemporaryFile(suffix=".zip") as file, open(0, "rb", buffering=0, closefd=False) as given:
    while left:
        data = given.read(min(left, 1 << 20))
        if not data:
            sys.exit("the transfer was cut off")
        file.write(data)
        left -= len(data)
    file.flush()
    sys.argv[:2] = [file.name]
    sys.path.insert(0, file.name)
    exec(zipimport.zipimporter(file.name).get_code("__main__"), {"__name__": "__main__"})
"""


# -- the run ------------------------------------------------------------------------------------------------------


def place_run(
    host: Host, run_id: str, manifest: bytes, request: tuple[str, bytes] | None = None
) -> str | Unreachable | None:
    """Create the run's directory with its manifest, and with a request that its manager finds there first: its id and
    its file. Returns what went wrong, as when another manifest is there."""
    name, text = request or ("", b"")
    words = (run_id, secrets.token_hex(4), str(len(manifest)), str(len(text)), name)
    result = host.script(_PLACE, *words, stdin=manifest + text, limit=1 << 20)
    if isinstance(result, CommandResult) and result.code == _OTHER:
        return f"~/.wavequeue/runs/{run_id} contains another manifest; start another run with --new"
    return _fault(result, f"the directory of run {run_id}")


def make_cwd(host: Host, cwd: str) -> str | Unreachable | None:
    """Create the directory that a run's jobs start in, if it is missing. Returns what went wrong."""
    return _fault(host.script('umask 077; mkdir -p -- "$1"', cwd), f"the directory {cwd}")


_OTHER = 9
_PLACE = f"""{_FIRST}
umask 077; {PLACE}
d=$w/runs/$1; mkdir -p -- "$d" && chmod 700 .wavequeue "$w" "$d" || exit 1
t=$d/.manifest.$2.tmp; r=$d/.request.$2.tmp; trap 'rm -f -- "$t" "$r" "$r.all"' EXIT
trap 'exit 1' HUP INT TERM PIPE
cut_off() {{ echo "the transfer was cut off" >&2; exit 1; }}
if [ "${{4:-0}}" -gt 0 ]; then
  cat > "$r.all" && [ "$(wc -c < "$r.all")" -eq "$(($3 + $4))" ] || cut_off
  head -c "$3" "$r.all" > "$t" && tail -c "$4" "$r.all" > "$r" || exit 1
else
  cat > "$t" && [ "$(wc -c < "$t")" -eq "$3" ] || cut_off
fi
sync "$t" 2>/dev/null
# Before the manifest, without which no manager begins; one that has begun has taken it.
if [ "${{4:-0}}" -gt 0 ] && [ ! -f "$d/manifest.json" ]; then
  mkdir -p -- "$d/inbox" && mv -- "$r" "$d/inbox/$5.json" || exit 1
fi
output=$(first "$t" "$d/manifest.json" 2>&1) && exit 0
[ -f "$d/manifest.json" ] || {{ echo "$output" >&2; exit 1; }}
[ "$(sha256sum < "$t")" = "$(sha256sum < "$d/manifest.json")" ] || exit {_OTHER}
"""


def note_code(host: Host, python: str, runtime: str, cwd: str, name: str) -> str | Unreachable | None:
    """Have the copy of the code in `cwd` known there as `name`, as it is called here. None if that went well; a copy
    that cannot be noted is known by its content."""
    result = host.run(module(None, python, runtime, "pushed_code", cwd, name), timeout=_LOOK_PATIENCE, limit=1 << 20)
    return result if isinstance(result, Unreachable) else None


def start(
    host: Host, python: str, runtime: str, run_id: str, poll: float | None, where: str | None = None
) -> int | str | Unreachable:
    """Start the run's manager, detached, and wait until it has taken the run. Returns its pid, or that of one that was
    running.

    `poll` in seconds; None leaves it at the manager's default. `where`: `login` is there, `job` a job of Slurm; None:
    as it was started before. 0 where one holds the run whose pid is not known, or is queued in Slurm.
    """
    options = [] if poll is None else ["--poll", f"{poll:g}"]
    options += [] if where is None else ["--manager", where]
    argv = module(None, python, runtime, "start", run_id, *options)
    result = host.run(argv, timeout=_START_PATIENCE, limit=1 << 20)
    if isinstance(result, Unreachable):
        return result
    try:
        found = typed_json.decode(result.out, 1 << 20)
        if type(found.get("pid")) is int and 0 <= found["pid"] < 1 << 31:
            pid: int = found["pid"]
            return pid
        return escaped(str(found["fault"])[:2000])
    except (ValueError, KeyError, AttributeError, RecursionError):
        return f"the manager could not be started: {result.why}"


def _fault(result: CommandResult | Unreachable, what: str) -> str | Unreachable | None:
    if isinstance(result, Unreachable):
        return result
    return None if result.code == 0 else f"{what} could not be written: {result.why}"
