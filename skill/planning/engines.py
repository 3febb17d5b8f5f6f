"""What places the jobs of a run on GPUs: the manager of each host, or Slurm. Pure."""

from __future__ import annotations

from typing import NamedTuple

from queue_manager.core import slurm_needs
from queue_manager.core.launchers import SLURM
from queue_manager.core.manifest import JobSpec, Manifest
from queue_manager.core.slurm_asking import Asking
from skill.common.units import count_text

HOSTS = "hosts"
WINDOW = 1000
"""Jobs of a run that Slurm has at a time, see queue_manager.slurm.engine; more wait for their turn."""


class Placed(NamedTuple):
    """A manifest for an engine. `warnings`: what it says that does not apply there."""

    manifest: Manifest
    warnings: tuple[str, ...]


def placed(manifest: Manifest, engine: str) -> Placed:
    """Return a built manifest as the engine runs it. For Slurm each job asks Slurm for its GPUs, and the manager gives
    out none."""
    if engine != SLURM:
        return Placed(manifest, ())
    warnings = []
    if manifest.gpus is not None:
        warnings.append("gpus: [list] does not apply with Slurm, which chooses the GPUs; see slurm: {constraint, gres}")
    if manifest.wave == "barrier":
        warnings.append("wave: barrier does not apply with Slurm; jobs start when it has room")
    alone = sum(job.gpu_mem_mib is not None and job.gpus > 1 for job in manifest.jobs)
    if alone:
        warnings.append(
            f"gpu_mem_mib of {count_text(alone, 'job')} with several GPUs does not apply with Slurm: "
            "such a job gets its GPUs for itself"
        )
    idle = sum("allocations" in (job.slurm or {}) and not _shares(job) for job in manifest.jobs)
    if idle == len(manifest.jobs) and idle:
        warnings.append("slurm: {allocations} does not apply: it is for jobs with gpu_mem_mib, which share allocations")
    untold = sum(bool(job.gpu_model) and not _names_gpus(job) for job in manifest.jobs)
    if untold:
        warnings.append(
            f"gpu_model of {count_text(untold, 'job')} does not apply with Slurm, which has names of its own for GPUs; "
            "say the same with slurm: {gres: 'gpu:TYPE:N'} or {constraint: FEATURE}; sinfo -o '%G %f' shows them"
        )
    jobs = tuple([_asking(job) for job in manifest.jobs])
    made = manifest._replace(jobs=jobs, launcher=SLURM, gpus=None, wave="rolling")
    return Placed(made, tuple(warnings))


def _asking(job: JobSpec) -> JobSpec:
    settings = dict(job.slurm or {})
    if job.gpus and "gres" not in settings:
        settings["gres"] = f"gpu:{job.gpus}"
    mib = job.gpu_mem_mib if _shares(job) else None
    return job._replace(gpus=0, gpu_mem_mib=mib, gpu_model=(), slurm=settings or None)


def _shares(job: JobSpec) -> bool:
    """Whether a job shares allocations with others."""
    return job.gpus == 1 and job.gpu_mem_mib is not None


def _names_gpus(job: JobSpec) -> bool:
    """Whether the settings for Slurm choose among GPUs."""
    settings = job.slurm or {}
    return "constraint" in settings or str(settings.get("gres", "")).count(":") > 1


class Class(NamedTuple):
    """Jobs of one phase that ask Slurm for the same. `options`: sbatch's for one of them; `jobs`: their ids; `bundle`:
    so many at most run in turn in one task. `allocations`: how many allocations they share at most at a time, None:
    each has one for itself."""

    phase: str
    options: tuple[str, ...]
    jobs: tuple[str, ...]
    bundle: int = 1
    allocations: int | None = None


def classes(manifest: Manifest) -> list[Class]:
    """Return the jobs of a manifest for Slurm by phase and by what they ask for, in order."""
    found: dict[Class, list[str]] = {}
    asking = Asking(manifest, manifest.jobs)
    for job in manifest.jobs:
        shared = None if job.gpu_mem_mib is None else slurm_needs.allocations(job.slurm or {})
        bundle = slurm_needs.bundle(job.slurm) if shared is None else 1
        found.setdefault(Class(job.phase, asking.options(job), (), bundle, shared), []).append(job.id)
    return [one._replace(jobs=tuple(jobs)) for one, jobs in found.items()]
