"""A manager that waits for less long with Slurm before it concludes something: tests need not wait either.

It dies at one of MOMENTS where DIE in its environment says so.
"""

BEAT = 0.5
"""Seconds between two signs of life of its tasks."""
MOMENTS = {
    "before the batch is written": ("Batches.make", False),
    "before sbatch is called": ("Batches.make", True),
    "before the answer of sbatch is noted": ("call", True),
}
"""Where it dies: before or (True) after this function of queue_manager.slurm.batches is called."""
