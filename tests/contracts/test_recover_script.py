"""What a rung of `recover` runs before the job's command, by the real wrapper: where, how long, and how it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from queue_manager.core.manifest import JobSpec, Manifest, Phase
from queue_manager.core.recover_policy import Rung
from queue_manager.launchers import script
from tests.contracts.test_script import RUN, Bench, bench

__all__ = ["bench"]


def go(bench: Bench, command: str, timeout: float = 60.0) -> tuple[int | None, int | None, list[str]]:
    """Run one attempt to its end. Returns what the command of the rung ended with, what the job did, and its lines."""
    bench.n += 1
    spec = JobSpec("job", "echo trains with $SEED; exit 3", "main", env={"SEED": "7"})
    given = script.Given(prelude=Rung("run", command, timeout))
    text = script.job_script(Manifest("p", (spec,), (Phase("main"),)), spec, RUN, bench.n, (), str(bench.cwd), given)
    bench.run_dir.prepare_attempt("job", bench.n, text, ())
    output, _ = bench.wrapper().communicate(timeout=150)
    return bench.run_dir.recovered("job", bench.n), bench.code(), output.decode().splitlines()


def test_it_runs_in_the_cwd_and_the_environment_of_the_job(bench: Bench) -> None:
    found = go(bench, "echo fixes $SEED > fixed")
    assert found == (0, 3, ["wavequeue: recover: echo fixes $SEED > fixed", "trains with 7"])
    assert Path(bench.cwd, "fixed").read_text(encoding="utf-8") == "fixes 7\n"


@pytest.mark.parametrize(("command", "code"), [("exit 5", 5), ("false | cat", 1), ("no-such-command", 127)])
def test_its_failure_is_said_and_the_job_runs_all_the_same(bench: Bench, command: str, code: int) -> None:
    recovered, own, lines = go(bench, command)
    assert (recovered, own) == (code, 3)
    assert lines[-2:] == ["wavequeue: recover: that failed, but the job starts anyway", "trains with 7"]


def test_it_is_ended_when_its_time_is_over(bench: Bench) -> None:
    assert go(bench, "sleep 600", timeout=0.2)[:2] == (124, 3)


def test_an_attempt_without_one_tells_of_none(bench: Bench) -> None:
    assert bench.go("exit 3")[0] == 3
    assert bench.run_dir.recovered("job", bench.n) is None
