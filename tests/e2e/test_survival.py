"""The manager killed at any moment: nothing is lost, nothing runs twice, the state file is always whole."""

from __future__ import annotations

import contextlib
import random
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from queue_manager.core.manifest import Phase
from tests.e2e.runs import World, job, manifest, until

KILLS = 200
JOBS = 60


def _sixty() -> list[tuple[str, str]]:
    # They take about as long as the 200 kills: 60 jobs of 0.4 to 2 s, three at a time. The last waits for the kills.
    line = "echo begins; echo $WAVEQUEUE_JOB_ID $WAVEQUEUE_ATTEMPT >> starts; {}; echo done > out_$WAVEQUEUE_JOB_ID"
    waits = [f"sleep {0.4 + n % 5 * 0.4:.1f}" for n in range(JOBS - 1)]
    waits.append(until("enough"))
    return [(f"j{n}", line.format(wait)) for n, wait in enumerate(waits)]


def test_sigkill_200_times_at_random_moments(world: World) -> None:
    jobs = [
        job(name, cmd, expected_output=f"out_{name}", phase="a" if n < JOBS // 2 else "b")
        for n, (name, cmd) in enumerate(_sixty())
    ]
    run = world.run(manifest(*jobs, phases=(Phase("a"), Phase("b", ("a",))), max_parallel=3))
    stop, reads = threading.Event(), []

    def read() -> None:
        seen = None
        while not stop.is_set():
            with contextlib.suppress(FileNotFoundError):
                found = run.paths.state.stat()
                if (found.st_ino, found.st_mtime_ns, found.st_size) != seen:
                    seen = (found.st_ino, found.st_mtime_ns, found.st_size)
                    assert run.state()  # raises if it is not whole
                    reads.append(seen)
            time.sleep(0.005)

    rng, kills = random.Random(7), 0
    with ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as stack:
        reader = pool.submit(read)
        stack.callback(stop.set)
        while kills < KILLS:
            manager = run.start()
            try:
                manager.wait(timeout=rng.uniform(0.0, 0.2))
            except subprocess.TimeoutExpired:
                pass
            assert manager.poll() is None, f"ended after {kills} kills: {run.finish()} {run.stderr}"
            run.kill()
            kills += 1
        (run.directory / "enough").touch()
        assert run.go() == 0, run.stderr
    reader.result()
    assert set(run.statuses().values()) == {"completed"}
    starts = (run.directory / "starts").read_text().split("\n")[:-1]
    assert sorted(line.split()[0] for line in starts) == sorted(name for name, _ in _sixty())
    assert len(reads) > 10
    assert {path.read_bytes() for path in run.paths.log_dir.iterdir()} == {b"begins\n"}
    assert list(run.paths.attempts.iterdir()) == []
    assert world.sessions() == []
