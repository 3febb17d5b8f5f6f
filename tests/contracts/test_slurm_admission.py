"""What Slurm takes of a run: the window of tasks, nodes that are excluded, a controller that is busy or away."""

from __future__ import annotations

import pytest

from queue_manager.core.boundary import Admitted
from queue_manager.core.launchers import ENGINE_LIMIT
from queue_manager.core.readings import Unreadable
from queue_manager.slurm import admission, nodes, window
from queue_manager.slurm.admission import Admission
from queue_manager.slurm.batches import Answer
from queue_manager.slurm.commands import Configuration
from queue_manager.slurm.nodes import Nodes, with_excluded
from queue_manager.slurm.window import Window

NOW = 1_000_000.0
LIMIT = "QOSMaxSubmitJobPerUserLimit"
REFUSED = Answer(1, "", f"sbatch: error: {LIMIT}\nsbatch: error: Batch job submission failed: Job violates accounting")
UNCLEAR = Answer(1, "", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation")
AWAY = Unreadable("squeue: Unable to contact slurm controller (connect failure)")
BUSY = Unreadable("squeue: Socket timed out on send/recv operation")
NO_NODE = Answer(1, "", "sbatch: error: Batch job submission failed: Requested node configuration is not available")


# -- the window -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "held", "asked", "wanted"),
    [
        (1000, 0, 1000, 500),
        (1000, 0, 8, 4),
        (500, 90, 32, 106),
        (107, 100, 7, 103),
        (101, 100, 1, 100),
        (1, 0, 1, 1),
        (8, 20, 1, 8),
    ],
)
def test_a_refusal_halves_what_is_handed_over_beside_what_slurm_has(
    size: int, held: int, asked: int, wanted: int
) -> None:
    assert window.refused(Window(1000, size), LIMIT, held, asked, NOW).size == wanted


def test_refusals_in_a_row_wait_for_longer_and_longer() -> None:
    found, waits = window.whole(1000), []
    for _ in range(8):
        found = window.refused(found, LIMIT, 0, found.size, NOW)
        waits.append(found.opens - NOW)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert found.room(0, NOW) == 0
    assert found.room(0, found.opens) == found.size == 3
    assert found.grows == NOW + window.GROWS, "all of them are one refusal for the growth"
    assert window.refused(window.accepted(found), LIMIT, 3, 1, NOW).opens == NOW + 1


def test_the_window_grows_by_more_each_time_until_it_is_whole() -> None:
    found, now, sizes = window.refused(window.whole(40), LIMIT, 25, 1, NOW), NOW, []
    assert found.size == 25
    while found.limit is not None:
        now += window.GROWS
        found = window.grown(found, now)
        sizes.append(found.size)
    assert sizes == [26, 28, 32, 40]
    assert found == window.whole(40)
    assert window.grown(found, now + 1e6) == found


def test_growing_against_the_same_limit_becomes_rare() -> None:
    found, now, pauses = window.whole(1000), NOW, []
    for _ in range(7):
        found = window.accepted(window.refused(found, LIMIT, 100, 1, now))
        pauses.append(found.grows - now)
        now = found.grows
        assert window.grown(found, now - 0.1) == found
        found = window.grown(found, now)
    assert pauses == [30, 60, 120, 240, 480, 900, 900]
    found = window.grown(found, now + window.GROWS)  # the second growth was not refused: the limit is another one
    assert window.refused(found, LIMIT, 100, 1, now).grows == now + window.GROWS


# -- nodes ----------------------------------------------------------------------------------------------------------


def test_a_node_is_excluded_after_two_failures_for_an_hour() -> None:
    found = Nodes({})
    assert found.failed("n2", "no directory", NOW)
    assert found.excluded(NOW) == ()
    assert found.failed("n2", "no directory", NOW + 5)
    assert found.excluded(NOW + 5) == ("n2",)
    ((kind, text),) = found.conditions(NOW + 5).items()
    assert kind == "node:n2"
    assert text.startswith("node n2 gets no more jobs until 1970-01-12T14:46:45")
    assert "no directory" in text
    assert found.due(NOW + 5) == NOW + 5 + nodes.HOUR
    assert found.excluded(NOW + 5 + nodes.HOUR) == ()
    assert found.conditions(NOW + 5 + nodes.HOUR) == {}
    assert found.due(NOW + 5 + nodes.HOUR) is None
    later = NOW + 5 + nodes.HOUR
    found.failed("n2", "no directory", later + 1)
    assert found.excluded(later + 1) == (), "it needs two failures again"
    found.failed("n2", "no directory", later + 2)
    assert found.excluded(later + 2) == ("n2",)


def test_failures_that_a_sound_end_parts_or_an_hour_exclude_nothing() -> None:
    found = Nodes({})
    found.failed("n2", "no directory", NOW)
    found.ended("n2", None, 5.0, NOW)
    found.failed("n2", "no directory", NOW + 1)
    found.failed("n1", "no directory", NOW + 1)
    assert found.excluded(NOW + 1) == ()
    found.failed("n2", "no directory", NOW + 2 + nodes.HOUR)
    assert found.excluded(NOW + 2 + nodes.HOUR) == ()


@pytest.mark.parametrize(
    ("state", "after", "wanted"),
    [
        ("NODE_FAIL", 5.0, ("n2",)),
        ("BOOT_FAIL", 5.0, ("n2",)),
        ("NODE_FAIL", nodes.QUICK, ()),
        ("PREEMPTED", 5.0, ()),
        ("", 5.0, ()),
    ],
)
def test_a_node_that_is_lost_soon_after_a_start_has_failed(state: str, after: float, wanted: tuple[str, ...]) -> None:
    found = Nodes({})
    for _ in range(2):
        found.ended("n2", state, after, NOW)
    assert found.excluded(NOW) == wanted


def test_an_excluded_node_outlives_its_manager() -> None:
    conditions = {"disk": ("full", NOW), "node:n2": ("node n2 gets no more jobs until …", NOW - 60)}
    found = Nodes(conditions)
    assert found.excluded(NOW) == ("n2",)
    assert found.conditions(NOW) == {"node:n2": "node n2 gets no more jobs until …"}
    assert found.excluded(NOW - 60 + nodes.HOUR) == ()


def test_where_nothing_starts_anywhere_no_node_is_to_blame() -> None:
    found = Nodes({})
    blamed = [found.failed(f"n{n}", "no directory", NOW) for n in (1, 1, 2, 2, 3, 3)]
    assert blamed == [True] * 5 + [False]
    assert found.excluded(NOW) == ()
    assert not found.failed("n1", "no directory", NOW + 1)
    found.begun()
    assert found.failed("n1", "no directory", NOW + 2)
    assert found.failed("n1", "no directory", NOW + 3)
    assert found.excluded(NOW + 3) == ("n1",)


def test_a_person_who_resumes_the_run_takes_nodes_back() -> None:
    found = Nodes({"node:n2": ("text", NOW)})
    found.forgive()
    assert found.excluded(NOW) == ()


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("--mem=1G",), ("--mem=1G", "--exclude=n2,n3")),
        (("--exclude=n7", "--mem=1G"), ("--mem=1G", "--exclude=n7,n2,n3")),
        (("--exclude", "n[7-9]"), ("--exclude=n[7-9],n2,n3",)),
        (("-x", "n7", "--mem=1G"), ("--mem=1G", "--exclude=n7,n2,n3")),
        (("-xn7", "--exclusive"), ("--exclusive", "--exclude=n7,n2,n3")),
    ],
)
def test_nodes_are_excluded_beside_those_that_the_spec_excludes(
    options: tuple[str, ...], wanted: tuple[str, ...]
) -> None:
    assert with_excluded(options, ("n2", "n3")) == wanted
    assert with_excluded(options, ()) == options


# -- all together ---------------------------------------------------------------------------------------------------


@pytest.fixture
def admits() -> Admission:
    made = Admission(1000, {})
    made.configured(Configuration())
    return made


def test_nothing_is_submitted_before_slurm_has_said_how_it_is_configured() -> None:
    found = Admission(1000, {})
    assert found.look(0, True, NOW).room == 0
    assert found.is_silent
    found.configured(Unreadable("scontrol: Unable to contact slurm controller (connect failure)"))
    seen = found.look(0, True, NOW)
    assert seen.room == 0
    assert "connect failure" in (seen.reason or "")
    assert "connect failure" in seen.conditions[admission.KIND]
    found.configured(Configuration(max_array=17))
    assert (found.look(3, True, NOW).room, found.array, found.is_silent) == (997, 17, False)


@pytest.mark.parametrize(
    ("known", "jobs", "wanted"), [(None, None, 1000), (1001, 10_000, 1001), (4001, 500, 500), (None, 20, 20), (0, 9, 1)]
)
def test_the_size_of_an_array(admits: Admission, known: int | None, jobs: int | None, wanted: int) -> None:
    admits.configured(Configuration(known, jobs))
    assert admits.array == wanted


def test_a_limit_is_named_and_leaves_room_for_fewer(admits: Admission) -> None:
    assert admits.answered(REFUSED, 100, 800, NOW)
    seen = admits.look(100, True, NOW)
    assert seen.room == 0
    assert LIMIT in (seen.reason or "")
    assert LIMIT in seen.conditions[ENGINE_LIMIT]
    assert admits.look(100, False, NOW).conditions == {}, "no other job is ready"
    assert admits.due(NOW) == NOW + 1
    assert admits.look(100, True, NOW + 1).room == 400


def test_a_busy_controller_is_asked_again_later_and_later(admits: Admission) -> None:
    now, waits = NOW, []
    for _ in range(8):
        assert not admits.answered(UNCLEAR, 0, 1, now), "it may have been submitted"
        due = admits.due(now)
        assert due is not None
        waits.append(due - now)
        assert admits.look(0, True, now).room == 0
        assert "busy" in (admits.look(0, True, now).reason or "")
        now = due
        assert admits.look(0, True, now).room == 1000
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300]
    admits.answered(Answer(0, "7\n", ""), 0, 1, now)
    admits.answered(UNCLEAR, 0, 1, now)
    assert admits.due(now) == now + 5


def test_a_controller_that_is_away_is_said_at_once_and_a_busy_one_after_a_while(admits: Admission) -> None:
    admits.listed(BUSY, NOW)
    assert admits.look(0, True, NOW).room == 1000
    assert admits.look(0, True, NOW).conditions == {}
    assert "too busy" in admits.look(0, True, NOW + admission.PATIENCE).conditions[admission.KIND]
    admits.listed(AWAY, NOW)
    seen = admits.look(0, True, NOW)
    assert seen.room == 0
    assert "does not answer" in seen.conditions[admission.KIND]
    assert "running jobs go on" in seen.conditions[admission.KIND]
    assert admits.is_silent
    admits.listed({}, NOW)
    assert admits.look(0, True, NOW) == Admitted(1000)


def test_slurm_is_asked_more_rarely_while_it_does_not_answer(admits: Admission) -> None:
    pace = [admits.slower]
    for _ in range(5):
        admits.listed(AWAY, NOW)
        pace.append(admits.slower)
    admits.listed({}, NOW)
    assert [*pace, admits.slower] == [1, 2, 4, 8, 8, 8, 1]


def test_a_sbatch_that_waits_is_said(admits: Admission) -> None:
    admits.waits(True)
    assert "MaxJobCount" in (admits.look(0, True, NOW).reason or "")
    admits.answered(Answer(0, "7\n", ""), 5, 1, NOW)
    assert admits.look(0, True, NOW).reason is None


def test_where_excluded_nodes_are_all_there_is_they_are_taken_back(admits: Admission) -> None:
    assert not admits.answered(NO_NODE, 0, 1, NOW), "no node is excluded: the job asks for what is not there"
    admits.nodes.begun()
    for _ in range(2):
        admits.nodes.failed("n1", "no directory", NOW)
    assert admits.answered(NO_NODE, 0, 1, NOW)
    assert admits.nodes.excluded(NOW) == ()
    assert not admits.nodes.failed("n1", "no directory", NOW), "it is no node's fault"
