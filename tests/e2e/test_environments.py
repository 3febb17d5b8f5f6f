"""A run whose jobs are in a container: a real manager over an engine that a test can look into."""

from __future__ import annotations

import json

from queue_manager.core.requests import Request
from skill.common.errors import USE
from tests import engines, in_process
from tests.e2e.runs import World, job, lives, manifest, wait_for


def test_attempts_record_their_image_and_a_cancel_reaches_the_container(world: World) -> None:
    world.environment["FAKE_CALLS"] = str(world.root / "engines" / "calls")
    path = engines.fake(world.root / "engines", "podman")["PATH"].partition(":")[0]
    world.environment["PATH"] = f"{path}:{world.environment['PATH']}"
    (world.root / "engines" / "docker").write_text("#!/bin/sh\nexit 1\n")
    (world.root / "engines" / "docker").chmod(0o755)
    jobs = [
        job("one", "echo here > out.txt", expected_output="out.txt"),
        job("fails", "exit 3"),
        job("long", "echo $$ > pid; while :; do sleep 0.1; done"),
    ]
    run = world.run(manifest(*jobs, container="a/b:1", grace=0.2))
    run.start()
    pid = run.directory / "pid"
    inside = int(
        wait_for(lambda: pid.exists() and pid.read_text().endswith("\n") and pid.read_text(), say="the long job")
    )
    assert lives(inside)
    assert run.ask(Request("stop", "cancel", ("long",))).ok
    assert run.finish() == 3
    assert not lives(inside)
    rows = run.jobs()
    assert {name: row["status"] for name, row in rows.items()} == {
        "one": "completed", "fails": "stuck", "long": "cancelled",
    }  # fmt: skip
    assert {row["environment"] for row in rows.values()} == {"podman repo@sha256:feed"}
    assert rows["fails"]["exit_code"] == 3
    ended = [event for event in run.events() if event.get("environment")]
    assert sorted(event["job"] for event in ended) == ["fails", "long", "one"]


def test_what_is_not_here_is_said_before_anything_starts(world: World) -> None:
    world.environment["PATH"] = engines.fake(world.root / "engines")["PATH"]
    desk = world.root / "desk"
    desk.mkdir()
    for text, says in {
        "container: a/b": "no container engine works here for a/b",
        "uv: true": "uv is not installed here",
        "conda: none": "conda",
    }.items():
        (desk / "spec.yaml").write_text(f"project: p\nlauncher: process\n{text}\njobs: [{{cmd: 'true', gpus: 0}}]\n")
        ended = in_process.run(("run", "spec.yaml", "--json"), desk, world.environment)
        assert ended.returncode == USE, ended
        assert says in json.loads(ended.stdout)["error"]
        assert in_process.run(("plan", "spec.yaml"), desk, world.environment).returncode == 1
    assert not (desk / "experiment_queue").exists() or not list((desk / "experiment_queue").glob("p-*"))
