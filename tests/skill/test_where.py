"""Where a spec is best run, and why: a table; and what counts as a machine that stays on."""

from __future__ import annotations

from pathlib import Path

import pytest

from build_manifest import build
from skill.fleet.profiles import BUILT_IN
from skill.planning.power import has_battery
from skill.planning.where import Work, decide, overruled, profile, work_of

HOUR = 3600.0


@pytest.mark.parametrize(
    ("seconds", "gpus", "mem_mib", "cards", "stays_on", "where", "reason"),
    [
        (60.0, 0, 0, [], True, "local", "it takes about 1 min 00 s, less than 30 min"),
        (60.0, 0, 0, [], False, "local", "less than 30 min"),
        (1799.0, 0, 0, [], False, "local", "less than 30 min"),
        (1800.0, 0, 0, [], False, "remote", "30 min 00 s, and this machine has a battery"),
        (HOUR, 0, 0, [], True, "local", "1 h 00 min, and this machine stays on"),
        (HOUR, 0, 0, [], False, "remote", "it may be closed before the end"),
        (None, 0, 0, [], True, "local", "how long it takes is not known, and this machine stays on"),
        (None, 0, 0, [], False, "remote", "how long it takes is not known, and this machine has a battery"),
        (60.0, 1, 0, [], True, "remote-gpu", "a job needs 1 GPU, and this machine has none"),
        (60.0, 2, 0, [24000], True, "remote-gpu", "a job needs 2 GPUs, and this machine has 1 with up to 23 GiB"),
        (60.0, 1, 30000, [24000], True, "remote-gpu", "a job needs 1 GPU of 29 GiB, and this machine has 1"),
        (60.0, 2, 30000, [40000, 8000], True, "remote-gpu", "a job needs 2 GPUs of 29 GiB, and this machine has 2"),
        (60.0, 1, 9000, [24000], True, "local", "less than 30 min"),
        (HOUR, 1, 9000, [24000], True, "local", "this machine stays on"),
        (HOUR, 1, 9000, [24000], False, "remote-gpu", "this machine has a battery"),
    ],
)
def test_where_to_run(
    seconds: float | None, gpus: int, mem_mib: int, cards: list[int], stays_on: bool, where: str, reason: str
) -> None:
    found = decide(Work(seconds, gpus, mem_mib), cards, stays_on)
    assert found.where == where
    assert reason in found.reason
    assert (found.profile is None) == (where == "local")


@pytest.mark.parametrize(
    ("gpus", "mem_mib", "name"),
    [
        (0, 0, "api-only"),
        (1, 0, "pytorch"),
        (1, 9000, "inference-24g"),
        (1, 22528, "inference-24g"),
        (1, 22529, "finetune-40g"),
    ],
)
def test_a_machine_that_would_do_has_a_profile(gpus: int, mem_mib: int, name: str) -> None:
    assert profile(Work(None, gpus, mem_mib)) == name
    assert name in BUILT_IN
    assert BUILT_IN[name].gpu_ram_gb * 1e9 >= mem_mib * 2**20 * 0.95


def test_a_person_has_the_last_word() -> None:
    work = Work(60.0, 0, 0)
    assert overruled(work, "remote-gpu") == ("remote-gpu", "as --where says", "pytorch")
    assert overruled(work, "remote").profile == "api-only"
    assert overruled(work, "local").profile is None


def test_what_a_spec_needs_is_that_of_the_job_that_needs_most() -> None:
    jobs = ("{id: a, cmd: x, gpus: 0}", "{id: b, cmd: x, gpu_mem_mib: 9000}", "{id: c, cmd: x, gpus: 2}")
    spec = f"project: p\njobs: [{', '.join(jobs)}]"
    assert work_of(build(spec, "s").manifest, 5.0) == Work(5.0, 2, 9000)


@pytest.mark.parametrize(
    ("supplies", "found"),
    [
        ({}, False),
        ({"AC": {"type": "Mains"}}, False),
        ({"AC": {"type": "Mains"}, "BAT0": {"type": "Battery"}}, True),
        ({"BAT0": {"type": "Battery", "scope": "System"}}, True),
        ({"mouse": {"type": "Battery", "scope": "Device"}}, False),
    ],
)
def test_a_machine_with_a_battery_may_be_closed(
    tmp_path: Path, supplies: dict[str, dict[str, str]], found: bool
) -> None:
    for name, files in supplies.items():
        (tmp_path / name).mkdir()
        for file, text in files.items():
            (tmp_path / name / file).write_text(f"{text}\n", encoding="utf-8")
    assert has_battery(tmp_path) == found
    assert not has_battery(tmp_path / "none")
