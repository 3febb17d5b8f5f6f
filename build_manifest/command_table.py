"""Make a spec of a table: each row is a job, whose command takes `{column}` from it. Pure."""

from __future__ import annotations

import csv
import io
import shlex

from build_manifest.faults import Fault, SpecErrors, listed
from build_manifest.names import KEY, RESERVED
from build_manifest.shell import Scanner
from build_manifest.written_spec import (
    EACH_ID,
    JobOptions,
    WrittenSpec,
    job_lines,
    names_in,
    phase_name,
    quoted,
    templated,
    value,
    with_names,
)

_ID_COLUMN = "id_"
"""A column `id` as a key: `${id}` in a spec is the job's own."""


def spec(text: str, file: str, command: str, options: JobOptions, project: str) -> WrittenSpec:
    """Make the spec of a table with a head. The columns that `command` and the options name are keys of the jobs; a
    column `id` names them, unless an option does. Raises SpecErrors with the lines of `file`."""
    if not command.strip():
        raise SpecErrors(
            [Fault("--cmd", 0, 0, "it is empty", "write the command of each row: 'python train.py --lr {lr}'")]
        )
    scanner = Scanner()
    scanner.feed(command)
    if scanner.open_quote is not None:
        raise SpecErrors(
            [Fault("--cmd", 0, 0, f"a {scanner.open_quote} opens in {command!r} and is never closed", "close it")]
        )
    columns, rows = _read(text, file)
    if EACH_ID in columns:
        columns[columns.index(EACH_ID)] = _ID_COLUMN
        named = options.id or f"{{{EACH_ID}}}"
        options = options._replace(id=named.replace(f"{{{EACH_ID}}}", f"{{{_ID_COLUMN}}}"))
    template = {"cmd": quoted(with_names(command, columns, "--cmd", file)), **job_lines(options, columns, file)}
    named_in = names_in(" ".join([command, options.id or "", options.expected_output or ""]))
    used = [name for name in columns if name in named_in]
    wrong = [name for name in used if not KEY.fullmatch(name) or name in RESERVED]
    if wrong:
        what = f"the column {wrong[0]!r} cannot be the name of a key"
        raise SpecErrors([Fault(file, 1, 1, what, "rename it: letters, digits and _, and begin with no digit")])
    values = {name: [value(row[columns.index(name)]) for row in rows] for name in used}
    if not values and len(rows) > 1:
        what = f"--cmd names no column, so all {len(rows)} rows would run the same command"
        raise SpecErrors([Fault(file, 1, 1, what, f"write {{column}} in it; the columns are: {listed(columns)}")])
    source = f"wavequeue run {shlex.quote(file)} --cmd {shlex.quote(command)}"
    return templated(project, phase_name(command.split()), ("zip", values), template, source)


def _read(text: str, file: str) -> tuple[list[str], list[list[str]]]:
    """Read the head and the rows, without spaces around the cells. Raises SpecErrors."""
    head = text.splitlines()[:1]
    delimiter = "\t" if "\t" in "".join(head) else ";" if ";" in "".join(head) and "," not in head[0] else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    columns: list[str] = []
    rows: list[list[str]] = []
    faults: list[Fault] = []
    try:
        for cells in reader:
            row = [cell.strip() for cell in cells]
            if not any(row):
                continue
            if not columns:
                columns = row
            elif len(row) != len(columns):
                what = f"this row has another number of cells than the head: {len(row)}, not {len(columns)}"
                faults.append(Fault(file, reader.line_num, 1, what, "write a cell for each column"))
            else:
                rows.append(row)
    except csv.Error as error:
        faults.append(Fault(file, reader.line_num, 1, f"the table cannot be read: {error}", "look at its quotes"))
    doubled = [name for name in columns if columns.count(name) > 1]
    if doubled:
        faults.append(Fault(file, 1, 1, f"two columns are called {doubled[0]!r}", "rename one of them"))
    if not rows and not faults:
        hint = "write a head with the names of the columns, and a row for each job"
        faults.append(Fault(file, 0, 0, "the table has no rows", hint))
    if faults:
        raise SpecErrors(faults)
    return columns, rows
