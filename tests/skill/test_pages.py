"""The pages of the live view fit any screen, and say what they mean."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_manager.core.status import Status
from skill.runs import digest
from skill.terminal import local_time, matrix, pages
from skill.terminal.frame import ASCII, STYLES, UNICODE, Scene
from skill.terminal.pages import Content
from skill.terminal.view import Layer, Page, View
from tests.skill.story import Story, job, manifest
from tests.skill.test_frame import busy, scene

PARAMS = [{"lr": lr, "seed": seed} for lr, seed in itertools.product(["0.1", "0.2"], ["0", "1", "2"])]


def grid() -> Story:
    jobs = [job(f"lr{one['lr']}_s{one['seed']}", params=one) for one in PARAMS]
    story = Story(manifest(*jobs)).start(jobs[0].id).complete(jobs[1].id)
    return story.start(jobs[2].id).end(jobs[2].id, "stuck", error="exit code 1; " + "long " * 100)


def content(shown: Scene, story: Story, **fields: Any) -> Content:
    rows = shown.document["jobs"]
    found = matrix.matrices({"main": [(one.id, one.params) for one in story.manifest.jobs]})
    made: dict[str, Any] = {
        "rows": rows, "total": len(rows), "jobs": {row["id"]: row for row in rows}, "matrices": found,
    }  # fmt: skip
    return Content(**(made | fields))


def plain(view: View, selected: str | None, width: int = 80, height: int = 24, **fields: Any) -> list[str]:
    story = grid()
    shown = scene(story)
    return [
        line.plain.rstrip()
        for line in pages.page(view, shown, content(shown, story, **fields), selected, width, height)
    ]


def test_the_list_marks_the_selected_job() -> None:
    lines = plain(View(Page.JOBS), "lr0.1_s1")
    assert lines[2:7] == [
        "6 jobs",
        "  job       status     took   where  why",
        "  lr0.1_s0  running    7.0 s  cpu",
        "> lr0.1_s1  completed  1.0 s  cpu",
        "  lr0.1_s2  stuck      1.0 s  cpu    exit code 1; long long long long long long…",
    ]
    assert len(lines) == 24
    assert lines[-1] == "q leave  ? help  / filter  Enter log  k cancel  r retry  Tab matrix  Esc back"


def test_the_matrix_tells_of_the_selected_job() -> None:
    lines = plain(View(Page.MATRIX), "lr0.1_s2")
    assert lines[2:7] == [
        "main: lr × seed",
        " lr  0  1  2",
        " 0.1 ▶  ✓ [✗]",
        " 0.2 ·  ·  ·",
        "> lr0.1_s2  stuck  1.0 s  cpu  exit code 1; long long long long long long long …",
    ]


def test_a_question_names_the_job_and_what_it_ends() -> None:
    asked = View(Page.JOBS, Layer.QUESTION, "lr0.1_s0")
    assert plain(asked, "lr0.1_s0")[-1] == "cancel lr0.1_s0? It is running. y: yes, any other key: no"
    assert plain(asked, "lr0.2_s0")[-1] == "cancel lr0.2_s0? y: yes, any other key: no"


def test_a_log_is_read_from_its_end_and_long_lines_are_whole() -> None:
    view = View(Page.JOBS, Layer.LOG, "lr0.1_s0")
    log = [*(f"line {n}" for n in range(100)), "x" * 100]
    lines = plain(view, None, 80, 10, log=log)
    assert lines[:2] == ["line 93", "line 94"]
    assert lines[7:9] == ["x" * 80, "x" * 20]
    assert plain(view._replace(scroll=3), None, 80, 10, log=log)[8] == "line 98"
    assert plain(view._replace(scroll=1 << 30), None, 80, 10, log=log)[:9] == [f"line {n}" for n in range(9)]
    assert plain(view, None, log=None)[0] == "reading the log of lr0.1_s0 …"
    assert plain(view, None, log=[])[-1].startswith("log of lr0.1_s0")


def test_without_keys_the_footer_says_how_to_leave() -> None:
    assert plain(View(), None, keys=False)[-1] == "Ctrl-C leaves this view; the run continues"
    assert plain(View(), None, note="it did not work")[-1] == "it did not work"


def test_a_long_message_is_shown_over_lines() -> None:
    note = "gpu-a: unreachable, so its state is unknown: it refused the connection: no SSH server listens there"
    for page in Page:
        lines = plain(View(page), None, note=note)
        assert "".join([lines[-2].ljust(80), lines[-1]]) == note, page
        assert len(lines) == 24


@pytest.mark.parametrize("marks", [UNICODE, ASCII])
def test_the_legend_names_every_status_mark_and_key(marks: Any) -> None:
    text = "\n".join(line.plain for line in pages.legend(marks, 80))
    for status in Status:
        cell = matrix.CELLS[status.value]
        assert f" {cell.char if marks is UNICODE else cell.plain} {status.value} " in text
    for mark in marks:
        assert f" {mark * 3} " in text
    for key in ("q", "?", "/", "Enter", "k ", "r ", "arrows", "PgUp", "PgDn", "Tab", "m ", "Esc"):
        assert key in text
    assert "…" not in text.replace("nan, …", ""), "at 80 columns nothing is cut"
    if marks is ASCII:
        assert text.replace("nan, …", "").isascii()


LAYERS = st.builds(
    View, st.sampled_from(Page), st.sampled_from(Layer), st.sampled_from([None, "s3_N3", "gone"]), st.just("x" * 50),
    st.integers(0, 500),
)  # fmt: skip


@given(LAYERS, st.integers(10, 200), st.integers(2, 60), st.integers(0, 40), st.booleans(), st.booleans())
def test_every_page_fits_its_screen(
    view: View, width: int, height: int, jobs: int, is_read: bool, is_over: bool
) -> None:
    story = busy(jobs, 3)
    shown = scene(story, tail="训练 🎉 " * 60)
    log = ["训练 🎉 " * 60, "", "x"] * 30 if is_read else None
    filled = content(shown, story, log=log, over=is_over, **({} if is_read else {"matrices": None}))
    lines = pages.page(view, shown, filled, view.selected, width, height, UNICODE)
    assert len(lines) == height or (view.page is Page.OVERVIEW and len(lines) <= height)
    assert max(line.cell_len for line in lines) <= width
    assert "\n" not in "".join(line.plain for line in lines)


def test_local_times_stand_beside_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    at = "2026-07-01T23:30:05.123Z"
    try:
        for zone, text in (
            ("JST-9", "08:30:05 (23:30:05Z)"),
            ("UTC0", "23:30:05Z"),
            ("EST5EDT,M3.2.0,M11.1.0", "19:30:05 (23:30:05Z)"),
        ):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            assert local_time.beside_utc(at) == text
            assert local_time.beside_utc(None) == ""
        story = grid()
        shown = scene(story)._replace(clock=local_time.beside_utc)
        lines = [line.plain for line in pages.page(View(), shown, content(shown, story), None, 120, 40)]
        assert any("  05:00:06 (10:00:06Z)" in line for line in lines), lines
    finally:
        monkeypatch.undo()
        time.tzset()


def test_colours_are_never_all_that_tells() -> None:
    """With NO_COLOR, and for who cannot see them, the words and marks tell the same."""
    assert set(STYLES) == set(digest.SHOWN)
    text = "\n".join(plain(View(Page.MATRIX), "lr0.1_s2"))
    assert all(mark in text for mark in ("✓", "▶", "[✗]", "·"))
