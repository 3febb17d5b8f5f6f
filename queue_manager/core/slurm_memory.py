"""What Slurm is asked for after an attempt ran out of memory, and whether another one would have no more. Pure.

An attempt that ran out of the host's memory gets twice `mem`, up to `mem_max`; one that ran out of its GPU's takes the
next entry of `oom`. Neither does the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from queue_manager.core.memory import Memory
from queue_manager.core.slurm_needs import Ooms, mebibytes, raised, wanted


class After(NamedTuple):
    """What follows an attempt that ran out of memory. `is_final`: another one would fail as it did."""

    says: str
    is_final: bool = False


def after(settings: Mapping[str, Any], memory: Memory, ooms: Ooms, is_last: bool) -> After:
    """Return what follows. `ooms`: of the attempts before; `is_last`: it was the last one that oom_retry allows."""
    if memory is Memory.GPU:
        return After(_gpu(tuple(settings.get("oom", ())), ooms.gpu, is_last))
    return _host(settings, ooms, is_last)


def describe(error: str | None, what: After) -> str:
    """Return an error with what follows; before the line of the log, which it ends with."""
    parts = re.match(r"(out of \w+ memory)(.*)", error or "", re.DOTALL)
    return f"{error}; {what.says}" if parts is None else f"{parts.group(1)} ({what.says}){parts.group(2)}"


def _gpu(rungs: tuple[Mapping[str, Any], ...], taken: int, is_last: bool) -> str:
    if taken < len(rungs):
        asks = ", ".join(f"{key} {value}" for key, value in rungs[taken].items())
        return _more("entries of slurm.oom are left") if is_last else f"the next attempt asks for {asks}"
    if rungs:
        return "all entries of slurm.oom were taken: add one that asks for a larger GPU, or make the job smaller"
    return "to ask for a larger GPU then, write slurm: {oom: [{gres: 'gpu:a100:1'}]}"


def _host(settings: Mapping[str, Any], ooms: Ooms, is_last: bool) -> After:
    most = raised(settings, ooms.gpu).get("mem_max")
    had, following = (wanted(settings, Ooms(host, ooms.gpu)).get("mem") for host in (ooms.host, ooms.host + 1))
    if had is None or most is None:
        lacks = "mem and mem_max" if had is None else "mem_max"
        return After(f"slurm has no {lacks}, so that mem is not doubled: write both, as in {{mem: 16G, mem_max: 64G}}")
    if mebibytes(str(following)) == mebibytes(str(had)):
        return After(f"it had mem {had}, and mem_max is {most}: write a larger mem_max, or make the job smaller", True)
    return After(_more(f"slurm.mem_max is {most}") if is_last else f"the next attempt asks for mem {following}")


def _more(what: str) -> str:
    return f"{what}, and oom_retry.max_attempts is reached: raise that"
