"""What a run of many jobs asks of Slurm and of the login node."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from queue_manager.core import pace
from queue_manager.core.boundary import Place
from queue_manager.core.events import AttemptStarting
from queue_manager.core.launchers import SLURM
from queue_manager.core.manifest import JobSpec
from queue_manager.core.model import Attempt
from queue_manager.core.readings import Unreadable
from queue_manager.slurm import look_pace, refill, shared_listing
from queue_manager.slurm.attempt_files import Taken
from queue_manager.slurm.cluster import Cluster
from queue_manager.slurm.commands import Listed
from queue_manager.slurm.followed import Followed
from queue_manager.slurm.look_pace import LookPace
from queue_manager.slurm.shared_listing import SharedListing


def looks(made: LookPace, until: float, changes: tuple[float, ...] = (), slower: int = 1) -> list[float]:
    """When Slurm is asked until then, polled each 5 s; something changes at these times."""
    found = []
    for now in range(0, int(until) + 1, 5):
        if now in changes:
            made.changed()
        if made.is_due(float(now), slower):
            found.append(float(now))
    return found


def test_slurm_is_asked_more_rarely_while_nothing_changes_and_as_usual_again_once_something_does() -> None:
    assert looks(LookPace(30.0), 600) == [0, 30, 90, 210, 330, 450, 570]
    assert looks(LookPace(30.0), 600, changes=(455,)) == [0, 30, 90, 210, 330, 450, 480, 510, 570]
    often = tuple(float(at) for at in range(0, 600, 20))
    assert looks(LookPace(30.0), 300, changes=often) == [30.0 * n for n in range(11)]
    assert look_pace.SLOWEST * 30.0 < 300 / 2, "what has ended is listed twice at least"


def test_a_controller_that_does_not_answer_is_asked_no_more_often() -> None:
    assert looks(LookPace(30.0), 600, slower=8) == [0, 240, 480]


@pytest.mark.parametrize(
    ("room", "live", "queued", "allowed"),
    [
        (1000, 0, 0, refill.FIRST),  # the first job begins soon
        (900, 100, 100, 200),
        (700, 300, 250, 600),
        (100, 900, 850, 0),  # nothing begins sooner if these are submitted one by one
        (124, 876, 850, 0),
        (125, 875, 850, 125),
        (1, 999, 240, 1),  # Slurm has room for more than it was given
        (0, 1000, 900, 0),
    ],
)
def test_attempts_go_in_few_arrays_and_none_waits_for_that(room: int, live: int, queued: int, allowed: int) -> None:
    assert refill.allowed(room, 1000, live, queued) == allowed


@pytest.mark.parametrize("size", [1, 3, 16, 99])
def test_small_windows_are_kept_full(size: int) -> None:
    assert [refill.allowed(1, size, size - 1, queued) for queued in range(size)] == [1] * size


def test_turns_on_a_login_node_leave_most_of_the_time_to_others() -> None:
    assert pace.rest(pace.OWN_HOST, 2.0) == 0.0
    assert pace.rest(pace.LOGIN_NODE, 0.001) == pytest.approx(0.025)
    assert pace.rest(pace.LOGIN_NODE, 9.0) == pace.MOST_REST


def followed(is_taken: bool = False) -> Followed:
    made = Followed(JobSpec("a", "true", "main"), Attempt(AttemptStarting("a", 1, 1, "wq.a", SLURM), 0.0), "/", False)
    if is_taken:
        made.taken, made.place = Taken("n1", 7, 0, 1, 0), Place("n1", (), 0.0)
    return made


WAITS, RUNS, AWAY = Listed(7, "PENDING", "Priority", ""), Listed(7, "RUNNING", "None", "n1"), Unreadable("squeue: away")


@pytest.mark.parametrize(
    ("row", "offered", "is_taken", "each_time"),
    [
        (WAITS, None, False, False),
        (RUNS, None, True, False),
        (RUNS, None, False, True),  # its claim is not seen yet
        (Listed(7, "FAILED", "NonZeroExitCode", "n1"), None, True, True),  # its exit record may become visible
        (None, None, False, True),  # it counts as lost after a while
        (None, None, True, True),
        (AWAY, None, False, False),
        (None, "waits for a pilot", False, False),
        (None, "waits for a pilot", True, True),
    ],
)
def test_only_what_a_listing_says_anew_of_is_looked_at(
    row: Listed | Unreadable | None, offered: object, is_taken: bool, each_time: bool
) -> None:
    one = followed(is_taken)
    assert [one.has_news(row, offered, float(n)) for n in range(3)] == [True, each_time, each_time]


def test_what_changes_in_a_listing_is_news() -> None:
    one = followed()
    rows = (WAITS, WAITS, Listed(7, "PENDING", "Resources", ""), AWAY, AWAY, WAITS, None)
    assert [one.has_news(row, None, float(n)) for n, row in enumerate(rows)] == [
        True, False, True, True, False, True, True,
    ]  # fmt: skip
    assert one.listed_at == 5.0, "when it was there last"


class Asked(Cluster):
    """A cluster that counts how often squeue is called."""

    def __init__(self, now: list[float], shared: SharedListing) -> None:
        super().__init__({}, lambda: now[0], shared)
        self.calls = 0

    def _run(self, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        self.calls += argv[0] == "squeue"
        return subprocess.CompletedProcess(argv, 0, "7|0|PENDING|Priority||N/A|ours\n", "")


def test_runs_of_one_user_on_one_machine_share_a_listing(tmp_path: Path) -> None:
    now = [1000.0]
    shared = SharedListing(tmp_path / "home/squeue", {"PATH": str(tmp_path)})
    one, two = Asked(now, shared), Asked(now, shared)
    one._look(15.0)
    now[0] += 14.0
    two._look(15.0)
    assert (one.calls, two.calls) == (1, 0)
    assert two.listing == one.listing is not None, "with the time at which Slurm was asked"
    two._look(15.0)
    assert two.calls == 1, "what it has it need not read again"
    now[0] += 1.0
    one._look(0.0)
    assert one.calls == 2, "where something waits for what Slurm says now"
    for cluster in (one, two):
        cluster.close()


def test_a_listing_of_another_cluster_or_machine_or_a_torn_one_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, here = tmp_path / "squeue", {"PATH": "", "SLURM_CONF": "/etc/a"}
    SharedListing(path, here).write(1000.0, "7|0|RUNNING|None|n1|N/A|ours\n")
    assert SharedListing(path, here).read(1000.0) == (1000.0, "7|0|RUNNING|None|n1|N/A|ours\n")
    assert SharedListing(path, here).read(1000.1) is None
    assert SharedListing(path, {**here, "SLURM_CONF": "/etc/b"}).read(0.0) is None
    monkeypatch.setattr(shared_listing, "boot_id", lambda: "another")
    assert SharedListing(path, here).read(0.0) is None
    for text in ("", "{", "[]\n", '{"asked": "x"}\n'):
        path.write_text(text)
        assert SharedListing(path, here).read(0.0) is None
