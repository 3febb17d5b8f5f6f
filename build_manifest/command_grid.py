"""Make a spec of a command with lists of values: `python train.py --lr 1e-3,1e-2 --seed 0..4` is a grid of ten jobs.
Pure.

A list is a word, or what follows `=` in one, with commas between its values or a range: `0..4`, `range(5)`. It has the
name of its option. Any other word is passed as it is; `{lr}` in it stands for the value of the list `lr`.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Sequence

from build_manifest.faults import Fault, SpecErrors
from build_manifest.names import KEY, RESERVED
from build_manifest.ranges import RangeError, TooMany, from_text
from build_manifest.shell import bare
from build_manifest.written_spec import (
    EACH_ID,
    JobOptions,
    WrittenSpec,
    job_lines,
    literal,
    phase_name,
    quoted,
    templated,
    value,
)

NAME = "this command"
"""What messages call it."""
_OPTION = re.compile(r"-{1,2}[A-Za-z][\w.-]*")
_ASSIGNED = re.compile(r"(-{1,2}[A-Za-z][\w.-]*=|[+~]{0,2}[A-Za-z_][\w.@/-]*=)(.*)", re.DOTALL)
_DOTS = re.compile(r"-?[0-9]+\.\.-?[0-9]+(?:\.\.-?[0-9]+)?")
_COMMA = re.compile(r"(?<!\\),")
_NO_VALUE = re.compile(r"[\s\[\]{}()'\"]")
_OPERATORS = re.compile(r"[;&|<>()`\n$]")
_PLACE = re.compile(r"(?<!\$)\{([A-Za-z_][\w.-]*)\}")


def spec(words: Sequence[str], options: JobOptions, project: str) -> WrittenSpec:
    """Make the spec of a command, given word by word as a program is started. Raises SpecErrors."""
    words = _words(words)
    axes: dict[str, list[str]] = {}
    parts: list[tuple[str, str | None]] = []  # what stands before, and the list or None for a word as it is
    option = None
    for number, word in enumerate(words):
        _check_quotes(word)
        assigned = _ASSIGNED.fullmatch(word)
        before, text = (assigned[1], assigned[2]) if assigned else ("", word)
        found = None if number == 0 or _OPTION.fullmatch(word) else _listed(text, before or option or "", word)
        if found is None:
            parts.append((_as_it_is(before, text, word), None))
        else:
            key = _key(before.rstrip("=") or option, axes)
            axes[key] = found
            parts.append((before, key))
        option = word if _OPTION.fullmatch(word) else None
    command = " ".join(_quoted(text, axes) if key is None else f"{text}${{{key}}}" for text, key in parts)
    template = {"cmd": quoted(command), **job_lines(options, axes)}
    return templated(project, phase_name(words), ("grid", axes), template, f"wavequeue run -- {shlex.join(words)}")


def _words(words: Sequence[str]) -> list[str]:
    """Split a command into words; one given as a single text only if it is plain."""
    if len(words) != 1 or not re.search(r"\s", words[0].strip()):
        return list(words)
    try:
        plain = not _OPERATORS.search(bare(words[0]))
        found = shlex.split(words[0])
    except ValueError as error:
        raise _error(f"{words[0]!r} cannot be read: {error}", "close the quote") from None
    if not plain:
        what = f"{words[0]!r} is one text with operators of the shell"
        raise _error(what, f"write: bash -c {shlex.quote(words[0])}; or put it into a file, a line for each job")
    return found


def _check_quotes(word: str) -> None:
    """Raises SpecErrors where quotes make one word of an option and its list, or of all of a command."""
    parts = word.split()
    for option, text in itertools.pairwise(parts):
        assigned = _ASSIGNED.fullmatch(text)
        listed = assigned[2] if assigned else text if _OPTION.fullmatch(option) else ""
        items = _COMMA.split(listed)
        if (len(items) > 1 and all(items) and not _NO_VALUE.search(listed)) or _DOTS.fullmatch(listed):
            once = listed.replace(",", "\\,") if len(items) > 1 else listed.replace("..", "\\..", 1)
            what = f"the quotes make {shlex.quote(word)} one word, and the list in it makes no jobs"
            way = "give it a line for each value in a file of commands" if _OPERATORS.search(word) else "leave them out"
            raise _error(what, f"{way}; for no list write {once}")


def _listed(text: str, name: str, word: str) -> list[str] | None:
    """Return the values of a list, as YAML has them; None if the text is one value. Raises SpecErrors."""
    items = _COMMA.split(text)
    if len(items) > 1 and (_NO_VALUE.search(text) or "" in items):
        shown = f"{name} {shlex.quote(text)}" if name and not name.endswith("=") else shlex.quote(word)
        once = text.replace("\\,", ",").replace(",", "\\,")
        one = f"{name} {shlex.quote(once)}" if not name.endswith("=") else shlex.quote(name + once)
        what = f"{shown} could be one value that has a comma, or a list of values"
        hint = f"for one value write a backslash before each comma: {one.strip()}"
        raise _error(what, f"{hint}; for a list write its values without spaces, quotes and brackets: a,b,c")
    try:
        made = [from_text(item) for item in items]
    except TooMany as error:
        raise _error(f"{text!r} has too many values", str(error)) from None
    except RangeError:
        hint = "write 0..4 or 0..10..2, in whole numbers, or the values themselves: 0.1,0.2,0.3"
        raise _error(f"{text!r} looks like a range but is not one", hint) from None
    if len(items) == 1 and made[0] is None:
        return None
    return [item if ranged is not None else value(_one(item)) for item, ranged in zip(items, made)]


def _one(text: str) -> str:
    """Remove the backslashes that kept a value in one."""
    return re.sub(r"\\(,|\.\.)", r"\1", text)


def _as_it_is(before: str, text: str, word: str) -> str:
    return before + _one(text) if before else _one(word)


def _key(option: str | None, taken: dict[str, list[str]]) -> str:
    """Name a list: by its option, else by its place."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", (option or "").lstrip("-+~")).strip("._-")
    if not KEY.fullmatch(name):
        name = f"arg{sum(key.startswith('arg') for key in taken) + 1}"
    if name in (*RESERVED, EACH_ID):
        name += "_"
    number = 2
    first = name
    while name in taken:
        name, number = f"{first}_{number}", number + 1
    return name


def _quoted(word: str, axes: dict[str, list[str]]) -> str:
    """Quote a word for bash, with `{name}` of a list or of the id as a spec writes it."""
    parts, at = [], 0
    for match in _PLACE.finditer(word):
        if match[1] in axes or match[1] == EACH_ID:
            parts += [word[at : match.start()], f"${{{match[1]}}}"]
            at = match.end()
    parts.append(word[at:])
    quoted_parts = [literal(shlex.quote(part)) if n % 2 == 0 and part else part for n, part in enumerate(parts)]
    return "".join(quoted_parts) or "''"


def _error(what: str, instead: str) -> SpecErrors:
    return SpecErrors([Fault(NAME, 0, 0, what, instead)])
