"""What a machine cannot run is said before anything starts."""

from __future__ import annotations

from typing import Any

import pytest

from queue_manager.core.manifest import Manifest
from skill.planning import local_preflight
from tests.skill.story import job, manifest


def probe(*totals: int | None, **fields: Any) -> dict[str, Any]:
    """What a probe tells of a machine with these cards; None is a card that cannot be used now."""
    rows = [
        {"index": n, "uuid": f"GPU-{n}", "name": "A100", "total_mib": mib, "used_mib": mib and 3, "note": ""}
        for n, mib in enumerate(totals)
    ]
    base = {"host": "gpu-a", "cpus": 8, "screen": {"path": "/usr/bin/screen", "version": "4.9"}}
    return {**base, "gpus": rows, "gpu_note": "" if rows else "no NVIDIA driver here", **fields}


def refusal(made: Manifest, found: dict[str, Any]) -> str:
    findings = local_preflight.check(made, found)
    assert findings.refusal is not None
    assert findings.warnings == []
    return findings.refusal


def test_jobs_without_cards_run_anywhere() -> None:
    assert local_preflight.check(manifest(job("a")), probe()) == (None, [])


def test_a_machine_without_a_gpu_says_so_and_what_would_work() -> None:
    text = refusal(manifest(job("a", gpus=1), job("b", gpus=2)), probe())
    assert text.startswith("this machine has no GPU (no NVIDIA driver here), and all 2 jobs ask for one. Nothing was")
    assert "`gpus: 0`" in text
    assert "on a machine that has a GPU" in text


def test_where_only_some_phases_need_a_card_they_are_named() -> None:
    made = manifest(job("a", "prep"), job("b", "train", gpus=1), job("c", "eval", gpus=1), job("d", "prep"))
    assert "and 2 of 4 jobs ask for one, in phases train, eval." in refusal(made, probe())


def test_a_missing_screen_says_how_to_get_it() -> None:
    text = refusal(manifest(job("a")), probe(screen=None))
    assert "sudo apt-get install -y screen" in text
    assert "launcher: process" in text


@pytest.mark.parametrize("screen", [None, {"path": "/usr/bin/screen", "fault": "no directory"}])
def test_jobs_of_the_launcher_process_need_no_screen(screen: Any) -> None:
    assert local_preflight.check(manifest(job("a"), launcher="process"), probe(screen=screen)) == (None, [])


def test_cards_that_cannot_be_read_are_no_missing_cards() -> None:
    found = local_preflight.check(manifest(job("a", gpus=1)), probe(gpu_unreadable="NVML: timeout"))
    assert found.refusal is None
    assert "NVML: timeout" in found.warnings[0]


def test_what_can_never_be_placed_is_named_and_the_rest_goes_on() -> None:
    jobs = [
        job("fits", gpus=1),
        job("wide", gpus=3),
        job("fat", gpus=1, gpu_mem_mib=90000),
        job("fat2", gpus=1, gpu_mem_mib=90000),
    ]
    found = local_preflight.check(manifest(*jobs), probe(81920, 81920))
    assert found.refusal is None
    assert found.warnings == [
        "1 job can never run here (wide): needs 3 GPUs; this host has 2 GPUs",
        "2 jobs can never run here (fat, fat2): needs 90000 MiB on 1 GPU; the largest GPU has 81920 MiB",
    ]


def test_a_card_that_is_not_there_is_named() -> None:
    text = refusal(manifest(job("a", gpus=1), gpus=(9,)), probe(81920))
    assert "1 job can never run here (a): needs 1 GPU; of the GPUs [9] this host has none" in text
    assert text.endswith("Nothing was started.")


def test_a_sick_card_may_recover_and_counts() -> None:
    assert local_preflight.check(manifest(job("a", gpus=2, gpu_mem_mib=9000)), probe(81920, None)) == (None, [])


def test_an_environment_that_cannot_be_entered_stops_the_start_and_an_image_to_pull_does_not() -> None:
    entered = {"kind": "container", "name": "a/b", "python": None, "fault": None, "note": None}
    assert local_preflight.environment({}) == (None, [])
    assert local_preflight.environment({"activation": entered}) == (None, [])
    assert local_preflight.environment({"activation": {**entered, "fault": "no engine"}}) == (
        "container a/b: no engine", [],
    )  # fmt: skip
    assert local_preflight.environment({"activation": {**entered, "note": "pulled later"}}) == (None, ["pulled later"])
