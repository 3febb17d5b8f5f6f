"""Check what a host lacks that every run needs, or that helps most of them: bash, disk space, rsync, the clock.
Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from queue_manager.core.terminal_text import one_line
from queue_manager.core.times import duration

OK, WARNING, FAULT = "ok", "warning", "fault"
CHECKS = ("bash", "home", "rsync", "shared memory", "clock")
SHARED_MIB = 512
"""Shared memory below which the workers of a DataLoader soon end with a bus error; a container has 64 by default."""
CLOCK = 30.0
"""Seconds by which clocks may differ before outputs and code are compared wrongly."""
_MOST = 4


class Way(NamedTuple):
    """How code comes to a host. `pushed`: it comes with the run; `code_mib`: how much it is, None where that is not
    known; `here` and `there`: whether rsync is on either side. `ahead_s`: seconds that the host's clock is surely ahead
    of ours, negative: behind; 0 where it may be in step. `no_route`: why rsync does not reach it, None if it
    does, or this was not tried."""

    pushed: bool = True
    code_mib: int | None = None
    here: bool = True
    there: bool = True
    ahead_s: float = 0.0
    no_route: str | None = None


class Need(NamedTuple):
    """How one check came out. `long` is empty where there is nothing to say."""

    check: str
    state: str
    short: str
    long: str = ""


def needs(found: Mapping[str, Any], way: Way, name: str, *, on_cards: bool) -> Iterator[Need]:
    """Judge the document of queue_manager.remote.preflight. What a host does not report is left out. `on_cards`: some
    jobs need GPUs."""
    setup = f"wavequeue hosts setup {name}"
    probe, tried = _table(found.get("probe")), _table(found.get("needs"))
    if "bash" in probe:
        missing = probe["bash"] is None
        words = "bash is missing, which runs the commands of jobs; install it there: apt-get install -y bash"
        yield Need("bash", FAULT, "missing", words) if missing else Need("bash", OK, "ok")
    if isinstance(tried.get("home"), list):
        texts = [one_line(text, 300) for text in tried["home"] if isinstance(text, str)][:_MOST]
        yield from (Need("home", FAULT, "does not serve", text) for text in texts)
        if not texts:
            yield Need("home", OK, "ok")
    yield _rsync(way, setup)
    shared = tried.get("shm_mib")
    if type(shared) is int:
        is_small = on_cards and shared < SHARED_MIB
        words = (
            f"its shared memory (/dev/shm) has {shared} MiB: workers of a DataLoader may end with a bus error; "
            "start the container with more (--shm-size=8g, --ipc=host), or use num_workers=0"
        )
        yield Need("shared memory", WARNING if is_small else OK, f"{shared} MiB", words if is_small else "")
    yield _clock(way.ahead_s)


def code_fault(way: Way, free_mib: int | None, *, is_there: bool) -> str | None:
    """Why the code does not fit on a host's disk; None if it does, or it is unknown. `is_there`: some of it may
    be there already."""
    if not way.pushed or is_there or way.code_mib is None or free_mib is None or way.code_mib < free_mib:
        return None
    return (
        f"the code has {way.code_mib} MiB, and {free_mib} MiB of its disk are free; exclude data with .gitignore or "
        ".wavequeueignore, or free some there"
    )


def _rsync(way: Way, setup: str) -> Need:
    if way.no_route is not None:
        return Need("rsync", FAULT, "login fails", way.no_route)
    if not way.pushed or (way.here and way.there):
        return Need("rsync", OK, "ok" if way.here and way.there else "not needed")
    where = "there" if way.here else "here" if way.there else "on both sides"
    cure = f"install it with: {setup}" if way.here else "install it here: apt-get install -y rsync"
    return Need(
        "rsync",
        WARNING,
        f"missing {where}",
        f"rsync is missing {where}; code is sent with tar, which is slower; {cure}",
    )


def _clock(ahead: float) -> Need:
    if abs(ahead) <= CLOCK:
        return Need("clock", OK, "in step")
    short = f"{duration(abs(ahead))} {'ahead' if ahead > 0 else 'behind'}"
    words = f"its clock is {short}: whether an output is newer than the code may be judged wrongly; correct it (NTP)"
    return Need("clock", WARNING, short, words)


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
