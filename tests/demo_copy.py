"""A copy of the repository's manifests with their demo, for a test that runs it."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.e2e.runs import ROOT

_EPOCHS = '"--epochs", type=int, default=30'


def copy_manifests(to: Path, *, full: bool = False) -> None:
    """Copy manifests/ to `to`. `full`: the demo trains for as long as it is written, most of a minute of CPU time in
    all; else for one epoch a job, which is the same way through everything else."""
    shutil.copytree(ROOT / "manifests", to, ignore=shutil.ignore_patterns("out", "experiment_queue", "__pycache__"))
    if full:
        return
    for name in ("train_teacher.py", "distill.py"):
        script = to / "demo" / name
        text = script.read_text(encoding="utf-8")
        assert _EPOCHS in text, f"{name} says its epochs in another way"
        script.write_text(text.replace(_EPOCHS, _EPOCHS.replace("30", "1")), encoding="utf-8")
