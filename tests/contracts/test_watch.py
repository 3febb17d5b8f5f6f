"""How attempts are looked at: what a scan of the processes may be used for."""

from __future__ import annotations

import time
from typing import Any, cast

from queue_manager.core.events import Proc
from queue_manager.core.layout import tag
from queue_manager.watch import _Look


class _Scan:
    """Processes that come between one scan and the next."""

    def __init__(self, *scans: dict[str, list[Proc]]) -> None:
        self._left = list(scans)

    def tagged(self) -> dict[str, list[Proc]]:
        return self._left.pop(0)


def test_what_a_command_began_at_its_end_is_looked_for_after_it() -> None:
    """One scan serves all attempts, but none of which the command ended after it: that may have begun more."""
    late = Proc(7, 7)
    scan = _Scan({}, {tag("run", "b", 1): [late]})
    look = _Look("run", cast(Any, scan), cast(Any, None))
    over = time.monotonic()
    assert look.procs("a", 1, after=over) == []
    assert look.procs("b", 1, after=over) == []
    assert look.procs("b", 1, after=time.monotonic() + 1.0) == [late]
    assert look.procs("b", 1) == [late]
