"""The launchers by the names that a spec uses; see core.launchers for their properties."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from queue_manager.core.layout import HostPaths, RunPaths
from queue_manager.launchers.launcher import Launcher
from queue_manager.launchers.process import Process
from queue_manager.launchers.screen import Screen

MAKE: dict[str, Callable[[RunPaths, HostPaths, Mapping[str, str]], Launcher]] = {
    "screen": Screen.of,
    "process": lambda _paths, _home, environment: Process(environment),
}
"""By name, what makes the launcher of a run; the last argument is the environment that its jobs inherit."""
