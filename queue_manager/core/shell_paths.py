"""`~` and `$NAME` in the paths of a job, as bash would expand them on its host. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from queue_manager.core.manifest import JobSpec, Manifest
from queue_manager.core.outputs import escape, is_glob

_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_PATHS = ("checkpoint_exists", "file_exists")


def from_home(path: str) -> bool:
    """Whether a path begins at the home directory."""
    return path == "~" or path.startswith("~/")


def on_host(path: str) -> bool:
    """Whether only the host can tell what a path is."""
    return ("$" in path and _VARIABLE.search(path) is not None) or (path[:1] == "~" and from_home(path))


def needs_host(spec: JobSpec) -> bool:
    """Whether a job has such a path."""
    if spec.expected_output is not None and on_host(spec.expected_output):
        return True
    return bool(spec.preconditions) and any(
        one.path is not None and one.type in _PATHS and on_host(one.path) for one in spec.preconditions
    )


def whole(manifest: Manifest, environment: Mapping[str, str]) -> Manifest:
    """The manifest with all jobs' paths as they are on this host."""
    if not manifest.shell_paths:
        return manifest
    return manifest._replace(jobs=tuple([expanded(manifest, spec, environment) for spec in manifest.jobs]))


def expanded(manifest: Manifest, spec: JobSpec, environment: Mapping[str, str]) -> JobSpec:
    """The job with its paths as they are on this host. `environment`: what the run has; the job's own comes before it.

    A name that nothing defines stays as it is, so that it is seen where the path is missing.
    """
    if not manifest.shell_paths or not needs_host(spec):
        return spec
    known = {**environment, **manifest.env, **spec.env}
    preconditions = tuple(
        [
            one._replace(path=_expanded(one.path, known)) if one.path is not None and one.type in _PATHS else one
            for one in spec.preconditions
        ]
    )
    output = None if spec.expected_output is None else _expanded(spec.expected_output, known)
    return spec._replace(expected_output=output, preconditions=preconditions)


def path_of(manifest: Manifest, spec: JobSpec, path: str, environment: Mapping[str, str]) -> str:
    """One other path of a job as it is on this host, such as that of a metric."""
    if not manifest.shell_paths or not on_host(path):
        return path
    return _expanded(path, {**environment, **manifest.env, **spec.env})


def _expanded(path: str, known: Mapping[str, str]) -> str:
    values: list[str] = []

    def value(match: re.Match[str]) -> str:
        found = known.get(match[1] or match[2])
        values.append(found or "")
        return match[0] if found is None else f"\0{len(values) - 1}\0"

    text = _VARIABLE.sub(value, path)
    if from_home(text) and known.get("HOME"):
        values.append(known["HOME"].rstrip("/"))
        text = f"\0{len(values) - 1}\0{text[1:]}"
    # In a glob a value stands for itself; in a plain path nothing is a sign.
    literal = escape if is_glob(text) or any(is_glob(one) for one in values) else str
    return re.sub("\0([0-9]+)\0", lambda match: literal(values[int(match[1])]), text)
