"""Are the results of a host here? The one table of cases that decides whether a machine may be destroyed."""

from __future__ import annotations

from typing import Any

import pytest

from skill.transfer.completeness import LEFTOVERS, Doubts, PartHere, leftovers, missing
from skill.transfer.pull import Turn
from skill.transfer.receiver import Received


def state(**statuses: str) -> dict[str, Any]:
    return {"jobs": [{"id": name, "status": status} for name, status in statuses.items()]}


DONE = PartHere(("a", "b"), state(a="completed", b="stuck"), pulled=True)


@pytest.mark.parametrize(
    ("part", "says"),
    [
        (None, None),
        (DONE._replace(own=()), None),
        (DONE, None),
        (DONE._replace(state=state(a="completed", b="cancelled")), None),
        (DONE._replace(state=state(a="completed", b="blocked")), None),
        (DONE._replace(state=None), "nothing of it was pulled yet"),
        (DONE._replace(pulled=False), "nothing of it was pulled yet"),
        (DONE._replace(state=state(a="completed", b="running")), "jobs had not ended when it was last pulled: b"),
        (DONE._replace(state=state(a="pending", b="failed_oom")), "jobs had not ended when it was last pulled: a, b"),
        (DONE._replace(state=state(a="completed", b="stuck", c="running")), None),  # moved to another host
        (DONE._replace(away=("a",)), "results are not here: a"),
        (DONE._replace(away=("c",)), None),
        (DONE._replace(outside=("b",)), "results are outside of the directories that are pulled: b"),
    ],
)
def test_what_is_not_here_of_a_host(part: PartHere | None, says: str | None) -> None:
    assert missing(part) == says


@pytest.mark.parametrize(
    ("kind", "turn"),
    [
        ("refused", Turn("h", Received(refused=(("a.so", "is a program"),)))),
        ("kept", Turn("h", Received(kept=("a",)))),
        ("later", Turn("h", Received(later=("a",)))),
        ("more", Turn("h", Received(more=1))),
        ("ahead", Turn("h", Received(ahead=("a",)))),
        ("outside", Turn("h", outside=("j1",))),
        ("missing", Turn("h", doubts=Doubts(missing=(("j1", "a"),)))),
        ("unproven", Turn("h", doubts=Doubts(unproven=(("a", "j1"),)))),
    ],
)
def test_what_a_pull_left_is_reported(kind: str, turn: Turn) -> None:
    assert turn.left == {kind}
    assert kind in LEFTOVERS


def test_a_machine_may_go_only_where_all_that_it_had_came() -> None:
    assert leftovers(Received(files=3, size=7, same=2), (), Doubts()) == frozenset()
    assert {kind for kind, meaning in LEFTOVERS.items() if meaning.may_go} == {"ahead"}
    assert {kind for kind, meaning in LEFTOVERS.items() if meaning.fails} == {"refused", "missing", "unproven"}
    assert {kind for kind, meaning in LEFTOVERS.items() if meaning.again} == {"later"}
    assert set(Received._fields) - {"files", "size", "same", "broken", "dropped"} <= set(LEFTOVERS), "none is forgotten"
    assert set(Doubts._fields) <= set(LEFTOVERS)
