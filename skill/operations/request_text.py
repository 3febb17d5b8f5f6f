"""The outcome of a request to a run's managers, in lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from skill.operations.change_run import Changed
from skill.runs.requests import Asked


class Line(NamedTuple):
    """`kind`: done; note, beside the outcome; waits, where the answer has not come yet; failed."""

    text: str
    kind: Literal["done", "note", "waits", "failed"]


def lines(done: Changed) -> Iterator[Line]:
    """Describe the outcome of a request at each manager."""
    run = done.run.id
    for text in done.notes:
        yield Line(f"{run}: {text}", "note")
    if done.nothing is not None:
        yield Line(f"{run}: {done.nothing}", "done")
    for host, asked, started, notices in done.outcomes:
        name = f"{run}: {host}" if host else run
        if started:
            for text in ("the manager was not running; started it again", *notices):
                yield Line(f"{name}: {text}", "note")
        if isinstance(asked, Asked):
            yield _answer(name, done, asked)
        else:
            why = asked if isinstance(asked, str) else f"unreachable, so its state is unknown: {asked.reason}"
            yield Line(f"{name}: {why}", "failed")


def _answer(name: str, done: Changed, asked: Asked) -> Line:
    if asked.answer is not None:
        return Line(f"{name}: {asked.answer.text}", "done" if asked.answer.ok else "failed")
    if asked.alive:
        return Line(f"{name}: requested; the manager has not answered yet", "waits")
    if asked.waits is not None:
        return Line(f"{name}: requested; the next manager {asked.waits}, and takes it", "done")
    again = f"wavequeue resume --run {done.run.id}"
    return Line(
        f"{name}: no manager is running; {done.request.verb} takes effect when the run continues: {again}", "done"
    )
