import typer

cli = typer.Typer()


@cli.callback()
def setup(verbose: bool = False):
    """Shared by all commands."""


@cli.command("fit-all", help="Fit every model")
def fit(name: str = typer.Argument("base"), folds: int = typer.Option(5, "--folds", help="Parts of the data")):
    pass


@cli.command()
def export_onnx(path: str = typer.Option(..., help="File")):
    pass


if __name__ == "__main__":
    cli()
