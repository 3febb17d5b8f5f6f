"""Started as `queue_manager` is."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from typing import Any

from queue_manager import manager
from queue_manager.slurm import admission, batches, cluster, watch, window, wrapper
from tests.impatient import BEAT, MOMENTS

cluster.PATIENCE = 1.0
watch.LOST_AFTER, watch.SETTLES, watch.BEGINS_WITHIN = 1.0, 0.2, 5.0
wrapper.BEAT = BEAT
window.FIRST = admission.FIRST = 0.1
admission.SLOWEST = 1


def main() -> int:
    """Run a manager."""
    moment = os.environ.get("DIE")
    if moment is not None:
        name, after = MOMENTS[moment]
        owner: Any = batches
        *outer, last = name.split(".")
        for part in outer:
            owner = getattr(owner, part)
        setattr(owner, last, _dies(getattr(owner, last), after))
    return manager.main()


def _dies(real: Callable[..., Any], after: bool) -> Callable[..., Any]:
    @functools.wraps(real)
    def dies(*arguments: Any, **named: Any) -> Any:
        if after:
            real(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    return dies


if __name__ == "__main__":
    raise SystemExit(main())
