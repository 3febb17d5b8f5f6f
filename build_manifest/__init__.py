"""Build the manifest of a run from a spec that a person writes. No network, no clock.

`build` and `read` bring PyYAML and Jinja2 with them, and are imported when they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from build_manifest.faults import Fault, SpecErrors

if TYPE_CHECKING:
    from build_manifest.builder import Built, build, read

__all__ = ["Built", "Fault", "SpecErrors", "build", "read"]


def __getattr__(name: str) -> Any:
    if name not in ("Built", "build", "read"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from build_manifest import builder

    return getattr(builder, name)
