"""Advice for a failure class, in one sentence: the same in `why`, `diagnose` and a summary. Pure."""

from __future__ import annotations

import re

from queue_manager.core.memory import Memory, of_line

_OF_CLASS = {
    "oom": "it needs more memory than its GPU had left: make it smaller, or give it a larger GPU",
    "cuda": "CUDA refused or lost a call: check that driver, CUDA and the framework's build fit this GPU; an illegal "
    "access or an assertion is usually an index out of range, which CUDA_LAUNCH_BLOCKING=1 locates",
    "nan": "the loss is no longer a number: lower the learning rate, clip gradients, or look for a bad batch; float16 "
    "overflows where bfloat16 does not",
    "segfault": "a native library crashed: try fewer loader workers, and set PYTHONFAULTHANDLER=1 to see where",
    "assertion": "a check of the program failed: its line says which",
    "traceback": "the program raised an error: the traceback above the line says where",
    "timeout": "it reached its timeout: give it more time in the spec, or find out what delays it",
    "no_output": "its command succeeded without writing expected_output, which is relative to cwd: correct one of them",
    "sick_card": "the GPU failed, not the job: have the GPU checked, then wavequeue resume",
    "disk_full": "the disk was full: free some space first",
    "killed": "something outside killed it: a person, the host going down, or a limit on its processes",
    "arguments": "its command does not take the arguments that it was given: see its usage, and fix the spec",
    "import": "a module or library is missing in its environment: see conda or venv in the spec",
    "missing_file": "a file or command that it needs is not on this host: paths are relative to cwd",
    "permission": "it lacks permission for what it needs: check permissions of the file, or the login to the service",
    "network": "it could not reach a server: set retries in the spec to try again",
    "nccl": "its processes lost contact with each other: find out what ended the first one",
    "exit_code": "its command failed: see the log",
    "stalled": "it did nothing any more: see its last lines; a longer health.stall is right where it only takes long",
    "low_util": "it used its GPU too little: see whether it waits for data or for other processes",
    "slow": "it had become slow: see what else uses its GPU, its CPUs or its disk",
    "out_of_bounds": "a metric left its bounds: see the settings that it was given, and the bound in the spec",
    "refused": "the cluster can never run it as it is specified: change what it asks for under slurm in the spec",
    "leftovers": "its command ended and left processes running: end them in the command",
}  # fmt: skip
HOST_MEMORY = (
    "it needs more of the host's memory than it had: load less at a time, use fewer loader workers, or give it more: "
    "with Slurm by slurm.mem, on a host by fewer jobs at a time (max_parallel)"
)
_OF_LINE = (
    ("network", r"[Aa]ddress already in use|EADDRINUSE",
     "another process has this port: leave MASTER_PORT to wavequeue, which gives each attempt its own, or end it"),
    ("network", r"\b429\b|Too Many Requests",
     "the server limits requests: log in to it, download once before the sweep, or set retries in the spec"),
    ("disk_full", r"/dev/shm|shared memory",
     "/dev/shm is full: give the container more (--shm-size, --ipc=host), or use fewer loader workers"),
    ("segfault", r"Bus error",
     "usually /dev/shm is too small: give the container more (--shm-size, --ipc=host), or use fewer loader workers"),
    ("timeout", r"Slurm ended it at its time limit",
     "it needs more time: raise slurm.time, or have it save its work and go on (slurm: {requeue_on_timeout: true})"),
    ("killed", r"TIME LIMIT", "it reached the time limit of Slurm: ask for more time, or save and resume"),
    ("cuda", r"not compiled with CUDA|no kernel image|No supported gpu|No visible GPU|NVIDIA driver|No CUDA GPUs",
     "the framework finds no GPU that it can use: check the driver, and install a build for this CUDA and GPU"),
)  # fmt: skip
"""Advice for particular lines of a class."""


def of_failure(name: str, line: str) -> str | None:
    """Return the advice for a failure class and the log line that shows it; None where there is none."""
    for of, pattern, text in _OF_LINE:
        if of == name and re.search(pattern, line):
            return text
    return HOST_MEMORY if name == "oom" and of_line(line) is Memory.HOST else _OF_CLASS.get(name)
