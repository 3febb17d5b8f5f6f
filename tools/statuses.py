"""Draw docs/statuses.svg: how a job goes from one status to another, by the table of docs/statuses.md.

Run it from the repository's root: `PYTHONPATH=. python tools/statuses.py`.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "statuses.md"
DRAWING = ROOT / "docs" / "statuses.svg"
_ROW = re.compile(r"^\| (\d+) \| (`[^|]+`) \| (`[^|]+`) \| [^|]+ \| (manager|person) \|$", re.MULTILINE)
_FAILED = ("failed_oom", "failed_other")
_PLACES: dict[tuple[str, ...], tuple[float, float]] = {
    ("pending",): (100, 230), ("running",): (270, 70), ("completed",): (590, 70), ("cancelled",): (720, 230),
    ("stuck",): (590, 390), _FAILED: (410, 430), ("blocked",): (200, 390),
}  # fmt: skip
"""Around an ellipse, so that no arrow crosses a box."""
_HALF_WIDE, _HALF_HIGH, _BOW, _BADGE = 62, 22, 26, 11
_STYLE = """
  text { font: 14px sans-serif; fill: #24292f; text-anchor: middle; } rect { fill: #f6f8fa; stroke: #8c959f; }
  path { fill: none; stroke-width: 1.5; } .manager { stroke: #0969da; } .person { stroke: #1a7f37; }
  circle { fill: #ffffff; stroke-width: 1.5; } .number { font-size: 12px; }
  @media (prefers-color-scheme: dark) { text { fill: #e6edf3; } rect { fill: #161b22; } circle { fill: #0d1117; }
    .manager { stroke: #58a6ff; } .person { stroke: #3fb950; } }
"""


class Row(NamedTuple):
    """A row of the table: statuses that are alike in it are one box."""

    number: int
    source: tuple[str, ...]
    target: tuple[str, ...]
    by: str


def rows() -> list[Row]:
    """The rows of the page's table."""
    found = _ROW.findall(PAGE.read_text(encoding="utf-8"))
    return [Row(int(number), _statuses(source), _statuses(target), by) for number, source, target, by in found]


def _statuses(cell: str) -> tuple[str, ...]:
    return tuple(re.findall(r"`(\w+)`", cell))


def drawing() -> str:
    """The SVG: a box for each status, a numbered arrow for each row."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 820 480" width="820" height="480" role="img">',
        "  <title>How a job goes from one status to another</title>",
        f"  <style>{_STYLE}  </style>",
        '  <defs><marker id="end" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto">',
        '    <path d="M0,1 L8,4 L0,7" stroke="#8c959f"/></marker></defs>',
    ]
    curves = [_curve(row) for row in rows()]
    parts += [curve for curve, _ in curves] + [badge for _, badge in curves]
    for names, (x, y) in _PLACES.items():
        left, top = x - _HALF_WIDE, y - _HALF_HIGH
        parts.append(f'  <rect x="{left:g}" y="{top:g}" width="{2 * _HALF_WIDE}" height="{2 * _HALF_HIGH}" rx="6"/>')
        for number, name in enumerate(names):
            line = y + 5 + 16 * (number - (len(names) - 1) / 2)
            parts.append(f'  <text x="{x:g}" y="{line:g}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _curve(row: Row) -> tuple[str, str]:
    """An arrow, bowed to its left so that one back lies beside it, and its number, nearer to its source."""
    (x0, y0), (x1, y1) = _PLACES[row.source], _PLACES[row.target]
    length = math.hypot(x1 - x0, y1 - y0)
    over, down = (y1 - y0) / length * _BOW, -(x1 - x0) / length * _BOW
    middle = ((x0 + x1) / 2 + over, (y0 + y1) / 2 + down)
    begin, end = _edge((x0, y0), middle), _edge((x1, y1), middle)
    at = [0.49 * a + 0.42 * b + 0.09 * c for a, b, c in zip(begin, middle, end)]
    path = f"M{begin[0]:.0f},{begin[1]:.0f} Q{middle[0]:.0f},{middle[1]:.0f} {end[0]:.0f},{end[1]:.0f}"
    badge = f'  <circle class="{row.by}" cx="{at[0]:.0f}" cy="{at[1]:.0f}" r="{_BADGE}"/>'
    number = f'<text class="number" x="{at[0]:.0f}" y="{at[1] + 4:.0f}">{row.number}</text>'
    return f'  <path class="{row.by}" d="{path}" marker-end="url(#end)"/>', badge + number


def _edge(box: tuple[float, float], towards: tuple[float, float]) -> tuple[float, float]:
    """Where the line from the middle of a box to a point leaves the box."""
    x, y = towards[0] - box[0], towards[1] - box[1]
    part = min(_HALF_WIDE / abs(x) if x else math.inf, _HALF_HIGH / abs(y) if y else math.inf)
    return box[0] + x * part, box[1] + y * part


if __name__ == "__main__":
    DRAWING.write_text(drawing(), encoding="utf-8")
