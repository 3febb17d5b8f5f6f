"""Find the files of a project that are not code and are not sent unless asked for: outputs of the jobs, W&B's own
files, checkpoints, and the content of large data directories. Pure.

What git tracks is code. So is what a precondition needs, or a command names as a file, unless the jobs write it.
"""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from build_manifest.faults import listed
from queue_manager.core.outputs import is_glob, pattern_matches
from skill.common.units import count_text, size_text

OUTPUTS, WANDB, CHECKPOINTS, DATA = "outputs of these jobs", "files of W&B", "checkpoints", "data"
_WANDB = "wandb"
_DATA_NAMES = frozenset({"data", "dataset", "datasets", "raw_data"})
_CHECKPOINT_NAMES = frozenset({"checkpoint", "checkpoints", "ckpt", "ckpts"})
_CHECKPOINT_ENDINGS = (
    ".pt", ".pth", ".ckpt", ".safetensors", ".h5", ".hdf5", ".keras", ".onnx", ".gguf", ".msgpack", ".pdparams",
)  # fmt: skip
_CODE_ENDINGS = (
    ".py", ".pyi", ".sh", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".r", ".jl", ".ipynb", ".yaml", ".yml",
    ".toml", ".ini", ".cfg", ".md", ".rst",
)  # fmt: skip
_SMALL_CHECKPOINT, _SMALL_DATA = 1 << 20, 10 << 20
"""Bytes of a checkpoint, and of all of a data directory, up to which it is sent."""


class LeftOut(NamedTuple):
    """Files that are not sent. `name`: one file, a directory, or a pattern; `why`: see above; `is_named`: a command
    names a directory that they are in."""

    name: str
    why: str
    files: int
    bytes: int
    is_named: bool = False

    def words(self) -> str:
        return f"{self.name} ({self.why}, {count_text(self.files, 'file')}, {size_text(self.bytes)})"


class Project(NamedTuple):
    """What is known of a project's files. `outputs`: patterns of what the jobs write; `needed`: patterns of what their
    preconditions want; `named`: the paths that their commands name, found when they are first asked for; `tracked`:
    what git tracks; `wanted`: what a person has asked for."""

    outputs: Sequence[str] = ()
    needed: Sequence[str] = ()
    named: Callable[[], Collection[str]] = tuple
    tracked: Collection[str] = ()
    wanted: Sequence[str] = ()


NOTHING_KNOWN = Project()


class Sorted(NamedTuple):
    """The files that are sent, and those left out, the largest first."""

    files: list[str]
    left_out: list[LeftOut]


def sort_out(sizes: Mapping[str, int], project: Project) -> Sorted:
    """Divide a project's files, with their sizes, into those sent and those left out."""
    free = [name for name in sizes if name not in project.tracked and not matches(name, project.wanted)]
    outputs, needed = _Patterns(project.outputs), _Patterns(project.needed)
    large = _large_data(sizes)
    packages = {posixpath.dirname(name) for name in sizes if name.endswith("/__init__.py")}
    why: dict[str, str] = {}
    named: Collection[str] | None = None
    for name in free:
        found = OUTPUTS if outputs.match(name) else _reason(name, sizes[name], large, packages)
        if found is None:
            continue
        named = project.named() if named is None else named
        if found == OUTPUTS:
            is_needed = name in named and not outputs.is_written_out(name)  # a pattern may mean an input by accident
        else:
            is_needed = name in named or needed.match(name)
        if not is_needed:
            why[name] = found
    folders = frozenset(named or ())
    groups: dict[tuple[str, str], list[str]] = {}
    for name, found in why.items():
        groups.setdefault((found, _group(name, found)), []).append(name)
    rows = [
        LeftOut(
            names[0] if len(names) == 1 else group,
            found,
            len(names),
            sum(sizes[name] for name in names),
            found in (CHECKPOINTS, DATA) and any(not folders.isdisjoint(_parents(name)) for name in names),
        )
        for (found, group), names in groups.items()
    ]
    return Sorted([name for name in sizes if name not in why], sorted(rows, key=lambda row: (-row.bytes, row.name)))


def _parents(name: str) -> Iterator[str]:
    while name := posixpath.dirname(name):
        yield name


def words(left_out: Sequence[LeftOut], ignore_file: str) -> str:
    """Say what is not sent, and how to send it all the same."""
    shown = listed((row.words() for row in left_out), 6)
    return f"not sent: {shown}; to send one anyway, add the line !{left_out[0].name} to {ignore_file}"


def named_words(left_out: Sequence[LeftOut], ignore_file: str) -> str:
    """Warn of what is not sent though commands name its directory."""
    return (
        f"commands name directories whose files are not sent: {listed((row.words() for row in left_out), 4)}; if jobs "
        f"read them and the hosts do not have them, add the line !{left_out[0].name} to {ignore_file}"
    )


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a line of an ignore file means a file: one with a `/` from the top, another one anywhere."""
    parts = name.split("/")
    for given in patterns:
        pattern = given.rstrip("/")
        if "/" in pattern:
            pattern = pattern.lstrip("/")
            if any(pattern_matches(pattern, "/".join(parts[:n])) for n in range(1, len(parts) + 1)):
                return True
        elif any(fnmatch.fnmatchcase(part, pattern) for part in parts):
            return True
    return False


class _Patterns:
    """Many patterns, asked of many files: those without a glob, and those whose directory has none, are looked up."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._plain: set[str] = set()
        self._in_folder: dict[str, list[str]] = {}
        self._others: list[str] = []
        for pattern in dict.fromkeys(patterns):
            folder, base = posixpath.split(pattern)
            if not is_glob(pattern):
                self._plain.add(pattern)
            elif not is_glob(folder) and "**" not in base:
                self._in_folder.setdefault(folder, []).append(pattern)
            else:
                self._others.append(pattern)

    def is_written_out(self, name: str) -> bool:
        """Whether one is the file itself."""
        return name in self._plain

    def match(self, name: str) -> bool:
        """Whether one means a file, or a directory that it is in."""
        while name:
            folder = posixpath.dirname(name)
            if name in self._plain or any(
                pattern_matches(one, name) for one in (*self._in_folder.get(folder, ()), *self._others)
            ):
                return True
            name = folder
        return False


def _large_data(sizes: Mapping[str, int]) -> set[str]:
    """Find the data directories that are too large to be sent without being asked for."""
    totals: dict[str, int] = {}
    for name, size in sizes.items():
        folder = _named_folder(name, _DATA_NAMES)
        if folder is not None and not name.lower().endswith(_CODE_ENDINGS):
            totals[folder] = totals.get(folder, 0) + size
    return {folder for folder, total in totals.items() if total > _SMALL_DATA}


def _reason(name: str, size: int, large: Collection[str], packages: Collection[str]) -> str | None:
    """Say why a file is not code."""
    wandb = _named_folder(name, {_WANDB})
    if wandb is not None and wandb not in packages:
        return WANDB
    if name.lower().endswith(_CODE_ENDINGS):
        return None
    if _named_folder(name, _DATA_NAMES) in large:
        return DATA
    is_checkpoint = name.lower().endswith(_CHECKPOINT_ENDINGS) or _named_folder(name, _CHECKPOINT_NAMES) is not None
    return CHECKPOINTS if is_checkpoint and size > _SMALL_CHECKPOINT else None


def _named_folder(name: str, names: Collection[str]) -> str | None:
    """Find the outermost directory of a file that has one of these names."""
    parts = name.split("/")[:-1]
    return next(("/".join(parts[: n + 1]) for n, part in enumerate(parts) if part.lower() in names), None)


def _group(name: str, why: str) -> str:
    """The name under which a file is shown together with others."""
    if why in (WANDB, DATA):
        return f"{_named_folder(name, {_WANDB} if why == WANDB else _DATA_NAMES)}/"
    folder, base = posixpath.split(name)
    ending = posixpath.splitext(base)[1]
    return posixpath.join(folder, f"*{ending}")
