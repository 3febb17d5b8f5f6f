"""The demo on two hosts, one of which had nothing but sshd and python3."""

from __future__ import annotations

import json

from tests.demo_copy import copy_manifests
from tests.laptop import Laptop
from tests.sshd import with_apt


def test_teachers_and_students_complete_on_two_hosts_and_their_results_are_pulled(laptop: Laptop) -> None:
    copy_manifests(laptop.project / "manifests", full=True)
    laptop.host("gpu-a")
    with_apt(laptop.host("gpu-b", bare=True))
    both, spec = ("--host", "gpu-a", "--host", "gpu-b"), "manifests/demo.yaml"
    assert "screen is not installed" in laptop.call("preflight", spec, "--host", "gpu-b", code=1)[0]
    laptop.call("hosts", "setup", "gpu-b")
    shares = json.loads(laptop.call("submit", spec, *both, "--poll", "0.1", "--json")[0])["hosts"]
    assert [(row["name"], row["jobs"]) for row in shares] == [("gpu-a", 4), ("gpu-b", 4)]
    laptop.call("watch")
    assert "finished, 8 of 8 jobs completed" in laptop.call("status")[0]
    laptop.call("pull")
    out = laptop.project / "manifests" / "demo" / "out"
    wanted = [f"student_N{N}_seed{seed}.json" for N in (16, 32) for seed in (200, 201, 42)]
    assert sorted(path.name for path in out.iterdir()) == [*wanted, "teacher_N16.json", "teacher_N32.json"]
    assert all(json.loads(path.read_text()) for path in out.iterdir())
    assert "| students | completed | 6 | 6 | 6 of 6 |" in laptop.call("report")[0]
