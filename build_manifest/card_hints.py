"""Warn where a command or `env` chooses GPUs by itself, past the queue. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from build_manifest.faults import Faults
from build_manifest.nodes import Scalar

_NAME = "CUDA_VISIBLE_DEVICES"
# Empty or -1 hides all cards, and ${GPU} is what the queue sets itself.
_CHOOSES = re.compile(rf"\b{_NAME}=(?!['\"]?(?:\$\{{GPU\}}|-1\b|[\s;&|'\"]|$))")
_BY_HOST_INDEX = re.compile(r"\b(cuda|gpu):\$\{GPU\}")


def hint_at_cards(
    faults: Faults, texts: Iterable[Scalar], env: Iterable[tuple[str, Scalar]], cards: str | None
) -> None:
    """Warn of GPUs that are chosen in `texts` (commands, values of args) or `env`. `cards`: how many the job asks for,
    as it was written; a job with none may choose for itself."""
    if cards == "0":
        return
    for name, scalar in env:
        if name == _NAME:
            what = f"{_NAME} in env has no effect: the queue sets it to the GPUs assigned to the job"
            faults.warn(scalar.mark, f"{what}; remove it, and list the allowed GPUs under gpus at the top of the spec")
    for scalar in texts:
        if _NAME in scalar.text and _CHOOSES.search(scalar.text):
            what = f"{_NAME} is set in this command, so the job runs on those GPUs whatever the queue assigns"
            faults.warn(scalar.mark, f"{what}; remove it, or write {_NAME}=${{GPU}}")
        found = _BY_HOST_INDEX.search(scalar.text) if "${GPU}" in scalar.text else None
        if found:
            what = f"{found[0]} uses the host's GPU number, but a job sees only its own GPUs, numbered from 0"
            faults.warn(scalar.mark, f"{what}; write {found[1]}:0 or {found[1]}:${{GPU_INDEX}}")
