"""A spec as it was written: scalars keep their text, and every node has its place."""

from __future__ import annotations

from typing import NamedTuple, Union

from build_manifest.faults import Faults, Mark


class Scalar(NamedTuple):
    """A single value. `plain`: written without quotes. `start` and `end`: where it stands in the text."""

    text: str
    plain: bool
    mark: Mark
    start: int
    end: int


class ListNode(NamedTuple):
    items: tuple[Node, ...]
    mark: Mark


class MapNode(NamedTuple):
    entries: tuple[tuple[Scalar, Node], ...]
    mark: Mark


Node = Union[Scalar, ListNode, MapNode]


def locate(faults: Faults, scalar: Scalar, token: str, nth: int = 0) -> Mark:
    """Return the place of the `nth` occurrence of `token` inside a scalar; the scalar's own if escapes hide it."""
    at = scalar.start - 1
    for _ in range(nth + 1):
        at = faults.text.find(token, at + 1, scalar.end)
        if at < 0:
            return scalar.mark
    return faults.mark_at(at)
