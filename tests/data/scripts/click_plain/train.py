import json
from pathlib import Path

import click
import torch


@click.command(context_settings={"show_default": True})
@click.option("--lr", default=1e-3, show_default=True, help="Learning rate.")
@click.option("--seed", "-s", type=int, default=0)
@click.option("--model", type=click.Choice(["small", "base", "large"], case_sensitive=False), default="base")
@click.option("--shout/--no-shout", default=False)
@click.option("--dry", is_flag=True, help="Only look.")
@click.option("--layer", "layers", multiple=True, type=int, default=[1, 2])
@click.option("--size", nargs=2, type=int)
@click.option("--token", envvar="HF_TOKEN", help="Taken from the environment.")
@click.option("--out", "target", type=click.Path(path_type=Path), default="run.json")
@click.argument("data", type=click.Path())
def main(lr, seed, model, shout, dry, layers, size, token, target, data):
    """Train MODEL on DATA."""
    torch.manual_seed(seed)
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps({"lr": lr, "data": str(data)}))


if __name__ == "__main__":
    main()
