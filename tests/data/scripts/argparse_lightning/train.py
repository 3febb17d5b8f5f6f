"""A script of several years, with types of its own."""

from argparse import ArgumentParser

import pytorch_lightning as pl


def str2bool(text):
    return text.lower() in ("1", "true", "yes")


class Model(pl.LightningModule):
    @staticmethod
    def add_model_specific_args(parent_parser):
        parser = ArgumentParser(parents=[parent_parser], add_help=False)
        parser.add_argument("--hidden_dim", type=int, default=128, help="units of the hidden layer")
        parser.add_argument("--encoder_lr", type=float, default=2e-5)
        parser.add_argument("--use_ema", type=str2bool, default="true")
        return parser


def cli_main():
    parser = ArgumentParser(add_help=False)
    parser.add_argument("--random_seed", default=42, type=int)
    parser.add_argument("--default_root_dir", default=None)
    parser = Model.add_model_specific_args(parser)
    args = parser.parse_args()
    pl.seed_everything(args.random_seed)


if __name__ == "__main__":
    cli_main()
