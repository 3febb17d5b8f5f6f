"""The view fits any terminal, and shows what matters first."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from queue_manager.core import events as ev
from queue_manager.core.manifest import Phase
from queue_manager.core.readings import Card
from skill.common.text_table import columns
from skill.runs import digest
from skill.terminal import frame
from skill.terminal.frame import ASCII, UNICODE, Scene, bar
from tests.skill.story import Story, job, manifest

CARDS = tuple(Card(index, f"GPU-{index}", "NVIDIA A100-SXM4-80GB", 81920, 3 + index * 20000, 90) for index in range(4))


def scene(story: Story, *, alive: bool = True, cards: tuple[Card, ...] = (), tail: str = "epoch 3/10") -> Scene:
    document = story.document(cards=cards)
    return Scene(document, digest.digest(document), alive, story.at, lambda _row: tail)


def busy(jobs: int = 60, phases: int = 6) -> Story:
    """A run in which there is something of everything."""
    names = [f"s{n}_N{n % 7}" for n in range(jobs)]
    specs = [job(name, f"phase_{n % phases}", gpus=1) for n, name in enumerate(names)]
    story = Story(manifest(*specs, phases=tuple(Phase(f"phase_{n}") for n in range(phases))))
    free = list(range(len(CARDS)))
    for n, name in enumerate(names):
        if n % 5 == 0:
            story.complete(name)
        elif n % 5 == 1:
            story.start(name, *free[:1])
            del free[:1]
        elif n % 5 == 2:
            story.start(name).end(name, "stuck", error="exit code 1; last line: ValueError: " + "x" * 300)
        elif n % 5 == 3:
            story.start(name).end(name, "failed_oom", error="out of memory", due=story.at + 60)
    return story


def plain(lines: list[Text]) -> list[str]:
    return [line.plain for line in lines]


@given(st.integers(20, 300), st.integers(6, 100), st.integers(0, 60), st.integers(1, 6), st.booleans(), st.booleans())
def test_a_frame_fits_its_terminal(
    width: int, height: int, jobs: int, phases: int, alive: bool, with_cards: bool
) -> None:
    shown = scene(busy(jobs, phases), alive=alive, cards=CARDS if with_cards else (), tail="训练 🎉 " * 60)
    lines = frame.frame(shown, width, height, footer="Ctrl-C leaves this view; the run continues")
    assert len(lines) <= height
    assert max(line.cell_len for line in lines) <= width
    assert "\n" not in "".join(plain(lines))


def test_a_frame_of_24_rows_has_something_of_every_section() -> None:
    lines = plain(frame.frame(scene(busy(), cards=CARDS), 80, 23, footer="foot"))
    text = "\n".join(lines)
    for title in (
        "phases (",
        "GPUs (",
        "running (",
        "waiting for a retry (",
        "need a person (",
        "recently finished (",
    ):
        assert title in text, text
    assert len(lines) == 23
    assert lines[-1] == "foot"


def test_all_of_a_small_run_is_shown() -> None:
    story = Story(manifest(job("teacher", "teachers", gpus=1), job("student", "students"))).start("teacher", 2)
    lines = plain(frame.frame(scene(story, cards=CARDS), 100, 30))
    assert lines[0].endswith("running, 0 of 2 jobs completed, 4.0 s")
    assert lines[1].split("  ") == ["", "1 running", "1 pending"]
    assert lines[2] == "phases"
    assert lines[3].startswith(" teachers  ▓▓▓▓▓▓▓▓")
    assert lines[3].endswith("0/1  1 running")
    assert lines[4].endswith("░  0/1  1 pending")
    (card,) = [line for line in lines if line.startswith(" 2  A100-SXM4-80GB")]
    assert card.endswith("39.1/80 GiB  90 %  teacher")
    assert " teacher  1.0 s  GPU 2  epoch 3/10" in lines
    assert not any("need a person" in line or "recently" in line for line in lines)


def test_phases_that_go_on_come_before_those_that_are_done() -> None:
    names = [f"p{n}" for n in range(20)]
    story = Story(manifest(*(job(f"j{n}", name) for n, name in enumerate(names))))
    story.complete(*(f"j{n}" for n in range(15)))
    text = "\n".join(plain(frame.frame(scene(story), 80, 12)))
    assert " p15 " in text
    assert " p0 " not in text


def test_a_dead_manager_and_the_way_back_stand_at_the_top() -> None:
    lines = plain(frame.frame(scene(busy(), alive=False), 200, 24))
    assert "its manager has died" in lines[0]
    assert lines[2].startswith("  ! the manager (process 4711) has died")
    assert "wavequeue resume --run" in lines[2]


def test_many_jobs_of_which_the_same_is_to_be_reported_have_one_line() -> None:
    names = [f"j{n:02}" for n in range(40)]
    waits = [job(f"w{n}", depends_on=("j00",)) for n in range(5)]
    story = Story(manifest(*map(job, names), *waits))
    story.start("j00").end("j00", "stuck", error="broke").complete("j01")
    story.tell(*(ev.JobBlocked(f"w{n}", "j00", "depends on j00, which is stuck") for n in range(5)))
    story.tell(*(ev.JobCancelled(name) for name in names[12:]))
    lines = plain(frame.frame(scene(story), 120, 60))
    begin = lines.index("need a person")
    assert [" ".join(line.split()) for line in lines[begin + 1 : begin + 3]] == [
        "j00 stuck broke",
        "w0, w1, w2 and 2 more 5 blocked depends on j00, which is stuck",
    ]
    assert lines[begin + 3] == "cancelled"
    assert " ".join(lines[begin + 4].split()) == "j39, j38, j37 and 25 more 28 cancelled by a person"
    assert lines[begin + 5] == "recently finished"
    assert len(lines) == begin + 7


def test_without_a_terminal_nothing_is_cut() -> None:
    story = Story(manifest(*(job(f"a_very_long_name_of_a_job_{n}") for n in range(3))))
    story.tell(*(ev.JobCancelled(f"a_very_long_name_of_a_job_{n}") for n in range(2)))
    text = "\n".join(plain(frame.frame(scene(story), 1000, None)))
    long = "a_very_long_name_of_a_job"
    assert f"{long}_1, {long}_0  2 cancelled  by a person" in text
    assert "…" not in text


PARTS = st.lists(st.integers(0, 1000), min_size=4, max_size=4)


@given(PARTS, st.integers(0, 1000), st.integers(4, 60))
def test_a_bar_has_its_width_and_hides_nothing(amounts: list[int], rest: int, width: int) -> None:
    parts = [(amount, char, "") for amount, char in zip(amounts, "abcd", strict=True)]
    drawn = bar(parts, sum(amounts) + rest, width, ".").plain
    assert len(drawn) == width
    for amount, char, _ in parts:
        assert (char in drawn) == (amount > 0)
    if sum(amounts) and not rest and max(amounts) == sum(amounts):
        assert "." not in drawn


def test_bars_of_ascii_need_no_other_character() -> None:
    lines = frame.frame(scene(busy(), cards=CARDS), 80, 40, ASCII)
    assert "\n".join(plain(lines)).replace("…", "").isascii()
    assert not "".join(UNICODE).isascii()


@pytest.mark.parametrize("width", [20, 60, 200])
def test_columns_line_up(width: int) -> None:
    rows: list[list[Any]] = [["job", "n", "why"], ["a", "10", "word " * 50], ["训练", "7", ""], ["b" * 90, "1", "x"]]
    lines = columns(rows, width, right=(1,), head=True)
    assert all(line.cell_len <= width for line in lines)
    assert not any(line.plain.endswith(" ") for line in lines)
    if width == 200:
        starts = [line.plain.index(word) for line, word in zip(lines, ["why", "word"], strict=False)]
        assert len(set(starts)) == 1


def test_the_table_of_all_jobs_has_a_line_for_each() -> None:
    document = busy(10).document()
    lines = plain(frame.jobs_table(document["jobs"], 1000, 0.0))
    assert len(lines) == 11
    assert lines[0].split() == ["job", "phase", "status", "where", "attempts", "took", "why"]
    assert "waits for a GPU to be free" in lines[5]


def test_on_a_narrow_terminal_jobs_can_be_told_apart() -> None:
    names = [f"train_lr{lr}_seed{seed}" for lr in ("1e-4", "3e-4") for seed in range(2)]
    story = Story(manifest(*map(job, names))).complete(*names[:2])
    for name in names[2:]:
        story.start(name).end(name, "stuck", error="exit code 1; last line: ValueError: bad seed")
    lines = plain(frame.frame(scene(story), 40, 20))
    shown = [line.split()[0] for line in lines if line.startswith(" train_lr")]
    assert shown == [*names[2:], *reversed(names[:2])]
