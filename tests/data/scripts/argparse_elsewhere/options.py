from argparse import ArgumentParser


def parse():
    parser = ArgumentParser()
    parser.add_argument("--lr", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", default="model.pt")
    return parser.parse_args()
