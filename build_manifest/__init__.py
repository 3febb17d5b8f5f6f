"""A spec that a person writes becomes the manifest of a run. No network, no clock."""

from __future__ import annotations

from build_manifest.builder import Built, build, read
from build_manifest.faults import Fault, SpecErrors

__all__ = ["Built", "Fault", "SpecErrors", "build", "read"]
