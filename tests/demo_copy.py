"""A copy of the repository's manifests with their demo, for a test that runs it."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

from tests.e2e.runs import ROOT

_LESS = {
    "train_teacher.py": ('"--epochs", type=int, default=4', '"--epochs", type=int, default=1'),
    "distill.py": ('"--epochs", type=int, default=4', '"--epochs", type=int, default=1'),
    "digits.py": ("TRAINING_ROWS = 1200", "TRAINING_ROWS = 20"),
}
_ROWS = 30


def copy_manifests(to: Path, *, full: bool = False) -> None:
    """Copy manifests/ to `to`. `full`: the demo trains for as long as it is written, some seconds of CPU time in
    all; else for one epoch a job on few of the digits, which is the same way through everything else."""
    shutil.copytree(ROOT / "manifests", to, ignore=shutil.ignore_patterns("out", "experiment_queue", "__pycache__"))
    if not full:
        shorten(to)


def shorten(to: Path) -> None:
    """Make the demo of a copy short."""
    for name, (written, less) in _LESS.items():
        script = to / "demo" / name
        text = script.read_text(encoding="utf-8")
        assert written in text, f"{name} says it in another way"
        script.write_text(text.replace(written, less), encoding="utf-8")
    data = to / "demo" / "digits.csv.gz"
    data.write_bytes(gzip.compress(b"".join(gzip.decompress(data.read_bytes()).splitlines(keepends=True)[:_ROWS])))
