import enum
import functools

import click


class Precision(enum.Enum):
    fp32 = "32"
    bf16 = "b16"


def common_options(function):
    @click.option("--seed", default=0)
    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapped


@click.command(name="fit")
@common_options
@click.option("--precision", type=click.Choice(Precision), default=Precision.fp32)
@click.option("--dropout", type=click.FloatRange(0, 1), default=0.1, help="Share of units")
def fit_command(precision, dropout, seed):
    pass


if __name__ == "__main__":
    fit_command()
