"""Hold Ctrl-C back while something must not be interrupted."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def ctrl_c_held() -> Iterator[set[int]]:
    """Hold Ctrl-C back; gives the signals held before. It would leave stderr redirected while rich draws."""
    usual = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield {int(held) for held in usual}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, usual)
