"""The verdict on one attempt that has ended: completed, failed and why, with a warning or without."""

from __future__ import annotations

from typing import Any

import pytest

from queue_manager.core.boundary import Ended, ExitRecord, Output
from queue_manager.core.failures import LogFinding, Rule
from queue_manager.core.judge import Verdict, judge, span
from queue_manager.core.status import Outcome
from tests.core.states import spec

FRESH = Output("out/a.pt", fresh=True)
SHARED = Output("out/a.pt", fresh=True, shared=True)
OLD = Output("out/a.pt", fresh=False)
NONE = Output(None, fresh=False)
OOM = LogFinding("oom", "CUDA out of memory")


def verdict(
    code: int | None, output: Output | None = None, *, stop: str | None = None, flags: str = "", **ended: Any
) -> Verdict:
    job = spec("a", expected_output=None if output is None else "out/a.pt", timeout=60.0)
    return judge(job, stop, None if code is None else ExitRecord(code, 0), Ended(output, **ended), flags=flags)


@pytest.mark.parametrize("output", [None, FRESH, SHARED])
def test_exit_code_0_with_its_output_is_a_success(output: Output | None) -> None:
    assert verdict(0, output) == Verdict(Outcome.SUCCEEDED)


def test_a_job_that_prints_oom_recovers_and_finishes_succeeds() -> None:
    assert verdict(0, FRESH, finding=OOM).outcome is Outcome.SUCCEEDED


def test_no_output_is_a_failure_even_at_exit_code_0() -> None:
    found = verdict(0, NONE, last_line="done")
    assert (found.outcome, found.failure, found.rule) == (Outcome.FAILED, "no_output", Rule.RETRIES)
    assert found.error == "exit code 0, but out/a.pt does not exist; last line: done"


def test_an_output_that_cannot_be_read_is_not_called_missing() -> None:
    found = verdict(0, Output(None, False, unreadable="/nfs/out: Stale file handle"))
    assert (found.outcome, found.failure) == (Outcome.FAILED, "no_output")
    assert found.error == "exit code 0, but out/a.pt cannot be read (/nfs/out: Stale file handle)"


def test_an_output_from_an_earlier_day_completes_nothing() -> None:
    found = verdict(0, OLD)
    assert found.failure == "no_output"
    assert "was not modified after the job started" in (found.error or "")


def test_output_without_exit_code_0_succeeds_with_a_warning() -> None:
    found = verdict(1, FRESH)
    assert found == Verdict(Outcome.SUCCEEDED, warning="exit code 1, but its output out/a.pt exists")


def test_output_that_another_job_may_have_written_leaves_the_exit_code_to_decide() -> None:
    assert verdict(1, SHARED).failure == "exit_code"


def test_an_old_output_does_not_save_a_failed_job() -> None:
    assert verdict(1, OLD).failure == "exit_code"


@pytest.mark.parametrize(("code", "output"), [(143, None), (143, FRESH), (0, None), (0, FRESH), (None, FRESH)])
def test_what_was_stopped_early_is_a_success(code: int | None, output: Output | None) -> None:
    assert verdict(code, output, stop="early_stop") == Verdict(Outcome.SUCCEEDED)


def test_what_was_stopped_before_it_wrote_its_output_is_a_success_with_a_warning() -> None:
    found = verdict(143, NONE, stop="early_stop")
    assert found == Verdict(Outcome.SUCCEEDED, warning="stopped early, before out/a.pt was written")


def test_what_was_ended_because_it_was_unhealthy_has_failed_whatever_it_wrote() -> None:
    found = verdict(143, FRESH, stop="unhealthy", flags="nan: the loss is nan (step 3 loss nan)")
    assert (found.outcome, found.failure, found.rule) == (Outcome.FAILED, "unhealthy", Rule.RETRIES)
    assert found.error == "stopped because it was unhealthy: nan: the loss is nan (step 3 loss nan)"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1, "exit code 1"),
        (139, "exit code 139 (SIGSEGV)"),
        (141, "exit code 141 (SIGPIPE: a command in a pipe wrote after its reader, such as head, had ended)"),
        (200, "exit code 200"),
    ],
)
def test_an_exit_code_is_named_with_the_last_line(code: int, words: str) -> None:
    found = verdict(code, last_line="ValueError: no")
    assert found.error == f"{words}; last line: ValueError: no"


@pytest.mark.parametrize(
    ("code", "finding", "failure", "error"),
    [
        (1, ("traceback", "KeyError: 'lr'"), "exit_code", "exit code 1: KeyError: 'lr'"),
        (2, ("arguments", "x: error: no --lr"), "arguments", "wrong arguments (exit code 2): x: error: no --lr"),
        (1, ("import", "ImportError: a"), "import", "exit code 1: ImportError: a"),
        (1, ("killed", "worker killed"), "killed", "one of its processes was killed (exit code 1): worker killed"),
        (137, ("traceback", "KeyError: 'lr'"), "killed", "exit code 137 (SIGKILL): killed from outside"),
        (137, ("oom", "oom_kill event"), "oom", "out of host memory (exit code 137 (SIGKILL)): oom_kill event"),
    ],
)
def test_the_reason_in_the_log_is_the_reason(code: int, finding: tuple[str, str], failure: str, error: str) -> None:
    found = verdict(code, finding=LogFinding(*finding), last_line="wandb: Find logs at: x")
    assert (found.failure, found.error) == (failure, error)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (None, "was killed together with its wrapper: cancelled in Slurm by alice"),
        (137, "exit code 137 (SIGKILL): cancelled in Slurm by alice"),
        (143, "exit code 143 (SIGTERM): cancelled in Slurm by alice"),
    ],
)
def test_who_ended_it_is_named_where_that_is_known(code: int | None, error: str) -> None:
    record, facts = None if code is None else ExitRecord(code, 0), Ended(NONE, cause="cancelled in Slurm by alice")
    made = spec("a", expected_output="out")
    found = judge(made, None, record, facts)
    assert (found.failure, found.error) == ("killed", error)
    assert judge(made, None, ExitRecord(3, 0), facts).failure == "exit_code"


def test_a_worker_that_the_oom_killer_took_is_oom() -> None:
    killed = LogFinding("killed", "DataLoader worker (pid 1) is killed by signal: Killed.")
    found = verdict(1, finding=killed, oom_kill=True)
    assert (found.failure, found.rule) == ("oom", Rule.OOM)
    assert verdict(1, finding=LogFinding("traceback", "KeyError: 1"), oom_kill=True).failure == "exit_code"


def test_oom_in_the_log_of_a_failed_job_is_oom() -> None:
    found = verdict(1, NONE, finding=OOM, last_line="Traceback")
    assert (found.failure, found.rule) == ("oom", Rule.OOM)
    assert found.error == "out of GPU memory (exit code 1): CUDA out of memory"


@pytest.mark.parametrize(("name", "rule"), [("sick_card", Rule.CARD), ("disk_full", Rule.DISK), ("oom", Rule.OOM)])
def test_what_the_log_shows_decides_what_follows(name: str, rule: Rule) -> None:
    assert verdict(1, finding=LogFinding(name, "line")).rule is rule


@pytest.mark.parametrize(("code", "failure"), [(137, "oom"), (1, "exit_code"), (143, "exit_code"), (None, "oom")])
def test_the_kernels_oom_killer_is_oom_only_with_sigkill(code: int | None, failure: str) -> None:
    assert verdict(code, oom_kill=True).failure == failure


def test_a_wrapper_that_was_killed_as_well_leaves_a_failure() -> None:
    found = verdict(None)
    assert (found.failure, found.error) == ("killed", "was killed together with its wrapper")


def test_a_wrapper_that_was_killed_after_the_output_leaves_a_warning() -> None:
    assert verdict(None, FRESH).warning == "was killed together with its wrapper, but its output out/a.pt exists"


def test_a_timeout_is_a_failure_whatever_the_log_and_the_output_say() -> None:
    found = verdict(143, FRESH, stop="timeout", finding=OOM)
    assert (found.failure, found.rule) == ("timeout", Rule.RETRIES)
    assert (found.error or "").startswith("stopped by its timeout after 60 s; had 10 s to save")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.5, "0.5 s"),
        (30, "30 s"),
        (90, "90 s"),
        (120, "2 min"),
        (60, "60 s"),
        (3600, "1 h"),
        (7200, "2 h"),
        (86400, "1 d"),
    ],
)
def test_spans_are_reported_as_a_spec_writes_them(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_who_ended_it_and_how_is_reported_and_never_that_it_was_killed() -> None:
    job = spec("a", timeout=7200.0)
    found = judge(job, "timeout", ExitRecord(137, 0), Ended(None, last_line="step 90"), 120.0)
    expected = "stopped by its timeout after 2 h; had 2 min to save, then it was killed; last line: step 90"
    assert found.error == expected
    closed = judge(job, "closed", ExitRecord(143, 0), Ended(None), 120.0)
    assert closed.error == "its session was closed, which stopped it; had 2 min to save"


def test_what_a_person_cancelled_is_cancelled() -> None:
    found = verdict(143, FRESH, stop="cancelled", finding=OOM)
    assert (found.outcome, found.error) == (Outcome.CANCELLED, "cancelled by a person")


@pytest.mark.parametrize("stop", ["cancelled", "timeout", "stale", "leftovers"])
def test_a_job_that_was_done_before_it_heard_of_its_end_succeeds(stop: str) -> None:
    assert verdict(0, FRESH, stop=stop)._replace(warning=None) == Verdict(Outcome.SUCCEEDED)


@pytest.mark.parametrize(
    ("stop", "why"),
    [
        (None, None),
        ("leftovers", None),
        ("cancelled", "a person cancelled it"),
        ("timeout", "its timeout of 60 s was over"),
        ("unhealthy", "it was unhealthy"),
    ],
)
def test_success_after_it_was_told_to_end_is_not_silent(stop: str | None, why: str | None) -> None:
    """It may only have saved its work, and ended as it was told to."""
    expected = why and f"{why}, and it ended with exit code 0 when it was told to end: it may not be done"
    assert verdict(0, FRESH, stop=stop).warning == expected


@pytest.mark.parametrize("code", [143, 137, None])
def test_a_stale_job_with_its_output_succeeds_with_a_warning(code: int | None) -> None:
    found = verdict(code, FRESH, stop="stale")
    assert found.outcome is Outcome.SUCCEEDED
    assert (found.warning or "").startswith("was idle after writing its output, and was stopped")


@pytest.mark.parametrize("stop", ["stale", "closed"])
def test_what_the_manager_ended_fails_for_that_and_not_for_what_the_log_shows(stop: str) -> None:
    killed = LogFinding("oom", "./job.sh: line 12:  4242 Killed")
    assert verdict(137, SHARED, stop=stop, finding=killed).failure == "killed"


def test_a_job_whose_screen_was_closed_and_whose_output_is_there_succeeds_with_a_warning() -> None:
    assert (verdict(143, FRESH, stop="closed").warning or "").startswith("its session was closed")
