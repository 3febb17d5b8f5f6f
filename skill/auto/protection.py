"""The protected files of a node on a host: the launch command is put between two checks of their SHA-256. The second
one prints how many differ, which is read from the log as a metric is.

The list of hashes lies beside the node's worktree, and the command holds the hash of the list. The check needs a shell
and sha256sum only, and leaves the exit code to the program.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from skill.auto.layout import hashes_of

METRIC = "protected_files_changed"
_SAYS = "wavequeue: protected files that changed: "
RULE: Mapping[str, Any] = {"log": rf"{_SAYS}(\d+)", "take": "max"}
"""How METRIC is read: a program that prints the line as well cannot make the number smaller."""


class Protected(NamedTuple):
    """The protected files of a worktree. `listed`: as sha256sum prints them."""

    number: int
    listed: str


def hashes(root: Path, names: Iterable[str]) -> Protected:
    """Hash these files of a worktree; links and what is not there are left out. Raises OSError."""
    lines = []
    for name in sorted(names):
        path = root / name
        if path.is_file() and not path.is_symlink():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            plain = name.replace("\\", "\\\\").replace("\n", "\\n")
            lines.append(f"{'' if plain == name else chr(92)}{digest}  {plain}\n")
    return Protected(len(lines), "".join(lines))


def guarded(command: str, protected: Protected, root: Path, subdir: str) -> str:
    """The launch command, which is run in `subdir` of the worktree `root`, between two checks."""
    if not protected.number:
        return command
    digest = hashlib.sha256(os.fsencode(protected.listed)).hexdigest()
    up = shlex.quote(os.path.relpath(".", subdir))
    file = shlex.quote(f"../{hashes_of(root).name}")
    return f"""\
_wq_code=$(cd -- {up} && pwd)
_wq_changed() (
cd -- "$_wq_code" && echo '{digest}  '{file} | sha256sum -c >/dev/null 2>&1 || {{ echo {protected.number}; exit; }}
echo $(({protected.number} - $(LC_ALL=C sha256sum -c {file} 2>/dev/null | grep -c ': OK$')))
)
[ "$(_wq_changed)" = 0 ] || {{ echo "wavequeue: protected files are not as in the node's commit, or there is no \
sha256sum; the program was not started" >&2; exit 1; }}
trap 'echo "{_SAYS}$(_wq_changed)"' EXIT
{command}"""


def fault(changed: float | None) -> str | None:
    """Why a completed job that was guarded is no measurement; None if it is one. `changed`: its METRIC, None where it
    could not be read."""
    if changed is None:
        return "its protected files were not checked after it: the launch command may not use exec, or trap EXIT"
    if changed:
        return f"its run changed {changed:.0f} protected file{'' if changed == 1 else 's'}"
    return None
