"""Draw pictures as PNG, where matplotlib is installed: pip install 'wavequeue[png]'. Owns matplotlib."""

from __future__ import annotations

import contextlib
import io
from typing import Any

from skill.auto.drawing import PAPER, Box, Dot, Drawing, Line, Words

_DPI = 100
_POINTS = 72 / _DPI
_ALIGN = {"start": "left", "middle": "center", "end": "right"}


def is_possible() -> bool:
    """Whether matplotlib is installed."""
    with contextlib.suppress(ImportError):
        import matplotlib.figure

        return matplotlib.figure is not None
    return False


def png(drawing: Drawing) -> bytes:
    """The picture as PNG. Raises ImportError without matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(drawing.width / _DPI, drawing.height / _DPI), dpi=_DPI, facecolor=PAPER)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, drawing.width)
    axes.set_ylim(drawing.height, 0)
    axes.axis("off")
    for order, shape in enumerate(drawing.shapes):
        _draw(axes, shape, order)
    written = io.BytesIO()
    FigureCanvasAgg(figure).print_png(written)
    return written.getvalue()


def _draw(axes: Any, shape: Line | Box | Dot | Words, order: int) -> None:
    from matplotlib.patches import Circle, FancyBboxPatch

    if isinstance(shape, Line):
        if shape.points:
            style = (0, (4, 3)) if shape.dash else "solid"
            axes.plot(
                *zip(*shape.points, strict=True),
                color=shape.colour,
                linewidth=shape.width * _POINTS,
                linestyle=style,
                zorder=order,
            )
    elif isinstance(shape, Words):
        axes.text(
            shape.x, shape.y, shape.text.replace("$", r"\$"), fontsize=shape.size * _POINTS, color=shape.colour,
            ha=_ALIGN[shape.anchor], va="baseline", fontweight="bold" if shape.bold else "normal", zorder=order,
        )  # fmt: skip
    else:
        style = (0, (4, 3)) if shape.dash else "solid"
        look = {"facecolor": shape.fill, "edgecolor": shape.edge, "linestyle": style, "zorder": order}
        if isinstance(shape, Dot):
            axes.add_patch(Circle((shape.x, shape.y), shape.radius, linewidth=_POINTS, **look))
        else:
            width = (3 if shape.heavy else 1) * _POINTS
            axes.add_patch(
                FancyBboxPatch(
                    (shape.x, shape.y), shape.width, shape.height, boxstyle="round,pad=0,rounding_size=4",
                    linewidth=width, **look,
                )
            )  # fmt: skip
