"""What the jobs of a manifest ask of Slurm: each for itself, or those with `gpu_mem_mib` together. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from queue_manager.core import slurm_needs
from queue_manager.core.manifest import JobSpec, Manifest
from queue_manager.core.slurm_needs import NO_OOMS, Ooms


class Asking:
    """What these jobs ask for. An allocation that jobs share is asked for long enough for any of them, so that jobs
    with other timeouts share it as well."""

    def __init__(self, manifest: Manifest, specs: Iterable[JobSpec]) -> None:
        self._manifest = manifest
        self._longest: dict[str, float | None] = {}
        for spec in specs:
            if spec.gpu_mem_mib is not None:
                key, seconds = str(spec.slurm), self._seconds(spec)
                known = self._longest.get(key, 0.0)
                self._longest[key] = None if known is None or seconds is None else max(known, seconds)

    def _seconds(self, spec: JobSpec) -> float | None:
        return None if spec.timeout is None else spec.timeout + self._manifest.grace_of(spec)

    def options(self, spec: JobSpec, ooms: Ooms = NO_OOMS) -> tuple[str, ...]:
        """Return sbatch's options for one attempt of a job, or for an allocation that it shares."""
        seconds = self._seconds(spec) if spec.gpu_mem_mib is None else self._longest[str(spec.slurm)]
        return slurm_needs.options(spec.slurm or {}, ooms, seconds)
