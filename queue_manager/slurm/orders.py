"""What the manager tells the pilots of a pool, by files in a directory that all of them list.

`ATTEMPT.run` offers an attempt, `ATTEMPT.TERM` and `ATTEMPT.KILL` say that it is to end, `@end` that a pilot without an
attempt may end. All may be written again, and be seen late: the claim of an attempt decides who runs it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Union

from queue_manager.adapters.files import make_directory, write_whole
from queue_manager.core.readings import Unreadable
from queue_manager.slurm.packing import Offer

_RUN = ".run"
SIGNALS = ("TERM", "KILL")
_END = "@end"


class Seen(NamedTuple):
    """One look at the directory: names of attempts that are offered, and of those to be sent each of SIGNALS."""

    offered: frozenset[str]
    signals: Mapping[str, frozenset[str]]
    end: bool


class Gone(NamedTuple):
    """There is no such directory: the run was deleted."""


Look = Union[Seen, Gone, Unreadable]


class Orders:
    """The directory of one pool. Only the manager changes it; its methods that do raise OSError."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def make(self) -> None:
        """Make the directory, where there is none."""
        make_directory(self.directory.parent)
        make_directory(self.directory)

    def look(self) -> Look:
        """List the directory: over NFS that shows what is new at once, other than looks for a name."""
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return Gone()
        except OSError as error:
            return Unreadable(f"{self.directory}: {error.strerror}")
        signals = {number: _with(names, f".{number}") for number in SIGNALS}
        return Seen(_with(names, _RUN), signals, _END in names)

    def read(self, attempt: str) -> Offer | None:
        """Return an offer; None where it was taken back, or cannot be read."""
        try:
            row = json.loads((self.directory / (attempt + _RUN)).read_text(encoding="utf-8"))
            rank = (int(row["rank"][0]), int(row["rank"][1]))
            return Offer(attempt, row["job"], row["tag"], row["mib"], row["after_oom"], row["limit"], rank)
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            return None

    def offer(self, offer: Offer) -> None:
        """Offer an attempt to all pilots."""
        self.take_back(_END)
        row = {name: value for name, value in offer._asdict().items() if name != "attempt"}
        self._write(offer.attempt + _RUN, json.dumps(row))

    def stop(self, attempt: str, kill: bool) -> None:
        """Have an attempt that runs asked to end, or ended."""
        self._write(f"{attempt}.{SIGNALS[kill]}", "")

    def end(self) -> None:
        """Let pilots end at once that have nothing to do."""
        self._write(_END, "")

    def withdraw(self, attempt: str) -> None:
        """Offer an attempt no longer: it has begun, or was taken back."""
        self.take_back(attempt + _RUN)

    def forget(self, attempt: str) -> None:
        """Remove all about an attempt."""
        self.withdraw(attempt)
        for number in SIGNALS:
            self.take_back(f"{attempt}.{number}")

    def take_back(self, name: str) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(OSError):
            (self.directory / name).unlink()

    def _write(self, name: str, text: str) -> None:
        write_whole(self.directory / name, [text.encode()], durable=False)


def _with(names: Iterable[str], suffix: str) -> frozenset[str]:
    return frozenset(name[: -len(suffix)] for name in names if name.endswith(suffix))
