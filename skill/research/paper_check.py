r"""Whether a paper says what its evidence says: its generated files, and in its own text the macros, and what stands
where one was. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from build_manifest.faults import nearest
from skill.research import macros
from skill.research.macros import Macros
from skill.research.paper import NUMBERS

_NUMBER = r"\$?\\?(?:ensuremath\{)?[-+]?(?:\d+[.,]?\d*|\.\d+)(?:[eE][-+]?\d+)?(?:\s*(?:\\pm|±)\s*[\d.]+)?\}?\$?"
_DEFINES = re.compile(rf"\\(?:(?:re)?newcommand|providecommand)\*?\s*\{{?\s*\\({macros.PREFIX}[A-Z][A-Za-z]*)"
                      rf"|\\def\s*\\({macros.PREFIX}[A-Z][A-Za-z]*)")  # fmt: skip
_COMMENT = re.compile(r"(?<!\\)%.*")
_AROUND, _ENOUGH = 40, 8
"""Characters on each side of a macro by which its place is known again, and how many do if the other side changed."""


class Fault(NamedTuple):
    """Something in a paper that is not as its evidence says. `line` from 1. `is_unknown`: it names a macro that does
    not exist, so that the paper cannot be typeset."""

    file: str
    line: int
    text: str
    is_unknown: bool = False

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


class Use(NamedTuple):
    """A place where the person's text uses a macro: what stands before and after it on its line."""

    file: str
    macro: str
    before: str
    after: str


def generated(expected: Mapping[str, str], found: Mapping[str, str | None], known: Macros) -> list[Fault]:
    """What generated files say other than the evidence. `found`: their texts as they are, None where there is none."""
    faults: list[Fault] = []
    for name, text in expected.items():
        there = found.get(name)
        if there is None:
            faults.append(Fault(name, 1, "does not exist; write it with: wavequeue research publish"))
        elif there != text:
            faults += _numbers(there, known) if name == NUMBERS else _lines(name, text, there)
    return faults


def _numbers(there: str, known: Macros) -> Iterator[Fault]:
    defined: dict[str, tuple[int, str, str]] = {}
    others: list[tuple[int, str]] = []
    for number, line in enumerate(there.splitlines(), 1):
        match = macros.DEFINITION.fullmatch(line)
        if match is None:
            others.append((number, line))
        else:
            defined[match[1]] = number, match[2], match[3]
    missing = [name for name in known.numbers if name not in defined]
    for name, (number, value, about) in defined.items():
        one = known.numbers.get(name)
        if one is None:
            close = nearest(name, missing)
            renamed = f"; it was \\{close}: keep that name" if close else "; nothing in the evidence has this name"
            yield Fault(NUMBERS, number, f"\\{name} is no number of the evidence{renamed}", is_unknown=True)
        elif value != one.value:
            runs = " ".join(one.runs)
            yield Fault(NUMBERS, number, f"\\{name} is {value}; the evidence says {one.value} (runs: {runs})")
        elif about != macros.about(one):
            yield Fault(NUMBERS, number, f"the comment about \\{name} was changed; it is: {macros.about(one).strip()}")
    for name in missing:
        one = known.numbers[name]
        yield Fault(NUMBERS, 1, f"\\{name} is missing; the evidence says {one.value} (runs: {' '.join(one.runs)})")
    for number, line in others:
        if line.strip() and not line.startswith("%"):
            yield Fault(NUMBERS, number, f"is no number of the evidence: {line[:80]}")


def _lines(name: str, expected: str, there: str) -> Iterator[Fault]:
    wanted, had = expected.splitlines(), there.splitlines()
    for number, line in enumerate(had, 1):
        should = wanted[number - 1] if number <= len(wanted) else None
        if line != should:
            typed = should is not None and _typed(should, line)
            prefix = f"{typed} was typed by hand; " if typed else ""
            yield Fault(
                name, number, f"{prefix}the evidence says: {should}" if should else f"is not of the evidence: {line}"
            )
    for number in range(len(had), len(wanted)):
        yield Fault(name, number + 1, f"is missing: {wanted[number]}")


def _typed(should: str, line: str) -> str | None:
    """The number that stands in a line where a macro was."""
    for match in macros.NAME.finditer(should):
        found = _in_place(_pattern(should[: match.start()][-_AROUND:]), _pattern(_after(should, match.end())), line)
        if found is not None:
            return found
    return None


def uses(file: str, text: str) -> list[Use]:
    """Where a person's file uses macros of ours."""
    found = []
    for line in _code(text):
        for match in macros.NAME.finditer(line):
            after = _after(line, match.end())
            found.append(Use(file, match[1], line[: match.start()][-_AROUND:], after))
    return found


def _after(line: str, end: int) -> str:
    """What follows a macro, without the braces that only end its name."""
    rest = line[end:]
    return rest.removeprefix("{}").removeprefix("\\ ")[:_AROUND]


def own_text(texts: Mapping[str, str], known: Macros, before: Sequence[Use] = ()) -> tuple[list[Fault], list[Use]]:
    """What a person's files say of the evidence that it does not: macros that there are not, or that they define, and
    numbers that stand where a macro was when the paper was last published (`before`). Also the places of these."""
    faults: list[Fault] = []
    typed: list[Use] = []
    for file, own in texts.items():
        for number, line in enumerate(_code(own), 1):
            defines = _DEFINES.search(line)
            if defines is not None:
                name = defines[1] or defines[2]
                faults.append(Fault(file, number, f"\\{name} is defined by hand; take it from \\input{{numbers}}"))
                continue
            for match in macros.NAME.finditer(line):
                if match[1] not in known.numbers:
                    close = nearest(match[1], list(known.numbers))
                    hint = f"did you mean \\{close}?" if close else "see numbers.tex for those that there are"
                    text = f"\\{match[1]} is no number of the evidence; {hint}"
                    faults.append(Fault(file, number, text, is_unknown=True))
    for file, own in texts.items():
        for fault, use in _by_hand(file, own, [use for use in before if use.file == file], known):
            faults.append(fault)
            typed.append(use)
    return sorted(faults), typed


def _by_hand(file: str, text: str, before: Sequence[Use], known: Macros) -> Iterator[tuple[Fault, Use]]:
    there = uses(file, text)
    left = list(there)
    lost = []
    for use in before:
        if use in left:
            left.remove(use)
        else:
            lost.append(use)
    lines = _code(text)
    for use in lost:
        left_of, right_of = _pattern(use.before), _pattern(use.after)
        sides = [(left_of, right_of)]
        sides += [(left_of, r"(?!\w)")] * (len(use.before.strip()) > _ENOUGH)
        sides += [(r"(?<![\w.])", right_of)] * (len(use.after.strip()) > _ENOUGH)
        for number, line in enumerate(lines, 1):
            typed = next((found for side in sides if (found := _in_place(*side, line)) is not None), None)
            if typed is not None:
                one = known.numbers.get(use.macro)
                says = f"; the evidence says {one.value} (runs: {' '.join(one.runs)})" if one else ""
                yield Fault(file, number, f"{typed} was typed by hand where \\{use.macro} was{says}"), use
                break


def _pattern(text: str) -> str:
    """What stands beside a macro, as a pattern: other macros in it may have become numbers, too."""
    parts = macros.NAME.split(text)  # names of macros are every second part
    return "".join(re.escape(part) if n % 2 == 0 else r"\S{1,60}?" for n, part in enumerate(parts))


def _in_place(before: str, after: str, line: str) -> str | None:
    found = re.search(rf"{before}\s*({_NUMBER})(?:\{{\}})?\s*{after}", line)
    return found[1] if found else None


def _code(text: str) -> list[str]:
    """Lines without their comments."""
    return [_COMMENT.sub("", line) for line in text.splitlines()]
