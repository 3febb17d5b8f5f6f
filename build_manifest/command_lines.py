"""Make a spec of a file of commands: each line is a job. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from build_manifest.default_ids import of_commands
from build_manifest.faults import Fault, SpecErrors
from build_manifest.shell import Scanner
from build_manifest.written_spec import (
    JobOptions,
    WrittenSpec,
    job_lines,
    listed_jobs,
    literal,
    phase_name,
    quoted,
)


def spec(text: str, file: str, options: JobOptions, project: str) -> WrittenSpec:
    """Make the spec of a file of commands; `#` begins a comment. Raises SpecErrors with the lines of `file`."""
    commands = list(_commands(text))
    faults = [fault for line, command in commands for fault in _faults(file, line, command)]
    first: dict[str, int] = {}
    for line, command in commands:
        if command in first:
            what = f"this line has the command of line {first[command]} again"
            faults.append(Fault(file, line, 1, what, "remove it, or make the two differ, by a seed for one"))
        first.setdefault(command, line)
    if not commands:
        faults.append(Fault(file, 0, 0, "there is no command in it", "write a command on each line"))
    if options.id is not None:
        what = "--id is for lists and tables; the jobs of a file of commands are named after their commands"
        faults.append(Fault(file, 0, 0, what, "leave it out"))
    if faults:
        raise SpecErrors(faults)
    common = job_lines(options, (), file)
    ids = of_commands([command for _, command in commands])
    jobs = [
        (line, {"id": quoted(name), "cmd": quoted(literal(command)), **common})
        for (line, command), name in zip(commands, ids)
    ]
    return listed_jobs(project, phase_name([file]), jobs, f"wavequeue run {shlex.quote(file)}")


def _commands(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        command = line.strip()
        if command and not command.startswith("#"):
            yield number, command


def _faults(file: str, line: int, command: str) -> Iterator[Fault]:
    scanner = Scanner()
    scanner.feed(command)
    if scanner.escaped:
        hint = "a job is one line: join the two"
        yield Fault(file, line, len(command), "this line ends with a backslash", hint)
        return
    scanner.feed("\n")
    if scanner.open_quote is not None:
        at = command.find(scanner.open_quote) + 1
        yield Fault(file, line, at, f"a {scanner.open_quote} opens here and is never closed", "close it")
    elif len(scanner.frames) > 1:
        kind = scanner.frames[-1].kind
        opened = "a here-document" if kind.startswith("<<") else f"a {kind}"
        hint = "a job is one line: put what has several into a script"
        yield Fault(file, line, 1, f"{opened} begins here and does not end on this line", hint)
    elif re.search("[\x00-\x08\x0b-\x1f\x7f]", command):
        yield Fault(file, line, 1, "this line has a control character", "remove it")
