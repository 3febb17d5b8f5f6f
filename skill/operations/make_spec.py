"""Make a spec of what the command line says: a command with lists of values, a file of commands, or a table."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from build_manifest import command_grid, command_lines, command_table, read
from build_manifest.builder import MAX_BYTES
from build_manifest.faults import Shown
from build_manifest.written_spec import NOTHING_SAID, JobOptions, WrittenSpec, project_name, value
from skill.common.errors import UseError
from skill.common.files import write_whole
from skill.operations.build_spec import Given, MadeSpec, Say, build, ignore

STDIN = "-"
LINES, TABLES = (".txt",), (".csv", ".tsv")
"""How names of files of commands and of tables end."""


def is_made(spec: str) -> bool:
    """Whether a spec is made of the file that is given in its place."""
    return spec == STDIN or Path(spec).suffix.lower() in (*LINES, *TABLES)


def of_command(words: Sequence[str], options: JobOptions = NOTHING_SAID) -> MadeSpec:
    """The spec of a command, given word by word. Its runs are kept in the current directory. Raises SpecErrors."""
    made = command_grid.spec(words, options, _project())
    return _made(command_grid.NAME, made, Shown.NAMES, None)


def of_file(file: str, cmd: str | None = None, options: JobOptions = NOTHING_SAID) -> MadeSpec:
    """The spec of a file of commands, or of a table whose rows `cmd` takes. Its jobs run in the current directory.
    Raises SpecErrors, and UseError where `cmd` is missing or not meant."""
    text = _stdin() if file == STDIN else read(file)
    if Path(file).suffix.lower() in TABLES:
        if cmd is None:
            raise UseError(
                f"{file} is a table: say which command each row runs, such as "
                f"wavequeue run {file} --cmd 'python train.py --lr {{lr}}'"
            )
        return _made(file, command_table.spec(text, file, cmd, options, _project()), Shown.NAMES, None)
    if cmd is not None:
        raise UseError(f"--cmd is for tables (.csv, .tsv); {file} has the commands itself")
    name = "stdin" if file == STDIN else file
    made = command_lines.spec(text, name, options, _project())
    return _made(name, made, Shown.LINES, None if file == STDIN else file)


def save(made: MadeSpec, file: str, warn: Say = ignore) -> Given:
    """Write a spec that was made into a file, and give the file in its place. An equal file is left as it is. Raises
    SpecErrors where the spec cannot be built, and UseError where something else lies there."""
    path = Path(file)
    folder, saved = path.absolute().parent, made.saved
    if not folder.is_dir():
        raise UseError(f"there is no directory {path.parent}")
    if folder != made.beside:
        saved = saved.replace("\nphases:", f"\ncwd: {value(os.path.relpath(made.beside, folder))}\nphases:", 1)
    build(made, warn)
    if path.exists() and (not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != saved):
        raise UseError(f"{file} already exists; choose another name for --save")
    write_whole(path, saved, mode=None)
    return file


def _project() -> str:
    return project_name(Path.cwd().name)


def _made(name: str, made: WrittenSpec, shown: Shown, file: str | None) -> MadeSpec:
    return MadeSpec(name, made.built, made.saved, made.jobs, Path.cwd(), shown, file)


def _stdin() -> str:
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UseError(f"standard input has more than {MAX_BYTES >> 20} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UseError("standard input is not UTF-8 text") from None
