"""Tells people of alerts, as `notify` in the spec asks for: what is to be sent to whom, and what has been sent."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from queue_manager.adapters import commands, regular, webhook
from queue_manager.adapters.line_file import LineFile
from queue_manager.adapters.named_values import NamedValues
from queue_manager.core import notify_rules
from queue_manager.core.events import Record
from queue_manager.core.excerpt import excerpt
from queue_manager.core.layout import LOCAL_RUNS, RunPaths
from queue_manager.core.model import QueueState
from queue_manager.core.notify_book import Book
from queue_manager.core.notify_messages import AlertReader, Sending, Source, holds, payload
from queue_manager.core.notify_rules import Notify
from queue_manager.core.notify_services import Answer, body, judge, shape_of
from queue_manager.core.times import epoch, iso
from queue_manager.notify_channel import Channel, Deliver

PATIENCE, COMMAND_PATIENCE = 10.0, 60.0
"""Seconds for each step of a webhook, and for a command."""
COMMAND_TRIES = 3
"""Runs of a command for one message: it may have done half of its work each time."""
AT_END = 30.0
"""Seconds at the end of a run for alerts that have not been sent."""
_MOST = 64 << 20


class Notifier:
    """The alerts of one run. Without `notify` it does nothing. `cwd` is the run's; `wake` wakes the loop, `say` shows a
    notice of a kind, None: no longer."""

    def __init__(
        self,
        paths: RunPaths,
        state: QueueState,
        environment: Mapping[str, str],
        named: NamedValues,
        cwd: str,
        host: str,
        wake: Callable[[], None],
        say: Callable[[str, str | None], None],
    ) -> None:
        self._paths, self._state, self._environment, self._named = paths, state, environment, named
        self._cwd, self._host, self._wake, self._say = cwd, host, wake, say
        self._rules = notify_rules.notify(state.manifest.notify) or Notify(on=frozenset())
        self._reader = AlertReader()
        self._file = LineFile(paths.notified)
        self._done: SimpleQueue[tuple[str, Sequence[Sending], float]] = SimpleQueue()
        self._channels: dict[str, Channel] = {}
        self._books: dict[str, Book] = {}
        if self._rules.webhook:
            self._open("webhook", f"the webhook {self._rules.shown}", self._post)
        if self._rules.command is not None:
            self._open("command", "the command of notify", self._run, COMMAND_TRIES)

    def _open(self, to: str, name: str, deliver: Deliver, tries: int | None = None) -> None:
        self._books[to] = Book(self._rules.every, _sent(self._paths.notified, to))
        self._channels[to] = Channel(name, deliver, partial(self._report, to), tries)

    def _report(self, to: str, sending: Sequence[Sending], at: float) -> None:
        self._done.put((to, sending, at))
        self._wake()

    # -- asked by the loop ----------------------------------------------------------------------------------------

    @property
    def _fault(self) -> str | None:
        """Why a message is not sent, in words."""
        return "; ".join(one.fault for one in self._channels.values() if one.fault is not None) or None

    def catch_up(self, records: Iterable[Record]) -> None:
        """Have sent what an earlier manager had not."""
        if self._channels:
            self._file.last_seq()  # takes away half a line
            self.take(records)

    def take(self, records: Iterable[Record]) -> None:
        """Have the alerts sent that are among the events."""
        for record in records if self._channels else ():
            alert = self._reader.take(record, self._state)
            if alert is not None and alert.on in self._rules.on:
                for to, book in self._books.items():
                    sending = book.take(alert)
                    if sending is not None:
                        self._channels[to].put([sending])

    def due(self) -> float | None:
        """When `work` has something to do (epoch seconds)."""
        return min((at for book in self._books.values() if (at := book.due()) is not None), default=None)

    def work(self, now: float) -> None:
        """Write down what has been sent, and have sent again what still holds."""
        for _ in range(self._done.qsize()):
            to, sending, at = self._done.get()
            for one in sending:
                self._books[to].sent(one, at)
            self._file.add(_line(to, one, at) for one in sending)
        for to, book in self._books.items():
            self._channels[to].put(book.again(now, partial(holds, self._state)))
        self._say("notify", self._fault)

    def finish(self, halted: Callable[[], bool]) -> None:
        """At the end of the run: have the last alerts sent, for AT_END seconds at most."""
        until = time.monotonic() + AT_END
        for channel in self._channels.values():
            channel.finish(until, lambda: not halted())
        self.work(time.time())

    # -- in the threads of the channels ---------------------------------------------------------------------------

    def _source(self) -> Source:
        away = self._paths.root.parent.name != LOCAL_RUNS
        return Source(self._state.run_id, self._state.manifest.project, self._host, away)

    def _values(self, names: Sequence[str]) -> tuple[dict[str, str], Answer | None]:
        known = self._named.named(names)
        missing = next((name for name in names if name not in known), None)
        if missing is None:
            return known, None
        why = f"{missing} is set neither in .env nor in the environment: write {missing}=VALUE into .env"
        return known, Answer(why, lasting=True)

    def _post(self, sending: Sequence[Sending]) -> Answer:
        known, missing = self._values(self._rules.webhook[1::2])
        if missing is not None:
            return missing
        url = "".join(known[part] if n % 2 else part for n, part in enumerate(self._rules.webhook)).strip()
        shape = self._rules.shape or shape_of(url)
        data, headers = body(shape, sending, self._source(), time.time())
        reply = webhook.post(url, data, headers, PATIENCE)
        if reply.status is None:
            return Answer(_without(reply.body, known), later=True)
        return judge(shape, reply.status, _without(reply.body, known), reply.retry_after)

    def _run(self, sending: Sequence[Sending]) -> Answer:
        known, missing = self._values(self._rules.names)
        if missing is not None:
            return missing
        data = json.dumps(payload(sending, self._source(), time.time()), ensure_ascii=False).encode() + b"\n"
        environment, manifest = {**self._environment, **known}, self._state.manifest
        try:
            code, output = commands.feed(
                self._paths, manifest, self._state.run_id, environment, self._cwd, self._rules.command or ":", data,
                COMMAND_PATIENCE,
            )  # fmt: skip
        except OSError as error:
            code, output = None, str(error)
        else:
            how = f"killed after {COMMAND_PATIENCE:.0f} s" if code is None else f"exit code {code}"
            output = f"{how}: {excerpt(_without(output, known))}"
        return Answer() if code == 0 else Answer(output, later=True)


def _without(text: str, known: Mapping[str, str]) -> str:
    """A text without the values of variables, which may be secrets."""
    for name, value in sorted(known.items(), key=lambda one: -len(one[1])):
        if value.strip():
            text = text.replace(value.strip(), f"${{{name}}}")
    return text


def _line(to: str, one: Sending, at: float) -> str:
    return json.dumps({"to": to, "seq": one.alert.seq, "n": one.n, "at": iso(at)}) + "\n"


def _sent(path: Path, to: str) -> dict[int, tuple[int, float]]:
    """How often each alert has been sent to a recipient, and when last, by its seq."""
    found: dict[int, tuple[int, float]] = {}
    try:
        lines = regular.read_regular(path, _MOST).decode(errors="replace").split("\n")
    except OSError:
        return found
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError):  # half a line, or somebody's notes
            row = json.loads(line)
            if row["to"] == to:
                found[int(row["seq"])] = int(row["n"]), epoch(row["at"])
    return found
