"""The params of jobs: which tell experiments apart, and which only repeat them. Pure."""

from __future__ import annotations

import re

_SEED = re.compile(r"(^|_)(seed|repeat|replicate|trial|fold)s?(_?\d+)?$", re.IGNORECASE)


def is_seed(param: str) -> bool:
    """Whether a param only repeats an experiment, so that results are averaged over it."""
    return _SEED.search(param) is not None
