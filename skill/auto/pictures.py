"""The two pictures of a campaign: its progress, and the tree of its hypotheses. Pure.

Green is an improvement (and the baseline), grey none, red a failure, blue what runs, dashed white what waits.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from skill.auto import noise
from skill.auto.campaign import Campaign, Node
from skill.auto.drawing import FAINT, INK, PAPER, Box, Dot, Drawing, Line, Shape, Words

GREEN, GREY, RED, BLUE, WHITE = "#3fa45b", "#b9c0c8", "#d9534f", "#4a86c5", PAPER
_GOOD = frozenset({"better", "baseline"})
_BAD = frozenset({"failed", "refused", "killed"})
_LEGEND = (
    (GREEN, False, "improvement"), (GREY, False, "no improvement"), (RED, False, "failed"), (BLUE, False, "running"),
    (WHITE, True, "waiting"),
)  # fmt: skip


def colour(node: Node) -> str:
    """What a node's colour says."""
    if node.verdict is None:
        return BLUE if node.jobs else WHITE
    return GREEN if node.verdict in _GOOD else RED if node.verdict in _BAD else GREY


def best_path(campaign: Campaign) -> list[Node]:
    """From the first node to the best one, each the parent of the next."""
    path: list[Node] = []
    node = campaign.best
    while node is not None and node not in path:
        path.append(node)
        node = campaign.nodes.get(node.parent or "")
    return path[::-1]


def label(node: Node, campaign: Campaign) -> str:
    """A node in a line."""
    value = "" if node.value is None else f" {campaign.config.objective.metric} {number(node)}"
    state = (node.verdict or node.status).replace("_", " ")
    return f"{node.id} {node.title}: {state}{value}"


def number(node: Node) -> str:
    """A node's value with the spread over its seeds."""
    if node.value is None:
        return "-"
    return f"{node.value:.6g}" + ("" if node.sd is None else f" ± {node.sd:.2g}")


# -- progress ---------------------------------------------------------------------------------------------------------

_WIDTH, _HEIGHT = 900.0, 420.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 76.0, 24.0, 58.0, 52.0


@dataclass(frozen=True)
class _Scale:
    """From values to pixels."""

    low: float
    high: float
    begin: float
    end: float

    def at(self, value: float) -> float:
        return self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin)


def progress(campaign: Campaign) -> Drawing:
    """The objective of each node in the order in which they were judged, with the spread over its seeds, and a line
    through the best so far."""
    config = campaign.config
    nodes = [campaign.nodes[name] for name in campaign.judged]
    judged = [node for node in nodes if node.kind != "control"]
    shown = [node for node in judged if node.value is not None]
    controls = [node for node in nodes if node.value is not None and node.kind == "control"]
    better = "smaller" if config.objective.goal == "min" else "larger"
    title = f"{config.name}: {config.objective.metric} ({better} is better)"
    shapes: list[Shape] = [Words(_LEFT, 24, title, 15, bold=True), *_legend(_LEFT, 44)]
    if not shown:
        return Drawing(_WIDTH, _HEIGHT, title, [*shapes, Words(_LEFT, 120, "nothing was measured yet", 13, FAINT)])
    y = _y_scale(shown, controls, campaign)
    x = _Scale(0, max(len(judged) - 1, 1), _LEFT + 16, _WIDTH - _RIGHT - 16)
    shapes += _axes(y)
    for control in controls:
        at = y.at(control.value or 0.0)
        shapes.append(Line(((_LEFT, at), (_WIDTH - _RIGHT, at)), FAINT, 1, dash=True))
        shapes.append(Words(_WIDTH - _RIGHT, at - 4, f"{control.id} {control.title}", 11, INK, "end"))
    shapes.append(_best_line(judged, x, y))
    every = max(1, math.ceil(len(judged) / 16))
    for place, node in enumerate(judged):
        if node.value is not None:
            shapes += _point(node, x.at(place), y, campaign)
        else:
            shapes.append(Dot(x.at(place), _HEIGHT - _BOTTOM - 6, 4, colour(node), title=label(node, campaign)))
        if place % every == 0:
            shapes.append(Words(x.at(place), _HEIGHT - _BOTTOM + 18, node.id, 11, INK, "middle"))
    shapes.append(Words((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 12, "nodes, as they were judged", 12, INK, "middle"))
    return Drawing(_WIDTH, _HEIGHT, title, shapes)


def _point(node: Node, x: float, y: _Scale, campaign: Campaign) -> list[Shape]:
    value = node.value or 0.0
    shapes: list[Shape] = []
    if node.sd is not None:
        low, high = y.at(value - node.sd), y.at(value + node.sd)
        shapes.append(Line(((x, low), (x, high)), INK, 1))
        shapes += [Line(((x - 4, end), (x + 4, end)), INK, 1) for end in (low, high)]
    return [*shapes, Dot(x, y.at(value), 5, colour(node), title=label(node, campaign))]


def _best_line(judged: Sequence[Node], x: _Scale, y: _Scale) -> Line:
    points: list[tuple[float, float]] = []
    for place, node in enumerate(judged):
        if node.verdict in _GOOD and node.value is not None:
            at = (x.at(place), y.at(node.value))
            points += [(at[0], points[-1][1]), at] if points else [at]
    if points:
        points.append((_WIDTH - _RIGHT, points[-1][1]))
    return Line(tuple(points), GREEN, 2)


def _y_scale(shown: Sequence[Node], controls: Sequence[Node], campaign: Campaign) -> _Scale:
    """All values with their spread; one far out, such as a diverged loss, does not flatten the others."""
    values = [node.value or 0.0 for node in (*shown, *controls)]
    kept = [node.value or 0.0 for node in (*shown, *controls) if node.verdict in ("better", "baseline", "control")]
    middle = statistics.median(values)
    reach = 6 * statistics.median(abs(value - middle) for value in values) or max(abs(middle), 1.0)
    near = [value for value in values if abs(value - middle) <= reach] + kept
    spread = noise.pooled(campaign, noise.model(shown[0]))
    sd = max([spread.sd if spread else 0.0, *(node.sd or 0.0 for node in shown if (node.value or 0.0) in near)])
    low, high = min(near) - sd, max(near) + sd
    if low == high:
        low, high = low - max(abs(low), 1.0) * 0.05, high + max(abs(high), 1.0) * 0.05
    room = (high - low) * 0.06
    return _Clipped(low - room, high + room, _HEIGHT - _BOTTOM, _TOP)


class _Clipped(_Scale):
    """What lies outside is drawn at the edge."""

    def at(self, value: float) -> float:
        return super().at(min(max(value, self.low), self.high))


def _axes(y: _Scale) -> list[Shape]:
    shapes: list[Shape] = [
        Line(((_LEFT, _TOP), (_LEFT, _HEIGHT - _BOTTOM), (_WIDTH - _RIGHT, _HEIGHT - _BOTTOM)), INK, 1)
    ]
    for value in ticks(y.low, y.high):
        at = y.at(value)
        shapes.append(Line(((_LEFT, at), (_WIDTH - _RIGHT, at)), "#e4e8ec", 1))
        shapes.append(Words(_LEFT - 8, at + 4, f"{value:.6g}", 11, INK, "end"))
    return shapes


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between two values, five or so."""
    rough = (high - low) / 5
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _legend(x: float, y: float) -> list[Shape]:
    shapes: list[Shape] = []
    for fill, dash, words in _LEGEND:
        shapes += [Dot(x + 5, y - 4, 5, fill, dash=dash), Words(x + 15, y, words, 11)]
        x += 32 + 6.4 * len(words)
    return shapes


# -- the tree ---------------------------------------------------------------------------------------------------------

_BOX, _ROW, _STEP = (190.0, 38.0), 48.0, 240.0
_MARGIN = 20.0
_TITLE = 25
"""Characters of a title in a box."""


def hypothesis_tree(campaign: Campaign) -> Drawing:
    """Each node to the right of the one that it changes; the way to the best is drawn heavily."""
    children: dict[str | None, list[Node]] = {}
    for node in campaign.nodes.values():
        children.setdefault(node.parent if node.parent in campaign.nodes else None, []).append(node)
    places: dict[str, tuple[float, float]] = {}
    row = 0
    stack = [(node, 0) for node in reversed(children.get(None, []))]
    order: list[tuple[Node, int]] = []
    while stack:
        node, depth = stack.pop()
        order.append((node, depth))
        stack += [(child, depth + 1) for child in reversed(children.get(node.id, []))]
    for node, depth in order:  # a node is in the row of its first child, so that the first branch is a straight line
        if order and node.parent in places and children[node.parent][0] is node:
            y = places[node.parent][1]
        else:
            y, row = _TOP + 10 + row * _ROW, row + 1
        places[node.id] = (_MARGIN + depth * _STEP, y)
    depth = max((depth for _, depth in order), default=0)
    width = max(_MARGIN * 2 + depth * _STEP + _BOX[0], 560.0)
    height = _TOP + 20 + max(row, 1) * _ROW + _MARGIN
    path = {node.id for node in best_path(campaign)}
    title = (
        f"{campaign.config.name}: {len(campaign.nodes)} nodes, the best is {campaign.best.id if campaign.best else '-'}"
    )
    shapes: list[Shape] = [Words(_MARGIN, 24, title, 15, bold=True), *_legend(_MARGIN, 44)]
    edges = [(node, campaign.nodes[node.parent]) for node, _ in order if node.parent in campaign.nodes and node.parent]
    for node, parent in sorted(edges, key=lambda edge: edge[0].id in path):
        shapes.append(_edge(places[parent.id], places[node.id], heavy=node.id in path and parent.id in path))
    for node, _ in order:
        shapes += _boxed(node, places[node.id], campaign, heavy=node.id in path)
    return Drawing(width, height, title, shapes)


def _edge(begin: tuple[float, float], end: tuple[float, float], *, heavy: bool) -> Line:
    x, y = begin[0] + _BOX[0], begin[1] + _BOX[1] / 2
    turn = x + (_STEP - _BOX[0]) / 2
    points = ((x, y), (turn, y), (turn, end[1] + _BOX[1] / 2), (end[0], end[1] + _BOX[1] / 2))
    return Line(points, GREEN if heavy else FAINT, 3 if heavy else 1)


def _boxed(node: Node, at: tuple[float, float], campaign: Campaign, *, heavy: bool) -> list[Shape]:
    x, y = at
    waits = node.verdict is None and not node.jobs
    title = f"{node.kind}: {node.title}" if node.kind in ("control", "declared") else node.title
    title = title if len(title) <= _TITLE else title[: _TITLE - 1] + "…"
    state = number(node) if node.value is not None else (node.verdict or node.status).replace("_", " ")
    return [
        Box(x, y, *_BOX, colour(node), INK, dash=waits, heavy=heavy, title=label(node, campaign)),
        Words(x + 8, y + 16, f"{node.id}  {state}", 12, bold=True),
        Words(x + 8, y + 31, title, 11),
    ]
