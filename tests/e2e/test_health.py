"""The health of real jobs: one that is well, one whose loss is nan, one that stalls, one that stops early."""

from __future__ import annotations

from typing import Any

from tests.e2e.runs import Run, World, job, manifest, pause, until, wait_for

TRAINS = f"n=0; while [ ! -e {{until}} ]; do n=$((n+1)); echo step $n/100000 loss {{loss}}; {pause(0.2)}; done"
STANDS = f"echo step 1/100 loss 0.5; sleep 0.3; echo step 2/100 loss 0.5; {until('go')}"
PLATEAU = f"for n in $(seq 40); do echo step $n/100000 val=0.5; done; while :; do {pause(0.2)}; done"


def flags(row: dict[str, Any]) -> set[str]:
    return {one["kind"] for one in (row["health"] or {"flags": []})["flags"]}


def are_flagged(run: Run) -> bool:
    rows = run.jobs()
    wanted = {"well": set(), "nan": {"nan"}, "stands": {"stalled"}, "survivor": {"oom_survived"}}
    return all(rows[name]["health"] and flags(rows[name]) == kinds for name, kinds in wanted.items())


def test_what_is_wrong_is_flagged_and_what_is_well_is_not(world: World) -> None:
    run = world.run(
        manifest(
            job("well", TRAINS.format(until="go", loss="0.25"), health={"min_steps": 1_000_000}),
            job("nan", TRAINS.format(until="go", loss="nan")),
            job("stands", STANDS, health={"stall": 1.0}),
            job("survivor", "echo 'CUDA out of memory. Tried 2 GiB'; " + TRAINS.format(until="go", loss="0.25")),
            job("early", PLATEAU, metrics={"val": {"log": "val=(.*)"}},
                health={"early_stop": {"metric": "val", "patience": 5}, "min_steps": 10}),
            job("ended", TRAINS.format(until="never", loss="nan"), health={"then": "stop"}),
            max_parallel=6,
            grace=1.0,
        )
    )  # fmt: skip
    run.start()
    early = run.wait_status("early", "completed", "stuck")
    assert (early["status"], early["outcome"], early["attempts"]) == ("completed", "stopped_early", 1)
    ended = run.wait_status("ended", "stuck", "completed")
    assert (ended["failure"], ended["outcome"]) == ("unhealthy", None)
    assert "nan: the loss is nan at step" in ended["error"]
    wait_for(lambda: are_flagged(run), say="the flags")
    rows = run.jobs()
    well = rows["well"]["health"]
    assert (well["total"], well["loss"]) == (100_000, 0.25)
    assert well["step"] > 1
    assert rows["early"]["health"] is None
    assert rows["nan"]["health"]["loss"] is None
    assert rows["nan"]["health"]["flags"][0]["line"].endswith("loss nan")
    run.kill()  # the flags are in the journal: the next manager knows them, and tells of none twice
    run.start()
    wait_for(lambda: run.jobs()["well"]["health"]["step"], say="a look of the next manager")
    assert are_flagged(run)
    (run.directory / "go").touch()
    assert run.finish() == 3
    rows = run.jobs()
    assert rows["well"]["status"] == "completed"
    assert "before min_steps 1000000" in rows["well"]["warning"]
    alerts = [(one["job"], one["flag"]) for one in run.alerts() if one["kind"] == "unhealthy"]
    assert sorted(alerts) == [("ended", "nan"), ("nan", "nan"), ("stands", "stalled"), ("survivor", "oom_survived")]
