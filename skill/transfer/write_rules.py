"""Decide what a pull may write on this machine, by what the spec declares and what exists here, never by a host. Pure.

A host sends a name and bytes. Whether they may be put here is asked in two halves: by what the file is declared
(`Rules.claim`), and whether that is enough for what lies at its place (`Rules.fault`, with the facts of
skill/transfer/write_gate.py). Names are compared without case, as some file systems do.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from queue_manager.core.outputs import is_glob, shown
from queue_manager.core.transfer_protocol import asked_for
from skill.common.project import SETTINGS

AHEAD_NS = 600_000_000_000
"""Nanoseconds that a file's time may be ahead of this machine's clock; clocks differ a little."""
_ESCAPED = re.compile(r"\[[*?\[$~]\]")
_SHORT_GIT = "git~1"
"""How Windows file systems also call .git."""
_PROGRAM = re.compile(
    r".*(\.(py[cdow]?|sh|bash|zsh|fish|csh|ksh|pl|rb|lua|php|ps1|psm1|bat|cmd|vbs|exe|com|msi|scr|dll|dylib|command"
    r"|desktop|appimage|jar|mk|whl|egg)|\.so(\.\d+)*)",
    re.DOTALL,
)
_RUN_BY_TOOLS = frozenset({
    "makefile", "gnumakefile", "bsdmakefile", "dockerfile", "containerfile", "jenkinsfile", "vagrantfile", "rakefile",
    "gemfile", "justfile", "snakefile", "procfile", "cmakelists.txt", "package.json", "pyproject.toml", "setup.cfg",
    "tox.ini", "pytest.ini", "autorun.inf", SETTINGS,
})  # fmt: skip
"""Files that a tool of a developer obeys just because they are there, in lower case."""
_MAGIC = (b"#!", b"\x7fELF", b"MZ\x90", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
"""How programs begin: scripts, and those of Linux, Windows, macOS and Java."""
HEAD = 4
"""Bytes of a file that `is_program_text` wants to see."""
_UNSPELT = (
    "and is pulled only where expected_output or pull: gives its full name; do that in the next run, or copy it "
    "with scp"
)
_MOVE = "move the local file away, and pull again"


class Claim(NamedTuple):
    """By what a file is declared. `job`: by the expected_output of a job that the host was given, not by `pull:`;
    `is_spelt`: with its full name."""

    pattern: str
    job: bool
    is_spelt: bool


class Writer(NamedTuple):
    """Which host's file lies at a place. `job`: its job had declared it; `firm`: no job was taken away from that host,
    so that nobody else may have to write the same again."""

    host: str
    job: bool
    firm: bool


class Facts(NamedTuple):
    """What is at a place on this machine. `is_here`: something lies there; `twin`: what else lies there on a disk that
    does not know case; `git_refuses`: why git does not say what it tracks."""

    is_tracked: bool = False
    is_here: bool = False
    twin: str | None = None
    writer: Writer | None = None
    git_refuses: str | None = None


class Rules:
    """What one host may write."""

    program_fault = f"is a program, {_UNSPELT}"

    def __init__(
        self,
        host: str,
        patterns: Sequence[str],
        declared: int,
        others: Mapping[str, Iterable[str]],
        never: Iterable[str],
    ) -> None:
        """`patterns`: paths and globs that are asked of the host, those from index `declared` on of no job; `others`:
        what jobs of other hosts write, by host; `never`: names that are never pulled."""
        self._host, self._patterns, self._declared = host, patterns, declared
        self._spelt: dict[str, int] = {}
        for index, pattern in enumerate(patterns):
            if (name := spelt_out(pattern)) is not None:
                self._spelt.setdefault(name, index)
        self._never = {*map(fold, never), _SHORT_GIT}
        self._others: dict[str, str] = {}
        self._globs: dict[str, list[tuple[str, str]]] = {}
        for name, theirs in others.items():
            for pattern in theirs:
                if (file := spelt_out(pattern)) is not None:
                    self._others.setdefault(fold(file), name)
                else:
                    self._globs.setdefault(_literal_folder(pattern), []).append((pattern, name))

    def claim(self, name: str, by: int) -> Claim | None:
        """By what a file is declared that the host says it found by the pattern of index `by`; None: by nothing."""
        index = self._spelt.get(name)
        if index is not None:
            return Claim(self._patterns[index], index < self._declared, is_spelt=True)
        if not 0 <= by < len(self._patterns) or not asked_for(self._patterns[by], name):
            return None
        return Claim(self._patterns[by], by < self._declared, is_spelt=False)

    def fault(self, name: str, claim: Claim, facts: Facts, place: str | None = None) -> str | None:
        """Why a file of this name is not taken, and how to go on; None if it is. `place`: its name with all links here
        followed, where that is another."""
        parts = {*fold(name).split("/"), *fold(place or name).split("/")}
        if not self._never.isdisjoint(parts):
            return "has a name that is never pulled"
        return self._name_fault(name, claim) or self._owner_fault(name, claim, facts) or _place_fault(claim, facts)

    def _name_fault(self, name: str, claim: Claim) -> str | None:
        if claim.is_spelt:
            return None
        if not _dots_are_spelt(name, claim.pattern):
            return f"is hidden, {_UNSPELT}"
        return self.program_fault if is_program(name) else None

    def _owner_fault(self, name: str, claim: Claim, facts: Facts) -> str | None:
        """Whose file it is, where that is another host's."""
        writer = facts.writer
        if writer is not None and writer.host != self._host and writer.firm and (writer.job or not claim.job):
            is_another = facts.is_here or (facts.twin is not None and not claim.is_spelt)
            if is_another:
                return f"came from {writer.host}, and no other host replaces it; to take this one, {_MOVE}"
        if claim.job and claim.is_spelt:
            return None
        owner = self._owner_by_name(name) or (None if claim.job else self._owner_by_glob(name))
        return None if owner is None else f"is written by a job on {owner}, and is pulled only from there"

    def _owner_by_name(self, name: str) -> str | None:
        """Find the host whose job spells out this file, or a directory that it is in."""
        folded = fold(name)
        ends = [at for at, char in enumerate(folded) if char == "/"]
        return next((self._others[folded[:at]] for at in [*ends, len(folded)] if folded[:at] in self._others), None)

    def _owner_by_glob(self, name: str) -> str | None:
        folder = ""
        for part in ["", *name.split("/")[:-1]]:
            folder = f"{folder}/{part}" if folder else part
            for pattern, owner in self._globs.get(folder, ()):
                if asked_for(pattern, name):
                    return owner
        return None


def _place_fault(claim: Claim, facts: Facts) -> str | None:
    """Say why nothing of a host may replace what is there; None if something may."""
    if claim.is_spelt:
        return None
    if facts.git_refuses is not None:
        return f"may be tracked by git here: {facts.git_refuses}"
    if facts.is_tracked:
        return f"is tracked by git here, {_UNSPELT}"
    if facts.writer is not None:
        return None
    if facts.is_here:
        return f"existed here before and is not from this run; to get the host's file, {_MOVE}"
    if facts.twin is not None:
        return f"differs only in case from {facts.twin}, which existed here before; to get it, {_MOVE}"
    return None


def fold(name: str) -> str:
    """A name as the most careless file system compares it: without case, signs that are not seen, and what Windows
    leaves out at the end."""
    if not name.isascii():
        name = "".join(char for char in unicodedata.normalize("NFKC", name) if unicodedata.category(char) != "Cf")
        name = unicodedata.normalize("NFKC", name.casefold())
    name = name.casefold()
    if ". " in name or " /" in name or "./" in name or name.endswith((" ", ".")):
        name = "/".join(part.rstrip(". ") or part for part in name.split("/"))
    return name


def is_program(name: str) -> bool:
    """Tell whether a shell, an interpreter or a tool would run or obey a file of this name."""
    last = fold(name).rpartition("/")[2]
    return last in _RUN_BY_TOOLS or _PROGRAM.fullmatch(last) is not None


def is_program_text(head: bytes) -> bool:
    """Tell whether a file that begins like this is a program, whatever its name."""
    return head.startswith(_MAGIC)


def _dots_are_spelt(name: str, pattern: str) -> bool:
    """Tell whether the pattern spells out each hidden part of a name, at the same place."""
    if "/." not in name and not name.startswith("."):
        return True
    wanted = pattern.split("/")
    firm = wanted.index("**") if "**" in wanted else len(wanted)
    return all(
        not part.startswith(".") or (at < firm and at < len(wanted) and wanted[at] == part)
        for at, part in enumerate(name.split("/"))
    )


def spelt_out(pattern: str) -> str | None:
    """Return the one name that a pattern spells out, if it does; glob characters in it may be escaped."""
    return None if is_glob(_ESCAPED.sub("", pattern)) else shown(pattern)


def _literal_folder(pattern: str) -> str:
    """Return the directory that a glob searches, as far as it is spelt out."""
    parts = pattern.split("/")
    at = next(n for n, part in enumerate(parts) if is_glob(part))
    return "/".join(parts[:at])
