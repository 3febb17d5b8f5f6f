"""Select what of a .env file goes to a host: names on an allow-list, with their values quoted for the shell. Pure.

No message holds a value: they are secrets.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
from typing import NamedTuple

from skill.common.errors import UseError

ALLOWED = (
    "WANDB_API_KEY", "WANDB_ENTITY", "WANDB_PROJECT", "WANDB_BASE_URL", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN",
    "HF_HOME", "GITHUB_TOKEN", "OPENAI_API_KEY", "ANTHROPIC_API_KEY",
)  # fmt: skip
"""Names that go to a host; `env_allow` of workers.yaml adds to them."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LINE = re.compile(r"\s*(?:export\s+)?([^=\s]+)\s*=\s*(.*)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


class Chosen(NamedTuple):
    """The file for the host as text, the names in it, and those that were left out."""

    text: str
    names: tuple[str, ...]
    left_out: tuple[str, ...]


def choose(text: str, allowed: Collection[str], file: str) -> Chosen:
    """Take the allowed names out of the text of a .env file. Of a name that is there twice the last counts.

    Raises UseError with the line of what cannot be read; `file` is what it is called there.
    """
    values: dict[str, str] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None or not _NAME.fullmatch(found[1]):
            raise UseError(f"{file}:{number}: this line is not NAME=VALUE")
        value = _value(found[2].rstrip())
        if value is None:
            raise UseError(f"{file}:{number}: the quotes around the value of {found[1]} are not closed on this line")
        values[found[1]] = value
    kept = {name: value for name, value in values.items() if name in allowed}
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in kept.items()]
    return Chosen("".join(lines), tuple(kept), tuple(name for name in values if name not in kept))


def name_fault(name: str) -> str | None:
    """Say why `name` cannot be the name of a variable; None if it can."""
    return None if _NAME.fullmatch(name) else "may have letters, digits and _ only, and may not begin with a digit"


def _value(text: str) -> str | None:
    """Parse the text after the =; None if its quotes do not close."""
    if text[:1] == "'":
        inner, closed, rest = text[1:].partition("'")
        return inner if closed and _is_over(rest) else None
    if text[:1] == '"':
        return _double(text[1:])
    return re.split(r"\s#", f" {text}", maxsplit=1)[0].strip()


def _double(text: str) -> str | None:
    characters: list[str] = []
    rest = iter(text)
    for character in rest:
        if character == '"':
            return "".join(characters) if _is_over("".join(rest)) else None
        if character == "\\":
            following = next(rest, "")
            characters.append(_ESCAPES.get(following, following if following in '"\\$`' else f"\\{following}"))
        else:
            characters.append(character)
    return None


def _is_over(rest: str) -> bool:
    return not rest.strip() or rest.strip().startswith("#")
