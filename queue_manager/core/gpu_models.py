"""Whether a GPU is of a model that a job asks for, by NVML's name of it. Pure.

A model is a few whole words of the name, such as `RTX 4090`, `A100` or `A100 80GB`, in any case; other characters count
as spaces. Whole words, so that A10 is not A100. A model that begins with NVIDIA is the whole name, so that
`NVIDIA GeForce RTX 4090` is not an RTX 4090 D.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence

_WORD = re.compile(r"[a-z0-9.]+")
_VENDOR = "nvidia"


def fits(models: Sequence[str], name: str) -> bool:
    """Return whether a GPU of this name is of one of the models; of any where none is listed."""
    return not models or any(_is(model, name) for model in models)


def fault(model: str) -> str | None:
    """Return what is wrong with a model; None if nothing is."""
    return None if _words(model) else "it names no GPU; write a part of what nvidia-smi -L shows, such as RTX 4090"


def words(models: Sequence[str]) -> str:
    """Return the models for people: `RTX 4090 or A100`."""
    return " or ".join(models)


def counted(names: Iterable[str]) -> str:
    """Return GPUs by model, for people: `2 x NVIDIA L4, NVIDIA A100-SXM4-40GB`."""
    listed = list(names)
    counts = {name: listed.count(name) for name in listed}
    return ", ".join(f"{count} x {name}" if count > 1 else name for name, count in counts.items())


@functools.lru_cache(maxsize=1024)
def _is(model: str, name: str) -> bool:
    wanted, there = _words(model), _words(name)
    if wanted[:1] == (_VENDOR,):
        return wanted == there
    return any(there[at : at + len(wanted)] == wanted for at in range(len(there) - len(wanted) + 1))


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.lower()))
