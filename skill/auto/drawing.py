"""Pictures as shapes, and the shapes as SVG. Pure.

A picture is described once; SVG needs nothing else, and PNG (skill/auto/png.py) is made of the same shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Union
from xml.sax.saxutils import escape, quoteattr

INK, FAINT, PAPER = "#1f2430", "#9aa3ad", "#ffffff"


@dataclass(frozen=True)
class Line:
    """A line through points. `dash`: dotted."""

    points: tuple[tuple[float, float], ...]
    colour: str = INK
    width: float = 1.0
    dash: bool = False


@dataclass(frozen=True)
class Box:
    """A rectangle with round corners. `title`: what browsers show under the pointer."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    edge: str = INK
    dash: bool = False
    heavy: bool = False
    title: str = ""


@dataclass(frozen=True)
class Dot:
    """A filled circle."""

    x: float
    y: float
    radius: float
    fill: str
    edge: str = INK
    dash: bool = False
    title: str = ""


@dataclass(frozen=True)
class Words:
    """A line of text. `y`: its base line."""

    x: float
    y: float
    text: str
    size: float = 12.0
    colour: str = INK
    anchor: Literal["start", "middle", "end"] = "start"
    bold: bool = False


Shape = Union[Line, Box, Dot, Words]


@dataclass(frozen=True)
class Drawing:
    """A picture of so many pixels; later shapes lie over earlier ones. `about`: what it shows, in a sentence."""

    width: float
    height: float
    about: str
    shapes: Sequence[Shape]


def svg(drawing: Drawing) -> str:
    """The picture as an SVG document."""
    size = f"{_number(drawing.width)} {_number(drawing.height)}"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{_number(drawing.width)}" '
        f'height="{_number(drawing.height)}" role="img" aria-label={quoteattr(_clean(drawing.about))} '
        'font-family="system-ui, sans-serif">'
    )
    paper = f'<rect width="100%" height="100%" fill="{PAPER}"/>'
    return "\n".join([head, paper, *(_shape(one) for one in drawing.shapes), "</svg>"]) + "\n"


def _shape(one: Shape) -> str:
    if isinstance(one, Line):
        return _line(one)
    if isinstance(one, Box):
        return _box(one)
    return _dot(one) if isinstance(one, Dot) else _words(one)


def _line(one: Line) -> str:
    points = " ".join(f"{_number(x)},{_number(y)}" for x, y in one.points)
    return (
        f'<polyline points="{points}" fill="none" stroke="{one.colour}" stroke-width="{_number(one.width)}"'
        f"{_dash(one.dash)}/>"
    )


def _box(one: Box) -> str:
    return (
        f'<rect x="{_number(one.x)}" y="{_number(one.y)}" width="{_number(one.width)}" height="{_number(one.height)}" '
        f'rx="4" fill="{one.fill}" stroke="{one.edge}" stroke-width="{3 if one.heavy else 1}"{_dash(one.dash)}'
        f"{_titled('rect', one.title)}"
    )


def _dot(one: Dot) -> str:
    return (
        f'<circle cx="{_number(one.x)}" cy="{_number(one.y)}" r="{_number(one.radius)}" fill="{one.fill}" '
        f'stroke="{one.edge}"{_dash(one.dash)}{_titled("circle", one.title)}'
    )


def _words(one: Words) -> str:
    return (
        f'<text x="{_number(one.x)}" y="{_number(one.y)}" font-size="{_number(one.size)}" fill="{one.colour}" '
        f'text-anchor="{one.anchor}"{" font-weight=" + chr(34) + "bold" + chr(34) if one.bold else ""}>'
        f"{escape(_clean(one.text))}</text>"
    )


def _titled(element: str, title: str) -> str:
    return f"><title>{escape(_clean(title))}</title></{element}>" if title else "/>"


def _dash(dash: bool) -> str:
    return ' stroke-dasharray="4 3"' if dash else ""


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _clean(text: str) -> str:
    """XML has no control characters, not even escaped ones."""
    return "".join(one if one.isprintable() else " " for one in text)
