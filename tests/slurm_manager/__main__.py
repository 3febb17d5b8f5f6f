"""Started as `queue_manager` is. In its environment: DIE, one of MOMENTS, where it sends itself SIGKILL."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from typing import Any

from queue_manager.__main__ import main as manage
from queue_manager.adapters.run_dir import RunDir
from queue_manager.slurm import batches, watch, wrapper
from queue_manager.slurm.cluster import Cluster

BEAT, SETTLES, LOST_AFTER = 0.5, 0.5, 2.0
MOMENTS: dict[str, tuple[Any, str, bool]] = {
    "before the batch is written": (batches.Batches, "make", False),
    "before sbatch is called": (batches.Batches, "make", True),
    "before the answer of sbatch is noted": (batches, "call", True),
    "before an attempt is taken back": (RunDir, "revoke", False),
    "before a task is cancelled": (Cluster, "_tell", False),
}
"""Where it dies: before or (True) after a function is called."""


def main() -> int:
    """Run a manager."""
    for module in (watch, wrapper):
        _replace(module, "BEAT", BEAT)
    _replace(watch, "SETTLES", SETTLES)
    _replace(watch, "LOST_AFTER", LOST_AFTER)
    moment = os.environ.get("DIE")
    if moment is not None:
        owner, name, after = MOMENTS[moment]
        _replace(owner, name, _dies(getattr(owner, name), after))
    return manage()


def _replace(owner: Any, name: str, value: object) -> None:
    assert hasattr(owner, name), f"{owner.__name__} has no {name} any more"
    setattr(owner, name, value)


def _dies(real: Callable[..., Any], after: bool) -> Callable[..., Any]:
    @functools.wraps(real)
    def dies(*arguments: Any, **named: Any) -> Any:
        if after:
            real(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    return dies


if __name__ == "__main__":
    raise SystemExit(main())
