"""Start-up: how long a command takes beside what it cannot do without, `import click` or `ssh HOST true`."""

from __future__ import annotations

import compileall
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.commands import run
from benchmarks.hosts import PLAIN, reached, seconds
from queue_manager.core.layout import LOCAL_RUNS
from tests.e2e.runs import ROOT
from tests.laptop import SPEC, Laptop, finish
from tests.skill.story import RUN_ID, Story, job, manifest

ROUNDS, JOBS = 9, 200


def main() -> None:
    """Measure, and print a table."""
    for package in ("skill", "queue_manager", "build_manifest"):  # as it is once installed
        compileall.compile_dir(ROOT / package, quiet=1)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        laptop = Laptop(Path(folder))
        try:
            rows = _rows(laptop)
        finally:
            laptop.close()
    print("\nstart-up")
    for name, value in rows:
        print(f"  {name:<44} {value}")


def _rows(laptop: Laptop) -> list[tuple[str, str]]:
    Story(manifest(*(job(f"j{n}") for n in range(JOBS))), laptop.project / LOCAL_RUNS / RUN_ID).write("finished")
    host = laptop.host("gpu-a", new=True, network=PLAIN)
    laptop.spec(SPEC)
    submitted = laptop.submit()["run_id"]
    finish(host, submitted)
    first = seconds(lambda: run(laptop, "status", "--run", submitted))
    click, shown, local, bare, remote = [], [], [], [], []
    for _ in range(ROUNDS):  # side by side: what else this machine does counts for all alike
        click.append(seconds(lambda: subprocess.run([sys.executable, "-c", "import click"], check=True)))
        shown.append(seconds(lambda: run(laptop, "--help")))
        local.append(seconds(lambda: run(laptop, "status", "--run", RUN_ID)))
        bare.append(seconds(lambda: reached(host)))
        remote.append(seconds(lambda: run(laptop, "status", "--run", submitted)))
    base, way = statistics.median(click), statistics.median(bare)
    return [
        ("python -c 'import click'", f"{base:8.3f} s"),
        ("wavequeue --help", _ratio(shown, base, "at most 2.5")),
        (f"status of a run here, {JOBS} jobs", _ratio(local, base, "at most 4")),
        ("ssh HOST true", f"{way:8.3f} s"),
        ("status of a run on one host", _ratio(remote, way, "at most 1.6")),
        ("the first one after submit", f"{first:8.3f} s, {first / way:.2f} x"),
    ]


def _ratio(took: list[float], base: float, bound: str) -> str:
    middle = statistics.median(took)
    return f"{middle:8.3f} s, {middle / base:.2f} x ({bound})"


if __name__ == "__main__":
    main()
