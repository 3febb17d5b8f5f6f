"""A network with one hidden layer, its gradient, stochastic gradient descent and checkpoints. Plain Python.

64 pixels -> tanh units -> 10 scores (logits). A layer is one row of weights for each unit, the bias at the row's end.
"""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Callable, Sequence
from operator import mul
from pathlib import Path
from typing import Any, NamedTuple

from digits import CLASSES, PIXELS, Digit

FORMAT = "wavequeue-demo-mlp"


class CheckpointError(Exception):
    """A checkpoint is missing or is none of ours; the message is one line."""


class Loss(NamedTuple):
    """How wrong the logits are, and the slope of that by each logit."""

    value: float
    slope: list[float]


class Gradient(NamedTuple):
    """The slope of one example's loss, factored: weight (unit, input) has `delta[unit] * input`, a bias its delta."""

    loss: float
    activity: list[float]
    hidden_delta: list[float]
    output_delta: list[float]


class Network:
    """The weights of both layers."""

    def __init__(self, hidden: list[list[float]], output: list[list[float]]) -> None:
        self.hidden, self.output = hidden, output

    @classmethod
    def drawn(cls, hidden: int, rng: random.Random) -> Network:
        """A network of `hidden` units that has learned nothing yet."""
        return cls([_row(PIXELS, rng) for _ in range(hidden)], [_row(hidden, rng) for _ in range(CLASSES)])

    @property
    def parameters(self) -> int:
        """How many weights and biases there are."""
        return sum(map(len, self.hidden)) + sum(map(len, self.output))

    def activity(self, pixels: Sequence[float]) -> list[float]:
        """What the hidden units say to an image, each from -1 to 1."""
        return [math.tanh(sum(map(mul, row, pixels)) + row[-1]) for row in self.hidden]

    def logits(self, pixels: Sequence[float]) -> list[float]:
        """Ten scores; the highest names the digit."""
        return self._scores(self.activity(pixels))

    def gradient(self, pixels: Sequence[float], loss_of: Callable[[list[float]], Loss]) -> Gradient:
        """The loss of one image and its slope by every weight; `loss_of` judges the logits."""
        activity = self.activity(pixels)
        loss = loss_of(self._scores(activity))
        back = [0.0] * len(activity)
        for slope, row in zip(loss.slope, self.output):
            back = [sum_ + slope * weight for sum_, weight in zip(back, row)]
        delta = [sum_ * (1 - unit * unit) for sum_, unit in zip(back, activity)]
        return Gradient(loss.value, activity, delta, loss.slope)

    def descend(self, pixels: Sequence[float], gradient: Gradient, rate: float) -> None:
        """Move every weight down the slope by `rate` times its steepness."""
        _step(self.hidden, [*pixels, 1.0], gradient.hidden_delta, rate)
        _step(self.output, [*gradient.activity, 1.0], gradient.output_delta, rate)

    def accuracy(self, digits: Sequence[Digit]) -> float:
        """Share of the digits that get the highest score, 0 to 1."""
        return sum(best(self.logits(digit.pixels)) == digit.label for digit in digits) / len(digits)

    def save(self, path: Path, facts: dict[str, Any]) -> None:
        """Write a checkpoint, `facts` beside the weights. Whoever reads it finds all of it or none."""
        write_json(path, {"format": FORMAT, **facts, "hidden": self.hidden, "output": self.output})

    def _scores(self, activity: Sequence[float]) -> list[float]:
        return [sum(map(mul, row, activity)) + row[-1] for row in self.output]


def load(path: Path) -> tuple[Network, dict[str, Any]]:
    """Read a checkpoint: the network, and the facts saved with it. Raises CheckpointError."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error.strerror}") from None
    except ValueError:
        raise CheckpointError(f"the checkpoint {path} is not valid JSON") from None
    if not isinstance(facts, dict) or facts.pop("format", None) != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of this demo")
    return Network(facts.pop("hidden"), facts.pop("output")), facts


def write_json(path: Path, value: Any) -> None:
    """Write a file that is whole whenever it is seen: under another name first, then renamed."""
    text = json.dumps(value) + "\n"
    if path.exists() and not path.is_file():  # such as /dev/null, which root could replace
        path.write_text(text, encoding="utf-8")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def softmax(logits: Sequence[float], temperature: float = 1.0) -> list[float]:
    """Logits as probabilities; a higher temperature makes them more even."""
    top = max(logits)
    powers = [math.exp((logit - top) / temperature) for logit in logits]
    total = sum(powers)
    return [power / total for power in powers]


def cross_entropy(logits: Sequence[float], wanted: Sequence[float], temperature: float = 1.0) -> Loss:
    """Distance of the logits' probabilities from the wanted ones, both at `temperature`."""
    given = softmax(logits, temperature)
    value = -sum(share * math.log(max(guess, 1e-300)) for share, guess in zip(wanted, given))
    return Loss(value, [(guess - share) / temperature for share, guess in zip(wanted, given)])


def one_hot(label: int) -> list[float]:
    """All probability on one digit."""
    return [float(digit == label) for digit in range(CLASSES)]


def best(logits: Sequence[float]) -> int:
    """The digit with the highest score."""
    return max(range(CLASSES), key=logits.__getitem__)


def train(
    network: Network,
    digits: Sequence[Digit],
    losses: Sequence[Callable[[list[float]], Loss]],
    test: Sequence[Digit],
    *,
    epochs: int,
    rate: float,
    rng: random.Random,
) -> float:
    """Learn from `digits`, `losses[i]` judging the i-th; one line an epoch. Returns the seconds it took."""
    began = time.monotonic()
    order = list(range(len(digits)))
    for epoch in range(1, epochs + 1):
        rng.shuffle(order)
        total = 0.0
        for index in order:
            pixels = digits[index].pixels
            gradient = network.gradient(pixels, losses[index])
            # A rate that falls towards the end lets the weights settle.
            network.descend(pixels, gradient, rate * (1 - 0.9 * (epoch - 1) / epochs))
            total += gradient.loss
        print(
            f"epoch {epoch:3}/{epochs}  loss {total / len(digits):.4f}  test accuracy {network.accuracy(test):.3f}"
            f"  {time.monotonic() - began:.1f} s",
            flush=True,
        )
    return time.monotonic() - began


def _row(inputs: int, rng: random.Random) -> list[float]:
    spread = 1 / math.sqrt(inputs)  # small enough that no unit starts saturated
    return [*(rng.gauss(0, spread) for _ in range(inputs)), 0.0]


def _step(layer: list[list[float]], inputs: Sequence[float], delta: Sequence[float], rate: float) -> None:
    felt = [(index, value) for index, value in enumerate(inputs) if value]  # half of the pixels are 0
    for row, slope in zip(layer, delta):
        pull = rate * slope
        for index, value in felt:
            row[index] -= pull * value
