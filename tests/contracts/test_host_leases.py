"""Leases among all users of a host: no card is given away twice, and what others put there does no harm.

Other users are played by root, which may give files away; in one test they are real.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path
from types import SimpleNamespace

import pytest

from queue_manager.adapters import host_leases, processes, shared_directory
from queue_manager.adapters.cards_lock import user
from queue_manager.adapters.host_leases import HostLeases, view_of_processes
from queue_manager.adapters.leases import Leases
from queue_manager.adapters.shared_directory import SharedDirectory, unfit
from queue_manager.core import layout, shared_leases
from queue_manager.core.boundary import ForeignLease
from queue_manager.core.layout import LOCK_DIR_VARIABLE, HostPaths
from queue_manager.core.model import Attempt
from queue_manager.core.readings import Unreadable
from tests import lock_dir
from tests.contracts.test_journal import room
from tests.contracts.test_leases import BOOT, DEAD, ME, attempt, grow_old
from tests.e2e.runs import ROOT
from tests.lock_dir import NOBODY, put

NAME = layout.shared_lease("another run")
ROOTS = "user root (uid 0)" if os.getuid() == 0 else user(os.getuid())


@pytest.fixture
def shared(tmp_path: Path) -> SharedDirectory:
    return lock_dir.of(tmp_path)


def run(tmp_path: Path, shared: SharedDirectory, key: str = "mine", home: str = "home") -> HostLeases:
    """A run of this user, in one of their homes."""
    return HostLeases.of(Leases(HostPaths.of(tmp_path / home), key, key, BOOT, ME), shared, key)


@pytest.fixture
def mine(tmp_path: Path, shared: SharedDirectory) -> HostLeases:
    return run(tmp_path, shared)


def seen(run: HostLeases) -> list[ForeignLease]:
    with run as held:
        found = held.foreign()
    assert not isinstance(found, Unreadable), found
    return sorted(found, key=astuple)


def cards(run: HostLeases) -> list[str]:
    return [lease.card for lease in seen(run)]


def document(*attempts: Attempt, view: str | None = None) -> bytes:
    return shared_leases.encode(view_of_processes() if view is None else view, 7, attempts)


def files(shared: SharedDirectory) -> list[Path]:
    return [path for path in shared.root.rglob("*") if path.is_file() and path != shared.paths.cards_lock]


@pytest.fixture
def living() -> Iterator[subprocess.Popen[bytes]]:
    """A process of another user."""
    process = subprocess.Popen(["sleep", "1000"], user=NOBODY)
    yield process
    process.kill()
    process.wait()


# -- two users --------------------------------------------------------------------------------------------------------

# Places, looks, and gives back at random, as a user of its own. Whoever has a card makes a file that only one can make:
# if two have it at a time, the second fails. It becomes that user once all is loaded, which others need not be able to.
_PLACER = """
import hashlib, os, pwd, random, sys  # what root's Python has can be read only before
from pathlib import Path
from queue_manager.adapters import processes
from queue_manager.core import events as ev
from queue_manager.core.layout import HostPaths
from queue_manager.core.model import Attempt
from queue_manager.adapters.host_leases import HostLeases
from queue_manager.adapters.leases import Leases
from queue_manager.adapters.shared_directory import SharedDirectory
place, uid, turns, wanted = Path(sys.argv[1]), *map(int, sys.argv[2:])
if uid:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
rng, run = random.Random(uid), f"run-{uid}"
me = processes.look_up(os.getpid()).proc
leases = Leases(HostPaths.of(place / f"home-{uid}"), run, run, "boot-1", me)
leases = HostLeases.of(leases, SharedDirectory.find(os.environ), run)
held, placed = {}, 0
print("ready", flush=True)
sys.stdin.readline()
while placed < turns or len(list(place.glob("refused-*"))) < wanted:
    for card in [card for card in held if rng.random() < 0.5]:
        (place / card).unlink()
        del held[card]
    with leases as lock:
        leases.write(held.values())
        found = lock.foreign()
        if not isinstance(found, tuple):  # the other was kept from going on for long
            continue
        taken = {lease.card for lease in found}
        assert not taken & set(held), (run, taken, held)
        for card in rng.sample(["GPU-a", "GPU-b", "GPU-c"], rng.randrange(1, 3)):
            if card in taken:
                (place / f"refused-{uid}").touch()
            elif card not in held:
                held[card] = Attempt(ev.AttemptStarting("job", placed + 1, 1, "s", "boot-1", (card,), (0,)), 0.0)
                os.close(os.open(place / card, os.O_CREAT | os.O_EXCL))
                placed += 1
        leases.write(held.values())
    assert leases.fault is None, leases.fault
    for _ in range(rng.randrange(400)):
        os.stat(place)
for card in held:
    (place / card).unlink()
leases.close()
print(os.geteuid(), placed)
"""


def test_two_users_never_have_one_card() -> None:
    users = (0, NOBODY) if os.getuid() == 0 else (0,)
    contend = len(users) if len(users) > 1 else 0
    # Another user gets into no directory of pytest's.
    with tempfile.TemporaryDirectory(prefix="wq") as folder:
        place = Path(folder)
        place.chmod(0o1777)
        environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], **lock_dir.make(place / "lock")}
        placers = [
            subprocess.Popen(
                [sys.executable, "-c", _PLACER, folder, str(uid), "100", str(contend)],
                env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for uid in users
        ]  # fmt: skip
        for placer in placers:
            assert placer.stdout is not None
            assert placer.stdout.readline() == "ready\n", placer.communicate()[1]
        for placer in placers:
            assert placer.stdin is not None
            placer.stdin.write("\n")
            placer.stdin.flush()
        warnings = []
        for placer in placers:
            output, errors = placer.communicate(timeout=120)
            assert placer.returncode == 0, errors
            warnings.append([int(word) for word in output.split()])
        assert [uid for uid, _ in warnings] == [uid or os.getuid() for uid in users]
        assert all(placed >= 100 for _, placed in warnings)
        assert files(SharedDirectory(place / "lock")) == []  # both have taken theirs away


def test_a_run_of_another_user_is_seen_and_named(
    shared: SharedDirectory, mine: HostLeases, living: subprocess.Popen[bytes]
) -> None:
    found = processes.look_up(living.pid)
    assert isinstance(found, processes.Stat)
    put(shared, NAME, document(attempt("A", "B", wrapper=found.proc), attempt("C", mib=9000, wrapper=found.proc)))
    seen(mine)
    owner = user(NOBODY)
    assert seen(mine) == [ForeignLease(card, mib, NAME, owner) for card, mib in (("A", None), ("B", None), ("C", 9000))]
    assert str(NOBODY) in owner


def test_two_homes_of_one_user_see_each_other_and_runs_of_one_home_count_once(
    tmp_path: Path, shared: SharedDirectory, mine: HostLeases
) -> None:
    mine.write([attempt("A", mib=1000), attempt(job="cpu")])
    assert seen(mine) == []
    assert seen(run(tmp_path, shared, "second")) == [ForeignLease("A", 1000, "mine")]
    elsewhere = run(tmp_path, shared, "third", "other-home")
    seen(elsewhere)
    assert seen(elsewhere) == [ForeignLease("A", 1000, layout.shared_lease("mine"), ROOTS)]
    mine.close()
    assert seen(elsewhere) == []
    assert files(shared) == []


def test_what_is_reported_names_no_run_and_no_job(tmp_path: Path, shared: SharedDirectory) -> None:
    leases = run(tmp_path, shared, "secret-run")
    leases.write([attempt("A", job="secret-job")])
    (path,) = files(shared)
    text = path.read_text()
    assert "secret" not in text + str(path)
    assert set(json.loads(text)["leases"][0]) == {"cards", "mib", "wrapper"}
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o644, 0o755)


def test_the_file_is_written_only_when_something_changed(shared: SharedDirectory, mine: HostLeases) -> None:
    mine.write([])
    assert list(shared.root.iterdir()) == []
    mine.write([attempt("A")])
    (path,) = files(shared)
    first = path.stat().st_ino
    mine.write([attempt("A")])
    assert path.stat().st_ino == first
    mine.write([])
    assert (files(shared), mine.held) == ([], False)


# -- what counts once its manager has gone ----------------------------------------------------------------------------


def test_a_lease_counts_as_long_as_its_manager_lives(shared: SharedDirectory, mine: HostLeases) -> None:
    path = put(shared, NAME, document(attempt("A", wrapper=DEAD)))
    grow_old(path)
    assert cards(mine) == []
    fd = os.open(path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert cards(mine) == ["A"]
    os.close(fd)
    assert cards(mine) == []


def test_then_as_long_as_a_process_of_its_user_lives(
    shared: SharedDirectory, mine: HostLeases, living: subprocess.Popen[bytes]
) -> None:
    found = processes.look_up(living.pid)
    assert isinstance(found, processes.Stat)
    rows = attempt("A", wrapper=found.proc), attempt("B", wrapper=DEAD), attempt("C", wrapper=ME), attempt("D")
    grow_old(put(shared, NAME, document(*rows)))
    assert cards(mine) == ["A"]  # C names a process of somebody else; D was never claimed
    living.kill()
    living.wait()
    assert cards(mine) == []


def test_what_had_just_been_started_may_yet_come_up(shared: SharedDirectory, mine: HostLeases) -> None:
    path = put(shared, NAME, document(attempt("A")))
    assert cards(mine) == ["A"]
    for moved in (-3600, 3600):
        os.utime(path, (time.time() + moved,) * 2)
        assert cards(mine) == []


@pytest.mark.parametrize("hidden", [False, True])
def test_processes_that_cannot_be_seen_are_believed_in_for_a_minute(
    tmp_path: Path, shared: SharedDirectory, monkeypatch: pytest.MonkeyPatch, hidden: bool
) -> None:
    """They are in another container, or the machine hides other users' processes."""
    if hidden:
        monkeypatch.setattr(os, "access", lambda *_: False)
    mine = run(tmp_path, shared)
    path = put(shared, NAME, document(attempt("A", wrapper=DEAD), view=None if hidden else "another/1"))
    os.utime(path, (time.time() - host_leases.BELIEVED / 2,) * 2)
    assert cards(mine) == ["A"]
    for moved in (-3600, 3600):
        os.utime(path, (time.time() + moved,) * 2)
        assert cards(mine) == []


def test_a_beat_keeps_it_young_and_brings_back_what_was_cleaned_up(shared: SharedDirectory, mine: HostLeases) -> None:
    mine.beat()
    mine.write([attempt("A")])
    (path,) = files(shared)
    grow_old(path)
    mine.beat()
    assert time.time() - path.stat().st_mtime < 1800
    for again in (mine.beat, lambda: seen(mine)):
        path.unlink()
        path.parent.rmdir()
        again()
        assert json.loads(path.read_text())["leases"][0]["cards"] == ["A"]
        assert host_leases.is_locked(os.open(path, os.O_RDONLY))


def test_what_killed_managers_of_this_user_left_is_removed_in_the_end(
    tmp_path: Path, shared: SharedDirectory, mine: HostLeases
) -> None:
    killed = run(tmp_path, shared, "killed")
    killed.write([attempt("A", wrapper=DEAD)])
    killed._shared._close()  # type: ignore[union-attr]
    theirs = put(shared, NAME, document(attempt("B", wrapper=DEAD)))
    (path,) = (path for path in files(shared) if path != theirs)
    (tmp_path / "home" / ".wavequeue" / "leases" / "killed.json").unlink()
    assert cards(mine) == []
    assert path.exists()
    for one in (path, theirs):
        os.utime(one, (time.time() - 2 * host_leases.FORGOTTEN,) * 2)
    assert cards(mine) == []
    assert files(shared) == [theirs]


# -- what others put there --------------------------------------------------------------------------------------------


def _symlinked_folder(shared: SharedDirectory) -> None:
    path = put(shared, NAME, document(attempt("A")))
    path.parent.rename(shared.root / "elsewhere")
    path.parent.symlink_to("elsewhere")


def _replaced(make: Callable[[Path], object]) -> Callable[[SharedDirectory], None]:
    def replace(shared: SharedDirectory) -> None:
        path = put(shared, NAME, document(attempt("A")))
        path.rename(path.with_name("real"))
        make(path)
        os.chown(path, NOBODY, -1, follow_symlinks=False)

    return replace


def _other_name(shared: SharedDirectory) -> None:
    put(shared, "x.json", document(attempt("A")))


HOSTILE: dict[str, Callable[[SharedDirectory], object]] = {
    "a link for a folder": _symlinked_folder,
    "a folder of somebody else": lambda shared: put(shared, NAME, document(attempt("A")), folder_uid=NOBODY - 1),
    "a file of somebody else": lambda shared: os.chown(put(shared, NAME, document(attempt("A"))), NOBODY - 1, -1),
    "a file for a folder": lambda shared: (shared.root / f"wavequeue-{NOBODY}").touch(),
    "a FIFO for a folder": lambda shared: os.mkfifo(shared.root / f"wavequeue-{NOBODY}"),
    "a link": _replaced(lambda path: path.symlink_to("real")),
    "a FIFO": _replaced(os.mkfifo),
    "a directory": _replaced(lambda path: path.mkdir()),
    "a huge file": lambda shared: os.truncate(put(shared, NAME, document(attempt("A"))), 2**40),
    "padding": lambda shared: put(shared, NAME, document(attempt("A")) + b" " * shared_leases.MOST_BYTES),
    "garbage": lambda shared: put(shared, NAME, os.urandom(5000)),
    "brackets": lambda shared: put(shared, NAME, b"[" * 60000),
    "nothing": lambda shared: put(shared, NAME, b""),
    "another name": _other_name,
    "many others": lambda shared: [put(shared, f"{n:016x}.json", b"x") for n in range(host_leases.MOST_LEASES + 9)],
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_hostile_is_passed_over_and_the_rest_counts(
    shared: SharedDirectory, mine: HostLeases, kind: str
) -> None:
    put(shared, NAME, document(attempt("honest")), uid=NOBODY - 2)
    HOSTILE[kind](shared)
    assert cards(mine) == ["honest"]
    assert mine.fault is None


def test_a_name_that_somebody_else_has_taken_is_done_without(tmp_path: Path, shared: SharedDirectory) -> None:
    taken = shared.root / layout.shared_folder(os.getuid())
    taken.mkdir()
    os.chown(taken, NOBODY, -1)
    first = run(tmp_path, shared)
    first.write([attempt("A")])
    (path,) = files(shared)
    assert path.parent != taken
    assert path.parent.name.startswith(f"{taken.name}-")
    again = run(tmp_path, SharedDirectory(shared.root), "again", "other")
    assert cards(again) == ["A"]
    again.write([attempt("B")])
    assert {one.parent for one in files(shared)} == {path.parent}


def test_a_lock_that_is_held_forever_is_waited_for_and_then_passed(tmp_path: Path, shared: SharedDirectory) -> None:
    now = [1000.0]

    def clock() -> float:
        now[0] += 0.5
        return now[0]

    mine = run(tmp_path, shared)
    mine._lock._clock = clock
    seen(mine)
    put(shared, NAME, document(attempt("A")))
    with shared.paths.cards_lock.open() as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with mine as lock:
            found = lock.foreign()
        assert isinstance(found, Unreadable)
        assert "is held by process" in found.reason
        now[0] += 100
        assert cards(mine) == ["A"]
        assert "over a minute" in str(mine.fault)
    assert cards(mine) == ["A"]
    assert mine.fault is None


# -- where there is no such directory ---------------------------------------------------------------------------------


def _file(path: Path) -> None:
    path.write_text("")


def _directory(mode: int, uid: int | None = None) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.mkdir()
        path.chmod(mode)
        if uid is not None:
            os.chown(path, uid, -1)

    return make


@pytest.mark.parametrize(
    ("make", "named", "says"),
    [
        (lambda _: None, True, "No such file"), (_file, True, "is not a directory"),
        (_directory(0o777), True, "lets users replace"), (_directory(0o775), True, "lets users replace"),
        (_directory(0o1777, NOBODY), True, f"belongs to uid {NOBODY}"),
        (_directory(0o755), False, "is not open to all"),
        (_directory(0o755), True, None), (_directory(0o1777), False, None), (_directory(0o1770), True, None),
    ],
    ids=range(9),
)  # fmt: skip
def test_which_directories_are_fit(tmp_path: Path, make: Callable[[Path], None], named: bool, says: str | None) -> None:
    make(tmp_path / "x")
    fault = unfit(tmp_path / "x", named, os.getuid())
    assert fault is None if says is None else says in str(fault)


def test_one_that_is_read_only_or_named_by_half_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert unfit(Path("lock"), True, os.getuid()) == "is not an absolute path"
    read_only = SimpleNamespace(f_flag=os.ST_RDONLY)
    monkeypatch.setattr(os, "statvfs", lambda _: read_only)
    assert "is read-only" in str(lock_dir.of(tmp_path).fault)


def test_the_first_that_is_fit_is_taken_and_one_that_is_named_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [tmp_path / "a", tmp_path / "b"]
    monkeypatch.setattr(shared_directory, "SHARED_PLACES", places)
    none = SharedDirectory.find({})
    assert all(str(place) in str(none.fault) for place in places)
    assert LOCK_DIR_VARIABLE in str(none.fault)
    _directory(0o1777)(places[1])
    assert (SharedDirectory.find({}).root, SharedDirectory.find({}).fault) == (places[1], None)
    named = SharedDirectory.find({LOCK_DIR_VARIABLE: str(tmp_path / "c")})
    assert named.fault is not None
    assert str(tmp_path / "c") in named.fault


def test_without_one_the_runs_of_this_user_agree_and_that_is_reported(tmp_path: Path) -> None:
    nowhere = SharedDirectory.find({LOCK_DIR_VARIABLE: str(tmp_path / "missing")})
    mine, other = run(tmp_path, nowhere), run(tmp_path, nowhere, "other")
    other.write([attempt("A")])
    other.beat()
    assert seen(mine) == [ForeignLease("A", None, "other")]
    for words in (str(tmp_path / "missing"), "another user's run may use the same GPU"):
        assert words in str(mine.fault)
    other.close()
    assert seen(mine) == []
    assert not (tmp_path / "missing").exists()


def test_a_lease_that_cannot_be_written_is_reported_until_it_is(
    shared: SharedDirectory, mine: HostLeases, tmp_path: Path
) -> None:
    seen(mine)
    with room(0), mine as lock, pytest.raises(OSError, match="File too large"):
        lock.write([attempt("A")])
    assert "are not informed which GPUs" in str(mine.fault)
    assert files(shared) == []
    with mine as lock:
        lock.foreign()
        lock.write([attempt("A")])
    assert mine.fault is None
    assert cards(run(tmp_path, shared, "other", "elsewhere")) == ["A"]
    with mine as lock:
        lock.foreign()
        lock.write([attempt("A" * 90, n=n) for n in range(1000)])
    assert "bytes, of which" in str(mine.fault)
