"""The report of a run as one page that needs nothing else: no network, no server, no build.

Charts are drawn in the browser by Observable Plot (with D3), which were made for just this: axes, bands, cells and bars
from data, as SVG, which prints sharply, follows the colours of the page and can be read by assistive technology. Both
lie in `page/vendor` as their authors publish them, with their licences (ISC); they are 490 KB of each page.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from build_manifest import regular_file
from skill import __version__
from skill.reports import html_data
from skill.reports.html_data import Material

_FOLDER = Path(__file__).with_name("page")
VENDOR = _FOLDER / "vendor"
LIBRARIES = ("d3", "plot.umd")
"""Scripts of others, in the order in which they are needed."""
MARK = '<meta name="generator" content="wavequeue">'
"""What tells a page of ours from any other file; it stands in the first bytes."""
_HEAD = 4096


def page(given: Material) -> str:
    """Create the page of a run."""
    names = html_data.context(given)
    scripts = [*(_read(f"vendor/{name}.min.js") for name in LIBRARIES), _read("charts.js"), _read("jobs.js")]
    return render("report.html.j2", {**names, "data": script_json(names["data"]), "scripts": scripts})


def render(template: str, names: Mapping[str, Any]) -> str:
    """Create a page of a template, with the style that all pages share."""
    found = _environment().get_template(template)
    return found.render(names, mark=MARK, version=__version__, style=_read("report.css"))


def is_ours(file: Path) -> bool:
    """Return whether a file is a page that was made here. Raises OSError."""
    try:
        with regular_file.open_regular(file) as opened:
            return MARK.encode() in opened.read(_HEAD)
    except FileNotFoundError:
        return False


def script_json(value: Any) -> str:
    """JSON that no script element ends early: of `<` only its number is left."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


@functools.cache
def _environment() -> jinja2.Environment:
    """Keeps the templates that it has compiled: a campaign's loop makes its page again after every step."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )


@functools.cache
def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
