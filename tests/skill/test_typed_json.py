"""Documents of hosts and of damaged disks: bounded, typed, and never believed where they cannot be."""

from __future__ import annotations

import json
import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from queue_manager.core import events as ev
from queue_manager.core.events import Record
from queue_manager.core.layout import RunPaths
from queue_manager.core.manifest import Phase
from queue_manager.core.terminal_text import one_line
from skill.common import typed_json
from skill.reports import report
from skill.runs import digest, directory, state_cache, state_schema, summary
from skill.runs.state_cache import HostSnapshot
from skill.terminal import frame
from tests.skill.story import Story, job, manifest

STORY = Story(manifest(job("a"), job("b"), job("c", "second"))).complete("a").start("b")
STORY.tell(ev.ConditionBegan("disk", "the disk is full"))
MOST = 1 << 20
LONG = os.environ.get("WAVEQUEUE_DEEP") == "1"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("\x00\xff", "is not JSON"),
        ("9" * 400, "a number of 400 digits"),
        ("9" * 5000, "a number of 5000 digits"),
        (str(1 << 63), "a number of 19 digits"),
        ("[" * 900 + "]" * 900, "nested too deeply"),
        ("[" * 200_000, "nested too deeply"),
        ('{"a":' * 66 + "1" + "}" * 66, "nested too deeply"),
        (json.dumps("x" * MOST), "too large"),
    ],
)
def test_what_would_break_a_reader_is_refused(text: str, says: str) -> None:
    with pytest.raises(typed_json.DocumentError, match=says):
        typed_json.decode(text, MOST)


def test_what_no_reader_minds_is_taken() -> None:
    assert typed_json.decode(b'{"a": [1, -2, 0.5, NaN, Infinity, 1e999, "\\ud800"], "new": {"b": null}}', MOST) == {
        "a": [1, -2, 0.5, None, None, None, "\ud800"],
        "new": {"b": None},
    }


def test_what_a_newer_manager_writes_is_kept() -> None:
    document = {**STORY.document(), "later": [1], "meta": {**STORY.document()["meta"], "later": {"x": 1}}}
    document["jobs"][0]["health"] = {"step": 3}
    assert directory.parse_state(json.dumps(document).encode()) == document


def parsed(**changed: Any) -> HostSnapshot | str:
    answer = {"state": STORY.document(), "alive": True, "tails": {}, "added": [], **changed}
    return state_cache.parse_snapshot(answer, ("a", "b", "c"))


def test_only_jobs_of_the_run_and_what_the_host_says_was_added_are_taken() -> None:
    more = Story(manifest(job("a"), job("x"))).document()
    assert parsed(state=more) == "what it sent is not a state of a run (jobs: x is not a job of this run)"
    line = ev.encode(Record(9, 1.0, ev.JobsAdded((Phase("more"),), {}, (job("x", "more"),))))
    assert isinstance(parsed(state=more, added=[line]), HostSnapshot)


def test_the_room_for_an_answer_grows_with_the_jobs_of_the_run_alone() -> None:
    document = STORY.document()
    assert len(json.dumps(document["jobs"][0])) < 1000
    assert state_schema.most_bytes(10) < 1000 * 300_000 / 10
    assert state_schema.most_bytes(100_000) > 2 * 1000 * 100_000
    assert state_schema.most_bytes(10**9) <= 1 << 29
    line = ev.encode(Record(9, 1.0, ev.JobsAdded((), {}, tuple(job(f"j{n}") for n in range(100_000)))))
    assert state_schema.most_bytes(1, len(line)) > 1000 * 100_000 + 2 * len(line), "of jobs that were added from here"


def test_a_state_that_is_refused_replaces_none_that_was_good(tmp_path: Path) -> None:
    good = parsed()
    assert isinstance(good, HostSnapshot)
    state_cache.keep(tmp_path, good, 1.0)
    kept = state_cache.recall(tmp_path)
    assert kept is not None
    state = RunPaths.of(tmp_path).state
    for damaged in (b"{torn", b"[1]", b'{"meta": 3}', json.dumps({**STORY.document(), "jobs": [1]}).encode()):
        state.write_bytes(damaged)
        os.utime(tmp_path / "look.json", (1, 1))  # it was pulled after the last look
        assert state_cache.recall(tmp_path) == kept
    state.unlink()
    os.mkfifo(state)
    assert state_cache.recall(tmp_path) == kept


def views(document: dict[str, Any]) -> None:
    """Everything that is shown of a state."""
    now = STORY.at
    scene = frame.Scene(document, digest.digest(document), True, now, lambda _row: "")
    frame.frame(scene, 100, 30)
    frame.jobs_table(document["jobs"], 100, now)
    digest.problems(document, True)
    digest.exit_code(document)
    made = report.report(document, {}, [], lambda _row: "", now)
    report.markdown(made)
    row = {"name": "gpu-a", "jobs": 1, "counts": {}, "last_pull": None}
    summary.summary({**document, "jobs": [{**one, "host": "h"} for one in document["jobs"]],
                     "meta": {**document["meta"], "hosts": [row]}}, now)  # fmt: skip


VALUES: list[Any] = [
    None, True, 0, -1, 1.5, 10**15, "", "x", "2026-13-45T99:99:99Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z",
    "\x1b[2J\u202e", [], [1], {}, {"a": [None]}, "stuck", ["a"] * 3,
]  # fmt: skip


def damaged(rng: random.Random, value: Any) -> Any:
    """The same with one thing in it replaced, missing or doubled."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        name = rng.choice(list(value))
        if rng.random() < 0.1:
            return {key: one for key, one in value.items() if key != name}
        return {**value, name: damaged(rng, value[name])}
    if isinstance(value, list) and value and rng.random() < 0.9:
        n = rng.randrange(len(value))
        return value[:n] + [damaged(rng, value[n])] * rng.choice((1, 1, 1, 2, 0)) + value[n + 1 :]
    return rng.choice(VALUES)


def test_no_damage_to_a_state_breaks_a_view() -> None:
    rng = random.Random(20260101)
    whole = STORY.document()
    taken, words = 0, list[str]()
    for _ in range(10_000 if LONG else 1000):
        document = whole
        for _ in range(rng.choice((1, 1, 2, 4))):
            document = damaged(rng, document)
        data = json.dumps(document).encode()
        if rng.random() < 0.2:
            at = rng.randrange(len(data))
            data = data[:at] + bytes([rng.randrange(256)]) + data[at + rng.choice((0, 1, len(data))) :]
        try:
            found = directory.parse_state(data)
        except ValueError as error:
            words.append(str(error))
            continue
        taken += 1
        views(found)
    assert taken > 20, "so much damage shows nothing"
    assert max(map(len, words)) < 500


def test_documents_of_several_hosts_are_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """msgspec ends the process with a segmentation fault where two threads meet a type for the first time."""
    inside, entered, overlaps = threading.Lock(), threading.Event(), []

    def convert(_value: Any, _kind: Any) -> None:
        free = inside.acquire(blocking=False)
        overlaps.append(not free)
        entered.set()
        if free:
            if threading.current_thread() is not other:
                other.join(0.2)  # long enough to come in here, if anything lets it
            inside.release()

    monkeypatch.setattr("skill.common.typed_json.msgspec.convert", convert)
    other = threading.Thread(target=lambda: entered.wait(10) and typed_json.fits({}, dict))
    other.start()
    typed_json.fits({}, dict)
    other.join()
    assert overlaps == [False, False]


def test_no_text_of_a_host_commands_a_terminal() -> None:
    """Whatever it is and wherever: as it would be were each text looked at by itself."""
    texts = [chr(n) for n in (*range(0x300), *range(0x2000, 0x2100), 0xD800, 0xFEFF, 0x1F600)]
    for text in ["", *texts, *(f"\\{text}" for text in texts), *(f'"{text}' for text in texts)]:
        shown = one_line(text)
        assert state_schema.clean({"a": [1, None, {text: [text]}]}) == {"a": [1, None, {shown: [shown]}]}
    assert state_schema.clean([10**30, "\x1b"]) == [10**30, "\\x1b"]
