"""The page of a large run: how long it takes, and how large it is."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from queue_manager.core.layout import LOCAL_RUNS
from tests.skill.story import RUN_ID, Story, job, manifest

JOBS = 10_000
SECONDS, MIB = 5.0, 5.0
CARDS = 8


def write(root: Path) -> None:
    """Write a completed run of so many jobs, each on one of eight GPUs, with two metrics and a log of 100 lines."""
    names = [(f"s{n % 5}_N{n // 5 % 20}_lam{n // 100}", n % 5, n // 5 % 20, n // 100) for n in range(JOBS)]
    story = Story(
        manifest(
            *(
                job(
                    name,
                    gpus=1,
                    params={"seed": str(seed), "N": str(size), "lam": str(weight)},
                    metrics={"loss": {"json": "out.json", "key": "loss", "goal": "min"}},
                    expected_output=f"out/{name}.json",
                )._replace(
                    cmd=f"python distill.py --seed {seed} --n_hidden {size} --lam {weight} --out out/{name}.json"
                )
                for name, seed, size, weight in names
            )
        ),
        root,
    )
    for n, (name, *_) in enumerate(names):
        story.start(name, n % CARDS).end(name)
    story.write("finished")
    document = json.loads(story.paths.state.read_text())
    for n, row in enumerate(document["jobs"]):
        row["metrics"] = {"loss": 2.0 + n % 977 / 977, "accuracy": n % 611 / 611}
        lines = "".join(f"step {step}/100 loss={4.0 / (step + 1) + n % 7:.4f}\n" for step in range(100))
        story.paths.log(row["id"]).write_text(lines)
    story.paths.state.write_text(json.dumps(document))


def page() -> tuple[float, float]:
    """Seconds that `wavequeue report --html` takes in a process of its own, and the size of what it writes in MiB."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        root = Path(name) / LOCAL_RUNS / RUN_ID
        root.mkdir(parents=True)
        write(root)
        file = Path(name) / "report.html"
        command = [sys.executable, "-m", "skill", "report", "--run", str(root), "--html", str(file)]
        begun = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - begun, file.stat().st_size / (1 << 20)


def main() -> None:
    """Print the table."""
    seconds, size = page()
    print(f"  {f'page of {JOBS:,} jobs':32} {seconds:8.2f} s (at most {SECONDS:g})")
    print(f"  {'its size':32} {size:8.2f} MiB (at most {MIB:g})", flush=True)


if __name__ == "__main__":
    main()
