"""A manager that waits for less long with Slurm before it concludes something: tests need not wait either."""

from __future__ import annotations

from queue_manager import manager
from queue_manager.slurm import admission, cluster, watch, window

cluster.PATIENCE = 1.0
watch.LOST_AFTER, watch.SETTLES = 1.0, 0.2
window.FIRST = admission.FIRST = 0.1
admission.SLOWEST = 1
main = manager.main

if __name__ == "__main__":
    raise SystemExit(main())
