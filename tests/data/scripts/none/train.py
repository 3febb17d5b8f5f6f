"""Settings are edited here."""

import torch

LR = 1e-3
SEED = 0

torch.manual_seed(SEED)
