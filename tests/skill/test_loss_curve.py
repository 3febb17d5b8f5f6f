"""Losses read from the logs of jobs."""

from __future__ import annotations

import pytest

from skill.reports import loss_curve

BARS = """ 10%|# | 5/50 [00:05<00:45, 1.0it/s]
{'loss': 2.0, 'epoch': 0.1}

 20%|## | 10/50 [00:10<00:40, 1.0it/s]
{'loss': 1.5, 'epoch': 0.2}
"""
STEPS_OF_ALL = """steps:   1%|# | 1/80 [00:01<01:19, 1.0it/s, avr_loss=0.2]
epoch 2/80
steps:   2%|# | 2/80 [00:02<01:18, 1.0it/s, avr_loss=0.1]
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("step 1/9 loss=2.5\nstep 2/9 loss=1e-1\n", [(1, 2.5), (2, 0.1)]),
        ("iter 0: loss 4.2, time 21ms\niter 10: loss 3.1, time 20ms\n", [(0, 4.2), (10, 3.1)]),
        ("{'loss': 2.0, 'grad_norm': 1.0, 'epoch': 0.1}\n{'loss': 1.5, 'epoch': 0.2}\n", [(0.1, 2.0), (0.2, 1.5)]),
        (" 10%|█  | 1/10 [00:01<00:09, loss=2.0]\r 20%|██ | 2/10 [00:02<00:08, loss=1.0]\r", [(1, 2.0), (2, 1.0)]),
        ("Epoch 1/3\n 5/10 [==>..] - loss: 0.9\nEpoch 2/3\n 9/10 [==>..] - loss: 0.8\n", [(5, 0.9), (19, 0.8)]),
        ("Epoch 1 train_loss: 3\nEpoch 2 train_loss: 2\n", [(1, 3), (2, 2)]),
        ("loss: 3\nloss: 2\nloss: 1\n", [(1, 3), (2, 2), (3, 1)]),
        ("step 5 loss 3\nstep 2 loss 2\n", [(1, 3), (2, 2)]),  # it began anew: the losses are counted
        ("step 1 loss nan\nstep 2 loss 1\n", []),
        ("glossy=3\nlossless 4\nthe loss of 3 files\n", []),
        ("step 1 val_loss=3\nstep 2 val_loss=2\n", []),  # of another set
        ("step 1 eval/loss=3\nstep 2 eval/loss=2\n", []),
        ("step 1 train/loss=3\nstep 2 train/loss=2\n", [(1, 3), (2, 2)]),
        ("", []),
        ("[rank0]: step 1 loss 3\n[rank1]: step 1 loss 9\n[rank0]: step 2 loss 2\n", [(1, 3), (2, 2)]),
        (
            "\r".join(f" 1%|# | {n}/9 [00:01<00:09, 1.0it/s, loss={5 - n - m}]" for n in (1, 2) for m in (0, 1)),
            [(1, 3), (2, 2)],
        ),
        (BARS, [(5, 2.0), (10, 1.5)]),
        ("epoch 1 loss 4\n" * 3 + "epoch 2 loss 1\n" * 2, [(1, 4), (2, 4), (3, 4), (4, 1), (5, 1)]),
        (STEPS_OF_ALL, [(1, 0.2), (2, 0.1)]),
        ("Learning iteration 1/9\nValue function loss: 7\nLearning iteration 2/9\nSurrogate loss: -1\n", []),
    ],
)
def test_losses_are_read_from_the_forms_that_logs_have(text: str, expected: list[tuple[float, float]]) -> None:
    assert loss_curve.points(text) == expected


def test_a_long_curve_keeps_its_ends() -> None:
    found = loss_curve.points("".join(f"step {n} loss={n}\n" for n in range(5000)))
    assert len(found) == loss_curve.POINTS
    assert all(step == loss for step, loss in found)
    assert (found[0], found[-1]) == ((0, 0), (4999, 4999))
