from dataclasses import dataclass, field
from enum import Enum

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


class Loss(Enum):
    mse = 1
    huber = 2


@dataclass
class Optim:
    lr: float = 0.01
    momentum: float = 0.9


@dataclass
class Config:
    optim: Optim = field(default_factory=Optim)
    loss: Loss = Loss.mse
    data: str = MISSING
    shuffle: bool = True
    seed: int = 3


cs = ConfigStore.instance()
cs.store(name="base", node=Config)


@hydra.main(config_path=None, config_name="base")
def train(cfg: Config):
    print(cfg)


if __name__ == "__main__":
    train()
