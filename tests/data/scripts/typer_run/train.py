from typing import Literal

import typer


def main(n_layers: int, act: Literal["relu", "gelu"] = "relu", rng_seed: int = 1, *, result_file: str = "r.csv"):
    print(n_layers, act)


if __name__ == "__main__":
    typer.run(main)
