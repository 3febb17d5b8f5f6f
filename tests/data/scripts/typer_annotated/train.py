from enum import Enum
from pathlib import Path
from typing import Annotated, List, Optional

import torch
import typer


class Optimizer(str, Enum):
    adamw = "adamw"
    sgd = "sgd"


app = typer.Typer(add_completion=False)


@app.command()
def main(
    data: Annotated[Path, typer.Argument(help="Folder of images")],
    lr: Annotated[float, typer.Option("--learning-rate", "-l", help="Step size")] = 1e-3,
    seed: int = 0,
    optimizer: Optimizer = Optimizer.adamw,
    warmup: Optional[int] = None,
    mixup: float | None = 0.2,
    amp: bool = False,
    gamma: Annotated[Optional[List[float]], typer.Option()] = None,
    out_dir: Path = Path("runs/a"),
):
    torch.manual_seed(seed)


if __name__ == "__main__":
    app()
