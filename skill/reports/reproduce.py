"""What a person types to run a job once more by hand, without any value of a secret. Pure."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Mapping

from build_manifest.secrets import is_secret, key_in
from queue_manager.core.manifest import JobSpec, Manifest

HIDDEN = "(a key, not shown)"
_KEYS = 50
"""Keys that are replaced in one command at most."""


def names(manifest: Manifest, job: JobSpec) -> list[str]:
    """The variables that a job's environment has from its spec, by name alone: their values may be secrets."""
    return list(dict.fromkeys([*manifest.env, *job.env, *job.env_from]))


def before(manifest: Manifest, job: JobSpec, cwd: str) -> str:
    """The lines before a job's command, the same for many jobs: where it runs, in what environment. `cwd`: of the run
    on its host."""
    lines = [f"cd {shlex.quote(posixpath.join(cwd, job.cwd or ''))}"]
    lines += [f"module load {shlex.quote(name)}" for name in manifest.module]
    if manifest.uv:
        lines.append("# each command by: uv run --frozen COMMAND")
    if manifest.container is not None:
        lines.append(f"# in the container {manifest.container}, with this directory mounted")
    if manifest.conda is not None:
        lines.append(f"conda activate {shlex.quote(manifest.conda)}")
    if manifest.venv is not None:
        lines.append(f"source {shlex.quote(posixpath.join(manifest.venv, 'bin/activate'))}")
    found = names(manifest, job)
    if found:
        lines.append(f"# set as in the spec: {', '.join(found)}")
    return "\n".join(lines)


def without_keys(params: Mapping[str, str]) -> dict[str, str]:
    """What a job was given, without the values that look like keys."""
    return {
        name: HIDDEN if is_secret(name, value) or key_in(f"--{name}={value}") else value
        for name, value in params.items()
    }


def command(job: JobSpec, gpus: str) -> str:
    """A job's own command; `gpus`: the indices of the GPUs that it had, as in `0,1`. What looks like a key is replaced
    by the variable that it could come from."""
    text = job.cmd
    for _ in range(_KEYS):
        found = key_in(text)
        if found is None:
            break
        text = text.replace(found[0], f"${found[1]}")
    if gpus:
        count = gpus.count(",") + 1
        text = text.replace("${GPU}", gpus).replace("${GPU_INDEX}", ",".join(map(str, range(count))))
    return text.strip("\n")
