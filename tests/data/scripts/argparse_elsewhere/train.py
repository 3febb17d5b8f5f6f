import torch

from options import parse

if __name__ == "__main__":
    args = parse()
    torch.save({}, args.out)
