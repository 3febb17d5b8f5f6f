"""What lives on the researcher's machine: the command `wavequeue`."""

from __future__ import annotations

__version__ = "0.1.0"
