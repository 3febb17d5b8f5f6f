import click

SIZES = ("tiny", "small")


@click.group()
@click.option("--config", required=True, type=click.Path(), help="Settings that all commands share.")
@click.pass_context
def cli(ctx, config):
    """Tools of the paper."""


@cli.command("prepare-data")
@click.option("--workers", default=4)
def prepare(workers):
    pass


@cli.command()
@click.option("--learning-rate", type=float, default=5e-4)
@click.option("--seed", default=17, type=click.INT)
@click.option("--size", type=click.Choice(SIZES), default="tiny")
@click.option("--output-dir", default="outputs")
def train_model(learning_rate, seed, size, output_dir):
    """Train."""


@cli.group()
def report():
    pass


@report.command()
def table():
    pass


if __name__ == "__main__":
    cli()
