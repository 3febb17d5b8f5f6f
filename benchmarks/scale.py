"""Scale: what 100,000 jobs cost beside 1,000: building, CPU per change of status, memory; and an idle manager's CPU."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.e2e.runs import Run, World, wait_for

SMALL, LARGE = 1_000, 100_000
MEASURED_JOBS = 700
BASE_MIB, KIB_PER_JOB = 40, 4
IDLE_SECONDS, IDLE_PENDING = 60, 1_000

SPEC = """\
project: scale
max_parallel: {parallel}
phases:
  - name: teachers
    grid: {{seed: [{seeds}], N: [1, 2, 3, 4, 5]}}
    template:
      id: "t${{seed}}_N${{N}}"
      gpus: 0
      cmd: {cmd} --seed ${{seed}} --n_hidden ${{N}} --out runs/s${{seed}}
  - name: students
    depends_on: teachers
    match: [seed, N]
    grid: {{seed: [{seeds}], N: [1, 2, 3, 4, 5]}}
    template:
      id: "s${{seed}}_N${{N}}"
      gpus: 0
      cmd: {cmd} --seed ${{seed}} --n_hidden ${{N}} --teacher runs/s${{seed}}/ckpt.pt
"""


def build(jobs: int, cmd: str, parallel: int, directory: Path) -> tuple[float, float]:
    """Write a spec of so many jobs and build it in a process of its own. Returns seconds, and its peak in MiB."""
    seeds = ", ".join(map(str, range(jobs // 10)))
    spec = directory / "spec.yaml"
    spec.write_text(SPEC.format(seeds=seeds, cmd=cmd, parallel=parallel))
    code = (
        "import resource, runpy, sys; sys.argv[0] = 'build_manifest'\n"
        "try: runpy.run_module('build_manifest', run_name='__main__')\n"
        "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, file=sys.stderr)"
    )
    argv = [sys.executable, "-c", code, "--config", str(spec), "--output", str(directory / "manifest.json")]
    begun = time.monotonic()
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return time.monotonic() - begun, float(done.stderr.split()[-1])


def cpu(manager: psutil.Process) -> float:
    """CPU seconds of the manager itself."""
    times = manager.cpu_times()
    return float(times.user + times.system)


def changes(run: Run) -> int:
    """Changes of status in the journal so far."""
    names = (b'"event":"AttemptStarting"', b'"event":"AttemptEnded"')
    data = run.paths.journal.read_bytes()
    return sum(data.count(name) for name in names)


def flow(jobs: int) -> tuple[float, float, tuple[float, float]]:
    """Milliseconds of CPU per change of status, peak memory in MiB, and what `build` gave."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        world = World(Path(name))
        try:
            run = Run(world, _directory(world), poll=5)
            built = build(jobs, "true", 4, run.directory)
            manager = psutil.Process(run.start().pid)
            wait_for(lambda: run.paths.journal.exists() and changes(run) > 100, say="the flow")
            begun, before = cpu(manager), changes(run)
            wait_for(lambda: changes(run) - before > MEASURED_JOBS * 2, 120, "the flow")
            used, seen = cpu(manager) - begun, changes(run) - before
            peak = _peak_mib(manager.pid)
            run.kill()
            return used / seen * 1000, peak, built
        finally:
            world.close()


def idle() -> float:
    """Percent of one core that a manager uses while jobs run, 1,000 wait, and nothing happens."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        world = World(Path(name))
        try:
            run = Run(world, _directory(world), poll=5)
            build(IDLE_PENDING, "sleep 1000 #", 4, run.directory)
            manager = psutil.Process(run.start().pid)
            wait_for(lambda: sum(status == "running" for status in run.statuses().values()) == 4)
            begun = cpu(manager)
            time.sleep(IDLE_SECONDS)
            used = cpu(manager) - begun
            run.kill()
            return used / IDLE_SECONDS * 100
        finally:
            world.close()


def _directory(world: World) -> Path:
    directory = world.root / "run"
    directory.mkdir()
    return directory


def _peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _bound(found: float, bound: float, unit: str) -> str:
    return f"{found:8.2f} {unit} (at most {bound:g})"


def main() -> None:
    """Print the table."""
    small, small_peak, _ = flow(SMALL)
    large, large_peak, (seconds, build_peak) = flow(LARGE)
    rows: list[tuple[str, Callable[[], str]]] = [
        (f"build of {LARGE:,} jobs", lambda: _bound(seconds, 10, "s")),
        ("its memory", lambda: _bound(build_peak, 1024, "MiB")),
        (f"CPU per change, {SMALL:,} jobs", lambda: f"{small:8.2f} ms"),
        (f"CPU per change, {LARGE:,} jobs", lambda: f"{large:8.2f} ms"),
        ("ratio", lambda: _bound(large / small, 2, "x")),
        (f"manager's peak, {SMALL:,} jobs", lambda: f"{small_peak:8.2f} MiB"),
        (f"manager's peak, {LARGE:,} jobs", lambda: f"{large_peak:8.2f} MiB"),
        ("over the base, per job", lambda: _bound((large_peak - BASE_MIB) * 1024 / LARGE, KIB_PER_JOB, "KiB")),
        (f"idle, {IDLE_PENDING:,} pending, {IDLE_SECONDS} s", lambda: _bound(idle(), 0.3, "% of a core")),
    ]
    for name, value in rows:
        print(f"  {name:32} {value()}", flush=True)


if __name__ == "__main__":
    main()
