"""Which jobs on Slurm go on after their time limit without cost, and for how long."""

from __future__ import annotations

from dataclasses import replace

import pytest

from queue_manager.core import boundary as b
from queue_manager.core import failures, slurm_notice, time_limit
from queue_manager.core.judge import Verdict, judge
from queue_manager.core.launchers import SLURM
from queue_manager.core.manifest import JobSpec
from queue_manager.core.model import Job
from queue_manager.core.status import Outcome
from tests.core.states import run_to_end, spec, world
from tests.fakes import FakeAttempt, FakeHost, Plan

NO_OUTPUT = b.Output(None, False)
AT_LIMIT = b.Ended(NO_OUTPUT, limit=True, moved=True)
BY_ITSELF = b.Ended(NO_OUTPUT, warned=True, moved=True)
KEPT = JobSpec("a", "true", "main", gpus=0, expected_output="out", slurm={"requeue_on_timeout": True})


def ended(
    facts: b.Ended, code: int | None = 143, stop: str | None = None, made: JobSpec = KEPT, step: int | None = None
) -> Verdict:
    """How an attempt is judged that ended so, on Slurm."""
    record = None if code is None else b.ExitRecord(code, 0)
    return time_limit.judged(Job(0, made), SLURM, judge(made, stop, record, facts), facts, step)


@pytest.mark.parametrize(
    ("facts", "code", "stop", "error"),
    [
        (AT_LIMIT, 143, None, "had its time, and goes on (requeue_on_timeout)"),
        (AT_LIMIT, None, None, "had its time, and goes on (requeue_on_timeout)"),
        (b.Ended(NO_OUTPUT, moved=True), 143, "timeout", "had its time, and goes on (requeue_on_timeout)"),
        (BY_ITSELF, 0, None, "ended by itself before its time limit, and goes on (requeue_on_timeout)"),
        (BY_ITSELF, 75, None, "ended by itself before its time limit, and goes on (requeue_on_timeout)"),
        (replace(BY_ITSELF, moved=False), 75, None, "ended by itself before its time limit, and goes on"),
    ],
)
def test_a_job_goes_on_after_its_time_limit(facts: b.Ended, code: int | None, stop: str | None, error: str) -> None:
    found = ended(facts, code, stop)
    assert (found.outcome, found.failure) == (Outcome.INTERRUPTED, time_limit.NAME)
    assert (found.error or "").startswith(error)


@pytest.mark.parametrize(
    ("facts", "code", "failure"),
    [
        (b.Ended(NO_OUTPUT, moved=True), 1, "exit_code"),  # it failed, and its time limit has no part in that
        (replace(BY_ITSELF, finding=failures.LogFinding("oom", "CUDA out of memory")), 1, "oom"),
        (replace(AT_LIMIT, output=b.Output("out", True)), 0, None),  # it had just finished
        (replace(BY_ITSELF, output=b.Output("out", True)), 1, None),
    ],
)
def test_other_ends_are_judged_as_ever(facts: b.Ended, code: int, failure: str | None) -> None:
    assert ended(facts, code).failure == failure


def test_without_the_key_a_time_limit_is_a_timeout() -> None:
    plain = KEPT._replace(slurm={"time": "1:00:00"})
    found = ended(AT_LIMIT, made=plain)
    assert (found.failure, found.error) == ("timeout", "Slurm ended it at its time limit")
    assert ended(BY_ITSELF, 75, made=plain).failure == "exit_code"
    half = replace(AT_LIMIT, output=b.Output("out", True))
    assert ended(half, made=plain).failure == "timeout", "what it has written so far is not a result"


def test_a_job_that_a_person_cancels_does_not_go_on() -> None:
    assert ended(AT_LIMIT, 143, "cancelled").outcome is Outcome.CANCELLED


def test_a_job_without_an_output_that_ends_well_when_warned_may_not_be_done() -> None:
    bare = KEPT._replace(expected_output=None)
    found = ended(b.Ended(None, warned=True), 0, made=bare)
    assert found.outcome is Outcome.SUCCEEDED
    assert "it may not be done" in (found.warning or "")


def test_what_does_not_move_does_not_go_on() -> None:
    found = ended(replace(AT_LIMIT, moved=False))
    assert found.failure == "timeout"
    assert "neither its log nor its output changed in the second half of its time" in (found.error or "")


def test_what_begins_anew_each_time_does_not_go_on_for_ever() -> None:
    job = Job(0, KEPT)
    verdict = judge(KEPT, None, None, AT_LIMIT)
    job.reached = 400
    assert time_limit.judged(job, SLURM, verdict, AT_LIMIT, 800).failure == time_limit.NAME
    again = time_limit.judged(job, SLURM, verdict, AT_LIMIT, 400)
    assert again.failure == "timeout"
    assert "it came to step 400, and the attempt before to step 400" in (again.error or "")
    job.time_limits, job.reached = time_limit.MOST, None
    assert "it has gone on 100 times" in (time_limit.judged(job, SLURM, verdict, AT_LIMIT, None).error or "")


class LimitedHost(FakeHost):
    """Slurm ends each attempt at its limit but the fourth."""

    def ended(self, attempt: FakeAttempt, expects: str | None) -> b.Ended:
        return replace(super().ended(attempt, expects), limit=attempt.n < 4, moved=True)


def test_a_job_that_goes_on_loses_no_attempt() -> None:
    slurm = {"requeue_on_timeout": True}
    host, manager = world(spec("a", gpus=0, expected_output="out", slurm=slurm), host=LimitedHost(), launcher=SLURM)
    host.plan_of = lambda _job, n: Plan(1.0) if n == 4 else Plan(1.0, 143, output=False)
    run_to_end(host, manager)
    job = manager.state.job("a")
    assert (job.status.value, job.n, job.attempts, job.time_limits) == ("completed", 4, 1, 3)


@pytest.mark.parametrize(
    ("options", "timeout", "wanted"),
    [
        ((), None, "60"),
        (("--time=4:00:00",), None, "60"),
        (("--time=1",), None, "30"),
        (("--time=0",), None, "60"),
        # Our own timeout comes first: 13 minutes are 780 seconds, and a minute before 600 is 240 before those.
        (("--time=13",), 600.0, "240"),
        (("--time=1-00:00:00",), 3600.0, "65535"),
    ],
)
def test_usr1_comes_a_minute_before_the_end(options: tuple[str, ...], timeout: float | None, wanted: str) -> None:
    assert slurm_notice.notice(options, timeout) == (f"--signal=B:USR1@{wanted}",)


def test_a_signal_of_the_users_is_left_as_it_is() -> None:
    assert slurm_notice.notice(("--time=10", "--signal=B:USR1@300"), 60.0) == ()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 1800), ("90:30", 5430), ("4:00:00", 14400), ("1-12", 129600), ("1-2:30", 95400), ("1-2:30:10", 95410),
     (5, 300), ("UNLIMITED", None)],
)  # fmt: skip
def test_time_limits_as_sbatch_reads_them(text: object, seconds: int | None) -> None:
    assert slurm_notice.seconds(text) == seconds
