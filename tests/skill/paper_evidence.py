"""Evidence of a small sweep, as check-runs writes it."""

from __future__ import annotations

from collections.abc import Sequence

from skill.research.evidence import Evidence


def sweep(lams: Sequence[str] = ("0", "0.5", "1e-4"), seeds: Sequence[str] = ("1", "2", "3")) -> list[Evidence]:
    """A run for each lam and seed. acc rises with lam, and its seeds differ by 0.01; loss differs by seeds alone."""
    found: list[Evidence] = []
    for lam in lams:
        for seed in seeds:
            name = f"moons-r{len(found) + 1}"
            metrics = {"acc": 0.5 + float(lam) + 0.01 * int(seed), "loss": 0.1 * int(seed)}
            found.append(
                Evidence(
                    name, "moons-gpu-a-1", name, "distill", {"lam": lam, "seed": seed}, metrics,
                    goals={"acc": "max", "loss": "min"}, code="3f9c2d1a7b0e", commit="3f9c2d1a7b0e", dirty=False,
                    host="gpu-a", gpus=("NVIDIA H200",), started="2026-01-01T10:00:00Z",
                    finished="2026-01-01T10:01:00Z", duration_s=60.0, exit_code=0,
                )
            )  # fmt: skip
    return found
