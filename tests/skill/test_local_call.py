"""A module of ours on this machine: its document, or its own words."""

from __future__ import annotations

import pytest

from skill.common.errors import FailedError
from skill.runs.local_call import call


def test_a_module_that_gives_no_document_is_reported_in_its_own_words() -> None:
    with pytest.raises(FailedError, match=r"^queue_manager\.remote\.none_such gave no answer: .*No module named"):
        call("none_such")
    with pytest.raises(FailedError, match=r"gave no answer: .*manifest"):
        call("preflight", "--here", stdin="{}")


def test_one_that_takes_too_long_is_reported(tmp_path: object) -> None:
    with pytest.raises(FailedError, match=r"could not be run: .*timed out"):
        call("probe", "--path", str(tmp_path), patience=0.0001)
