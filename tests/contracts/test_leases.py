"""Leases between real processes: two runs never give away one card, and the dead hold none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import astuple
from pathlib import Path
from types import SimpleNamespace

import pytest

from queue_manager.adapters import leases, processes
from queue_manager.adapters.leases import Leases
from queue_manager.adapters.processes import Stat
from queue_manager.core import events as ev
from queue_manager.core.boundary import ForeignLease
from queue_manager.core.events import Proc
from queue_manager.core.layout import HostPaths, tag
from queue_manager.core.model import Attempt
from queue_manager.core.readings import Unreadable
from tests.contracts.test_journal import room
from tests.e2e.runs import ROOT, wait_for

BOOT = "boot-1"
OTHER = f"other-{os.getpid()}"  # tests may run beside each other, and look for tags on the whole machine


def proc_of(pid: int) -> Proc:
    stat = processes.look_up(pid)
    assert isinstance(stat, Stat)
    return stat.proc


ME = proc_of(os.getpid())
DEAD = Proc(ME.pid, ME.ticks - 1)


@pytest.fixture
def host(tmp_path: Path) -> HostPaths:
    return HostPaths.of(tmp_path)


@pytest.fixture
def mine(host: HostPaths) -> Leases:
    return Leases(host, "mine", "mine", BOOT, ME)


def attempt(*cards: str, job: str = "job", n: int = 1, mib: int | None = None, wrapper: Proc | None = None) -> Attempt:
    made = Attempt(ev.AttemptStarting(job, n, 1, "s", BOOT, cards, tuple(range(len(cards))), mib), 0.0)
    made.wrapper = wrapper
    return made


def others(host: HostPaths, *attempts: Attempt, run: str = OTHER, manager: Proc = ME, boot: str = BOOT) -> Path:
    """The file of another run."""
    Leases(host, run, run, boot, manager).write(attempts)
    return host.leases / f"{run}.json"


def seen(mine: Leases) -> tuple[ForeignLease, ...] | Unreadable:
    with mine as held:
        found = held.foreign()
    return found if isinstance(found, Unreadable) else tuple(sorted(found, key=astuple))


def grow_old(path: Path) -> None:
    """As if it had been written an hour ago."""
    os.utime(path, (time.time() - 3600, time.time() - 3600))


# -- two runs ---------------------------------------------------------------------------------------------------------

# Places, looks, and gives back at random. Whoever has a card makes a file that only one can make: if two have it at a
# time, the second fails.
_PLACER = """
import os, random, sys
from pathlib import Path
from queue_manager.adapters import processes
from queue_manager.core import events as ev
from queue_manager.core.layout import HostPaths
from queue_manager.core.model import Attempt
from queue_manager.adapters.leases import Leases
home, run, turns = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
rng = random.Random(run)
leases = Leases(HostPaths.of(home), run, run, "boot-1", processes.look_up(os.getpid()).proc)
held, placed, refused = {}, 0, 0
print("ready", flush=True)
sys.stdin.readline()
while placed < turns:
    for card in [card for card in held if rng.random() < 0.5]:
        (home / card).unlink()
        del held[card]
    with leases as lock:
        leases.write(held.values())
        taken = {lease.card for lease in lock.foreign()}
        assert not taken & set(held), (run, taken, held)
        for _ in range(rng.randrange(400)):
            os.stat(home)
        wanted = rng.sample(["GPU-a", "GPU-b", "GPU-c"], rng.randrange(1, 3))
        refused += any(card in taken for card in wanted)
        for card in wanted:
            if card not in taken and card not in held:
                held[card] = Attempt(ev.AttemptStarting("job", placed + 1, 1, "s", "boot-1", (card,), (0,)), 0.0)
                os.close(os.open(home / card, os.O_CREAT | os.O_EXCL))
                placed += 1
        leases.write(held.values())
    for _ in range(rng.randrange(400)):
        os.stat(home)
for card in held:
    (home / card).unlink()
leases.close()
print(placed, refused)
"""


def test_two_runs_never_have_one_card(tmp_path: Path) -> None:
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", _PLACER, str(tmp_path), run, "200"],
            env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for run in ("first", "second")
    ]
    for run in runs:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n", run.communicate()[1]
    for run in runs:
        assert run.stdin is not None
        run.stdin.write("\n")
        run.stdin.flush()
    for run in runs:
        output, errors = run.communicate(timeout=120)
        assert run.returncode == 0, errors
        placed, refused = map(int, output.split())
        assert placed >= 200
        assert refused > 0  # they did contend
    assert [path.name for path in tmp_path.iterdir()] == [".wavequeue"]
    assert list(tmp_path.glob(".wavequeue/leases/*")) == []


# -- whose leases count -----------------------------------------------------------------------------------------------


def test_leases_of_a_living_manager_count(host: HostPaths, mine: Leases) -> None:
    path = others(host, attempt("A", "B", wrapper=DEAD), attempt("C", mib=9000), attempt(job="cpu"))
    grow_old(path)
    assert seen(mine) == (
        ForeignLease("A", None, OTHER), ForeignLease("B", None, OTHER), ForeignLease("C", 9000, OTHER)
    )  # fmt: skip
    assert path.stat().st_mode & 0o777 == 0o600


def test_one_s_own_do_not(host: HostPaths, mine: Leases) -> None:
    mine.write([attempt("A")])
    assert seen(mine) == ()
    assert seen(Leases(host, "third", "third", BOOT, ME)) == (ForeignLease("A", None, "mine"),)


def test_a_dead_manager_s_lease_counts_while_its_wrapper_lives(host: HostPaths, mine: Leases) -> None:
    wrapper = subprocess.Popen(["sleep", "1000"])
    proc = proc_of(wrapper.pid)
    path = others(host, attempt("A", wrapper=proc), attempt("B", wrapper=DEAD), manager=DEAD)
    grow_old(path)
    assert seen(mine) == (ForeignLease("A", None, OTHER),)
    wrapper.kill()
    wait_for(lambda: processes.alive(proc) is False, say="its end")
    assert seen(mine) == ()  # though nobody has reaped it
    wrapper.wait()
    assert seen(mine) == ()


@pytest.fixture
def leftover() -> Iterator[subprocess.Popen[bytes]]:
    """A process of attempt 2 of `job` in the other run."""
    process = subprocess.Popen(
        ["sleep", "1000"], env={"PATH": os.environ["PATH"], "WAVEQUEUE_TAG": tag(OTHER, "job", 2)}
    )
    yield process
    process.kill()
    process.wait()


def test_and_while_anything_that_it_started_lives(
    host: HostPaths, mine: Leases, leftover: subprocess.Popen[bytes]
) -> None:
    path = others(host, attempt("A", n=1, wrapper=DEAD), attempt("B", n=2, wrapper=DEAD), manager=DEAD)
    grow_old(path)
    wait_for(lambda: seen(mine) == (ForeignLease("B", None, OTHER),), say="the leftover to be seen")
    leftover.kill()
    leftover.wait()
    assert seen(mine) == ()


def test_what_a_manager_had_just_started_when_it_died_may_yet_come_up(host: HostPaths, mine: Leases) -> None:
    path = others(host, attempt("A", wrapper=None), manager=DEAD)
    assert seen(mine) == (ForeignLease("A", None, OTHER),)
    grow_old(path)
    assert seen(mine) == ()


def test_where_processes_cannot_be_listed_a_lease_counts(
    host: HostPaths, mine: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow_old(others(host, attempt("A", wrapper=DEAD), manager=DEAD))
    monkeypatch.setattr(processes.TagScan, "tagged", lambda _self: Unreadable("/proc: no"))
    assert seen(mine) == (ForeignLease("A", None, OTHER),)


@pytest.mark.parametrize("manager", [ME, DEAD])
def test_a_restart_of_the_host_ends_them_all(host: HostPaths, mine: Leases, manager: Proc) -> None:
    others(host, attempt("A", wrapper=ME), manager=manager, boot="boot-0")
    assert seen(mine) == ()


def test_many_runs(host: HostPaths, mine: Leases) -> None:
    for n in range(5):
        others(host, attempt(f"GPU-{n}"), run=f"{OTHER}-{n}")
    assert seen(mine) == tuple(ForeignLease(f"GPU-{n}", None, f"{OTHER}-{n}") for n in range(5))


# -- what is unknown -------------------------------------------------------------------------------------------------

GOOD: Mapping[str, object] = {"run_id": OTHER, "boot": BOOT, "manager": list(ME), "leases": []}


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", '"x"', "{}", "\udcff",
        json.dumps({**GOOD, "manager": 7}), json.dumps({**GOOD, "manager": [1, 2, 3]}),
        json.dumps({**GOOD, "leases": [{}]}), json.dumps({**GOOD, "leases": ["x"]}), json.dumps({**GOOD, "leases": 1}),
    ],
    ids=range(12),
)  # fmt: skip
def test_a_file_that_cannot_be_understood_is_unreadable(host: HostPaths, mine: Leases, text: str) -> None:
    path = host.leases / "strange.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    others(host, attempt("A"))
    found = seen(mine)
    assert isinstance(found, Unreadable)
    assert str(path) in found.reason
    path.unlink()
    assert seen(mine) == (ForeignLease("A", None, OTHER),)


_STOPPED = """
import os, signal, sys
from pathlib import Path
from queue_manager.core.events import Proc
from queue_manager.core.layout import HostPaths
from queue_manager.adapters.leases import Leases
with Leases(HostPaths.of(Path(sys.argv[1])), "stopped", "stopped", "boot-1", Proc(os.getpid(), 1)) as lock:
    assert lock.foreign() == ()
    os.kill(os.getpid(), signal.SIGSTOP)
"""


def test_a_stopped_holder_of_the_lock_does_not_stop_the_others(
    tmp_path: Path, mine: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LOCK_SECONDS", 0.1)
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    holder = subprocess.Popen([sys.executable, "-c", _STOPPED, str(tmp_path)], env=environment)
    try:
        os.waitpid(holder.pid, os.WUNTRACED)
        found = seen(mine)
        assert isinstance(found, Unreadable)
        assert "cards.lock is held" in found.reason
        mine.write([attempt("A")])  # what it has it may still say
    finally:
        holder.send_signal(signal.SIGCONT)
        assert holder.wait(150) == 0
    monkeypatch.setattr(leases, "LOCK_SECONDS", 60.0)
    assert seen(mine) == ()


def test_it_waits_for_a_holder_that_goes_on(host: HostPaths, mine: Leases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LOCK_SECONDS", 60.0)
    other = Leases(host, OTHER, OTHER, BOOT, ME)
    other.__enter__()
    other.write([attempt("A")])

    def goes_on(_seconds: float) -> None:
        other.__exit__(None, None, None)

    clock = SimpleNamespace(monotonic=time.monotonic, time=time.time, sleep=goes_on)
    monkeypatch.setattr(leases, "time", clock)
    assert seen(mine) == (ForeignLease("A", None, OTHER),)


def test_without_a_usable_lock_nothing_is_known(host: HostPaths, mine: Leases) -> None:
    host.cards_lock.mkdir()
    found = seen(mine)
    assert isinstance(found, Unreadable)
    assert "cards.lock" in found.reason
    host.cards_lock.rmdir()
    assert seen(mine) == ()


def test_outside_the_lock_nothing_is_known(mine: Leases) -> None:
    assert isinstance(mine.foreign(), Unreadable)
    assert seen(mine) == ()
    assert isinstance(mine.foreign(), Unreadable)


# -- one's own file ---------------------------------------------------------------------------------------------------


def test_the_file_is_written_only_when_something_changed(host: HostPaths, mine: Leases) -> None:
    path = host.leases / "mine.json"
    assert mine.held  # of an earlier manager, perhaps
    mine.write([attempt("A")])
    first = path.stat().st_ino
    mine.write([attempt("A")])
    assert (path.stat().st_ino, mine.held) == (first, True)
    mine.write([])
    assert json.loads(path.read_text())["leases"] == []
    assert mine.held is False


def test_a_full_disk_leaves_the_old_leases_and_the_new_go_in_later(host: HostPaths, mine: Leases) -> None:
    mine.write([attempt("A")])
    third = Leases(host, "third", "third", BOOT, ME)
    with room(0), pytest.raises(OSError, match="File too large"):
        mine.write([attempt("B")])
    assert seen(third) == (ForeignLease("A", None, "mine"),)
    mine.write([attempt("B")])
    assert seen(third) == (ForeignLease("B", None, "mine"),)


def test_closing_takes_the_file_away(host: HostPaths, mine: Leases) -> None:
    mine.write([attempt("A")])
    for _ in range(2):
        mine.close()
        assert list(host.leases.iterdir()) == []
