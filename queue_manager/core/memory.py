"""Which memory ran out: that of a GPU or that of the host. Pure.

More of one does not help against the other: a GPU's is larger on another GPU, and a host's is what Slurm's `mem` is.
"""

from __future__ import annotations

import re
from enum import Enum


class Memory(str, Enum):
    """The values are what journals and states have."""

    HOST = "host"
    GPU = "gpu"


WORDS = {Memory.HOST: "out of host memory", Memory.GPU: "out of GPU memory"}
"""How an error begins that names it."""
_OF_GPU = re.compile(r"CUDA|\bcuda|CUBLAS|CUDNN|CUSOLVER|CUFFT|\bHIP\b|NCCL|cupy|\brmm\b|device:GPU|\bGPU_\d|\bMPS\b")
_OF_HOST = re.compile(
    r"\boom[-_]kill|\bKilled process\b|exceeded (?:\w{1,10} )?memory limit"
    r"|^(?:srun|slurmstepd): .{0,200}Out Of Memory"
    r"|DefaultCPUAllocator|_ArrayMemoryError|\bMemoryError\b|\bbad_alloc\b|Cannot allocate memory|Unable to allocate"
    r"|device:CPU|\bcpu_allocator|\bheap\b|java\.lang"
)


def of_line(line: str, has_gpu: bool = True) -> Memory:
    """Return which memory a line speaks of that shows a failure for want of it. Frameworks that do not say speak of
    their GPU's, where there is one."""
    for memory, words in WORDS.items():
        if words in line:
            return memory
    if _OF_GPU.search(line) is not None:
        return Memory.GPU
    return Memory.HOST if not has_gpu or _OF_HOST.search(line) is not None else Memory.GPU
