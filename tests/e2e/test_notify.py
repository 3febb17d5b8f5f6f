"""A real manager tells a real receiver, also of what happened while that was away and while it was killed itself."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.runs import World, job, manifest, until, wait_for
from tests.receiver import receiver

SECRET = "s3cr3t-0123456789"


def test_a_receiver_gets_each_alert_once_though_it_and_the_manager_were_killed(world: World) -> None:
    with receiver() as away:
        port = away.port
    run = world.run(
        manifest(
            job("bad", "echo 'ValueError: no such layer'; exit 3"),
            job("waits", until("go")),
            notify={"webhook": ["", "HOOK", ""], "command": "cat >> told.jsonl", "on": ["stuck", "finished"]},
        )
    )
    (run.directory / ".env").write_text(f"HOOK=http://127.0.0.1:{port}/{SECRET}\n")
    run.start()
    run.wait_status("bad", "stuck")
    notices = run.directory / "told.jsonl"
    wait_for(lambda: notices.exists() and notices.read_text().endswith("\n"), say="the command")
    run.kill()
    with receiver(port) as back:
        run.start()
        wait_for(lambda: back.got, say="what it missed")
        assert run.jobs()["waits"]["status"] == "running", "nothing waits for a receiver"
        (run.directory / "go").touch()
        assert run.finish() == 3
        found = [json.loads(one.body) for one in back.got]
    assert [(one["kind"], one["job"], one["n"]) for one in found] == [("stuck", "bad", 1), ("finished", None, 1)]
    assert "ValueError: no such layer" in found[0]["text"]
    assert found[0]["helps"] == f"wavequeue why bad --run {found[0]['run_id']}"
    ids = list(dict.fromkeys(json.loads(line)["id"] for line in notices.read_text().splitlines()))
    assert ids == [one["id"] for one in found]
    assert back.got[0].path == f"/{SECRET}"
    files = [path for path in run.directory.rglob("*") if path.is_file() and path.name != ".env"]
    assert [path for path in files if SECRET in _text(path)] == []
    assert run.paths.notified in files


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="replace")
