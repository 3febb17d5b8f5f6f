"""Judge the health of hosts by their probes: a row each, what is missing, the table and the JSON. Pure.

No answer of a host is believed unchecked: a field of another kind counts as missing, and what would
garble a terminal is taken out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from build_manifest.faults import listed
from queue_manager.core.terminal_text import one_line
from queue_manager.core.times import duration, epoch
from skill.common import typed_json
from skill.common.text_table import columns
from skill.common.units import mib_text
from skill.hosts.connection import Unreachable

if TYPE_CHECKING:
    from rich.text import Text

    from skill.hosts.bootstrap import Facts

LEAST_DISK = 200
"""MiB that have to be free for code, logs and the journal."""
CLOCK = 30.0
"""Seconds by which a host's clock may differ before it is reported: ages of states compare clocks."""
_MOST = 64 << 20
_LONGEST = 300
_MOST_CARDS = 256
_MOST_RUNS = 1000
_NAMED = 5
_UNTOLD = "-"


class ProbeResult(NamedTuple):
    """What a host answered. `document`: that of queue_manager.remote.probe, as it came; None for the reason in
    `why`.

    `asked` and `answered`: our clock around it, in epoch seconds. `openssh`: why OpenSSH itself goes there, None where
    fabric does. `is_quiet`: its login files leave stdin and stdout alone.
    """

    facts: Facts | Unreachable
    document: bytes | None = None
    why: str = ""
    asked: float = 0.0
    answered: float = 0.0
    openssh: str | None = None
    is_quiet: bool = True


class Card(NamedTuple):
    """A card; MiB, None where not known. `note`: what is wrong with it, or empty."""

    number: int
    name: str
    total_mib: int | None
    free_mib: int | None
    note: str


class Probed(NamedTuple):
    """The usable part of the probe's document; None for what was not reported."""

    heartbeat_s: float | None = None
    cards: tuple[Card, ...] = ()
    cards_note: str = ""
    cards_unreadable: str | None = None
    disk_free_mib: int | None = None
    screen: str | None = None
    load: tuple[float, ...] | None = None
    cpus: int | None = None
    time: float | None = None
    runs: tuple[str, ...] = ()
    screen_fault: str = ""
    unreadable: tuple[str, ...] = ()


class Row(NamedTuple):
    """One host. `unreachable`: why nothing is known of it, or None.

    `screen`: its version, empty where it does not tell; None where it is missing. `disk_free_mib`: the least of where
    runs and code lie. `clock_s`: how far the host's clock is ahead of ours, `clock_within_s` how well that is known.
    `openssh`: why OpenSSH itself goes there.
    """

    name: str
    unreachable: str | None = None
    probed: Probed = Probed()
    python: str | None = None
    python_path: str | None = None
    screen: str | None = None
    rsync: bool = False
    disk_free_mib: int | None = None
    clock_s: float | None = None
    clock_within_s: float | None = None
    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    openssh: str | None = None


# -- what was heard -----------------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """Make a text safe to print: one line, without control characters, and not too long."""
    return one_line(text, _LONGEST + 1)


def read(data: bytes) -> Probed | None:
    """Read the document of a probe; None if it is not one."""
    try:
        found = typed_json.decode(data, _MOST)
    except typed_json.DocumentError:
        return None
    if not isinstance(found, dict) or "python" not in found:
        return None
    at, beat = _time(found.get("time")), _time(found.get("heartbeat"))
    screen = found.get("screen")
    load = found.get("load")
    unreadable = _text(found.get("gpu_unreadable"))
    return Probed(
        max(0.0, at - beat) if at is not None and beat is not None else None,
        tuple(_cards(found.get("gpus"))),
        _text(found.get("gpu_note")) or "",
        unreadable,
        _count(found.get("disk_free_mib")),
        (_text(screen.get("version")) or "") if isinstance(screen, dict) else None,
        tuple(map(float, load)) if isinstance(load, list) and len(load) == 3 and all(map(_is_number, load)) else None,
        _count(found.get("cpus")),
        at,
        tuple(_runs(found.get("runs"))),
        (_text(screen.get("fault")) or "") if isinstance(screen, dict) else "",
        tuple(_unreadable(found.get("unreadable"))),
    )


def _cards(rows: Any) -> Iterable[Card]:
    for row in rows[:_MOST_CARDS] if isinstance(rows, list) else ():
        if isinstance(row, dict) and _count(row.get("index")) is not None:
            yield Card(
                row["index"],
                _text(row.get("name")) or "?",
                _count(row.get("total_mib")),
                _count(row.get("free_mib")),
                _text(row.get("note")) or "",
            )


def _runs(rows: Any) -> Iterable[str]:
    for row in rows[:_MOST_RUNS] if isinstance(rows, list) else ():
        name = _text(row.get("id")) if isinstance(row, dict) else None
        if name:
            yield name


def _unreadable(rows: Any) -> Iterable[str]:
    for what, words in list(rows.items())[:_NAMED] if isinstance(rows, dict) else ():
        if isinstance(words, str):
            yield plain(f"its {what} could not be read: {words}")


def _text(value: Any) -> str | None:
    return plain(value) if isinstance(value, str) else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 1 << 50 else None


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and 0 <= value < 1e6


def _time(value: Any) -> float | None:
    try:
        return epoch(value) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


# -- how it is ----------------------------------------------------------------------------------------------------


def row(name: str, result: ProbeResult) -> Row:
    """Judge one host."""
    facts = result.facts
    if isinstance(facts, Unreachable):
        return Row(name, plain(facts.reason), openssh=result.openssh)
    probed = (read(result.document) if result.document is not None else None) or Probed()
    disks = [free for free in (probed.disk_free_mib, facts.disk_free_mib) if free is not None]
    clock = within = None
    if probed.time is not None:
        within = max(0.0, result.answered - result.asked) / 2
        clock = probed.time - (result.asked + within)
    made = Row(
        name,
        None,
        probed,
        None if facts.python is None else plain(facts.python.version),
        None if facts.python is None else plain(facts.python.path),
        None if facts.screen is None else probed.screen or "",
        facts.rsync is not None,
        min(disks, default=None),
        clock,
        within,
        openssh=None if result.openssh is None else plain(result.openssh),
    )
    return made._replace(faults=tuple(_faults(made, facts, result)), warnings=tuple(_warnings(made, facts, result)))


def _faults(made: Row, facts: Facts, result: ProbeResult) -> Iterable[str]:
    setup = f"set it up with: wavequeue hosts setup {made.name}"
    if facts.python is None:
        yield f"{plain(facts.why_no_python)}; {setup}"
    elif result.document is None:
        yield f"it could not be checked: {plain(result.why)}"
    elif read(result.document) is None:
        yield "its answer cannot be parsed; see what its shell prints with: ssh HOST true"
    if facts.screen is None:
        yield f"screen is missing, and every job runs in one; {setup}"
    elif made.probed.screen_fault:
        yield f"its screen does not run, and every job runs in one: {made.probed.screen_fault}"
    if not facts.writable:
        yield "its home directory, where runs are kept, is not writable"
    if made.disk_free_mib is not None and made.disk_free_mib < LEAST_DISK:
        yield f"only {made.disk_free_mib} MiB of its disk are free; {LEAST_DISK} are needed"


def _warnings(made: Row, facts: Facts, result: ProbeResult) -> Iterable[str]:
    yield from made.probed.unreadable
    if facts.disk_fault:
        yield plain(f"its free disk space is unknown: {facts.disk_fault}")
    if facts.owner is not None:
        yield f"it shares its home directory with {plain(facts.owner)}; its own runs are in ~/{facts.place}/runs"
    if not result.is_quiet:
        yield (
            "a login file there (such as ~/.bashrc) prints or reads in every session, so code is sent with tar, "
            "slower; let it do so in terminals only, in bash: case $- in *i*) ... ;; esac"
        )
    if not made.rsync:
        yield f"rsync is missing, so code is sent with tar (slower). Install it with: wavequeue hosts setup {made.name}"
    if made.probed.cards_unreadable is not None:
        yield f"its GPUs cannot be read now: {made.probed.cards_unreadable}"
    for card in made.probed.cards:
        if card.note:
            yield f"GPU {card.number}: {card.note}"
    if made.probed.cards and made.probed.cards_note:
        yield made.probed.cards_note
    if abs(clock_off(made)) > CLOCK:
        yield f"its clock is {_clock(made)}; correct it, or ages and times will be wrong"


def clock_off(made: Row) -> float:
    """Seconds by which the host's clock is certainly ahead of this machine's; negative: behind. 0 if it may be in
    step."""
    if made.clock_s is None or made.clock_within_s is None:
        return 0.0
    return math.copysign(max(0.0, abs(made.clock_s) - made.clock_within_s), made.clock_s)


def well(rows: Sequence[Row]) -> bool:
    """Tell whether all hosts answered and nothing is missing."""
    return all(one.unreachable is None and not one.faults for one in rows)


# -- how it is shown ----------------------------------------------------------------------------------------------


HEAD = ("host", "is", "heartbeat", "runs", "disk free", "load", "clock", "python", "screen", "rsync", "GPUs")


def table(rows: Sequence[Row], width: int) -> list[Text]:
    """A row for each host; cards last, since they need most room. Where the rows do not fit, the path of Python is left
    out, and the cards of each host have a line of their own below it."""
    cells = [_cells(one) for one in rows]
    if _fits(cells, width):
        return columns([list(HEAD), *cells], width, head=True)
    python = HEAD.index("python")
    for row in cells:
        row[python] = str(row[python]).split(" ", 1)[0] if isinstance(row[python], str) else row[python]
    if _fits(cells, width):
        return columns([list(HEAD), *cells], width, head=True)
    head, *lines = columns([list(HEAD[:-1]), *(row[:-1] for row in cells)], width, head=True)
    found = [head]
    for line, row in zip(lines, cells):
        found.append(line)
        if str(row[-1]) != _UNTOLD:
            found += columns([["GPUs:", str(row[-1])]], width, indent=2)
    return found


def _fits(cells: Sequence[Sequence[str | Text]], width: int) -> bool:
    """Tell whether each row fits in one line, with nothing cut."""
    widths = [max(len(title), *(len(str(row[n])) for row in cells)) for n, title in enumerate(HEAD)]
    return sum(widths) + 2 * (len(widths) - 1) <= width and all(one <= width // 3 for one in widths[:-1])


def _cells(one: Row) -> list[str | Text]:
    from rich.text import Text

    if one.unreachable is not None:
        return [one.name, Text("unreachable", "yellow"), *[_UNTOLD] * (len(HEAD) - 2)]
    probed = one.probed
    knows_runs = probed.time is not None and not any(text.startswith("its runs ") for text in probed.unreadable)
    beat = "never" if knows_runs else _UNTOLD
    missing = Text("missing", "red")
    return [
        one.name,
        Text("faulty", "red") if one.faults else "ok",
        beat if probed.heartbeat_s is None else f"{duration(probed.heartbeat_s)} ago",
        str(len(probed.runs)) if knows_runs else _UNTOLD,
        _UNTOLD if one.disk_free_mib is None else mib_text(one.disk_free_mib),
        _UNTOLD if probed.load is None else f"{probed.load[0]:.1f}" + (f" of {probed.cpus}" if probed.cpus else ""),
        _clock(one),
        missing if one.python is None else f"{one.python} {one.python_path}",
        missing if one.screen is None else one.screen or "ok",
        "ok" if one.rsync else Text("missing", "yellow"),
        _cards_text(probed),
    ]


def _cards_text(probed: Probed) -> str:
    """List GPUs of one name together, with the free memory of each: 2 NVIDIA A100: 39.5, 2.1 GiB free."""
    if probed.cards_unreadable is not None:
        return "unreadable"
    if not probed.cards:
        return _UNTOLD if probed.time is None else "none"
    named: dict[str, list[Card]] = {}
    for card in probed.cards:
        named.setdefault(card.name, []).append(card)
    return "; ".join(
        f"{len(cards)} {name}: {', '.join(_gib(card.free_mib) for card in cards)} GiB free"
        for name, cards in named.items()
    )


def _gib(mib: int | None) -> str:
    return "?" if mib is None else f"{mib / 1024:.1f}"


def _clock(made: Row) -> str:
    if made.clock_s is None:
        return _UNTOLD
    if abs(clock_off(made)) < 1:
        return "in step"
    return f"{duration(abs(made.clock_s))} {'ahead' if made.clock_s > 0 else 'behind'}"


def fault_lines(rows: Sequence[Row]) -> list[str]:
    """List the faults, one line each."""
    lines = []
    for one in rows:
        if one.unreachable is not None:
            lines.append(f"{one.name}: unreachable: {one.unreachable}")
        lines += [f"{one.name}: {text}" for text in one.faults]
    return lines


def note_lines(rows: Sequence[Row]) -> list[str]:
    """List the notes, one line each."""
    lines = [f"{one.name}: warning: {text}" for one in rows for text in one.warnings]
    lines += [f"{one.name}: through OpenSSH: {one.openssh}" for one in rows if one.openssh is not None]
    runs = [f"{one.name}: a manager holds {listed(one.probed.runs, _NAMED)}" for one in rows if one.probed.runs]
    return lines + runs


def document(rows: Sequence[Row]) -> dict[str, Any]:
    """Build what `hosts check --json` prints. Times in seconds, memory and disk in MiB; null: not reported."""
    return {"ok": well(rows), "hosts": [_json(one) for one in rows]}


def _json(one: Row) -> Mapping[str, Any]:
    probed = one.probed
    return {
        "name": one.name,
        "reachable": one.unreachable is None,
        "unreachable": one.unreachable,
        "heartbeat_s": _rounded(probed.heartbeat_s),
        "runs": list(probed.runs),
        "gpus": [_card_json(card) for card in probed.cards],
        "gpu_unreadable": probed.cards_unreadable,
        "disk_free_mib": one.disk_free_mib,
        "load": None if probed.load is None else list(probed.load),
        "cpus": probed.cpus,
        "clock_s": _rounded(one.clock_s),
        "clock_within_s": _rounded(one.clock_within_s),
        "python": None if one.python is None else {"version": one.python, "path": one.python_path},
        "screen": one.screen,
        "rsync": one.rsync if one.unreachable is None else None,
        "openssh": one.openssh,
        "faults": list(one.faults),
        "warnings": list(one.warnings),
    }


def _card_json(card: Card) -> dict[str, Any]:
    found = card._asdict()
    return {"index": found.pop("number"), **found}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
