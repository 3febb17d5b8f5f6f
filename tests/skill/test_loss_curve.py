"""Losses read from the logs of jobs."""

from __future__ import annotations

import pytest

from skill.reports import loss_curve


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("step 1/9 loss=2.5\nstep 2/9 loss=1e-1\n", [(1, 2.5), (2, 0.1)]),
        ("iter 0: loss 4.2, time 21ms\niter 10: loss 3.1, time 20ms\n", [(0, 4.2), (10, 3.1)]),
        ("{'loss': 2.0, 'grad_norm': 1.0, 'epoch': 0.1}\n{'loss': 1.5, 'epoch': 0.2}\n", [(0.1, 2.0), (0.2, 1.5)]),
        (" 10%|█  | 1/10 [00:01<00:09, loss=2.0]\r 20%|██ | 2/10 [00:02<00:08, loss=1.0]\r", [(1, 2.0), (2, 1.0)]),
        ("Epoch 1/3\n 5/10 [==>..] - loss: 0.9\nEpoch 2/3\n 9/10 [==>..] - loss: 0.8\n", [(5, 0.9), (9, 0.8)]),
        ("Epoch 1 train_loss: 3\nEpoch 2 train_loss: 2\n", [(1, 3), (2, 2)]),
        ("loss: 3\nloss: 2\nloss: 1\n", [(1, 3), (2, 2), (3, 1)]),
        ("step 5 loss 3\nstep 2 loss 2\n", [(1, 3), (2, 2)]),  # it began anew: the losses are counted
        ("step 1 loss nan\nstep 2 loss 1\n", []),
        ("glossy=3\nlossless 4\nthe loss of 3 files\n", []),
        ("step 1 val_loss=3\nstep 2 val_loss=2\n", []),  # of another set
        ("step 1 eval/loss=3\nstep 2 eval/loss=2\n", []),
        ("step 1 train/loss=3\nstep 2 train/loss=2\n", [(1, 3), (2, 2)]),
        ("", []),
    ],
)
def test_losses_are_read_from_the_forms_that_logs_have(text: str, expected: list[tuple[float, float]]) -> None:
    assert loss_curve.points(text) == expected


def test_a_long_curve_keeps_its_ends() -> None:
    found = loss_curve.points("".join(f"step {n} loss={n}\n" for n in range(5000)))
    assert len(found) == loss_curve.POINTS
    assert all(step == loss for step, loss in found)
    assert (found[0], found[-1]) == ((0, 0), (4999, 4999))
