"""Which host is asked to change which jobs, and what is written down here of what was changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from queue_manager.core.requests import Answer, Request
from skill.runs import directory, remote_requests
from skill.runs.directory import Run
from skill.runs.requests import Asked
from tests.skill.story import Story, job, manifest


class Hosts:
    """Two hosts of a run: `a` changes what it is asked to, `b` refuses."""

    names = ("a", "b")

    def __init__(self, run: Run) -> None:
        self.run = run
        self.asked: dict[str, Request] = {}

    def owner(self) -> dict[str, str]:
        return {"x": "a", "y": "b", "z": "a"}

    def ask(self, requests: Mapping[str, Request]) -> dict[str, Asked]:
        self.asked |= requests
        return {
            name: Asked(Answer(one.id, name == "a", "said", tuple(one.changes) if name == "a" else ()), True)
            for name, one in requests.items()
        }


def test_each_host_is_asked_about_its_own_jobs_and_what_it_changed_is_known_here(tmp_path: Path) -> None:
    story = Story(manifest(job("x"), job("y"), job("z")), tmp_path / "r")
    story.write()
    there = Hosts(Run.at(tmp_path / "r"))
    changes: dict[str, dict[str, Any]] = {"x": {"timeout": 60.0}, "y": {"timeout": 60.0}, "gone": {"priority": 1}}
    found = remote_requests.update(cast(Any, there), {"meta": {"poll": 5.0}}, Request("u", "update", changes=changes))
    assert {name: dict(one.changes) for name, one in there.asked.items()} == {
        "a": {"x": {"timeout": 60.0}},
        "b": {"y": {"timeout": 60.0}},
    }
    assert [outcome.host for outcome in found] == ["a", "b"]
    assert [one.timeout for one in directory.read_manifest(there.run, ours=True).jobs] == [60.0, None, None]
    (line,) = (there.run.root / directory.ADDED).read_text().splitlines()
    assert json.loads(line)["changes"] == {"x": {"timeout": 60.0}}


class Finished(Hosts):
    """The manager on `a` has finished, and another one answers once it was started."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.started: list[str] = []
        self.looked: list[str] = []
        self.look_at = self.looked.append

    def ask(self, requests: Mapping[str, Request]) -> dict[str, Asked]:
        found = super().ask(requests)
        return {name: one if name in self.started else Asked(None, alive=False) for name, one in found.items()}

    def start(self, names: Iterable[str], _poll: float) -> dict[str, int]:
        self.started += names
        return dict.fromkeys(self.started, 7)

    def each(self, act: Callable[[str], object], _patience: float, names: Iterable[str]) -> None:
        for name in names:
            act(name)

    def document(self) -> dict[str, Any]:
        return {"meta": {"conditions": []}}


@pytest.mark.parametrize("verb", ["retry", "accept"])
def test_a_host_where_a_manager_was_started_is_looked_at_once_and_no_other_is(tmp_path: Path, verb: str) -> None:
    there = Finished(Run.at(tmp_path / "r"))
    request = Request("r", verb, ("x",))
    (found,) = remote_requests.ask(cast(Any, there), {"meta": {"poll": 5.0}}, {"a": request}, start=True)
    assert found.started
    assert (there.started, there.looked) == (["a"], ["a"])
