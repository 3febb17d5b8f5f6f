"""A token is good for the change that was previewed, once, and not for long."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from skill.common.errors import UseError
from skill.operations import change_tokens
from skill.operations.change_tokens import LIFE, Previewed

CHANGE = Previewed({"change": "run", "spec": "a.yaml"}, "digest of a.yaml")
NOW = 1_000_000.0


def test_a_token_is_good_once(tmp_path: Path) -> None:
    token = change_tokens.give(CHANGE, NOW, tmp_path)
    change_tokens.use(token, CHANGE, NOW + LIFE, tmp_path)
    with pytest.raises(UseError, match="was used already"):
        change_tokens.use(token, CHANGE, NOW + 1, tmp_path)


@pytest.mark.parametrize(
    ("change", "now", "says"),
    [
        (CHANGE._replace(asked={"change": "run", "spec": "b.yaml"}), NOW, "is for another change"),
        (CHANGE._replace(asked={"change": "cancel", "spec": "a.yaml"}), NOW, "is for another change"),
        (CHANGE._replace(seen="another digest"), NOW, "has changed since"),
        (CHANGE, NOW + LIFE + 1, "more than 15 minutes old"),
    ],
)
def test_it_is_not_good_for_anything_else_and_stays_good_for_its_own(
    change: Previewed, now: float, says: str, tmp_path: Path
) -> None:
    token = change_tokens.give(CHANGE, NOW, tmp_path)
    with pytest.raises(UseError, match=says):
        change_tokens.use(token, change, now, tmp_path)
    change_tokens.use(token, CHANGE, NOW, tmp_path)


@pytest.mark.parametrize(
    ("token", "says"),
    [
        ("", "call preview first"),
        ("0123456789abcdef", "is unknown here"),
        ("../../../etc/passwd", "is not a token"),
        ("0123456789abcdef.used", "is not a token"),
    ],
)
def test_what_no_preview_gave_is_refused(token: str, says: str, tmp_path: Path) -> None:
    change_tokens.give(CHANGE, NOW, tmp_path)
    with pytest.raises(UseError, match=says):
        change_tokens.use(token, CHANGE, NOW, tmp_path)


def test_of_many_who_use_one_token_at_once_one_succeeds(tmp_path: Path) -> None:
    token = change_tokens.give(CHANGE, NOW, tmp_path)
    begin, ended = threading.Barrier(8), []

    def use() -> None:
        begin.wait()
        try:
            change_tokens.use(token, CHANGE, NOW, tmp_path)
            ended.append("made")
        except UseError as error:
            ended.append(str(error))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended.count("made") == 1
    assert sum("was used already" in one for one in ended) == 7


def test_tokens_that_nobody_used_do_not_pile_up(tmp_path: Path) -> None:
    old = change_tokens.give(CHANGE, NOW, tmp_path)
    folder = tmp_path / ".wavequeue" / "tokens"
    age = (folder / old).stat().st_mtime
    new = change_tokens.give(CHANGE, age + 2 * LIFE + 1, tmp_path)
    assert [path.name for path in folder.iterdir()] == [new]
