"""Train a teacher: a network that learns digits from their labels, and is kept as a checkpoint."""

from __future__ import annotations

import argparse
import random
from functools import partial
from pathlib import Path

import digits
import mlp


def main() -> int:
    """Train, print a line an epoch, write the checkpoint. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", type=int, required=True, help="hidden units")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rate", type=float, default=0.08, help="learning rate of the first epoch")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    rng = random.Random(args.seed)
    data = digits.load()
    network = mlp.Network.drawn(args.hidden, rng)
    print(f"teacher of {args.hidden} units, {network.parameters} parameters, {len(data.train)} digits", flush=True)
    losses = [partial(mlp.cross_entropy, wanted=mlp.one_hot(digit.label)) for digit in data.train]
    mlp.train(network, data.train, losses, data.test, epochs=args.epochs, rate=args.rate, rng=rng)
    accuracy = network.accuracy(data.test)
    network.save(args.out, {"N": args.hidden, "seed": args.seed, "accuracy": accuracy})
    print(f"saved {args.out}: {accuracy:.1%} of {len(data.test)} unseen digits right", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
