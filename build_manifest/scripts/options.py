"""What is known of a script: its options, as a spec would pass them."""

from __future__ import annotations

import re
from typing import NamedTuple

VALUE, FLAG, WORDS = "value", "flag", "words"
"""Kinds of options: one value, none, several words."""


class Option(NamedTuple):
    """An option. `name`: without dashes; `before`: what stands before its value: `--lr `, `lr=`, nothing where it is
    given by its place. `default` and `choices` as they are typed; `default` None: none, or one that is not known;
    `kind`: see above; `type`: as the script names it, or empty; `outer`:
    it stands before the subcommand."""

    name: str
    before: str
    kind: str = VALUE
    default: str | None = None
    choices: tuple[str, ...] = ()
    required: bool = False
    type: str = ""
    help: str = ""
    outer: bool = False


class Script(NamedTuple):
    """A script. `library`: what reads its options, empty where nothing does; `command`: the words of a subcommand,
    empty where there is none; `others`: the other subcommands; `notes`: what could not be read."""

    library: str
    options: tuple[Option, ...] = ()
    command: str = ""
    others: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


_MAIN = re.compile(
    r"(?:.*[._-])?(?:train|fit|run|main|finetune|fine[-_]tune|sweep|pretrain)(?:[._-].*)?", re.IGNORECASE
)


def main_command(names: list[str]) -> str:
    """Return the subcommand that a sweep most likely runs: the first that is called so, else the first."""
    return next((name for name in names if _MAIN.fullmatch(name)), names[0])
