"""The state of a run on hosts for as long as it is watched: a thread asks each host, so that one that hangs holds up
nobody, and least of all the view."""

from __future__ import annotations

import threading
import time

from skill.common.ctrl_c import ctrl_c_held
from skill.runs import digest, remote
from skill.runs.digest import Digest, Row
from skill.runs.directory import Document
from skill.runs.remote import RemoteRun

EVERY = 2.0
"""Seconds between looks at a host, at least."""
_COST = 5
"""A host is looked at again only after so many times the time that looking took."""
_RARELY = 30.0
"""Seconds between looks, at most."""
_FIRST = 3.0
"""Seconds that the first view waits for all hosts to answer."""
_AGES = 1.0
"""Seconds after which the view is made anew though nothing was read: ages grow."""


class WatchedHosts:
    """What `view.follow` shows of a run on hosts. The threads end with `close`, or with the process.

    `busy`: somebody here is about to make it go on, so that it is not over.
    """

    busy = False

    def __init__(self, there: RemoteRun) -> None:
        self._there, self.run = there, there.run
        self._news, self._stop = threading.Event(), threading.Event()
        self._fault: BaseException | None = None
        self._not_before = self._made_at = 0.0
        begun = time.monotonic()
        firsts = {name: self._begin(name) for name in there.names}
        for first in firsts.values():
            first.wait(max(0.0, begun + _FIRST - time.monotonic()))
        for name in there.names:
            if name not in there.looks:
                there.recall(name, "it has not answered yet")
        self.document: Document = there.document()
        self.digest: Digest = digest.digest(self.document)

    def _begin(self, name: str) -> threading.Event:
        """Look at a host again and again; the event says that it has been done once."""
        first = threading.Event()
        with ctrl_c_held():  # threads inherit that: Ctrl-C is for the one that draws
            threading.Thread(target=self._follow, args=(name, first), daemon=True).start()
        return first

    def _follow(self, name: str, first: threading.Event) -> None:
        try:
            while not self._stop.is_set():
                begin = time.monotonic()
                look = self._there.look_at(name)
                took = time.monotonic() - begin
                first.set()
                self._news.set()
                self._stop.wait(EVERY if look.reason is not None else max(EVERY, min(_RARELY, _COST * took)))
        except BaseException as error:  # raised by `look`, in the thread that shows it
            self._fault = error
            first.set()

    def close(self) -> None:
        """Ask no more."""
        self._stop.set()

    @property
    def alive(self) -> bool:
        """What has died is told host by host."""
        return True

    def look(self, *, at_once: bool = False) -> bool:
        """Bring it up to date with what the threads have read. Returns whether the document is a new one."""
        if self._fault is not None:
            raise self._fault
        begin = time.monotonic()
        due = self._news.is_set() or begin - self._made_at > _AGES
        if not at_once and (not due or begin < self._not_before):
            return False
        self._news.clear()
        known = set(self._there.names)
        self._there.refresh()
        for name in self._there.names:
            if name not in known:
                self._begin(name)
        self.document = self._there.document()
        self.digest = digest.digest(self.document)
        self._made_at = time.monotonic()
        self._not_before = self._made_at + _COST * (self._made_at - begin)
        return True

    @property
    def over(self) -> bool:
        """Whether nothing more will happen by itself. Of a host that is not reached that is not known."""
        return not self.busy and not remote.alive(self.document)

    def tail(self, row: Row) -> str:
        """The last line in the log of a running job."""
        return self._there.tail(row)
