"""What `submit` prints in the end: only a run that has begun somewhere can be followed."""

from __future__ import annotations

from pathlib import Path

import pytest

from skill.cli import submit
from skill.operations.submit import Outcome
from skill.operations.submit_spec import Submitted
from skill.runs.directory import Run


@pytest.mark.parametrize(("faults", "follows"), [((None,), True), (("no", None), True), (("no", "no"), False)])
def test_a_submit_that_failed_everywhere_does_not_say_how_to_follow_it(
    faults: tuple[str | None, ...], follows: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = tuple(Outcome(f"gpu-{n}", 2, None, fault) for n, fault in enumerate(faults))
    submit._report(Submitted(Run.at(tmp_path / "p-1"), outcomes, None, (), ()))
    assert ("follow it" in capsys.readouterr().out) is follows
