from __future__ import annotations

from dataclasses import dataclass, field

import torch
from transformers import HfArgumentParser


@dataclass
class Config:
    output_file: str
    lr: float = 1e-3
    seed: int | None = 0
    stages: list[int] = field(default_factory=list)
    device: str = field(init=False, default="cuda")


config = HfArgumentParser(Config).parse_args_into_dataclasses()[0]
print(torch.__version__, config)
