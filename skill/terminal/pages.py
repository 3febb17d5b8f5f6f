"""The lines of each page of the live view, for a screen of a given size. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.cells import chop_cells
from rich.text import Text

from skill.common.text_table import columns
from skill.common.units import jobs_text
from skill.runs import activity, digest, health
from skill.runs.digest import Row
from skill.terminal import matrix
from skill.terminal.frame import STYLES, UNICODE, Marks, Scene, frame, head, line_of
from skill.terminal.matrix import CELLS, UNHEALTHY, Matrix
from skill.terminal.view import Layer, Page, View, window

CTRL_C = "Ctrl-C leaves this view; the run continues"
_KEYS = (
    ("q, Ctrl-C", "leave this view; the run continues"),
    ("?", "this help"),
    ("Tab", "the next page: overview, jobs, matrix of a grid"),
    ("m", "the matrix, and back"),
    ("arrows, PgUp, PgDn", "select a job"),
    ("/", "filter jobs by words of id, phase, status, host; Esc: all"),
    ("Enter", "the log of the selected job; q: back"),
    ("k", "cancel the selected job; asks"),
    ("r", "run the selected job again"),
    ("Ctrl-L", "draw the screen anew"),
)
_NOTE_LINES = 3
"""Lines of a message at most."""
_MEANING = {
    "completed": "ended well, and its output is there",
    "running": "runs now",
    "queued": "waits in Slurm's queue",
    "pending": "waits: for a GPU, for other jobs, for a precondition",
    "failed_oom": "ran out of memory; is tried again",
    "failed_other": "failed; is tried again",
    "stuck": "failed for good: needs a person",
    "blocked": "waits for a job that is stuck or cancelled",
    "cancelled": "cancelled by a person",
}


class Content(NamedTuple):
    """What a page shows beside the scene. `rows`: the jobs of the list, filtered; `total`: how many there are without
    the filter; `jobs`: all by id; `matrices` and `log`: None while they are read; `note`: a message in place of the
    footer; `keys`: whether there are any; `over`: the run has ended."""

    rows: Sequence[Row] = ()
    total: int = 0
    jobs: Mapping[str, Row] = {}
    matrices: Sequence[Matrix] | None = None
    log: Sequence[str] | None = None
    note: str = ""
    keys: bool = True
    over: bool = False


def page(
    view: View, scene: Scene, content: Content, selected: str | None, width: int, height: int, marks: Marks = UNICODE
) -> list[Text]:
    """The lines of the view, each at most `width` cells, at most `height` in all."""
    if view.layer is Layer.HELP:
        return _scrolled(legend(marks, width), view.scroll, height, line_of(_note(view, content), width))
    if view.layer is Layer.LOG:
        return _log(view, content, width, height)
    foot = _foot(view, content, selected, width)
    if view.page is Page.OVERVIEW:
        return _above(frame(scene, width, height - len(foot), marks), foot, height)
    top = head(scene, width, few=True)
    room = max(0, height - len(top) - len(foot))
    body = _matrix(scene, content, selected, width, room, marks) if view.page is Page.MATRIX else _jobs(
        view, scene, content, selected, width, room
    )  # fmt: skip
    return _above([*top, *body[:room]], foot, height)


def room_of(scene: Scene, width: int, height: int) -> int:
    """Rows of jobs that a page has."""
    return max(1, height - len(head(scene, width, few=True)) - 4)


def matrix_lines(matrices: Sequence[Matrix], jobs: Mapping[str, Row], width: int, marks: Marks) -> list[Text]:
    """The whole matrix, for where nothing is selected."""
    return matrix.lines(matrices, jobs, STYLES, None, width, None, unicode=marks is UNICODE)


def legend(marks: Marks, width: int) -> list[Text]:
    """What the keys, marks and colours mean."""
    lines = [Text("keys", style="bold")]
    wide = max(len(key) for key, _ in _KEYS) + 2
    lines += [Text(f" {key:{wide}}{words}") for key, words in _KEYS]
    lines.append(Text("statuses, and their marks in a matrix", style="bold"))
    for status, words in _MEANING.items():
        cell = CELLS[status]
        mark = cell.char if marks is UNICODE else cell.plain
        lines.append(Text(" ").append(f"{mark} {status:{wide - 2}}", style=STYLES[status]).append(words))
    lines.append(
        Text(" ")
        .append(f"{UNHEALTHY} {'unhealthy':{wide - 2}}", style="bold yellow")
        .append("runs, but something is wrong: stalled, nan, …")
    )
    lines.append(Text("bars", style="bold"))
    bars = (
        (marks.done, STYLES["completed"], "completed; of a GPU: memory in use"),
        (marks.running, STYLES["running"], "running; of a GPU: memory promised to jobs"),
        (marks.retry, STYLES["failed_oom"], "failed, is tried again"),
        (marks.person, STYLES["stuck"], "stuck or blocked"),
        (marks.left, STYLES["pending"], "the rest"),
    )
    lines += [Text(" ").append(f"{char * 3:{wide}}", style=style).append(words) for char, style, words in bars]
    lines.append(Text("times", style="bold"))
    lines.append(Text(" local time (UTC in parentheses, with a Z); --utc: UTC alone; files have UTC"))
    for line in lines:
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis")
    return lines


def _jobs(view: View, scene: Scene, content: Content, selected: str | None, width: int, room: int) -> list[Text]:
    if not content.rows:
        return [line_of(f"no job matches {view.needle}" if view.needle else "no jobs", width)]
    at = next((n for n, row in enumerate(content.rows) if row["id"] == selected), 0)
    shown = max(1, room - 2)
    begin = window(len(content.rows), at, shown)
    rows = content.rows[begin : begin + shown]
    count = jobs_text(content.total)
    part = f", {begin + 1} to {begin + len(rows)}" if len(rows) < len(content.rows) else ""
    title = f"{len(content.rows)} of {count} match {view.needle}{part}" if view.needle else f"{count}{part}"
    lines = [line_of(title, width, "bold")]
    table = columns(_cells(rows, scene), max(1, width - 2), head=True, ids=(0,))
    for n, line in enumerate(table):
        is_chosen = n > 0 and rows[n - 1]["id"] == selected
        drawn = Text("> " if is_chosen else "  ", no_wrap=True).append_text(line)
        if is_chosen:
            drawn.pad_right(max(0, width - drawn.cell_len))
            drawn.stylize("reverse")
        lines.append(drawn)
    return lines


def _cells(rows: Sequence[Row], scene: Scene) -> list[list[str | Text]]:
    """What the list tells of some jobs, with a heading, without columns that have nothing in them."""
    table: list[list[str | Text]] = [["job", "phase", "status", "took", "where", "why"]]
    phases = len(scene.document["phases"]) > 1
    for row in rows:
        status = Text(digest.word(row), style=STYLES[digest.word(row)])
        where = digest.place(row)
        phase = row["phase"] if phases else ""
        table.append([row["id"], phase, status, digest.took(row, scene.now), where, _says(row, scene)])
    keep = [n for n in range(len(table[0])) if any(str(line[n]) for line in table[1:])]
    return [[line[n] for n in keep] for line in table]


def _says(row: Row, scene: Scene) -> str:
    """Why a job has its status, or what it does."""
    again = f"attempt {row['attempt']}" if row["status"] == "running" and row["attempt"] > 1 else ""
    does = (again, health.summary(row), activity.words(row, scene.now))
    return digest.reason(row, scene.clock) or "; ".join(filter(None, does))


def _above(lines: Sequence[Text], foot: Sequence[Text], height: int) -> list[Text]:
    """Lines from the top of the screen, and the last line at its bottom."""
    room = max(0, height - len(foot))
    return [*lines[:room], *(Text() for _ in range(room - len(lines))), *foot][-height:]


def _matrix(scene: Scene, content: Content, selected: str | None, width: int, room: int, marks: Marks) -> list[Text]:
    if content.matrices is None:
        return [line_of("reading the grid …", width)]
    lines = matrix.lines(
        content.matrices, content.jobs, STYLES, selected, width, max(0, room - 1), unicode=marks is UNICODE
    )  # fmt: skip
    row = content.jobs.get(selected or "")
    if row is not None:
        lines.append(_about(row, scene, width))
    return lines


def _about(row: Row, scene: Scene, width: int) -> Text:
    """The selected job in one line."""
    parts = [row["id"], digest.word(row), digest.took(row, scene.now), digest.place(row)]
    words = "  ".join(filter(None, (*parts, _says(row, scene))))
    line = Text("> ", style="bold").append(words, style=STYLES[digest.word(row)])
    line.no_wrap = True
    line.truncate(width, overflow="ellipsis")
    return line


def _log(view: View, content: Content, width: int, height: int) -> list[Text]:
    foot = line_of(_note(view, content), width)
    if content.log is None:
        return _above([line_of(f"reading the log of {view.selected} …", width)], [foot], height)
    lines = [part for line in content.log for part in (chop_cells(line, width) or [""])]
    room = max(1, height - 1)
    end = max(min(room, len(lines)), len(lines) - view.scroll)
    return _above([line_of(line, width, "") for line in lines[max(0, end - room) : end]], [foot], height)


def _scrolled(lines: Sequence[Text], scroll: int, height: int, foot: Text) -> list[Text]:
    room = max(0, height - 1)
    begin = max(0, min(scroll, len(lines) - room))
    return _above(lines[begin : begin + room], [foot], height)


def _foot(view: View, content: Content, selected: str | None, width: int) -> list[Text]:
    """The last line: a question, the filter as it is typed, a message, or the keys."""
    if view.layer is Layer.QUESTION:
        row = content.jobs.get(selected or "")
        ends = " It is running." if row is not None and row["status"] == "running" else ""
        return [line_of(f"cancel {selected}?{ends} y: yes, any other key: no", width, "bold yellow")]
    if view.layer is Layer.FILTER:
        return [line_of(f"/{view.needle}_   Enter: keep it, Esc: all jobs", width, "bold")]
    if content.note:
        return [line_of(part, width, "bold yellow") for part in chop_cells(content.note, width)[:_NOTE_LINES]]
    return [line_of(_note(view, content), width)]


def _note(view: View, content: Content) -> str:
    if content.note:
        return content.note
    if not content.keys:
        return CTRL_C
    ended = "the run has ended; " if content.over else ""
    if view.layer is Layer.LOG:
        return f"{ended}log of {view.selected}: arrows, PgUp, PgDn scroll, q back"
    if view.layer is Layer.HELP:
        return f"{ended}arrows scroll, q back"
    if view.page is Page.OVERVIEW:
        return "q leave (the run continues)  ? help  arrows jobs  / filter  m matrix"
    back = "Tab matrix" if view.page is Page.JOBS else "Tab overview"
    return f"q leave  ? help  / filter  Enter log  k cancel  r retry  {back}  Esc back"
