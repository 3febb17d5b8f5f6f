"""Train a small classifier."""

import argparse
import json
from pathlib import Path

import torch

DEFAULT_LR = 3e-4


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("-l", "--lr", "--learning-rate", type=float, default=DEFAULT_LR, help="step size of AdamW")
    parser.add_argument("--batch-size", "-b", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10, metavar="N", help="passes over the data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--optimizer", choices=["adamw", "sgd", "lion"], default="adamw")
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--betas", type=float, nargs=2, default=[0.9, 0.999])
    parser.add_argument("--layers", nargs="+", type=int, default=(128, 64))
    parser.add_argument("-v", "--verbose", action="count", default=0)
    parser.add_argument("--debug-secret", help=argparse.SUPPRESS)
    parser.add_argument(
        "--output", type=Path, default=Path("results/run.json"), help="where the metrics go, as %(type)s"
    )
    parser.add_argument("--version", action="version", version="1.0")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps({"lr": args.lr}))


if __name__ == "__main__":
    main()
