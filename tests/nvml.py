"""A host's cards for tests: a C stand-in for NVIDIA's library, which the real pynvml loads, and a world for it to tell.

A test makes a Standin, gives its `env` to the processes that are to see these cards, and changes them as it goes. Jobs
take memory with the lines that `alloc` gives; it is free again when they have ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tests import shared_folder

SOURCE = Path(__file__).parent / "native" / "nvml_standin.c"

# Return codes of NVML, as nvml.h numbers them.
NOT_SUPPORTED = 3
NO_PERMISSION = 4
DRIVER_NOT_LOADED = 9
TIMEOUT = 10
FUNCTION_NOT_FOUND = 13
GPU_IS_LOST = 15
VERSION_MISMATCH = 18
UNKNOWN = 999


class StandinCard(NamedTuple):
    """One card: `base_mib` is used by nobody that a test knows, `reserved_mib` by the driver; `util` None: not told."""

    uuid: str
    name: str = "NVIDIA Stand-in"
    total_mib: int = 24576
    base_mib: float = 3
    util: int | None = 0
    reserved_mib: int = 0


def cards(count: int, total_mib: int = 24576) -> list[StandinCard]:
    """So many idle cards, whose uuids end in their index."""
    return [StandinCard(f"GPU-{index:08x}-0000-0000-0000-{index:012d}", total_mib=total_mib) for index in range(count)]


@functools.cache
def built() -> Path:
    """Directory with the stand-in and the program `alloc`, which whichever worker needs them first compiles."""
    directory = shared_folder.path() / "nvml"
    directory.mkdir(exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / "alloc").exists():
            _compile(directory)
    return directory


def _compile(directory: Path) -> None:
    for arguments in (["-shared", "-fPIC", "-o", "libnvidia-ml.so.1"], ["-DALLOC", "-o", "alloc"]):
        command = ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", *arguments, str(SOURCE)]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def alloc(mib: int, linger_ms: int = 0) -> str:
    """A line of bash by which a job takes memory on each of its cards, until it ends and `linger_ms` longer.

    Where a card has too little left, the job says so as PyTorch does, and dies with exit code 1.
    """
    return f'"$WQ_NVML_ALLOC" {mib} {linger_ms} || exit $?'


class Standin:
    """The cards of one host. Every method shows at the next call of the library, in every process."""

    def __init__(self, root: Path, cards: Iterable[StandinCard]) -> None:
        self.world = root / "nvml"
        (self.world / "alloc").mkdir(parents=True)
        self.set_cards(cards)

    @property
    def env(self) -> dict[str, str]:
        """What a process needs in its environment to see these cards."""
        path = os.environ.get("LD_LIBRARY_PATH")
        return {
            "WQ_NVML_DIR": str(self.world),
            "WQ_NVML_ALLOC": str(built() / "alloc"),
            "LD_LIBRARY_PATH": f"{built()}:{path}" if path else str(built()),
        }

    def set_cards(self, cards: Iterable[StandinCard]) -> None:
        """Change the cards. As with the real library, a process that is running sees their number only as it was."""
        rows = [
            (
                card.uuid,
                card.name,
                card.total_mib,
                card.base_mib,
                "-" if card.util is None else card.util,
                card.reserved_mib,
            )
            for card in cards
        ]
        self._write("cards", ["|".join(map(str, row)) for row in rows])

    def divide(self, slices: Mapping[int, Iterable[StandinCard]], whole: Iterable[StandinCard]) -> None:
        """Divide cards (by index) into slices, as MIG does; `whole` are all cards. A card may have none."""
        lines = list(whole)
        rows = []
        for card, parts in slices.items():
            mine = list(parts)
            rows += [f"{card} {len(lines) + n}" for n in range(len(mine))] or [f"{card} -1"]
            lines += mine
        self._write("mig", rows)
        self.set_cards(lines)

    def fail(self, code: int, function: str | None = None, card: int | None = None) -> None:
        """Let calls end with this code: all, or of functions whose name begins so, or for one card. Adds to others."""
        line = f"{code} {function or '-'}" + ("" if card is None else f" {card}")
        self._write("fail", [*self._lines("fail"), line])

    def ecc(self, counts: Mapping[int, int]) -> None:
        """Volatile uncorrected memory errors by card."""
        self._write("ecc", [f"{card} {count}" for card, count in counts.items()])

    def hang(self, ms: int) -> None:
        """Let queries of memory take so long, or until `heal`."""
        self._write("hang", [str(ms)])

    def heal(self) -> None:
        """End all faults."""
        for name in ("fail", "ecc", "hang"):
            (self.world / name).unlink(missing_ok=True)

    def occupy(self, name: str, pid: int, card: int | str, mib: int, linger_ms: int = 0) -> None:
        """Let a process hold memory on a card (index or uuid), as `alloc` does for the process that calls it."""
        self._write(f"alloc/{name}", [f"{pid} {card} {mib} {linger_ms}"])

    def release(self, name: str) -> None:
        """Let that memory be free."""
        (self.world / "alloc" / name).unlink()

    @contextlib.contextmanager
    def busy(self, card: int, mib: int) -> Iterator[None]:
        """Somebody else's process holds memory on a card meanwhile."""
        name = f"busy-{card}"
        self.occupy(name, os.getpid(), card, mib)
        try:
            yield
        finally:
            self.release(name)

    def _lines(self, name: str) -> list[str]:
        path = self.world / name
        return path.read_text().splitlines() if path.exists() else []

    def _write(self, name: str, lines: list[str]) -> None:
        path = self.world / name
        hidden = path.with_name(f".{path.name}.new")
        hidden.write_text("".join(f"{line}\n" for line in lines))
        hidden.replace(path)
