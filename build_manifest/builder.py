"""Build a manifest from the text of a spec, without a file, a clock or a network."""

from __future__ import annotations

import errno
import gc
from typing import NamedTuple

from build_manifest import expand, parse, regular_file, spec
from build_manifest.faults import Fault, Faults, Shown, SpecErrors
from build_manifest.overlaps import warn_of_overlaps
from build_manifest.secrets import warn_of_secrets
from queue_manager.core.manifest import Manifest

MAX_BYTES = 256 << 20
"""Of a spec: more than a million jobs, one by one."""


class Built(NamedTuple):
    """A manifest, and warnings about its spec, one line each."""

    manifest: Manifest
    warnings: list[str]


def build(text: str, file: str, shown: Shown = Shown.PLACES) -> Built:
    """Build the manifest of a spec.

    `text` is YAML or JSON; `file` is its name and `shown` which of its places are shown, for messages only. The same
    text gives the same manifest. Raises SpecErrors with everything that is wrong.
    """
    collecting = gc.isenabled()
    gc.disable()  # a large spec makes millions of values and no garbage: going over them costs as much as all else
    try:
        return _build(Faults(file, text, shown))
    finally:
        if collecting:
            gc.enable()


def _build(faults: Faults) -> Built:
    root = spec.read(faults)
    made = expand.expand(faults, parse.parse(faults, root))
    if made is None or faults.found:
        raise SpecErrors(faults.found)
    manifest, phases = made
    warn_of_secrets(faults, root)
    warn_of_overlaps(faults, manifest.cwd, phases)
    return Built(manifest, faults.warnings())


def read(path: str) -> str:
    """Read the text of a spec's file. Raises SpecErrors if it cannot be read or is not UTF-8."""
    try:
        data = regular_file.read(path, MAX_BYTES)
    except OSError as error:
        if error.errno == errno.EFBIG:
            what = f"the spec is larger than {MAX_BYTES >> 20} MiB"
            raise SpecErrors([Fault(path, 0, 0, what, "use a grid")]) from None
        hint = "give the spec file itself" if isinstance(error, IsADirectoryError) else ""
        what = f"cannot be read: {(error.strerror or str(error)).lower()}"
        raise SpecErrors([Fault(path, 0, 0, what, hint)]) from None
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        place = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise SpecErrors([Fault(path, *place, "the file is not UTF-8", "save it as UTF-8")]) from None
