"""Where a spec is best run: on this machine, on another one, or on another one with a GPU; and why. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from queue_manager.core import gpu_models
from queue_manager.core.manifest import Manifest
from queue_manager.core.readings import Card, may_use
from queue_manager.core.times import duration
from skill.common.units import mib_text

Where = Literal["local", "remote", "remote-gpu"]
SHORT = 1800.0
"""Seconds below which a person waits for the end, so that the machine stays on until then."""
_INFERENCE_MIB = 22 * 1024
"""MiB of a GPU that is sold with 24 GB."""


class Work(NamedTuple):
    """What a spec needs. `seconds`: how long all of it takes, None: unknown; `gpus`: of the job that needs most;
    `mem_mib`: the memory that a job has to have on a GPU, 0: any; `models`: one of which it has to be, empty: any."""

    seconds: float | None
    gpus: int
    mem_mib: int
    models: tuple[str, ...] = ()


class Advice(NamedTuple):
    """`profile`: of `vast hunt` and `up`, for a machine that would do; None for this machine. `reason`: in words."""

    where: Where
    reason: str
    profile: str | None


def work_of(manifest: Manifest, seconds: float | None) -> Work:
    """What the jobs of a manifest need."""
    memory = max((job.gpu_mem_mib or 0 for job in manifest.jobs if job.gpus), default=0)
    models = next((job.gpu_model for job in manifest.jobs if job.gpu_model), ())
    return Work(seconds, max((job.gpus for job in manifest.jobs), default=0), memory, models)


def decide(work: Work, cards_mib: Sequence[int], stays_on: bool) -> Advice:
    """Where to run some work. `cards_mib`: the memory of each GPU of this machine that the jobs may use; `stays_on`:
    whether this machine goes on by itself once nobody looks after it."""
    fitting = [one for one in cards_mib if one >= work.mem_mib]
    if work.gpus > len(fitting):
        return Advice("remote-gpu", _lacks(work, cards_mib), profile(work))
    if work.seconds is not None and work.seconds < SHORT:
        return Advice("local", f"it takes about {duration(work.seconds)}, less than 30 min", None)
    long = "how long it takes is not known" if work.seconds is None else f"it takes about {duration(work.seconds)}"
    if stays_on:
        return Advice("local", f"{long}, and this machine stays on", None)
    far: Where = "remote-gpu" if work.gpus else "remote"
    return Advice(far, f"{long}, and this machine has a battery: it may be closed before the end", profile(work))


def overruled(work: Work, where: Where) -> Advice:
    """What a person has decided."""
    needs = work._replace(gpus=max(work.gpus, int(where == "remote-gpu")))
    return Advice(where, "as --where says", None if where == "local" else profile(needs))


def profile(work: Work) -> str:
    """The profile of a machine that would do."""
    if not work.gpus:
        return "api-only"
    if not work.mem_mib:
        return "pytorch"
    return "inference-24g" if work.mem_mib <= _INFERENCE_MIB else "finetune-40g"


def usable(manifest: Manifest, cards: Sequence[Card]) -> list[int]:
    """The memory of each GPU that the jobs of a manifest may use, in MiB."""
    models = {job.gpu_model for job in manifest.jobs if job.gpus}
    usable = [card for card in cards if may_use(card.index, manifest.gpus)]
    return [card.total_mib for card in usable if not models or any(gpu_models.fits(one, card.name) for one in models)]


def _lacks(work: Work, cards_mib: Sequence[int]) -> str:
    of = f" of {mib_text(work.mem_mib)}" if work.mem_mib else ""
    model = f" ({gpu_models.words(work.models)})" if work.models else ""
    needed = f"a job needs {work.gpus} GPU{'s' * (work.gpus > 1)}{model}{of}"
    if not cards_mib:
        return f"{needed}, and this machine has none"
    return f"{needed}, and this machine has {len(cards_mib)} with up to {mib_text(max(cards_mib))}"
