"""Read the GPUs of this host that jobs may see, without waiting for a driver that hangs."""

from __future__ import annotations

import glob
import os
import queue
import re
import sys
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from queue_manager.core.readings import SLICES, Card, Cards, SickCard, Unreadable, listed_names

if TYPE_CHECKING:
    from queue_manager.adapters.nvml import Session

LIMIT = 10.0
"""Seconds that NVML gets for an answer."""
RELOOK = 60.0
"""Seconds between two reads of what costs more or rarely changes: error counters, GPUs that do not answer."""

_UUIDS = ("GPU-", "MIG-")
_LIBRARY = "libnvidia-ml.so.1"


class Nvml:
    """Reads the GPUs that the environment's CUDA_VISIBLE_DEVICES lets jobs see.

    NVML is called in its own thread, so that a call that hangs does not hang the manager. `limit`: seconds for an
    answer; `relook`: see RELOOK.
    """

    def __init__(
        self, environment: Mapping[str, str] = os.environ, limit: float = LIMIT, relook: float = RELOOK
    ) -> None:
        self._visible = environment.get("CUDA_VISIBLE_DEVICES")
        self._limit = limit
        self._relook = relook
        self._session: Session | None = None
        self._questions: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Cards | Unreadable] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._asked = 0.0
        self._hangs = False

    def read(self) -> Cards | Unreadable:
        """Return a reading of the GPUs. Never raises.

        Without NVIDIA's library there are certainly no GPUs. Every other fault is Unreadable, or makes one GPU sick,
        and the next read tries again. While an earlier call hangs, the answer comes at once.
        """
        if self._hangs:
            try:
                self._answers.get_nowait()
            except queue.Empty:
                return Unreadable(f"NVML has not answered for {time.monotonic() - self._asked:.0f} s")
            self._hangs = False
        if self._thread is None:
            thread = threading.Thread(target=self._serve, name="nvml", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # no room for a thread
                return Unreadable(f"NVML could not be asked: {error}")
            self._thread = thread
        self._asked = time.monotonic()
        self._questions.put(None)
        try:
            found = self._answers.get(timeout=self._limit)
        except queue.Empty:
            self._hangs = True
            return Unreadable(f"NVML did not answer within {self._limit:g} s")
        return found if isinstance(found, Unreadable) else visible(found, self._visible)

    def _serve(self) -> None:
        while True:
            self._questions.get()
            try:
                answer = self._ask()
            except Exception as error:  # whatever a broken driver brings up, the manager goes on
                answer = Unreadable(f"NVML returned invalid data: {error!r}")
            self._answers.put(answer)

    def _ask(self) -> Cards | Unreadable:
        if self._session is None:
            found = without_library()
            if found is not None:
                return found
            try:
                from queue_manager.adapters import nvml  # as long as a third of all other imports of a manager
            except ImportError as error:  # a host may be asked before the libraries are there
                return Unreadable(f"{sys.executable} has no nvidia-ml-py: {error}")
            self._session = nvml.Session(self._relook)
        return self._session.read()


def visible(found: Cards, value: str | None) -> Cards:
    """What is left of the cards where CUDA_VISIBLE_DEVICES has this value (None: it is not set).

    As CUDA reads it: a list of indices and uuids, which may be cut short where they stay unique; it ends at the first
    entry that names no card, and a card named twice hides all. An index counts in PCI order, as NVML does and as jobs
    are asked to (CUDA_DEVICE_ORDER=PCI_BUS_ID): CUDA's own order, fastest first, cannot be known from here.
    https://docs.nvidia.com/cuda/cuda-programming-guide/05-appendices/environment-variables.html
    """
    every: list[Card | SickCard] = [*found.cards, *found.sick]
    listed = {card.index: card.uuid for card in every}
    if value is None or not listed:
        return found
    shown: set[int] = set()
    remark = ""
    for entry in (part.strip() for part in value.split(",")):
        if re.fullmatch(r"[0-9]{1,9}", entry):
            # By the index of a card that is divided, all of its slices are meant: which of them, nobody can say.
            named = [index for index in listed if int(entry) in (index, index // SLICES - 1)]
            is_one = bool(named)
        else:
            named = [index for index, uuid in listed.items() if entry[:4] in _UUIDS and uuid.startswith(entry)]
            is_one = len(named) == 1
        if not is_one:
            remark = _why_none(entry, len(named))
            break
        if shown.intersection(named):
            remark, shown = f"; it names GPU {named[0]} twice", set()
            break
        shown.update(named)
    hidden = [str(index) for index in sorted(listed) if index not in shown]
    note = f"CUDA_VISIBLE_DEVICES={value or repr(value)} hides {listed_names(hidden)}{remark}" if hidden else ""
    return Cards(
        tuple(card for card in found.cards if card.index in shown),
        tuple(card for card in found.sick if card.index in shown),
        "; ".join(filter(None, (found.note, note))),
    )


def _why_none(entry: str, matches: int) -> str:
    if matches:
        return f"; {entry} matches {matches} uuids"
    if entry.startswith("MIG-GPU-"):
        return f"; {entry} uses the MIG format of drivers before 470: use the slice's own uuid, see nvidia-smi -L"
    # These are how one says "none".
    return "" if entry in ("", "-1", "none", "void", "NoDevFiles") else f"; {entry} names no GPU here"


def without_library() -> Cards | Unreadable | None:
    """What is known of the cards where NVIDIA's library cannot be loaded; None where it can. (pynvml says that there
    is none whenever it cannot load it; only one that is not there means no cards.)"""
    import ctypes  # a command that asks for no GPUs needs none

    try:
        ctypes.CDLL(_LIBRARY)
    except OSError as fault:
        if not str(fault).startswith(f"{_LIBRARY}: cannot open shared object file: No such file"):
            return Unreadable(f"NVIDIA's library cannot be loaded: {fault}")
        if any(glob.iglob("/dev/nvidia[0-9]*")):
            return Unreadable(
                f"there are NVIDIA devices, but {_LIBRARY} was not found; a container needs "
                "NVIDIA_DRIVER_CAPABILITIES=compute,utility"
            )
        return Cards((), (), f"no NVIDIA driver here ({_LIBRARY} not found)")
    return None
