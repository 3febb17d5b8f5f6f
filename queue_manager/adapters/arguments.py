"""The options of commands that run on a host."""

from __future__ import annotations

import argparse
import functools

_WIDTH = 100
"""Columns of a help text. To ask for those of the terminal, as argparse does for every option also where no help is
wanted, would load shutil and with it three libraries for compression."""


def make_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Make a parser without options."""
    formatter = functools.partial(argparse.HelpFormatter, width=_WIDTH)
    return argparse.ArgumentParser(prog=prog, description=description, formatter_class=formatter)
