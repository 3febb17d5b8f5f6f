import argparse
import sys

MODELS = {"resnet18": 512, "resnet50": 2048, "vit_b16": 768}


def build():
    parser = argparse.ArgumentParser()
    parser.add_argument("config", help="path of a YAML file")
    parser.add_argument("checkpoint", nargs="?", help="resume from here")
    parser.add_argument("--model", choices=sorted(MODELS.keys()), default="resnet18")
    parser.add_argument("--fold", type=int, choices=range(5), default=0)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--fp16", dest="precision", action="store_const", const="fp16")
    group.add_argument("--bf16", dest="precision", action="store_const", const="bf16")
    for name in ("train", "val"):
        parser.add_argument(f"--{name}-batch", type=int, default=8)
    parser.set_defaults(model="vit_b16")
    return parser


if __name__ == "__main__":
    known, rest = build().parse_known_args()
    sys.exit(0)
