"""Check the numbers in an agent's prose: each is linked to the node that has it, or struck out. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from skill.auto import noise
from skill.auto.campaign import Campaign, Node

_NUMBER = re.compile(r"(?<![\w.])[-+−]?\d+(?:,\d{3})*(?:\.\d+)?(?:[eE][+-]?\d+)?(?:\s?%)?(?![\w])")
_SAFE = re.compile(r"[<>\[\]()!`~\\]")


class Part(NamedTuple):
    """A piece of prose. `node`: that a number is of, `struck`: a number that no node has."""

    text: str
    node: str | None = None
    struck: bool = False


class _Known(NamedTuple):
    value: float
    node: str
    percent: bool = False


def check(prose: str, campaign: Campaign) -> list[Part]:
    """Prose in pieces; those that are numbers say which node has them."""
    known = list(_known(campaign))
    parts, last = [], 0
    for found in _NUMBER.finditer(prose):
        if found.start() > last:
            parts.append(Part(prose[last : found.start()]))
        node = _of(found[0], known)
        parts.append(Part(found[0], node, struck=node is None))
        last = found.end()
    return [*parts, Part(prose[last:])] if last < len(prose) else parts


def markdown(parts: list[Part]) -> str:
    """The pieces as Markdown. What the agent wrote can add no link, picture or HTML."""
    return "".join(
        f"~~{part.text}~~"
        if part.struck
        else f"{part.text} ({part.node})"
        if part.node
        else _SAFE.sub(r"\\\g<0>", part.text)
        for part in parts
    )


def _of(text: str, known: list[_Known]) -> str | None:
    """The node that has this number, as it is written or rounded so."""
    plain = text.replace("−", "-").replace(",", "").replace("%", "").strip()
    wanted, percent = float(plain), text.endswith("%")
    mantissa, _, exponent = plain.lower().partition("e")
    digits = len(mantissa.partition(".")[2]) - int(exponent or 0)
    signed = plain[0] in "+-"
    for one in known:
        value = one.value if signed else abs(one.value)
        if one.percent == percent and math.isclose(
            round(value, digits), wanted, rel_tol=1e-9, abs_tol=10.0**-digits / 1e6
        ):
            if digits <= 0 and not percent and not float(one.value).is_integer() and abs(one.value) < 100:
                continue  # "2" is not what anybody writes for 1.83
            return one.node
    return None


def _known(campaign: Campaign) -> Iterator[_Known]:
    """Every number that prose may use, those of the best node first."""
    best, baseline = campaign.best, campaign.baseline
    nodes = sorted(campaign.nodes.values(), key=lambda node: (node is not best, node is not baseline, node.id))
    for node in nodes:
        for value in (node.value, node.sd, node.effect, node.bar):
            if value is not None:
                yield _Known(value, node.id)
        yield from (_Known(value, node.id) for value in _settings(node))
        for job in node.jobs.values():
            yield from (_Known(value, node.id) for value in job.metrics.values())
            yield _Known(float(job.seed), node.id)
        runs = len(noise.values(node, campaign.config, node.period))
        yield from (_Known(float(count), node.id) for count in (runs, node.added, node.removed) if count)
        if baseline is not None and baseline.value and node.value is not None:
            yield _Known(100 * (node.value - baseline.value) / abs(baseline.value), node.id, percent=True)
    if best is not None:  # how many there are of something is said of all of them
        kinds = [node.verdict for node in nodes]
        counts = {len(nodes), len(campaign.proposed), len(campaign.rounds), *(kinds.count(kind) for kind in set(kinds))}
        yield from (_Known(float(count), best.id) for count in sorted(counts))


def _settings(node: Node) -> Iterator[float]:
    for value in node.settings.values():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield float(value)
