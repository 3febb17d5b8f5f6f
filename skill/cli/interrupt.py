"""Ctrl-C during start-up: silent, with exit code 130, whatever is being imported."""

from __future__ import annotations

import os
import signal

from skill.common.errors import INTERRUPTED

TYPE_CHECKING = False
if TYPE_CHECKING:  # a look at hosts begins once this is imported
    from collections.abc import Callable
    from types import FrameType

_set: list[object] = []
"""Our own handlers of Ctrl-C."""


def leave_at_once(clean_up: Callable[[], object]) -> None:
    """From now on end without a word at Ctrl-C. Where it is ignored, as for what a script starts with &, it stays so.

    A KeyboardInterrupt would not do: during an import it may be printed, or lost in a callback.
    """

    def leave(_number: int, _frame: FrameType | None) -> None:
        clean_up()
        os._exit(INTERRUPTED)  # nothing has been printed or written yet

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)
        _set.append(leave)


def raise_again() -> None:
    """Undo `leave_at_once`: Ctrl-C is a KeyboardInterrupt, which a verb may take care of."""
    if signal.getsignal(signal.SIGINT) in _set:
        signal.signal(signal.SIGINT, signal.default_int_handler)
