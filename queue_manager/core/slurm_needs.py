"""The `slurm` settings of a spec, and what they and an attempt's history ask of sbatch. Pure.

The words are sbatch's own, see sbatch(1): `partition`, `account`, `qos`, `time`, `cpus`, `mem`, `gres`, `constraint`,
and `extra` for all others. `mem_max`: up to which `mem` is doubled each time that the host's memory runs out. `oom`:
settings that the first, the second, … attempt gets instead after the memory of its GPU ran out. `allocations`:
how many of them jobs with `gpu_mem_mib` share at a time. `bundle`: so many attempts at most run one after another in
one task. `requeue_on_timeout`: see time_limit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from queue_manager.core import slurm_time

WORDS = ("partition", "account", "qos", "time", "mem", "mem_max", "gres", "constraint")
"""Settings that are one word, or a number."""
COUNTS = ("cpus", "allocations", "bundle")
"""Settings that are a whole number of at least 1."""
KEYS = (*WORDS, *COUNTS, "extra", "oom", "requeue_on_timeout")
OF_ALL = ("oom", "allocations", "bundle", "requeue_on_timeout")
"""Keys that an entry of `oom` cannot have."""
_MEMORY = re.compile(r"(\d+)([KMGT]?)", re.IGNORECASE)
_MIB = {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024 * 1024}
OVERTIME = 120.0
"""Seconds that Slurm's time limit is behind our own: what the manager ends has its verdict, what Slurm ends may not."""


def mebibytes(text: str) -> float | None:
    """Return a memory size as sbatch reads it (`16G`, `500`, in MiB); None if it is none."""
    found = _MEMORY.fullmatch(text)
    return None if found is None else int(found.group(1)) * _MIB[found.group(2).upper()]


def fault(value: Any, inside: bool = False) -> str | None:
    """Return what is wrong with the settings, and what to write instead; None if they are right. `inside`: of `oom`."""
    if not isinstance(value, Mapping):
        return "slurm must be a mapping, such as {partition: gpu, time: 04:00:00}"
    known = [key for key in KEYS if not inside or key not in OF_ALL]
    for key, one in value.items():
        if key not in known:
            return f"slurm has no key {key!r}; it has: {', '.join(known)}"
        if key in WORDS and (isinstance(one, bool) or not isinstance(one, (str, int)) or not str(one).strip()):
            return f"slurm.{key} must be a word, such as {_EXAMPLES[key]}"
        if key in ("mem", "mem_max") and mebibytes(str(one)) is None:
            return f"slurm.{key} {one!r} is not a size as sbatch reads it; write it as {_EXAMPLES[key]}"
        if key in COUNTS and (isinstance(one, bool) or not isinstance(one, int) or one < 1):
            return f"slurm.{key} must be a whole number of at least 1"
        if key == "requeue_on_timeout" and not isinstance(one, bool):
            return "slurm.requeue_on_timeout must be true or false"
        if key == "extra" and not _are_words(one):
            return "slurm.extra must be a list of sbatch's options, such as [--exclusive, --nice=100]"
        if key == "extra" and (own := _reserved(one)) is not None:
            return f"slurm.extra has {own}, which wavequeue sets itself"
        if key == "oom":
            if not isinstance(one, (list, tuple)) or not one:
                return "slurm.oom must be a list of settings, such as [{gres: 'gpu:a100:1'}, {constraint: gpu80}]"
            for rung in one:
                words = fault(rung, inside=True)
                if words is not None:
                    return f"slurm.oom: {words}"
    return None


def time_fault(value: Any) -> str | None:
    """Return what is wrong with `time`, and what to write instead; None if nothing is. Manifests of earlier versions
    may have any word there."""
    if slurm_time.seconds(str(value)) is not None:
        return None
    return f"slurm.time {value!r} is not a time as sbatch reads it; write hours as {_EXAMPLES['time']}, or minutes"


def is_slurm(value: Any) -> bool:
    """Return whether a manifest may have these settings."""
    return fault(value) is None


_EXAMPLES = {
    "partition": "gpu", "account": "my-lab", "qos": "normal", "time": "04:00:00", "mem": "16G", "mem_max": "64G",
    "gres": "gpu:a100:1", "constraint": "gpu80",
}  # fmt: skip
_OURS = (
    "--array", "-a", "--job-name", "-J", "--parsable", "--wrap", "--output", "-o", "--error", "-e", "--chdir", "-D",
    "--requeue", "--wait", "-W", "--test-only", "--hold", "-H", "--dependency", "-d", "--comment", "--export",
    "--open-mode",
)  # fmt: skip


def _are_words(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(one, str) and one.startswith("-") for one in value)


def _reserved(words: Sequence[str]) -> str | None:
    return next((word for word in words if word.split("=")[0] in _OURS), None)


class Ooms(NamedTuple):
    """How many attempts ran out of which memory before one."""

    host: int = 0
    gpu: int = 0


NO_OOMS = Ooms()


def raised(settings: Mapping[str, Any], gpu_ooms: int) -> dict[str, Any]:
    """Return the settings with the entries of `oom` that an attempt has come to."""
    found = dict(settings)
    for rung in tuple(found.pop("oom", ()))[:gpu_ooms]:
        found.update(rung)
    return found


def wanted(settings: Mapping[str, Any], ooms: Ooms) -> dict[str, Any]:
    """Return the settings of one attempt: with its entries of `oom`, and `mem` as it is doubled."""
    found = raised(settings, ooms.gpu)
    most = found.pop("mem_max", None)
    if ooms.host and most is not None and "mem" in found:
        found["mem"] = _doubled(str(found["mem"]), str(most), ooms.host)
    return found


def options(
    settings: Mapping[str, Any], ooms: Ooms = NO_OOMS, timeout: float | None = None, grace: float = 0.0
) -> tuple[str, ...]:
    """Return sbatch's options for one attempt. `timeout` and `grace` in seconds."""
    asked = wanted(settings, ooms)
    end = latest(timeout, grace)
    if "time" not in asked and end is not None:
        asked["time"] = math.ceil(end / 60)
    named = {"cpus": "cpus-per-task"}
    found = [f"--{named.get(key, key)}={asked[key]}" for key in (*WORDS, "cpus") if key in asked]
    return (*found, *asked.get("extra", ()))


def bundle(settings: Mapping[str, Any] | None) -> int:
    """Return how many attempts one task may run in turn."""
    return int((settings or {}).get("bundle", 1))


def bundle_fault(settings: Mapping[str, Any], timeout: float | None) -> str | None:
    """Return what is missing for attempts to run in turn in one task, and what to write instead; None if nothing is.
    `timeout` in seconds."""
    if bundle(settings) == 1 or "time" in settings or timeout is not None:
        return None
    return (
        "slurm.bundle needs a time for each job, since the time limit of a task is their sum; add timeout: 10m to the "
        "job, or time to slurm"
    )


def latest(timeout: float | None, grace: float) -> float | None:
    """Return the seconds after which an attempt is ended even if its manager does not; None without a `timeout`."""
    return None if timeout is None else timeout + grace + OVERTIME


def allocations(settings: Mapping[str, Any]) -> int:
    """Return how many allocations may be shared at a time."""
    return int(settings.get("allocations", 1))


def _doubled(mem: str, most: str, times: int) -> str:
    now, bound = mebibytes(mem), mebibytes(most)
    if now is None or bound is None:
        return mem
    return f"{round(max(now, min(now * 2**times, bound)))}M"
