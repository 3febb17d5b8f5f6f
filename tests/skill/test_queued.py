"""What waits in Slurm's queue is told apart from what runs, in every view."""

from __future__ import annotations

import json
import re

from rich.text import Text

from queue_manager.core.manifest import Phase
from skill.operations import run_status
from skill.reports import brief, gpu_time, report
from skill.runs import digest
from skill.runs.state_schema import fault
from skill.terminal import frame
from skill.terminal.frame import Scene
from skill.terminal.view import matching
from tests.skill.story import T0, Story, job, manifest

RESOURCES, PRIORITY = (f"waits in Slurm's queue (pending: {reason})" for reason in ("Resources", "Priority"))


def slurm_story() -> Story:
    """Of six jobs one is done, one runs on two GPUs, one without a GPU, two are in Slurm's queue, and one is not."""
    names = ("done", "two_gpus", "no_gpu", "next", "later", "held")
    jobs = (job(name, "main" if name != "held" else "last") for name in names)
    story = Story(manifest(*jobs, launcher="slurm", phases=(Phase("main"), Phase("last", ("main",)))))
    story.submit(*names[:5])
    story.begin("done", "n1", 3).end("done", over=story.at - 0.5)
    story.begin("two_gpus", "n2", 0, 1, ago=60.0).begin("no_gpu", "n1")
    story.queued = {3: RESOURCES, 4: PRIORITY}
    return story


def plain(lines: list[Text]) -> str:
    return "\n".join(line.plain.rstrip() for line in lines)


def test_the_state_keeps_to_its_words_and_tells_what_is_queued_beside_them() -> None:
    document = slurm_story().document()
    assert fault(document) is None
    assert document["counts"] == {"completed": 1, "pending": 3, "running": 2}
    assert document["meta"]["queued"] == 2
    assert document["meta"]["queue"] == {RESOURCES: 1, PRIORITY: 1}
    assert document["phases"][0]["counts"] == {"completed": 1, "pending": 2, "running": 2}
    rows = {row["id"]: row for row in document["jobs"]}
    row = rows["next"]
    assert (row["status"], row["started"], row["waiting"]) == ("pending", None, RESOURCES)
    assert row["queued"] is not None
    assert (rows["held"]["queued"], rows["two_gpus"]["queued"]) == (None, None)
    assert (rows["two_gpus"]["node"], rows["two_gpus"]["gpus"]) == ("n2", [0, 1])


def test_words_and_places() -> None:
    rows = {row["id"]: row for row in slurm_story().document()["jobs"]}
    found = {name: (digest.word(row), digest.place(row)) for name, row in rows.items()}
    assert found == {
        "done": ("completed", "n1 GPU 3"), "two_gpus": ("running", "n2 GPUs 0,1"), "no_gpu": ("running", "n1 cpu"),
        "next": ("queued", ""), "later": ("queued", ""), "held": ("pending", ""),
    }  # fmt: skip


def test_time_counts_from_the_start_on_the_node() -> None:
    story = slurm_story()
    rows = {row["id"]: row for row in story.document()["jobs"]}
    assert digest.seconds(rows["two_gpus"], story.at) == 62.0
    assert digest.seconds(rows["next"], story.at) == story.at - (T0 + 5.0), "so long it is queued"
    found = {one.job: one for one in gpu_time.attempts({"": story.records}, list(rows.values()), story.at)}
    assert {name: (one.host, one.gpus) for name, one in found.items()} == {
        "done": ("n1", (3,)), "two_gpus": ("n2", (0, 1)), "no_gpu": ("n1", ()),
    }  # fmt: skip
    assert found["two_gpus"].end - found["two_gpus"].start == 62.0
    assert found["done"].end - found["done"].start == 0.5, "its end is that of its exit record"


def test_views_tell_queued_jobs_apart() -> None:
    story = slurm_story()
    document = story.document()
    shown = Scene(document, digest.digest(document), True, story.at, lambda _row: "")
    text = plain(frame.frame(shown, 100, None))
    assert "1 completed  2 running  2 queued  1 pending" in text
    assert re.search(r"1/5 +2 running, 2 queued", text)
    assert f"queued in Slurm\n 1  {RESOURCES}\n 1  {PRIORITY}" in text
    running = text.partition("running\n")[2].partition("\nqueued")[0]
    assert "n2 GPUs 0,1" in running
    assert "next" not in running
    table = plain(frame.jobs_table(document["jobs"], 140, story.at))
    assert [line.split()[:3] for line in table.splitlines()[4:7]] == [
        ["next", "main", "queued"], ["later", "main", "queued"], ["held", "last", "pending"],
    ]  # fmt: skip
    assert [row["id"] for row in matching(document["jobs"], "queued")] == ["next", "later"]
    assert [row["id"] for row in matching(document["jobs"], "n2")] == ["two_gpus"]


def test_short_forms_tell_queued_jobs_apart() -> None:
    story = slurm_story()
    document = story.document()
    found = brief.brief(document, True, story.at)
    assert (found["counts"]["running"], found["queued"], found["totals"]["running"]) == (2, 2, 2)
    assert "1 completed, 2 running, 2 queued, 1 pending" in "\n".join(brief.lines(found, ""))
    made = report.report(document, {}, [], lambda _row: "", story.at)
    assert "1 completed, 2 running, 2 queued, 1 pending" in report.markdown(made)
    assert [row["id"] for row in run_status.rows(document, None, frozenset({"queued"}))] == ["next", "later"]
    assert [row["id"] for row in run_status.rows(document, None, frozenset({"pending"}))] == ["next", "later", "held"]
    assert json.loads(json.dumps(found)) == found
