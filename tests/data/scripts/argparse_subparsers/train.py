import argparse

import torch


def add_common(p):
    p.add_argument("--seed", type=int, default=1234, help="random seed")
    p.add_argument("--learning_rate", type=float, default=0.001)


def get_args(argv=None):
    parser = argparse.ArgumentParser("tool")
    parser.add_argument("--device", default="cuda:0", help="device to run on")
    parser.add_argument("--data", required=True, help="folder with the prepared shards")
    sub = parser.add_subparsers(dest="command", required=True)
    prepare = sub.add_parser("prepare", help="make shards")
    prepare.add_argument("--shards", type=int, default=16)
    train = sub.add_parser("train", help="train a model")
    add_common(train)
    opt = train.add_argument_group("optimisation")
    opt.add_argument("--warmup", type=int, default=500)
    opt.add_argument("--save-dir", default="checkpoints", help="folder of the checkpoints")
    evaluate = sub.add_parser("eval", help="evaluate a checkpoint")
    evaluate.add_argument("checkpoint")
    return parser.parse_args(argv)


if __name__ == "__main__":
    args = get_args()
    torch.device(args.device)
