"""The manager killed at any moment: nothing is lost, nothing runs twice, the state file is always whole."""

from __future__ import annotations

import random
import subprocess
import threading
import time

from queue_manager.core.manifest import Phase
from tests.e2e.runs import World, job, manifest

KILLS = 200
JOBS = 60


def _sixty() -> list[tuple[str, str]]:
    # Long enough that the 200 kills fit in: 60 jobs of 1.4 to 3.8 s, three at a time.
    line = (
        "echo begins; echo $WAVEQUEUE_JOB_ID $WAVEQUEUE_ATTEMPT >> starts; sleep {n}; echo done > out_$WAVEQUEUE_JOB_ID"
    )
    return [(f"j{n}", line.format(n=1.4 + n % 5 * 0.6)) for n in range(JOBS)]


def test_sigkill_200_times_at_random_moments(world: World) -> None:
    jobs = [
        job(name, cmd, expected_output=f"out_{name}", phase="a" if n < JOBS // 2 else "b")
        for n, (name, cmd) in enumerate(_sixty())
    ]
    run = world.run(manifest(*jobs, phases=(Phase("a"), Phase("b", ("a",))), max_parallel=3))
    stop, reads = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            if run.state():  # raises if it is not whole
                reads.append(1)
            time.sleep(0.005)

    reader = threading.Thread(target=read)
    reader.start()
    rng, kills = random.Random(7), 0
    try:
        while kills < KILLS:
            manager = run.start()
            try:
                # Most kills come while it works; it needs about 0.15 s to begin.
                manager.wait(timeout=rng.uniform(0.0, 0.35))
            except subprocess.TimeoutExpired:
                pass
            assert manager.poll() is None, f"ended after {kills} kills: {run.finish()} {run.stderr}"
            run.kill()
            kills += 1
        assert run.go() == 0, run.stderr
    finally:
        stop.set()
        reader.join()
    assert set(run.statuses().values()) == {"completed"}
    starts = (run.directory / "starts").read_text().split("\n")[:-1]
    assert sorted(line.split()[0] for line in starts) == sorted(name for name, _ in _sixty())
    assert len(reads) > 10
    assert {path.read_bytes() for path in run.paths.log_dir.iterdir()} == {b"begins\n"}
    assert list(run.paths.attempts.iterdir()) == []
    assert world.sessions() == []
