"""Distil a student: a small network that learns from what a teacher answers, beside the labels."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import digits
import mlp


def distillation(
    logits: Sequence[float], label: Sequence[float], answer: Sequence[float], lam: float, temperature: float
) -> mlp.Loss:
    """Loss of a student: `lam` parts the teacher's softened `answer`, the rest the label (both probabilities).

    The soft part is scaled by the square of the temperature, which keeps its slope as large as the label's.
    """
    hard = mlp.cross_entropy(logits, label)
    soft = mlp.cross_entropy(logits, answer, temperature)
    scale = lam * temperature * temperature
    slope = [(1 - lam) * h + scale * s for h, s in zip(hard.slope, soft.slope)]
    return mlp.Loss((1 - lam) * hard.value + scale * soft.value, slope)


def main() -> int:
    """Distil, print a line an epoch, write the metrics. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", type=Path, required=True, help="the teacher's checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of metrics to write")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--hidden", type=int, default=8, help="hidden units of the student")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rate", type=float, default=0.03, help="learning rate of the first epoch")
    parser.add_argument("--lam", type=float, default=0.5, help="weight of the teacher's answers, 0 to 1")
    parser.add_argument("--temperature", type=float, default=3.0)
    args = parser.parse_args()

    try:
        teacher, facts = mlp.load(args.teacher)
    except mlp.CheckpointError as error:
        print(f"distill.py: {error}; make it with train_teacher.py --out {args.teacher}", file=sys.stderr)
        return 1
    rng = random.Random(args.seed)
    data = digits.load()
    student = mlp.Network.drawn(args.hidden, rng)
    print(f"student of {args.hidden} units learns from {args.teacher}, {facts['accuracy']:.1%}", flush=True)
    losses = [
        partial(
            distillation,
            label=mlp.one_hot(digit.label),
            answer=mlp.softmax(teacher.logits(digit.pixels), args.temperature),
            lam=args.lam,
            temperature=args.temperature,
        )
        for digit in data.train
    ]
    seconds = mlp.train(student, data.train, losses, data.test, epochs=args.epochs, rate=args.rate, rng=rng)
    metrics = {
        "N": facts["N"],
        "seed": args.seed,
        "student_accuracy": student.accuracy(data.test),
        "teacher_accuracy": facts["accuracy"],
        "student_parameters": student.parameters,
        "teacher_parameters": teacher.parameters,
        "seconds": round(seconds, 3),
    }
    mlp.write_json(args.out, metrics)
    print(f"saved {args.out}: student {metrics['student_accuracy']:.1%}, teacher {facts['accuracy']:.1%}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
