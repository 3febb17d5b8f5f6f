"""The progress that logs show, by a gallery of the forms that are known; index.json names the source of each."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from queue_manager.core.log_text import plain_lines
from queue_manager.core.progress_forms import Progress, ProgressReader, worth_reading

_GALLERY = Path(__file__).parent.parent / "data" / "progress"
_CASES: dict[str, dict[str, Any]] = json.loads((_GALLERY / "index.json").read_text())


def _read(text: str, progress: str | None = None, loss: str | None = None) -> ProgressReader:
    reader = ProgressReader(progress, loss)
    for line in plain_lines(text.encode()):
        reader.take(line)
    return reader


def test_the_progress_of_a_log_is_what_it_says() -> None:
    wrong = {name: found for name in sorted(_CASES) if not _fits(_CASES[name], found := _progress_of(name))}
    assert wrong == {}


def _progress_of(name: str) -> tuple[Progress, bool]:
    """The progress in a log of the gallery, and whether the job was busy with something else."""
    reader = ProgressReader()
    for line in plain_lines((_GALLERY / f"{name}.log").read_bytes()):
        reader.take(line)
    return reader.progress, reader.busy


def _fits(case: dict[str, Any], read: tuple[Progress, bool]) -> bool:
    found, busy = read
    is_loss = math.isnan(found.loss or 0.0) if case["loss"] == "nan" else found.loss == case["loss"]
    is_rate = found.rate is None if case["rate"] is None else found.rate == pytest.approx(case["rate"])
    steps = (found.step, found.total) == (case["step"], case["total"])
    return steps and is_loss and bool(is_rate) and busy == (case["busy"] or case["step"] is None)


def test_each_log_of_the_gallery_has_its_row_and_its_source() -> None:
    assert {path.stem for path in _GALLERY.glob("*.log")} == set(_CASES)
    assert all(case["source"].strip() for case in _CASES.values())
    assert sum(case["source"].startswith("shortened, names replaced: https://") for case in _CASES.values()) >= 20


def test_an_own_expression_says_step_and_total_and_the_known_forms_are_passed_over() -> None:
    reader = _read("step 9/10\nat 1,200 of 5000 now\n", progress=r"at ([\d,]+) of (\d+)")
    assert (reader.progress.step, reader.progress.total) == (1200, 5000)
    assert _read("at 7 now\nstep 9/10\n", progress=r"at (\d+)").progress[:2] == (7, None)


def test_an_own_expression_says_the_loss() -> None:
    assert _read("step 3 loss 9.5 nll=0.25\n", loss=r"nll=(\S+)").progress[:3] == (3, None, 0.25)
    assert _read("step 3 loss 9.5 nll=many\n", loss=r"nll=(\S+)").progress.loss is None


@pytest.mark.parametrize(
    ("text", "loss"),
    [
        ("val_loss: 0.3", None), ("val loss 0.3", None), ("eval/loss=0.3", None), ("loss_scale: 65536", None),
        ("loss scale: 65536", None), ("lossless 3", None), ("loss: info", None), ("'eval_loss': 0.3", None),
        ("train/loss=0.3", 0.3), ("Loss: tensor(0.3, device='cuda:0')", 0.3), ("loss=-1.5e-3,", -0.0015),
        ("val_loss=0.9 loss=0.3", 0.3), ("box_loss 0.3", None), ("loss=.5", 0.5), ("loss: -inf", -math.inf),
        ("avr_loss=0.12", 0.12), ("Mean entropy loss: 1.3", None), ("cross entropy loss: 1.3", 1.3),
        ("Surrogate loss: -0.01", None), ("Value function loss: 7.0", None),
    ],
)  # fmt: skip
def test_a_loss_is_that_of_the_training(text: str, loss: float | None) -> None:
    assert _read(text + "\n").progress.loss == loss


@pytest.mark.parametrize(
    "text", ["error_rate 3/10", "Processed 40% 12/30 files",
             "Step 1: prepare the data", "max_steps=100", "num_iterations: 7", "batch size 32",
             "epochs: 10", "epoch_size 40", "wandb: train/global_step 500", "11/29 10:00 nothing", "Epoch 0.4 done"],
)  # fmt: skip
def test_a_number_that_is_no_step_is_none(text: str) -> None:
    assert _read(text + "\n").progress.step is None


def test_a_bar_of_another_total_while_the_training_goes_on_is_not_its_bar() -> None:
    bar = "{n:3d}%|####      | {n}/{total} [00:01<00:10, 5.0it/s]"
    lines = [bar.format(n=n, total=100) for n in (1, 50)] + [bar.format(n=n, total=20) for n in (1, 20)]
    reader = _read("\r".join(lines))
    assert reader.progress[:2] == (50, 100)
    assert reader.busy
    reader.take(bar.format(n=51, total=100))
    assert reader.progress.step == 51
    assert not reader.busy


def test_of_many_lines_those_are_read_that_say_something_else() -> None:
    bars = [f"{n // 40:3d}%|####      | {n}/4000 [00:01<00:10, 5.0it/s]" for n in range(4000)]
    lines = ["Epoch 1/3", *bars[:2000], "{'loss': 0.25, 'epoch': 0.5}", *bars[2000:], *bars[:3]]
    chosen = worth_reading(lines)
    assert len(chosen) < 60
    reader = ProgressReader()
    for line in chosen:
        reader.take(line)
    assert reader.progress[:3] == (2, 12000, 0.25)
