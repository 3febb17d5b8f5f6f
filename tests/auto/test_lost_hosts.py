"""Which hosts of a campaign's run are given up, and when none is left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from skill.auto.layout import WorkDir
from skill.common.errors import FailedError
from skill.operations.auto_queue import HostsQueue, LocalQueue
from skill.runs.directory import Run
from tests.auto.simulated import config


def row(name: str, *, age: float | None = 0.0, state: str = "submitted") -> dict[str, Any]:
    """What a merged state says of a host; away for `age` seconds."""
    return {"name": name, "state": state, "reachable": age == 0.0, "age_s": age}


def looked(
    hosts: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str = "", looks: int = 1
) -> tuple[HostsQueue, list[str], list[str]]:
    """A queue that has looked at hosts: the queue, the hosts that were given up, and what was said."""
    moved: list[str] = []
    messages: list[str] = []

    def move(_run: Run, name: str, *_: object) -> tuple[Any, None]:
        moved.append(name)
        if fault:
            raise FailedError(fault)
        return SimpleNamespace(moving=SimpleNamespace(moved=("n001_s0", "n001_s1"))), None

    monkeypatch.setattr("skill.operations.rescue.move", move)
    monkeypatch.setattr(LocalQueue, "_document", lambda _self, _run: {"meta": {"hosts": hosts}})
    queue = HostsQueue(replace(config(), lost_after=1800.0), WorkDir(tmp_path), messages.append)
    for _ in range(looks):
        queue._document(Run.at(tmp_path / "run"))
    return queue, moved, messages


@pytest.mark.parametrize(
    ("hosts", "given_up", "gone"),
    [
        ([row("a"), row("b")], [], False),
        ([row("a"), row("b", age=1799.0)], [], False),
        ([row("a"), row("b", age=1800.0)], ["b"], False),
        ([row("a"), row("b", age=None)], [], False),
        ([row("a"), row("b", age=9e9, state="lost")], [], False),
        ([row("a", age=5.0), row("b", age=1800.0)], [], False),
        ([row("a", age=1800.0), row("b", age=1900.0)], [], True),
        ([row("a", age=1800.0), row("b", age=1.0, state="lost")], [], True),
        ([row("a", age=9e9, state="lost")], [], True),
    ],
    ids=["all answer", "not yet", "long enough", "never read", "given up before", "the other may be away by itself",
         "all away", "the last away", "all given up"],
)  # fmt: skip
def test_a_host_is_given_up_after_long_silence_while_another_answers(
    hosts: list[dict[str, Any]],
    given_up: list[str],
    gone: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue, moved, messages = looked(hosts, tmp_path, monkeypatch)
    assert moved == given_up
    assert (queue.gone(1800.0) is not None) is gone
    expected = [
        f"{name} has been unreachable for too long, and is given up: 2 of its jobs run elsewhere" for name in moved
    ]
    assert messages == expected


def test_a_rescue_that_fails_is_said_and_tried_again_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = [row("a"), row("b", age=3600.0)]
    _, moved, messages = looked(hosts, tmp_path, monkeypatch, "no host can take its jobs", looks=3)
    assert moved == ["b"]
    assert messages == ["warning: b has been unreachable for 1 h 00 min: no host can take its jobs"]


@pytest.mark.parametrize(
    ("runs", "model", "chosen"),
    [
        ([], "NVIDIA L4", None),
        ([("new", ("NVIDIA A10",)), ("old", ("NVIDIA L4",))], "NVIDIA L4", "old"),
        ([("new", ("NVIDIA A10",)), ("old", ("NVIDIA L4",))], "NVIDIA A10", "new"),
        ([("new", ("NVIDIA A10",))], "NVIDIA L4", None),
        ([("new", ("NVIDIA A10",)), ("untied", ())], "NVIDIA L4", "untied"),
        ([("untied", ())], "", "untied"),
    ],
    ids=["none yet", "of its model", "of another", "only of another", "of an earlier version", "without GPUs"],
)
def test_jobs_go_to_the_run_of_their_gpu_model(
    runs: list[tuple[str, tuple[str, ...]]],
    model: str,
    chosen: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models = dict(runs)
    there = [Run.at(tmp_path / name) for name in models]
    monkeypatch.setattr("skill.runs.directory.in_folder", lambda *_: iter(there))

    def manifest(run: Run, **_: object) -> Any:
        return SimpleNamespace(jobs=[SimpleNamespace(gpu_model=models[run.root.name])])

    monkeypatch.setattr("skill.runs.directory.read_manifest", manifest)
    found = HostsQueue(config(), WorkDir(tmp_path), lambda _text: None).run(model)
    assert (None if found is None else found.root.name) == chosen
