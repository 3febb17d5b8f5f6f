"""What has changed since an earlier look at a run, and a status of less than 2 KB."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from queue_manager.core import events as ev
from queue_manager.core.manifest import decode
from queue_manager.core.model import QueueState
from queue_manager.core.overview import overview
from queue_manager.core.snapshot import Situation, job_row
from skill.common.errors import UseError
from skill.operations import run_status
from skill.reports import brief
from skill.runs import sequence
from skill.runs.assignment import Part
from skill.runs.merge import Look, merge
from tests.skill.story import Story, job, manifest
from tests.skill.test_merge import NOW, WHOLE, A, assigned, both, story_of

DATA = Path(__file__).resolve().parents[1] / "data" / "v0_1"


def changed(document: dict[str, Any], since: int | str) -> list[str]:
    return [row["id"] for row in sequence.changed_since(document, str(since))]


def size(document: dict[str, Any], alive: bool = True, **options: Any) -> int:
    """Bytes of it as the command prints it."""
    return len(json.dumps(brief.brief(document, alive, NOW, **options), ensure_ascii=False).encode()) + 1


@pytest.mark.parametrize("run", ["before_checksums", "with_checksums"])
def test_a_row_has_the_number_of_the_last_event_that_changed_it(run: str) -> None:
    """In real journals: after each event, the rows that read otherwise than before have its number, and no other."""
    state = QueueState(decode((DATA / run / "manifest.json").read_text()))
    situation = Situation(None, {}, "running", "/", 5.0, None, lambda name: name)

    def rows() -> dict[str, dict[str, Any]]:
        return {one.spec.id: {**job_row(state, one, situation), "waiting": None} for one in state.jobs}

    before, seen = rows(), 0
    for line in (DATA / run / "journal.jsonl").read_text().splitlines():
        record = ev.decode(line)
        state.apply(record)
        now = rows()
        for name, row in now.items():
            if {**row, "seq": 0} != {**before[name], "seq": 0}:
                assert row["seq"] == record.seq, (name, record)
                seen += 1
            else:
                assert row["seq"] in (before[name]["seq"], record.seq)
        before = now
    assert seen > 10


def test_what_has_changed_on_this_machine_is_told_by_a_number() -> None:
    story = Story(manifest(job("a"), job("b"), job("c"))).complete("a")
    first = sequence.newest(story.document())
    assert first == story.state.seq
    assert changed(story.document(), first) == []
    story.start("b")
    assert changed(story.document(), first) == ["b"]
    assert changed(story.document(), 0) == ["a", "b"]
    story.end("b", "stuck", error="boom").tell(ev.JobCancelled("c"))
    assert changed(story.document(), first) == ["b", "c"]
    assert changed(story.document(), sequence.newest(story.document())) == []


def test_a_run_on_hosts_has_a_number_for_each() -> None:
    story = story_of(A).complete("t1").start("s1")
    document = both()
    before = sequence.newest(document)
    other = next(row["seq"] for row in document["meta"]["hosts"] if row["name"] == "gpu-b")
    assert before == f"{story.state.seq}.{other}"
    assert changed(document, before) == []
    then = merge(
        assigned(),
        WHOLE,
        [Look("gpu-a", story.end("s1").document(), NOW, True), Look("gpu-b", story_of_b(), NOW, True)],
        NOW,
    )
    assert changed(then, before) == ["s1"]
    assert changed(then, "0.0") == ["t1", "t2", "s1"]
    assert changed(then, story.state.seq) == ["t2"], "a host that came later has changed as a whole"


def story_of_b() -> dict[str, Any]:
    return story_of(Part("gpu-b", ("t2", "s2", "s3"))).start("t2", 0).document()


def test_a_run_on_one_host_has_a_plain_number() -> None:
    whole = Part("gpu-a", ("t1", "t2", "s1", "s2", "s3"))
    story = story_of(whole).complete("t1")
    document = merge(assigned(whole), WHOLE, [Look("gpu-a", story.document(), NOW, True)], NOW)
    assert sequence.newest(document) == story.state.seq


def test_a_host_that_was_never_read_has_not_changed() -> None:
    document = both(document=None)
    assert str(sequence.newest(document)).endswith(".0")
    assert changed(document, sequence.newest(document)) == []


def test_of_a_manager_without_numbers_every_job_counts() -> None:
    document = Story(manifest(job("a"), job("b"))).document()
    for row in document["jobs"]:
        del row["seq"]
    assert changed(document, sequence.newest(document)) == ["a", "b"]


@pytest.mark.parametrize("since", ["", "x", "-1", "1.", "1..2", "1e3", "99", "1.1", " 1", "1" * 40])
def test_a_number_that_the_run_never_had_is_refused(since: str) -> None:
    with pytest.raises(UseError, match="seq"):
        sequence.changed_since(Story(manifest(job("a"))).document(), since)


def many(count: int, text: str = "exit code 1; last line: boom") -> dict[str, Any]:
    story = Story(manifest(*(job(f"{n}-{'x' * 110}") for n in range(count))))
    for n, one in enumerate(story.state.jobs):
        story.start(one.spec.id)
        if n % 3:
            story.end(one.spec.id, "stuck", error=f"{text} {n}")
    return story.document()


@pytest.mark.parametrize("text", ["boom" * 500, "é" * 900, "\u202e\x1b[31m" * 200, '"\\' * 300, "日本" * 400])
def test_it_has_less_than_2_kb_whatever_the_run_is_like(text: str) -> None:
    document = many(300, text)
    document["meta"]["conditions"] = [{"kind": f"k{n}", "text": text, "since": None} for n in range(40)]
    assert size(document) < 2048
    assert size(document, changed=document["jobs"]) < 2048
    hosts = [{**both()["meta"]["hosts"][0], "name": f"host-{n}", "seq": 100_000} for n in range(64)]
    document["meta"]["hosts"] = hosts
    assert size(document, changed=document["jobs"]) < 2048


def test_it_tells_what_matters_first_and_how_much_there_is() -> None:
    document = many(300)
    found = brief.brief(document, True, NOW, document["jobs"][:50])
    assert found["totals"] == {"problems": 0, "person": 200, "unhealthy": 0, "changed": 50, "running": 100}
    assert found["counts"] == {"running": 100, "stuck": 200}
    assert found["jobs"] == 300
    assert 3 <= len(found["person"]) < 10
    assert found["person"][0]["reason"] == "exit code 1; last line: boom 1"
    assert found["changed"]
    assert found["running"]
    assert brief.brief(overview(document), True, NOW)["counts"] == found["counts"], "a short document tells as much"


def test_a_small_run_is_there_as_a_whole() -> None:
    story = Story(manifest(job("a"), job("b"))).complete("a").start("b").end("b", "stuck", error="boom")
    found = run_status.as_brief(story.document("finished"), False, "4")
    assert found["person"] == [{"id": "b", "status": "stuck", "reason": "boom"}]
    assert found["changed"] == [{"id": "a", "status": "completed"}, {"id": "b", "status": "stuck"}]
    assert found["seq"] == story.state.seq
    assert "hosts" not in found
    assert list(run_status.brief_lines(found, "head")) == [
        "head",
        f"  1 completed, 1 stuck; seq {story.state.seq}",
        "  stuck  b  boom",
        "  changed  a  completed",
        "  changed  b  stuck",
    ]
