"""Variables of jobs that are resolved at launch (`env: {KEY: {from: NAME}}`): from .env, or the run's environment.

Their values reach a job only through its session's environment, and are never stored.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from queue_manager.core.manifest import JobSpec

FILE = ".env"
_MOST = 1 << 20
_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
_ALIAS = "WAVEQUEUE_FROM_"


class Found(NamedTuple):
    """The variables of one job. `known`: those with a value. `missing`: the others, and the name that is unknown."""

    known: Mapping[str, str]
    missing: Mapping[str, str]

    @property
    def aliases(self) -> dict[str, str]:
        """Under what name a session hands each variable on, since a file of ours may export the variable itself."""
        return {name: f"{_ALIAS}{n}" for n, name in enumerate(self.known)}

    @property
    def values(self) -> dict[str, str]:
        """What a session is to be given."""
        return {alias: self.known[name] for name, alias in self.aliases.items()}


class NamedValues:
    """Finds the values. `cwd`: of the run; the nearest .env there or above it counts, if it is this user's."""

    def __init__(self, environment: Mapping[str, str], cwd: str) -> None:
        self._environment, self._cwd = environment, Path(cwd)

    def of(self, spec: JobSpec) -> Found:
        """The variables of a job, looked up anew: a name that was missing may have been written into .env."""
        if not spec.env_from:
            return Found({}, {})
        values = self._all()
        known: dict[str, str] = {}
        missing: dict[str, str] = {}
        for name, parts in spec.env_from.items():
            unknown = next((of for of in parts[1::2] if of not in values), None)
            if unknown is None:
                known[name] = "".join(values[part] if n % 2 else part for n, part in enumerate(parts))
            else:
                missing[name] = unknown
        return Found(known, missing)

    def named(self, names: Iterable[str]) -> dict[str, str]:
        """The values of variables, as far as they are known, looked up anew."""
        values = self._all()
        return {name: values[name] for name in names if name in values}

    def _all(self) -> dict[str, str]:
        return {**self._environment, **read_env(self._cwd)}


def read_env(folder: Path) -> dict[str, str]:
    """What the nearest .env in a directory or above it sets; {} where there is none that is this user's."""
    for place in (folder, *folder.parents):
        try:
            fd = os.open(place / FILE, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            info = os.fstat(fd)
            if stat.S_ISREG(info.st_mode) and info.st_uid == os.geteuid():
                return parse_env(os.read(fd, _MOST).decode(errors="replace"))
        finally:
            os.close(fd)
    return {}


def parse_env(text: str) -> dict[str, str]:
    """NAME=VALUE lines, quoted as sh or not at all; what is none is passed over."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        value = match[2].rstrip()
        if value[:1] in ("'", '"'):
            try:
                words = shlex.split(value, comments=True)
            except ValueError:
                continue
            value = words[0] if words else ""
        else:
            value = re.split(r"(?:^|\s)#", value, maxsplit=1)[0].strip()
        found[match[1]] = value
    return found
