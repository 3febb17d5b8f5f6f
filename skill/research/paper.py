r"""The generated files of a paper: its numbers as macros, and tables and figures that are made of these. Pure.

A paper's own text is the person's: it takes tables and figures with `\input`, and numbers by their macros.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from skill.reports.cells import Cell, Table, constant
from skill.reports.results_text import latex_escape
from skill.research import macros
from skill.research.evidence import Aggregate
from skill.research.macros import Macros

NUMBERS, EFFECTS = "numbers.tex", "tables/effects.tex"
HEAD = "written by wavequeue research publish; do not edit it, for the numbers come from evidence/"
_WIDTH, _HEIGHT, _LEFT, _BELOW = 60.0, 40.0, 14.0, 10.0
"""Millimetres of a figure's plot, and beside and below it."""


def files(made: Aggregate) -> dict[str, str]:
    """All generated files of a paper by their names in its directory."""
    known = macros.macros(made)
    found = {NUMBERS: macros.text(known, HEAD)}
    for phase, table in made.tables.items():
        if table.cells and table.metrics:
            found[f"tables/{file_name(phase)}.tex"] = _table(phase, table, known)
            for metric in table.metrics:
                found[f"figures/{file_name(phase)}-{file_name(metric)}.tex"] = _figure(phase, table, metric, known)
    if made.comparisons:
        found[EFFECTS] = _effects(made, known)
    return found


def results(names: Iterable[str]) -> str:
    r"""What takes the generated tables and figures into a paper."""
    found = []
    for name in names:
        kind, _, rest = name.removesuffix(".tex").partition("/")
        if rest:
            what = "table" if kind == "tables" else "figure"
            found.append(
                f"\\begin{{{what}}}[ht]\n\\centering\n\\input{{{kind}/{rest}}}\n\\caption{{{rest}}}\n\\end{{{what}}}\n"
            )
    return "\n".join(found)


def file_name(text: str) -> str:
    """A name of a phase or a metric as that of a file that LaTeX finds."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-.") or "x"


def _table(phase: str, table: Table, known: Macros) -> str:
    same = constant(table)
    keys = [name for name in table.keys if name not in same]
    rows = []
    for cell in table.cells:
        stats = [_bold(cell, phase, name, known) if name in cell.stats else "{--}" for name in table.metrics]
        rows.append([*(latex_escape(cell.key[name]) for name in keys), *stats, _count(phase, cell, known)])
    head = [*map(latex_escape, keys), *map(latex_escape, table.metrics), "$n$"]
    return _tabular("l" * len(keys) + "r" * (len(table.metrics) + 1), head, rows)


def _count(phase: str, cell: Cell, known: Macros) -> str:
    """How many runs a row rests on; a number for each of its metrics where these differ."""
    first = {one.n: name for name, one in reversed(cell.stats.items())}
    return ", ".join(_macro(known, (*macros.cell_of(phase, first[n], cell.key), "N")) for n in sorted(first)) or "0"


def _bold(cell: Cell, phase: str, metric: str, known: Macros) -> str:
    shown = _macro(known, macros.cell_of(phase, metric, cell.key))
    return rf"{{\boldmath\textbf{{{shown}}}}}" if cell.stats[metric].best else shown


def _macro(known: Macros, of: tuple[str, ...]) -> str:
    return rf"\{known.names[of]}{{}}"


def _effects(made: Aggregate, known: Macros) -> str:
    rows = []
    for one in made.comparisons:
        what = ("effect", *macros.cell_of(one.phase, one.metric, one.key)[1:])
        key = ", ".join(f"{name}={value}" for name, value in one.key.items())
        counts = f"{one.n[0]}, {one.n[1]}"
        rows.append([latex_escape(one.metric), latex_escape(key), _macro(known, what), counts, one.says])
    return _tabular("llrrl", ["metric", "cell", r"effect [95\,\% interval]", "$n$", "result"], rows)


def _tabular(columns: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"% {HEAD}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule", " & ".join(head) + r" \\", r"\midrule"]
    lines += [" & ".join(row) + r" \\" for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _figure(phase: str, table: Table, metric: str, known: Macros) -> str:
    """Means as dots over their cells, with the deviation as a bar and the number beside: LaTeX's own picture, which
    needs no package."""
    cells = [cell for cell in table.cells if metric in cell.stats]
    ends = [end for cell in cells for end in _ends(cell, metric)]
    low, high = min(ends), max(ends)
    span = (high - low) or 1.0
    step = _WIDTH / len(cells)
    lines = [
        f"% {HEAD}", r"\setlength{\unitlength}{1mm}",
        rf"\begin{{picture}}({_WIDTH + _LEFT:g},{_HEIGHT + _BELOW:g})(-{_LEFT:g},-{_BELOW:g})",
        rf"\put(0,0){{\line(1,0){{{_WIDTH:g}}}}}", rf"\put(0,0){{\line(0,1){{{_HEIGHT:g}}}}}",
        rf"\put(-1,{_HEIGHT:g}){{\makebox(0,0)[r]{{\footnotesize {latex_escape(metric)}}}}}",
    ]  # fmt: skip
    same = constant(table)
    for place, cell in enumerate(cells):
        x = step * (place + 0.5)
        bottom, top = (4.0 + (end - low) / span * (_HEIGHT - 10.0) for end in _ends(cell, metric))
        shown = _macro(known, macros.cell_of(phase, metric, cell.key))
        lines.append(rf"\put({x:.1f},{(bottom + top) / 2:.1f}){{\circle*{{1.2}}}}")
        if top > bottom:
            lines.append(rf"\put({x:.1f},{bottom:.1f}){{\line(0,1){{{top - bottom:.1f}}}}}")
        lines.append(rf"\put({x:.1f},{top + 1.5:.1f}){{\makebox(0,0)[b]{{\tiny {shown}}}}}")
        label = ", ".join(value for name, value in cell.key.items() if name not in same)
        lines.append(rf"\put({x:.1f},-2){{\makebox(0,0)[t]{{\tiny {latex_escape(label)}}}}}")
    names = ", ".join(name for name in table.keys if name not in same)
    lines.append(rf"\put({_WIDTH / 2:g},-7){{\makebox(0,0)[t]{{\footnotesize {latex_escape(names)}}}}}")
    return "\n".join([*lines, r"\end{picture}"]) + "\n"


def _ends(cell: Cell, metric: str) -> tuple[float, float]:
    one = cell.stats[metric]
    return one.mean - (one.sd or 0.0), one.mean + (one.sd or 0.0)
