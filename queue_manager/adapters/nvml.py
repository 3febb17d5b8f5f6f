"""NVML's own calls, and what each card says. The only importer of pynvml, which a host without NVIDIA's library spares.

NVML's list of processes is never asked for: in a container it is empty, or has the host's process ids.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import pynvml

from queue_manager.core.readings import SLICES, Card, Cards, SickCard, Unreadable, listed_names

_MIB = 2**20
# Of the whole driver, whichever card was asked for.
_DRIVER_FAULTS = (
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    pynvml.NVML_ERROR_TIMEOUT,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
)
# Of a card, board or driver that has no such thing, as against one that fails to tell of it.
_HAS_NONE = (
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_NOT_FOUND,
    pynvml.NVML_ERROR_INVALID_ARGUMENT,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
)
_NO_SECOND_VERSION = (
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    pynvml.NVML_ERROR_NOT_SUPPORTED,
)


class _Known:
    """One of the cards that NVML lists, and what does not change while it is well."""

    def __init__(self, index: int) -> None:
        self.index, self.uuid, self.name = index, "", ""
        self.handle: Any = None
        self.has_second_version = True
        self.forbidden = False
        self.ecc = 0
        self.ecc_unknown = ""
        self.slices: list[_Known] | None = None

    def open(self) -> None:
        """Get the handle. Raises NVMLError."""
        handle = pynvml.nvmlDeviceGetHandleByIndex(self.index)
        self.uuid = pynvml.nvmlDeviceGetUUID(handle)
        self.name = _optional(pynvml.nvmlDeviceGetName, handle) or "a GPU without a name"
        self._count_errors(handle)
        self.slices = _slices(self, handle)
        self.handle = handle

    def look_again(self) -> None:
        """See what changes seldom. What fails to tell is opened anew by the next read, which says why."""
        try:
            self._count_errors(self.handle)
            self.slices = _slices(self, self.handle)
        except pynvml.NVMLError as error:
            if error.value in _DRIVER_FAULTS:
                raise
            self.handle = None

    def _count_errors(self, handle: Any) -> None:
        """A counter that fails leaves the card in use, since its memory is known, and is named."""
        kind, since = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
        try:
            self.ecc, self.ecc_unknown = _if_any(pynvml.nvmlDeviceGetTotalEccErrors, handle, kind, since) or 0, ""
        except pynvml.NVMLError as error:
            if error.value in _DRIVER_FAULTS:
                raise
            self.ecc_unknown = f"it is unknown whether GPU {self.index} has memory errors (ECC): {error}"

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
                f"nvidia-smi --gpu-reset -i {self.index}, or a reboot, may fix it"
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


def _slices(card: _Known, handle: Any) -> list[_Known] | None:
    """Return the slices of a divided GPU (MIG) that this user may see; None where it is not divided. Raises NVMLError
    where that is unknown: a divided GPU is not used as a whole one."""
    mode = _if_any(pynvml.nvmlDeviceGetMigMode, handle)
    if mode is None or mode[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
        return None
    found: list[_Known] = []
    for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            part = _if_any(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, number)
        except pynvml.NVMLError as error:
            if error.value != pynvml.NVML_ERROR_NO_PERMISSION:
                raise
            continue
        if part is not None:
            found.append(_Slice(card, number, part))
    return found


class Session:
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
                    known.look_again()
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
                "MIG is enabled but there are no slices; create some with nvidia-smi mig -cgi, "
                f"or disable MIG: nvidia-smi -i {known.index} -mig 0"
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
        notes = [f"this user may not use {listed_names(forbidden)}"] if forbidden else []
        return "; ".join([*notes, *(known.ecc_unknown for known in self._known if known.ecc_unknown)])


def _why_sick(error: Any) -> str:
    if error.value == pynvml.NVML_ERROR_NOT_SUPPORTED:
        return (
            "NVML does not report its memory (Not Supported), as on boards where GPU and host share one memory: "
            "whether it is free cannot be known"
        )
    return f"it does not answer: {error}"


def _if_any(call: Any, *arguments: Any) -> Any:
    """What a card may lack, None where it does. Raises NVMLError where it fails to tell."""
    try:
        return call(*arguments)
    except pynvml.NVMLError as error:
        if error.value in _HAS_NONE:
            return None
        raise


def _optional(call: Any, *arguments: Any) -> Any:
    """What a card need not tell; None where it does not. Only its memory decides whether it can be read."""
    try:
        return call(*arguments)
    except pynvml.NVMLError:
        return None
