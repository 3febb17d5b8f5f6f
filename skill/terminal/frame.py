"""What a run looks like on a screen of a given size: lines, from a state document. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.text import Text

from queue_manager.core.times import duration, epoch
from skill.common.text_table import columns
from skill.common.units import jobs_text
from skill.reports import teardown_text
from skill.runs import activity, code_versions, digest, eta, health, recovery
from skill.runs.assignment import LOST, PLANNED
from skill.runs.digest import Clock, Digest, Row
from skill.runs.digest import clock as utc_clock

STYLES = {
    "completed": "green", "running": "cyan", "failed_oom": "yellow", "failed_other": "yellow",
    "queued": "blue", "pending": "bright_black", "stuck": "red", "blocked": "red", "cancelled": "magenta",
}  # fmt: skip
NARROW = 60
"""Columns below which a job that has ended is named without the time of day: its id matters more."""
WIDE = 110
"""Columns from which on step, rate, time left and loss of running jobs have columns of their own."""
MOST_ROWS = 40
"""Rows of one section where the height is not bounded."""


class Marks(NamedTuple):
    """Characters of a bar: completed or used, running or promised, waiting for a retry, needing a person, the rest."""

    done: str
    running: str
    retry: str
    person: str
    left: str


UNICODE = Marks("█", "▓", "▒", "✗", "░")
ASCII = Marks("#", "=", "~", "x", ".")


class Scene(NamedTuple):
    """All that a frame shows. `tail` gives the last log line of a running job; `now` in epoch seconds; `clock` formats
    the times of day."""

    document: Mapping[str, Any]
    digest: Digest
    alive: bool
    now: float
    tail: Callable[[Row], str]
    clock: Clock = utc_clock


class _Section(NamedTuple):
    """A heading, and rows of which as many are drawn as there is room for."""

    title: str
    rows: Sequence[Any]
    draw: Callable[[Sequence[Any]], list[Text]]


def frame(scene: Scene, width: int, height: int | None, marks: Marks = UNICODE, footer: str = "") -> list[Text]:
    """The lines of a view, each at most `width` cells, at most `height` in all (None: as many as it takes)."""
    top = head(scene, width, few=height is not None)
    foot = [line_of(footer, width)] if footer else []
    sections = [section for section in _sections(scene, width, marks) if section.rows]
    room = None if height is None else height - len(top) - len(foot)
    body: list[Text] = []
    for section, share in zip(sections, _shares([len(section.rows) for section in sections], room), strict=True):
        if share:
            shown = f" ({share} of {len(section.rows)})" if share < len(section.rows) else ""
            title = Text(f"{section.title}{shown}", style="bold", no_wrap=True)
            title.truncate(width)
            body += [title, *section.draw(section.rows[:share])]
    return [*top, *body, *foot]


def head(scene: Scene, width: int, *, few: bool) -> list[Text]:
    """The first lines of every view: the run, its counts, when it ends, and what blocks it. `few`: of that the first
    three."""
    document = scene.document
    lines = [Text(digest.headline(document, scene.alive, scene.now), style="bold", no_wrap=True)]
    counts = Text("  ", no_wrap=True)
    numbers = digest.counts(document)
    for name in digest.SHOWN:
        if numbers.get(name):
            counts.append(f"{numbers[name]} {name}", style=STYLES[name]).append("  ")
    lines.append(counts)
    when = eta.line(document, scene.alive, scene.now, scene.clock)
    if when:
        lines.append(Text(f"  {when}", style="bright_black", no_wrap=True))
    for problem in digest.problems(document, scene.alive, scene.clock)[: 3 if few else None]:
        lines.append(Text(f"  ! {problem}", style="bold yellow", no_wrap=True))
    for line in lines:
        line.rstrip()
        line.truncate(width, overflow="ellipsis")
    return lines


def line_of(text: str, width: int, style: str = "bright_black") -> Text:
    """One line of text in at most `width` cells."""
    line = Text(text, style=style, no_wrap=True)
    line.rstrip()
    line.truncate(width, overflow="ellipsis")
    return line


def _shares(wanted: Sequence[int], room: int | None) -> list[int]:
    """Rows for each section: one each in turn, as long as there is room; a section's first costs its title, too."""
    if room is None:
        return [min(count, MOST_ROWS) for count in wanted]
    shares = [0] * len(wanted)
    while True:
        before = room
        for n, count in enumerate(wanted):
            cost = 1 if shares[n] else 2
            if shares[n] < count and cost <= room:
                shares[n] += 1
                room -= cost
        if room == before:
            return shares


def _sections(scene: Scene, width: int, marks: Marks) -> list[_Section]:
    document, found = scene.document, scene.digest
    # What goes on comes before what is done, for where there is not room for all.
    phases = sorted(document["phases"], key=lambda row: row["status"] == "completed")
    place = {row["name"]: n for n, row in enumerate(document["phases"])}
    hosts, queue = document["meta"].get("hosts", ()), document["meta"].get("queue") or {}
    return [
        _Section("hosts", hosts, lambda rows: _hosts(rows, scene.now, width)),
        _Section("rented", teardown_text.lines(document), lambda rows: _rented(rows, width)),
        _Section(
            "phases", phases, lambda rows: _phases(sorted(rows, key=lambda row: place[row["name"]]), width, marks)
        ),
        _Section("GPUs", document["gpus"], lambda rows: _cards(rows, width, marks)),
        _Section("running", found.running, lambda rows: _running(rows, scene, width)),
        _Section("queued in Slurm", list(queue.items()), lambda rows: _queue(rows, width)),
        _Section("waiting for a retry", found.retrying, lambda rows: _reasons(rows, scene, width)),
        _Section("need a person", digest.alike(found.person), lambda groups: _groups(groups, scene, width)),
        _Section("recovery", recovery.taken(document["jobs"]), lambda steps: _recovery(steps, width)),
        _Section("cancelled", digest.alike(found.cancelled), lambda groups: _groups(groups, scene, width)),
        _Section("recently finished", found.recent, lambda rows: _recent(rows, scene, width)),
    ]


def _queue(rows: Sequence[tuple[str, int]], width: int) -> list[Text]:
    return columns([[str(count), words] for words, count in rows], width, indent=1, right=(0,))


def _recovery(steps: Sequence[tuple[Row, Mapping[str, Any]]], width: int) -> list[Text]:
    return columns([list(recovery.cells(row, step)) for row, step in steps], width, indent=1)


def _hosts(rows: Sequence[Row], now: float, width: int) -> list[Text]:
    table: list[list[str | Text]] = []
    for row in rows:
        done = f"{row['counts'].get('completed', 0)}/{row['jobs']}"
        pulled = f"pulled {duration(max(0.0, now - epoch(row['last_pull'])))} ago" if row["last_pull"] else "not pulled"
        table.append([row["name"], _manager(row), done, digest.counts_text(digest.counts(row), ("completed",)), pulled])
    return columns(_without_empty(table), width, indent=1, right=(2,))


def _rented(rows: Sequence[teardown_text.Line], width: int) -> list[Text]:
    return columns([[row.host, row.cost, row.plan] for row in rows], width, indent=1)


def _manager(row: Row) -> Text:
    """How the manager of a host stands, as far as that is known."""
    known = row["manager"] or "never read"
    if row["state"] == LOST:
        moved = f"{jobs_text(row['moved'])} moved"
        return Text(f"given up, {moved if row['moved'] else 'nothing moved'}", style="magenta")
    if row["reason"] is not None:
        how = "unknown" if row["answered"] else "unreachable"
        age = "" if row["age_s"] is None else f" {duration(row['age_s'])} ago"
        return Text(f"{how} ({known}{age})", style="yellow")
    if row["manager"] is None:
        return Text("not submitted" if row["state"] == PLANNED else "not begun", style="yellow")
    return Text(known, style={"running": "cyan", "finished": "green"}.get(known, "red"))


def bar(parts: Sequence[tuple[int, str, str]], total: int, width: int, left: str) -> Text:
    """A bar of `width` cells. `parts`: amount, character, style. What is there at all gets one cell at least, as long
    as there are cells."""
    line = Text()
    room = width
    for n, (amount, char, style) in enumerate(parts):
        others = sum(1 for later, _, _ in parts[n + 1 :] if later)
        cells = min(max(round(amount * width / total), 1), max(0, room - others)) if amount and total else 0
        line.append(char * cells, style=style)
        room -= cells
    return line.append(left * room, style="bright_black")


def _bar_width(width: int) -> int:
    return max(8, min(40, width // 4))


def _phases(rows: Sequence[Row], width: int, marks: Marks) -> list[Text]:
    table = []
    for row in rows:
        counts = digest.counts(row)
        parts = [
            (counts.get("completed", 0), marks.done, STYLES["completed"]),
            (counts.get("running", 0), marks.running, STYLES["running"]),
            (sum(counts.get(name, 0) for name in digest.RETRIES), marks.retry, STYLES["failed_oom"]),
            (sum(counts.get(name, 0) for name in ("stuck", "blocked")), marks.person, STYLES["stuck"]),
        ]
        shown = bar(parts, row["jobs"], _bar_width(width), marks.left)
        done = f"{counts.get('completed', 0)}/{row['jobs']}"
        words = digest.counts_text(counts, ("completed",))
        if row["oom_retries"]:
            retries = "OOM retry" if row["oom_retries"] == 1 else "OOM retries"
            words += f"{', ' if words else ''}{row['oom_retries']} {retries}"
        mixed = code_versions.mixed(row)
        if mixed is not None:
            words += f"{', ' if words else ''}{mixed}"
        table.append([row["name"], shown, done, words])
    return columns(table, width, indent=1, right=(2,))


def _cards(rows: Sequence[Row], width: int, marks: Marks) -> list[Text]:
    table: list[list[str | Text]] = []
    for row in rows:
        name = row["name"].removeprefix("NVIDIA ")
        if row["total_mib"] is None:
            table.append([_index(row), name, "", "", "", row["note"]])
            continue
        used = row["used_mib"]
        style = "cyan" if row["jobs"] else "yellow" if row["note"] else "bright_black"
        extra = max(0, min(row["promised_mib"], row["total_mib"]) - used)
        parts = [(used, marks.done, style), (extra, marks.running, style)]
        shown = bar(parts, row["total_mib"], max(8, _bar_width(width) // 2), marks.left)
        memory = f"{used / 1024:.1f}/{row['total_mib'] / 1024:.0f} GiB"
        util = "" if row["util"] is None else f"{row['util']} %"
        table.append([_index(row), name, shown, memory, util, " ".join(row["jobs"]) or row["note"]])
    return columns(table, width, indent=1, right=(0, 3, 4))


def _index(row: Row) -> str:
    return f"{row['host']} {row['index']}" if "host" in row else str(row["index"])


def _running(rows: Sequence[Row], scene: Scene, width: int) -> list[Text]:
    table: list[list[str | Text]] = []
    for row in rows:
        again = f"attempt {row['attempt']}" if row["attempt"] > 1 else ""
        name, took = Text(row["id"], style="cyan"), digest.took(row, scene.now)
        known = health.summary(row)
        if width >= WIDE:
            table.append([name, took, digest.place(row), again, *health.cells(row), _says(row, scene)])
        elif known and activity.asks(row) is None:
            text = Text(known, style="bold yellow" if health.flags(row) else "bright_black")
            table.append([name, took, digest.place(row), again, text])
        else:
            table.append([name, took, digest.place(row), again, _says(row, scene)])
    return columns(_without_empty(table), width, indent=1, right=(1,), ids=(0,))


def _says(row: Row, scene: Scene) -> Text:
    """What a running job does, where that is to be said, and the last line of its log."""
    if row["waiting"]:
        return Text(row["waiting"], style="bright_black")
    does = activity.words(row, scene.now, scene.document["gpus"])
    if activity.asks(row) is not None:  # it quotes that line
        return Text(does, style="bold yellow")
    wrong = health.flags(row)
    if wrong:
        return Text(wrong, style="bold yellow")
    text, tail = Text(does, style="yellow" if activity.is_idle(row) else "bright_black"), scene.tail(row)
    return text.append(f": {tail}" if does and tail else tail, style="bright_black")


def _reasons(rows: Sequence[Row], scene: Scene, width: int) -> list[Text]:
    table: list[list[str | Text]] = [
        [row["id"], Text(row["status"], style=STYLES[row["status"]]), digest.reason(row, scene.clock)] for row in rows
    ]
    return columns(table, width, indent=1, ids=(0,))


def _groups(groups: Sequence[Sequence[Row]], scene: Scene, width: int) -> list[Text]:
    """A line for each group of jobs of which the same is to be said."""
    table: list[list[str | Text]] = []
    for rows in groups:
        count = f"{len(rows)} " if len(rows) > 1 else ""
        state = Text(f"{count}{rows[0]['status']}", style=STYLES[rows[0]["status"]])
        table.append([digest.names(rows), state, digest.reason(rows[0], scene.clock)])
    return columns(table, width, indent=1, ids=(0,))


def _recent(rows: Sequence[Row], scene: Scene, width: int) -> list[Text]:
    table: list[list[str | Text]] = []
    for row in rows:
        state = Text(row["status"], style=STYLES[row["status"]])
        when = "" if width < NARROW else scene.clock(row["completed"])
        table.append([row["id"], state, digest.took(row, scene.now), when, digest.reason(row, scene.clock)])
    return columns(_without_empty(table), width, indent=1, ids=(0,))


def _without_empty(table: list[list[str | Text]]) -> list[list[str | Text]]:
    """The table without the columns that hold nothing, or nothing known, in any row."""
    keep = [n for n in range(len(table[0])) if any(str(row[n]) not in ("", health.UNKNOWN) for row in table)]
    return [[row[n] for n in keep] for row in table]


def jobs_table(rows: Sequence[Row], width: int, now: float, clock: Clock = digest.clock) -> list[Text]:
    """All of some jobs, a line each, with a heading."""
    table: list[list[str | Text]] = [["job", "phase", "status", "where", "attempts", "took", "why"]]
    for row in rows:
        state = Text(digest.word(row), style=STYLES[digest.word(row)])
        where = digest.place(row)
        why = digest.reason(row, clock) or "; ".join(filter(None, (health.summary(row), activity.words(row, now))))
        table.append([row["id"], row["phase"], state, where, str(row["attempts"]), digest.took(row, now), why])
    return columns(table, width, right=(4, 5), head=True, ids=(0,))
