"""The research files with 10,000 runs: how long their commands take beside Python's own start, and `import click`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from skill.operations.research_projects import init_project
from skill.research.store import Store

ROUNDS, RUNS = 7, 10_000


def main() -> None:
    """Measure, and print a table."""
    with tempfile.TemporaryDirectory() as folder:
        rows = _rows(Path(folder))
    print(f"\nresearch files with {RUNS} runs: seconds beyond the start of Python (at most 1)")
    for name, took in rows:
        print(f"  {name:<44} {took:8.3f} s")


def _rows(folder: Path) -> list[tuple[str, float]]:
    workers = folder / "workers.yaml"
    init_project(workers, "Two moons", "Noise helps", "a loss below 0.3", "val_loss")
    run = {
        "project": "two-moons", "created": "2026-01-31T12:00:00Z", "priority": 0, "state": "done",
        "metrics": {"val_loss": {"json": "out/x.json", "key": "eval.loss", "goal": "min"}},
        "params": {"n": "384", "seed": "0"}, "started": "2026-01-31T12:00:00Z", "finished": "2026-01-31T12:30:00Z",
    }  # fmt: skip
    Store(workers).add("run", lambda _: [{**run, "command": f"python train.py --seed {n}"} for n in range(RUNS)])
    verbs = {
        "add-run": ("add-run", "--command", "python train.py --seed 0"),
        "check-runs, nothing new": ("check-runs",),
        "project-status": ("project-status",),
        "validate": ("validate",),
    }
    took: dict[str, list[float]] = {name: [] for name in verbs}
    for _ in range(ROUNDS):  # side by side: what else this machine does counts for all alike
        bare = _seconds(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True))
        for name, arguments in verbs.items():
            argv = [sys.executable, "-m", "skill", "research", *arguments]
            took[name].append(_seconds(lambda argv=argv: _call(argv, folder)) - bare)  # type: ignore[misc]
    return [(name, statistics.median(one)) for name, one in took.items()]


def _call(argv: list[str], folder: Path) -> None:
    root = str(Path(__file__).resolve().parents[1])
    done = subprocess.run(argv, cwd=folder, env={"PYTHONPATH": root}, stdout=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, (argv, done)


def _seconds(act: Callable[[], object]) -> float:
    before = time.perf_counter()
    act()
    return time.perf_counter() - before


if __name__ == "__main__":
    main()
