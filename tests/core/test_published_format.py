"""What a run publishes and journals stays what it is: compared with files made by an earlier version.

Fields may be added, and words for people may change; all else keeps its name, its value and its place. To take in a
wanted change, write what `published()` and `journal()` give into the files and look at the difference.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from queue_manager.core.boundary import ForeignLease
from queue_manager.core.manifest import OomRetry, Phase, Precondition
from queue_manager.core.requests import Request
from queue_manager.core.snapshot import Situation, head, job_row
from tests.core.states import manifest, spec
from tests.fakes import FakeHost, FakeManager, Plan, with_plans

DATA = Path(__file__).parent.parent / "data" / "published"
OOM = b"CUDA out of memory. Tried to allocate 2.00 GiB | retry\n"
SICK = b"NVRM: Xid 79\n"
WORDS = {"text", "waiting", "note", "holder", "error", "warning", "reason"}
"""Fields that are read by people alone."""


@lru_cache(None)
def _run() -> tuple[str, str]:
    """A run with a bit of everything, seen every few turns: the documents, and the journal."""
    jobs = [spec(f"t{n}", "teachers", expected_output=f"ckpt/t{n}.pt", priority=n) for n in range(3)]
    jobs += [spec(f"s{n}", "students", depends_on=(f"t{n}",), gpu_mem_mib=9000) for n in range(3)]
    jobs += [spec("pair", gpus=2), spec("cpu", gpus=0), spec("too_much", gpus=9), spec("oom"), spec("sick")]
    jobs += [spec("held", preconditions=(Precondition("file_exists", "d"),)), spec("fails", retries=1), spec("gone")]
    host = FakeHost(4)
    phases = (Phase("teachers"), Phase("students", ("teachers",), ("n",)))
    manager = FakeManager(host, manifest(*jobs, phases=phases, oom_retry=OomRetry(4.0, 2)))
    host.plan_of = with_plans(
        {
            "oom": [Plan(1.0, 1, log=OOM), Plan(3.0, mib=5000, linger=4.0)],
            "sick": [Plan(1.0, 1, log=SICK), Plan(2.0)],
            "fails": Plan(0.5, 2),
            "s1": Plan(4.0, mib=8000),
        },
        Plan(2.0, mib=700),
    )
    host.unmet["held"] = "d is not there"
    host.leases = (ForeignLease("GPU-3", 4000, "other"),)
    documents = []
    for turn in range(60):
        host.inbox = {1: [Request("r1", "cancel", ("gone",))], 20: [Request("r2", "pause")]}.get(turn, [])
        host.inbox += [Request("r3", "resume")] if turn == 24 else []
        host.nvml = "driver mismatch" if 10 <= turn < 12 else None
        if turn == 40:
            host.unmet.clear()
        _, result = manager.turn()
        if turn in (0, 3, 11, 22, 30, 45, 59):
            seen = Situation(host.read_cards(), result.impossible, "running", "/w", 5.0, None, "/logs/{}.log".format)
            rows = [job_row(manager.state, job, seen) for job in manager.state.jobs]
            documents.append({**head(manager.state, seen, host.now), "jobs": rows})
        host.advance(0.5)
    assert not host.faults
    return "".join(json.dumps(one) + "\n" for one in documents), "".join(line.strip() + "\n" for line in host.journal)


def published() -> str:
    """The state documents, one a line."""
    return _run()[0]


def journal() -> str:
    """The journal of the same run."""
    return _run()[1]


def _as_before(now: Any, before: Any, where: str) -> None:
    """Compare what was there before, in its order."""
    assert type(now) is type(before), where
    if isinstance(before, dict):
        assert [key for key in now if key in before] == list(before), where
        for key, value in before.items():
            if key in WORDS and isinstance(value, str) and now[key]:
                continue
            _as_before(now[key], value, f"{where}.{key}")
    elif isinstance(before, list):
        assert len(now) == len(before), where
        for n, value in enumerate(before):
            _as_before(now[n], value, f"{where}[{n}]")
    else:
        assert now == before, where


def test_state_documents_are_what_they_were() -> None:
    lines, before = published().splitlines(), (DATA / "documents.jsonl").read_text().splitlines()
    assert len(lines) == len(before)
    for n, (line, earlier) in enumerate(zip(lines, before)):
        _as_before(json.loads(line), json.loads(earlier), f"document {n}")


def test_the_journal_is_what_it_was() -> None:
    lines, before = journal().splitlines(), (DATA / "journal.jsonl").read_text().splitlines()
    assert len(lines) == len(before)
    for line, earlier in zip(lines, before):
        now, then = json.loads(line), json.loads(earlier)
        for one in (now, then):
            one.pop("crc", None)
        _as_before(now, then, f"line {then['seq']}")
