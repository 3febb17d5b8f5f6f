"""Facts about the machine: parsers by cases, readers over directories written like a kernel's."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from queue_manager.adapters import cgroups, host
from queue_manager.adapters.cgroups import Place
from queue_manager.adapters.host import Memory
from queue_manager.core.readings import Unreadable

CASES = sorted((Path(__file__).resolve().parents[1] / "data" / "cgroups").glob("*.json"))
GIB = 2**30


def tree(root: Path, version: int, *groups: dict[str, str]) -> Place:
    """Directories, own first, with these files."""
    directories = []
    for depth, files in enumerate(groups):
        directory = root / str(depth)
        directory.mkdir()
        for name, text in files.items():
            (directory / name).write_text(text)
        directories.append(directory)
    return Place(version, tuple(directories))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_locate(path: Path) -> None:
    case = json.loads(path.read_text())
    found = cgroups.locate(case["controller"], "\n".join(case["cgroup"]), "\n".join(case["mountinfo"]))
    assert found == (None if case["version"] is None else Place(case["version"], tuple(map(Path, case["directories"]))))


@pytest.mark.parametrize(
    ("version", "groups", "quota"),
    [
        (2, [{"cpu.max": "max 100000\n"}], None),
        (2, [{"cpu.max": "250000 100000\n"}], 2.5),
        (2, [{"cpu.max": "max 100000\n"}, {"cpu.max": "300000 100000\n"}, {"cpu.max": "800000 100000\n"}], 3.0),
        (2, [{"cpu.max": "300000 100000\n"}, {"cpu.max": "150000 100000\n"}], 1.5),
        (2, [{}], None),
        (2, [{"cpu.max": "nonsense\n"}], None),
        (1, [{"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}], None),
        (1, [{"cpu.cfs_quota_us": "50000\n", "cpu.cfs_period_us": "100000\n"}], 0.5),
        (1, [{"cpu.cfs_quota_us": "50000\n", "cpu.cfs_period_us": "0\n"}], None),
        (1, [{}, {"cpu.cfs_quota_us": "400000\n", "cpu.cfs_period_us": "200000\n"}], 2.0),
    ],
)
def test_the_tightest_cpu_quota_counts(
    tmp_path: Path, version: int, groups: list[dict[str, str]], quota: float | None
) -> None:
    assert cgroups.cpu_quota(tree(tmp_path, version, *groups)) == quota


@pytest.mark.parametrize(
    ("affinity", "quota", "usable"),
    [(8, None, 8), (8, 2.0, 2), (8, 2.9, 2), (8, 0.5, 1), (2, 64.0, 2), (1, 0.01, 1)],
)
def test_cores(affinity: int, quota: float | None, usable: int) -> None:
    assert host.cores(affinity, quota) == usable


def test_usable_cores_respects_the_affinity() -> None:
    one = min(os.sched_getaffinity(0))
    limited = f"import os; os.sched_setaffinity(0, {{{one}}})"
    code = f"{limited}; from queue_manager.adapters import host; print(host.usable_cores())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


MEMINFO = (
    "MemTotal:       16777216 kB\nMemFree:         1000000 kB\nMemAvailable:    8388608 kB\nHugePages_Total:       0\n"
)


@pytest.mark.parametrize(
    ("limits", "memory"),
    [
        ([], Memory(16384, 8192)),
        ([(4 * GIB, GIB)], Memory(4096, 1024)),
        ([(64 * GIB, 32 * GIB)], Memory(16384, 8192)),
        ([(4 * GIB, 3 * GIB), (12 * GIB, GIB)], Memory(4096, 1024)),
    ],
)
def test_memory_is_the_least_of_machine_and_limits(limits: list[tuple[int, int]], memory: Memory) -> None:
    assert host.usable_memory(MEMINFO, limits) == memory


def test_memory_that_is_not_told() -> None:
    assert isinstance(host.usable_memory("MemTotal: 5 kB\n", []), Unreadable)


@pytest.mark.parametrize(
    ("version", "files", "limits"),
    [
        (2, {"memory.max": "max\n", "memory.current": "5\n"}, []),
        (
            2,
            {"memory.max": "1000\n", "memory.current": "900\n", "memory.stat": "anon 1\ninactive_file 300\n"},
            [(1000, 400)],
        ),
        (2, {"memory.max": "1000\n", "memory.current": "1200\n"}, [(1000, 0)]),
        (2, {"memory.max": "1000\n", "memory.current": "100\n", "memory.stat": "inactive_file 300\n"}, [(1000, 1000)]),
        (2, {}, []),
        (1, {"memory.limit_in_bytes": "9223372036854771712\n", "memory.usage_in_bytes": "5\n"}, []),
        (
            1,
            {
                "memory.limit_in_bytes": "1000\n",
                "memory.usage_in_bytes": "900\n",
                "memory.stat": "inactive_file 1\ntotal_inactive_file 300\n",
            },
            [(1000, 400)],
        ),
    ],
)
def test_memory_limits(tmp_path: Path, version: int, files: dict[str, str], limits: list[tuple[int, int]]) -> None:
    assert cgroups.memory_limits(tree(tmp_path, version, files)) == limits


def test_every_group_may_limit_memory(tmp_path: Path) -> None:
    place = tree(
        tmp_path,
        2,
        {"memory.max": "2000\n", "memory.current": "500\n"},
        {"memory.max": "9000\n", "memory.current": "8900\n"},
    )
    assert cgroups.memory_limits(place) == [(2000, 1500), (9000, 100)]


EVENTS = "low 0\nhigh 0\nmax 7\noom 4\noom_kill {}\noom_group_kill 0\n"


def test_version_2_counts_oom_kills_in_the_highest_group_that_counts(tmp_path: Path) -> None:
    own, above = {"memory.events": EVENTS.format(1)}, {"memory.events": EVENTS.format(3)}
    found = cgroups.oom_counter(tree(tmp_path, 2, own, above, {}))
    assert found == tmp_path / "1" / "memory.events"
    assert cgroups.table(found.read_text())["oom_kill"] == 3


@pytest.mark.parametrize(
    ("text", "counts"), [("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", True), ("under_oom 0\n", False)]
)
def test_version_1_counts_oom_kills_in_its_own_group(tmp_path: Path, text: str, counts: bool) -> None:
    place = tree(tmp_path, 1, {"memory.oom_control": text}, {"memory.oom_control": "oom_kill 9\n"})
    assert cgroups.oom_counter(place) == (tmp_path / "0" / "memory.oom_control" if counts else None)


def test_no_group_counts(tmp_path: Path) -> None:
    assert cgroups.oom_counter(tree(tmp_path, 2, {})) is None


def test_the_counter_of_this_process_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    counter = tmp_path / "memory.events"
    monkeypatch.setattr(host, "_oom_counter", lambda: counter)
    assert host.oom_kills() is None
    for count in (0, 3):
        counter.write_text(EVENTS.format(count))
        assert host.oom_kills() == count


def test_where_no_group_counts_the_machine_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "place", lambda _controller: None)
    host._oom_counter.cache_clear()
    try:
        assert host._oom_counter() == Path("/proc/vmstat")
    finally:
        host._oom_counter.cache_clear()


@pytest.mark.parametrize(
    ("stat", "ticks"),
    [
        ("1 (systemd) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 24 100 200", 24),
        ("1 (a) b) c) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654321 100 200", 987654321),
        ("", 0),
        ("1 (sh) S 0", 0),
    ],
)
def test_start_ticks(stat: str, ticks: int) -> None:
    assert host.start_ticks(stat) == ticks


def test_boot_id_stays_and_has_both_parts() -> None:
    kernel = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert re.fullmatch(re.escape(kernel) + r"\.[0-9]+", host.boot_id())
    assert host.boot_id() == host.boot_id()


def test_boot_id_changes_when_only_process_1_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a container is restarted."""
    before = host.boot_id()
    text = host._text
    stat = "1 (init) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456789 100 200"
    monkeypatch.setattr(host, "_text", lambda path: stat if path == "/proc/1/stat" else text(path))
    assert host.boot_id() != before
    assert host.boot_id().partition(".")[0] == before.partition(".")[0]


def test_boot_id_where_process_1_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    text = host._text
    monkeypatch.setattr(host, "_text", lambda path: "" if path == "/proc/1/stat" else text(path))
    assert host.boot_id().endswith(".0")


def test_disk_free_where_nothing_is_yet(tmp_path: Path) -> None:
    stat = os.statvfs(tmp_path)
    free = host.disk_free_mib(tmp_path / "not" / "yet")
    assert isinstance(free, int)
    # Others write meanwhile.
    assert abs(free - stat.f_bavail * stat.f_frsize // 2**20) < 1024


def test_disk_that_cannot_be_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(_path: Path) -> os.statvfs_result:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "statvfs", broken)
    assert host.disk_free_mib(tmp_path) == Unreadable(f"{tmp_path}: Input/output error")
