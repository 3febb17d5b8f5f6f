"""The cards as NVML reads them. The only importer of pynvml.

NVML's list of processes is never asked for: in a container it is empty, or has the host's process ids.
"""

from __future__ import annotations

import ctypes
import glob
import math
import os
import queue
import re
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pynvml

from queue_manager.core.readings import SLICES, Card, Cards, SickCard, Unreadable

LIMIT = 10.0
"""Seconds that NVML is given to answer."""
RELOOK = 60.0
"""Seconds between two looks at what costs more, or changes seldom: error counters, cards that do not answer."""

_UUIDS = ("GPU-", "MIG-")
_LIBRARY = "libnvidia-ml.so.1"
_MIB = 2**20
# Of the whole driver, whichever card was asked for.
_DRIVER_FAULTS = (
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    pynvml.NVML_ERROR_TIMEOUT,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
)
_NO_SECOND_VERSION = (
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    pynvml.NVML_ERROR_NOT_SUPPORTED,
)


class Nvml:
    """Reads the cards that the environment's CUDA_VISIBLE_DEVICES lets jobs see.

    NVML is called in a thread of its own, so that a call that hangs does not hang the manager. `limit`: seconds it
    is given; `relook`: see RELOOK.
    """

    def __init__(
        self, environment: Mapping[str, str] = os.environ, limit: float = LIMIT, relook: float = RELOOK
    ) -> None:
        self._visible = environment.get("CUDA_VISIBLE_DEVICES")
        self._limit = limit
        self._session = _Session(relook)
        self._questions: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Cards | Unreadable] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._asked = 0.0
        self._hangs = False

    def read(self) -> Cards | Unreadable:
        """The cards as they are now. Never raises.

        Without NVIDIA's library there are no cards, for certain. Every other fault is Unreadable, or makes one card
        sick, and the next read tries again. While an earlier call hangs, the answer comes at once.
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
                answer = self._session.read()
            except Exception as error:  # whatever a broken driver brings up, the manager goes on
                answer = Unreadable(f"NVML gave nonsense: {error!r}")
            self._answers.put(answer)


class _Known:
    """One of the cards that NVML lists, and what does not change while it is well."""

    def __init__(self, index: int) -> None:
        self.index, self.uuid, self.name = index, "", ""
        self.handle: Any = None
        self.has_second_version = True
        self.forbidden = False
        self.ecc = 0
        self.slices: list[_Known] | None = None

    def open(self) -> None:
        """Get the handle. Raises NVMLError."""
        handle = pynvml.nvmlDeviceGetHandleByIndex(self.index)
        self.uuid = pynvml.nvmlDeviceGetUUID(handle)
        self.name = _optional(pynvml.nvmlDeviceGetName, handle) or "a GPU without a name"
        self.handle = handle
        self.count_errors()
        self.slices = _slices(self)

    def count_errors(self) -> None:
        kind, since = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
        self.ecc = _optional(pynvml.nvmlDeviceGetTotalEccErrors, self.handle, kind, since) or 0

    def memory(self) -> tuple[int, int]:
        """Bytes that jobs could use in all, and bytes used. Raises NVMLError.

        What the driver keeps for itself is no part of either: on an idle A100 it is 0.9 GiB, by which a card would
        never be free (https://github.com/Cldfire/nvml-wrapper/issues/57). Only the second version of the call tells
        it apart; `free` means the same in all versions, `used` does not, so `free` is what is asked. Drivers too
        old for the second version (before 510) do not count their share as used.
        """
        if self.has_second_version:
            try:
                info = pynvml.nvmlDeviceGetMemoryInfo(self.handle, version=pynvml.nvmlMemory_v2)
                return info.total - info.reserved, info.total - info.reserved - info.free
            except pynvml.NVMLError as error:
                if error.value not in _NO_SECOND_VERSION:
                    raise
        info = pynvml.nvmlDeviceGetMemoryInfo(self.handle)
        self.has_second_version = False
        return info.total, info.total - info.free

    def read(self) -> Card | SickCard:
        """Raises NVMLError."""
        if self.handle is None:
            self.open()
        total, used = self.memory()
        if total <= 0:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        if self.ecc:
            return self.sick(
                f"it counts {self.ecc} uncorrected memory errors (ECC) since the driver was loaded; "
                f"nvidia-smi --gpu-reset -i {self.index}, or a reboot, may mend it"
            )
        rates = _optional(pynvml.nvmlDeviceGetUtilizationRates, self.handle)
        util = None if rates is None else rates.gpu
        return Card(self.index, self.uuid, self.name, total // _MIB, math.ceil(used / _MIB), util)

    def parts(self) -> list[_Known]:
        """What jobs may be given of it: itself, or its slices. Raises NVMLError."""
        if self.handle is None:
            self.open()
        return [self] if self.slices is None else self.slices

    def sick(self, reason: str) -> SickCard:
        return SickCard(self.index, self.uuid, self.name, reason)


class _Slice(_Known):
    """A part of a card that is divided (MIG), which is a card of its own to jobs: by its uuid, never by its index."""

    def __init__(self, card: _Known, number: int, handle: Any) -> None:
        super().__init__(SLICES * (card.index + 1) + number)
        self._card = card
        self.uuid = pynvml.nvmlDeviceGetUUID(handle)
        self.name = _optional(pynvml.nvmlDeviceGetName, handle) or f"a slice of {card.name}"
        self.handle = handle

    def read(self) -> Card | SickCard:
        self.ecc = self._card.ecc
        return super().read()


def _slices(card: _Known) -> list[_Known] | None:
    """The parts of a card that is divided (MIG), those of them that this user may see; None where it is whole."""
    mode = _optional(pynvml.nvmlDeviceGetMigMode, card.handle)
    if mode is None or mode[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
        return None
    found: list[_Known] = []
    for number in range(_optional(pynvml.nvmlDeviceGetMaxMigDeviceCount, card.handle) or 0):
        handle = _optional(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, card.handle, number)
        if handle is not None:
            found.append(_Slice(card, number, handle))
    return found


class _Session:
    """NVML from its start to its first fault, and then the next."""

    def __init__(self, relook: float) -> None:
        self._relook = relook
        self._known: list[_Known] = []
        self._is_open = self._has_sick = False
        self._relook_at = 0.0

    def read(self) -> Cards | Unreadable:
        try:
            if time.monotonic() >= self._relook_at:
                self._look_again()
            return self._read()
        except pynvml.NVMLError as error:
            self._close()
            if error.value == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
                return _without_library(error)
            return Unreadable(f"NVML: {error}")

    def _look_again(self) -> None:
        """Start anew where a card is sick, since it may have been reset; else look at the error counters."""
        if self._has_sick:
            self._close()
        if not self._is_open:
            self._open()
        else:
            for known in self._known:
                if known.handle is not None:
                    known.count_errors()
                    known.slices = _slices(known)
        self._relook_at = time.monotonic() + self._relook

    def _open(self) -> None:
        pynvml.nvmlInit()
        self._is_open = True
        count = pynvml.nvmlDeviceGetCount()
        # Kept where the number is the same: a card whose handle cannot be had is still named by what it was.
        if count != len(self._known):
            self._known = [_Known(index) for index in range(count)]
        for known in self._known:
            known.handle, known.has_second_version, known.forbidden, known.slices = None, True, False, None

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            _optional(pynvml.nvmlShutdown)
        self._has_sick = False
        self._relook_at = 0.0

    def _read(self) -> Cards:
        cards: list[Card] = []
        sick: list[SickCard] = []
        for known in self._known:
            for one in self._read_parts(known):
                if isinstance(one, Card):
                    cards.append(one)
                else:
                    sick.append(one)
        self._has_sick = bool(sick)
        return Cards(tuple(cards), tuple(sick), self._note())

    def _read_parts(self, known: _Known) -> Iterator[Card | SickCard]:
        """A card as it is now, or each of its slices; nothing where this user may not use it."""
        if known.forbidden:
            return
        try:
            parts = known.parts()
        except pynvml.NVMLError as error:
            self._check(error)
            if error.value == pynvml.NVML_ERROR_NO_PERMISSION:
                known.forbidden = True
            else:
                yield known.sick(_why_sick(error))
            return
        if not parts:
            yield known.sick(
                "it is divided (MIG) and has no slice that jobs could be given; make some with nvidia-smi mig -cgi, "
                f"or make it whole: nvidia-smi -i {known.index} -mig 0"
            )
        for part in parts:
            try:
                yield part.read()
            except pynvml.NVMLError as error:
                self._check(error)
                yield part.sick(_why_sick(error))

    def _check(self, error: Any) -> None:
        """Raise where it is not the card but the driver that fails."""
        if error.value in _DRIVER_FAULTS:
            raise error
        pynvml.nvmlDeviceGetCount()

    def _note(self) -> str:
        if not self._known:
            return "NVML lists no GPUs on this host"
        forbidden = [str(known.index) for known in self._known if known.forbidden]
        return f"this user may not use {_cards(forbidden)}" if forbidden else ""


def visible(found: Cards, value: str | None) -> Cards:
    """What is left of the cards where CUDA_VISIBLE_DEVICES has this value (None: it is not set).

    As CUDA reads it: a list of indices and uuids, which may be cut short where they stay unique; it ends at the first
    entry that names no card, and a card named twice hides all. An index counts in PCI order, as NVML does and as jobs
    are told to (CUDA_DEVICE_ORDER=PCI_BUS_ID): CUDA's own order, fastest first, cannot be known from here.
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
    note = f"CUDA_VISIBLE_DEVICES={value or repr(value)} hides {_cards(hidden)}{remark}" if hidden else ""
    return Cards(
        tuple(card for card in found.cards if card.index in shown),
        tuple(card for card in found.sick if card.index in shown),
        "; ".join(filter(None, (found.note, note))),
    )


def _why_none(entry: str, matches: int) -> str:
    if matches:
        return f"; {entry} is the beginning of {matches} uuids"
    if entry.startswith("MIG-GPU-"):
        return f"; {entry} is a slice in the way of drivers before 470: name it by its own uuid, see nvidia-smi -L"
    # These are how one says "none".
    return "" if entry in ("", "-1", "none", "void", "NoDevFiles") else f"; {entry} names no GPU here"


def _cards(indices: list[str]) -> str:
    return f"GPU{'s' if len(indices) > 1 else ''} {', '.join(indices)}"


def _why_sick(error: Any) -> str:
    if error.value == pynvml.NVML_ERROR_NOT_SUPPORTED:
        return (
            "NVML does not tell its memory (Not Supported), as on boards where GPU and host share one memory: "
            "whether it is free cannot be known"
        )
    return f"it does not answer: {error}"


def _optional(call: Any, *arguments: Any) -> Any:
    """What a card need not tell; None where it does not. Only its memory decides whether it can be read."""
    try:
        return call(*arguments)
    except pynvml.NVMLError:
        return None


def _without_library(error: Any) -> Cards | Unreadable:
    """pynvml says that there is no library whenever it cannot load it; only one that is not there means no cards."""
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
    return Unreadable(f"NVML: {error}")
