"""Tools that change something, by two steps: preview shows a change and gives a token, apply takes it and makes it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from skill.common.errors import FailedError
from skill.mcp import answers
from skill.mcp.changes import Apply, Change, Preview
from skill.operations import change_tokens
from skill.operations.build_spec import Say
from skill.operations.change_tokens import Previewed


def preview(asked: Preview) -> str:
    shown = asked.change.look()
    if shown.refused is not None:
        raise FailedError(answers.head([*shown.lines, shown.refused], "correct it, then preview it again"))
    token = change_tokens.give(Previewed(_asked(asked.change), shown.seen), time.time(), Path.home())
    return answers.head(shown.lines, f"nothing was changed so far; apply the same change with token={token}")


def apply(asked: Apply, say: Say) -> str:
    """Make a change whose token is good. Raises UseError where it is not, and FailedError where not all was done."""
    words, now, home = _asked(asked.change), time.time(), Path.home()
    change_tokens.check(asked.token, words, now, home)  # before hosts are asked
    shown = asked.change.look()
    if shown.refused is not None:
        raise FailedError(shown.refused)
    change_tokens.use(asked.token, Previewed(words, shown.seen), now, home)
    done = asked.change.make(say)
    if done.failed:
        raise FailedError(answers.head(done.lines, done.then))
    return answers.head(done.lines, done.then)


def _asked(change: Change) -> list[Any]:
    return [str(Path.cwd()), change.model_dump()]
