"""Copy an example spec, with the scripts that it runs, to start from."""

from __future__ import annotations

import shutil
from pathlib import Path

from build_manifest.faults import listed, nearest
from skill.common import shipped
from skill.common.errors import FailedError, UseError


def examples() -> list[str]:
    """Return the names of the example specs."""
    return sorted(path.stem for path in shipped.shipped(shipped.MANIFESTS).glob("*.yaml"))


def copy_example(name: str, folder: Path) -> Path:
    """Copy an example into a directory; returns its spec. Nothing that exists is replaced. Raises UseError for an
    unknown example, and where something of its name is there already."""
    known = examples()
    if not known:
        raise FailedError("this installation has no example specs; they are in manifests/ of the repository")
    if name not in known:
        close = nearest(name, known)
        raise UseError(f"no example is called {name}; " + (f"did you mean {close}?" if close else listed(known)))
    source = shipped.shipped(shipped.MANIFESTS)
    parts = [path for path in (source / f"{name}.yaml", source / name) if path.exists()]
    taken = [part.name for part in parts if (folder / part.name).exists()]
    if taken:
        raise UseError(f"{listed(taken)} already exists; copy the example into another directory")
    for part in parts:
        if part.is_dir():
            shutil.copytree(part, folder / part.name, ignore=shutil.ignore_patterns("out", "__pycache__"))
        else:
            shutil.copyfile(part, folder / part.name)
    return folder / f"{name}.yaml"
