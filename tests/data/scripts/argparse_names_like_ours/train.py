import argparse

parser = argparse.ArgumentParser(prefix_chars="-+")
parser.add_argument("--id", default="base", help="a name for the logs: #1")
parser.add_argument("--GPU", type=int, default=0)
parser.add_argument("--prompt", default='Say: {{ name }} ${HOME} it\'s "so"', help="text: with 'quotes' # and signs")
parser.add_argument("--weight-decay", type=float, default=-1e-2)
parser.add_argument("--weight_decay", type=float, help="the same, as an older script wrote it")
parser.add_argument("--temperature", type=float, default=0.7)
parser.add_argument("--tags", action="append", default=[])
parser.add_argument("--empty", default="")
args = parser.parse_args()
print(args.temperature)
