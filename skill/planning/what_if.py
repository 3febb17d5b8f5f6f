"""Hosts as they are not: for plans that ask how it would go. Pure."""

from __future__ import annotations

from queue_manager.core import gpu_models
from queue_manager.core.manifest import Manifest
from queue_manager.core.readings import Card, may_use
from skill.planning.assign_jobs import Offer

UNSAID_MIB = 80 * 1024
"""Memory of a GPU where the host has none to take for a model, and no job asks for more."""


def with_cards(manifest: Manifest, offer: Offer, count: int) -> Offer:
    """A host as if it had so many GPUs, all free and like the first one that the jobs may use there; of the model that
    they ask for, where it has none of that."""
    models = [job.gpu_model for job in manifest.jobs if job.gpu_model]
    wanted = models[0] if models else ()
    usable = [card for card in offer.cards if may_use(card.index, manifest.gpus)]
    there = [card for card in usable if gpu_models.fits(wanted, card.name)]
    size = max([UNSAID_MIB, *(job.gpu_mem_mib or 0 for job in manifest.jobs)])
    name, mib = (there[0].name, there[0].total_mib) if there else (wanted[0] if wanted else "GPU", size)
    return offer._replace(cards=tuple(Card(n, f"GPU-{n}", name, mib, 0) for n in range(count)))
