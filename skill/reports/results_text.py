"""A table of results (see `skill.reports.cells`) as text, CSV, Markdown and LaTeX. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from queue_manager.core.csv_text import csv_cell
from queue_manager.core.markdown import inline
from queue_manager.core.terminal_text import one_line
from skill.common.units import jobs_text
from skill.reports.cells import Cell, Result, Stat, Table, constant, stat_text

_NAMED = 5
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}", "'": r"\textquotesingle{}", "-": "{-}",
}  # fmt: skip
"""Characters that LaTeX would read as something else, or set as another sign."""


def rows(made: Table) -> tuple[int, list[list[str]]]:
    """The table with its head, for columns of a terminal, and how many of its columns are keys. The best of a metric
    has a star."""
    names, counted = _shown_keys(made), _has_counts(made)
    body = [
        [*(cell.key[name] for name in names), *_cells(made, cell, "{}*"), *_tail(cell, counted)] for cell in made.cells
    ]
    return len(names), [_head(made), *body]


def _head(made: Table) -> list[str]:
    return [*_shown_keys(made), *made.metrics, *(["n"] if _has_counts(made) else []), "missing"]


def notes(made: Table) -> list[str]:
    """What stands below the table: what is the same in all rows, and what its signs mean."""
    lines = []
    same = constant(made)
    if same:
        lines.append("the same in all rows: " + ", ".join(f"{name}={one_line(value)}" for name, value in same.items()))
    if any(one.sd is not None for cell in made.cells for one in cell.stats.values()):
        lines.append("mean ± sample standard deviation over the jobs that differ in seeds only")
    if any(one.best for cell in made.cells for one in cell.stats.values()):
        lines.append("* best by the goal of the metric")
    changed = [one for cell in made.cells for one in cell.jobs if one.changed and one.numbers]
    if changed:
        names = ", ".join(f"{one_line(one.id)} ({one_line(one.changed)})" for one in changed[:_NAMED])
        more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        lines.append(f"! not run with the settings of its cell, see recover: {names}{more}")
    return lines


def missing(made: Table) -> list[str]:
    """The jobs that lack a number, a line for each cell and reason."""
    lines = []
    for cell in made.cells:
        groups: dict[tuple[str, str], list[Result]] = {}
        for one in cell.missing:
            groups.setdefault((one.status, one.why), []).append(one)
        for (status, why), found in groups.items():
            ids = ", ".join(one.id for one in found[:_NAMED])
            more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
            lines.append(f"{ids}{more}: {status}" + (f": {one_line(why, 200)}" if why else ""))
    return lines


def csv_text(made: Table) -> str:
    """CSV with a line for each cell: its keys, and in columns mean, deviation and number of each metric."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns = [f"{name}_{part}" for name in made.metrics for part in ("mean", "sd", "n")]
    writer.writerow(map(csv_cell, [*made.keys, *columns, "jobs", "missing"]))
    for cell in made.cells:
        values = [text for name in made.metrics for text in _csv_values(cell.stats.get(name))]
        keys = (csv_cell(cell.key[name]) for name in made.keys)
        writer.writerow([*keys, *values, str(len(cell.jobs)), str(len(cell.missing))])
    return out.getvalue()


def _csv_values(one: Stat | None) -> list[str]:
    if one is None:
        return ["", "", "0"]
    return [repr(one.mean), "" if one.sd is None else repr(one.sd), str(one.n)]


def markdown(made: Table) -> str:
    """A table in Markdown; the best of a metric is bold."""
    names, counted = _shown_keys(made), _has_counts(made)
    head = _head(made)
    lines = ["| " + " | ".join(map(inline, head)) + " |"]
    lines.append("|" + "---|" * len(names) + "---:|" * (len(head) - len(names)))
    for cell in made.cells:
        keys = [inline(cell.key[name]) for name in names]
        lines.append("| " + " | ".join([*keys, *_cells(made, cell, "**{}**"), *_tail(cell, counted)]) + " |")
    below = [inline(note) for note in notes(made) if not note.startswith("*")]
    return "\n".join([*lines, *(["", *below] if below else [])]) + "\n"


def latex(made: Table) -> str:
    """A table in LaTeX, for the package booktabs; the best of a metric is bold."""
    names, counted = _shown_keys(made), _has_counts(made)
    head = _head(made)[:-1]
    columns = "l" * len(names) + "r" * (len(head) - len(names))
    lines = [r"% needs \usepackage{booktabs,textcomp}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [" & ".join(map(latex_escape, head)) + r" \\", r"\midrule"]
    for cell in made.cells:
        values = [_latex_value(cell.stats.get(name)) for name in made.metrics]
        keys = [latex_escape(cell.key[name]) for name in names]
        lines.append(" & ".join([*keys, *values, *(_tail(cell, counted)[:-1])]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _latex_value(one: Stat | None) -> str:
    if one is None:
        return "{--}"
    text = stat_text(one).replace("±", r"\pm").replace("e+0", "e").replace("e-0", "e-")
    return rf"$\mathbf{{{text}}}$" if one.best else f"${text}$"


def latex_escape(text: str) -> str:
    """Text as LaTeX sets it, on one line."""
    return "".join(_LATEX.get(sign, sign) for sign in one_line(text))


def summary(made: Table) -> str:
    """One line about the whole table."""
    jobs = sum(len(cell.jobs) for cell in made.cells)
    lacking = sum(len(cell.missing) for cell in made.cells)
    rest = f", {lacking} without a number" if lacking else ""
    return f"{len(made.cells)} {'cell' if len(made.cells) == 1 else 'cells'}, {jobs_text(jobs)}{rest}"


def _shown_keys(made: Table) -> list[str]:
    same = constant(made)
    return [name for name in made.keys if name not in same]


def _has_counts(made: Table) -> bool:
    return any(len(cell.jobs) > 1 for cell in made.cells)


def _cells(made: Table, cell: Cell, best: str) -> list[str]:
    """The values of a row; `best`: how the best of a metric is written."""
    found = [cell.stats.get(name) for name in made.metrics]
    return ["-" if one is None else (best if one.best else "{}").format(stat_text(one)) for one in found]


def _tail(cell: Cell, counted: bool) -> list[str]:
    """How many values there are (as a range where metrics differ), and how many jobs lack one."""
    ns: Sequence[int] = sorted({one.n for one in cell.stats.values()}) or [0]
    count = str(ns[0]) if len(ns) == 1 else f"{ns[0]}-{ns[-1]}"
    return [*([count] if counted else []), str(len(cell.missing)) if cell.missing else "-"]
