"""Why a job failed, read from its log: the line that says it, and its class. Pure.

A log is read as a person reads it: the last exception is the reason, or what it was raised from where that tells
more; not what is printed after it (footers, frames, the launcher's own exception) nor what the job survived earlier.
Position and kind count: an error followed by many ordinary lines was survived, words about memory in a help text are
no failure, and an exception's own type says more than the words in its message. Every pattern is anchored or bounded,
so the time is linear in the log's length.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from queue_manager.core import failures, log_lines, log_signs
from queue_manager.core.failures import SIGKILL_CODES, classify
from queue_manager.core.log_text import plain_lines

LOG_BYTES = 4 << 20
"""So much of a log's end is enough."""
_SURVIVED_EXCEPTION = 200
"""An exception with more ordinary lines behind it was caught: the job went on."""
_SURVIVED_WORDS = 40
"""The same of words outside of an exception: they are the reason only among the log's last words."""
_LAST_WORDS = 10
"""The same for a job that was killed, which says nothing about its end itself."""
_TEARDOWN = 60
"""A crash so soon behind an exception is how the process went down because of it."""
_LINES, _UNINDENTED, _CHARACTERS = 40_000, 4_000, 400_000
"""How far back a log is read, whatever stands in it: all lines, those that are no frames, and the letters of those."""
_SAME = 80
"""Letters at the end of a line by which it is the same as one that the job went on after."""
_STATES = 32
_WAIT = 40


class Reason(NamedTuple):
    """The line that says why, its class (see `failures`), and its place among the lines (`at`, from 0)."""

    name: str
    line: str
    at: int


class Reading(NamedTuple):
    """What a log says: the reason, None where it shows no failure, and its last line that is no footer."""

    reason: Reason | None
    last: str


class _Event(NamedTuple):
    """Something in a log that may be the reason. `before`: ordinary lines before it; `source`: what stands before each
    line of this process, such as `[rank0]: `; `cause`: what it was raised from, where that tells more; `bare`: the line
    of an exception without its traceback."""

    kind: str
    at: int
    before: int
    line: str
    name: str
    source: str = ""
    type: str = ""
    cause: _Event | None = None
    bare: bool = False


def read(log: bytes, code: int | None = 1) -> Reading:
    """Read the end of a log. `code`: the job's exit code, None where it is not known because all was killed."""
    lines = plain_lines(log)
    start = _start(lines)
    reader = _Reader()
    for index in range(start, len(lines)):
        reader.take(index, lines[index])
    events = reader.finish()
    found = _choose(events, reader.total, reader.root_rank, code)
    last = _short(reader.last or reader.last_of_all)
    return Reading(_not_a_number(lines, start) if found is None else _reason(found), last)


def _reason(found: _Event) -> Reason:
    root = found if found.cause is None else found.cause
    return Reason(found.name, _short(root.line), root.at)


def _not_a_number(lines: Sequence[str], start: int) -> Reason | None:
    """The line since which the loss is none: what is left where nothing else tells of a failure."""
    at = log_signs.nan_since(lines, start)
    return None if at is None else Reason("nan", _short(lines[at]), at)


def diagnose(log: bytes) -> Reading:
    """Read the end of a log whose job may have failed or not: a failure counts if the job did not go on after it."""
    lines = plain_lines(log)
    start = _start(lines)
    reader = _Reader()
    for index in range(start, len(lines)):
        reader.take(index, lines[index])
    events = reader.finish()
    last = _short(reader.last or reader.last_of_all)
    fatal = _Survival(lines, start).fatal(events, reader.total)
    found = _choose(fatal, reader.total, reader.root_rank, 1) if fatal else None
    return Reading(_not_a_number(lines, start) if found is None else _reason(found), last)


def _start(lines: Sequence[str]) -> int:
    """From which line on a log is read."""
    at, unindented, characters = len(lines), 0, 0
    end = max(0, at - _LINES)
    while at > end and unindented < _UNINDENTED and characters < _CHARACTERS:
        at -= 1
        line = lines[at]
        if line and not line[0].isspace():
            unindented += 1
            characters += len(line)
    return at


def _short(line: str) -> str:
    return failures.clean_text(line)


class _State:
    """A traceback that is being read: what stands before its lines, and whether it counts."""

    def __init__(self, prefix: str, kind: str) -> None:
        self.width, self.source, self.kind, self.waited = len(prefix), _source(prefix), kind, 0


def _source(prefix: str) -> str:
    return log_lines.CLOCK.sub("0", prefix)


class _Reader:
    """Goes through the lines once and notes what may be the reason."""

    def __init__(self) -> None:
        self.total = 0
        self.root_rank: int | None = None
        self.last = self.last_of_all = ""
        self._events: list[_Event] = []
        self._states: dict[str, _State] = {}
        self._widths: set[int] = set()
        self._mark: tuple[str, int] = ("", -10)
        self._cause: dict[str, tuple[int, bool]] = {}
        self._inside = False
        self._usage = -1000
        self._terminate = -10
        self._root = -1000
        self._more: tuple[int, int] = (-1, -1)
        self._box = -10

    def take(self, index: int, line: str) -> None:
        """Look at the next line."""
        if not line or line.isspace():
            return
        if (line[0] == "\t" or line.startswith("  ")) and not (self._inside or log_lines.INDENTED.match(line)):
            self.last_of_all = line
            return
        if self._more[1] >= 0 and index <= self._more[0] + 2:
            self._classify_more(line)
        noise = log_lines.NOISE.search(line[:200]) is not None
        if not noise:
            self.total += 1
        if self._states and self._traceback(index, line):
            return
        if line[0] == "╰":
            self._box = index
        elif index == self._box + 1 and self._below_box(index, line):
            return
        matters = log_lines.CANDIDATE.search(line) is not None
        if matters:
            self._look(index, line)
        of_bash = matters and log_lines.BASH_SIGNAL.search(line)
        if not (of_bash and "/wrapper.sh: line " in line):  # a line of ours, not of the job
            self.last_of_all = line
        if not noise and not of_bash:
            self.last = line

    def finish(self) -> list[_Event]:
        return self._events

    # -- exceptions -----------------------------------------------------------------------------------------------

    def _traceback(self, index: int, line: str) -> bool:
        """Whether the line belongs to a traceback that has begun."""
        for width in self._widths:
            state = self._states.get(_source(line[:width]) if width else "")
            if state is None or state.width != width:
                continue
            rest = line[width:]
            if rest[:1] in (" ", "\t", "") or rest[0] in "│╭╰|+" or log_lines.HEADER.match(rest):
                if log_lines.HEADER.match(line):
                    return False
                self.last_of_all = line
                return True
            found = log_lines.TYPE.match(rest)
            if found is None or not _is_type(found[1]):
                state.waited += 1
                if state.waited > _WAIT:
                    self._end(state)
                    return False
                continue
            self._end(state)
            self._exception(index, rest, found[1], state.source, state.kind)
            self.last = self.last_of_all = rest
            return True
        return False

    def _end(self, state: _State) -> None:
        del self._states[state.source]
        self._widths = {one.width for one in self._states.values()}
        self._inside = any(one.width and not one.source.strip(" |") for one in self._states.values())

    def _below_box(self, index: int, line: str) -> bool:
        """Whether the line is the exception whose frames were drawn in a box, as rich does."""
        found = log_lines.TYPE.match(line)
        if found is None or not _is_type(found[1]):
            return False
        self._exception(index, line, found[1], "", "exception")
        self.last = self.last_of_all = line
        return True

    def _exception(self, index: int, text: str, kind_of: str, source: str, kind: str) -> None:
        name = classify(text, kind_of)
        short = kind_of.rsplit(".", 1)[-1]
        if kind == "exception" and short in log_lines.WRAPPERS:
            kind = "wrapper"
        at, is_direct = self._cause.pop(source, (-1, False))
        cause = self._events[at] if at >= 0 else None
        if cause is not None and cause.kind == kind == "exception":
            cause = cause.cause or (None if cause.name == "traceback" else cause)
            # What writes a file fails once more when it is closed.
            is_of_disk = cause is not None and cause.name == name == "disk_full"
            self._add(kind, index, text, name, source, short, cause if is_direct or is_of_disk else None)
        else:
            self._add(kind, index, text, name, source, short)
        if name == "traceback":
            self._more = (index, len(self._events) - 1)

    def _classify_more(self, line: str) -> None:
        """The message of an exception may go on: let its next lines say of which class it is."""
        at = self._more[1]
        event = self._events[at]
        name = classify(line, event.type, message=True)
        if name != "traceback":
            self._events[at] = event._replace(name=name)
            self._more = (-1, -1)

    def _begin(self, index: int, header: re.Match[str]) -> None:
        prefix, before, after = header[1], header[2] or "", header[3]
        kind = "exception"
        word, at = self._mark
        if index - at <= 4 and word:
            kind = word
            self._mark = ("", -10)
        if before.startswith("Exception Group"):
            prefix = prefix.replace("+", "|")
        if before.startswith("Original") or log_lines.BAR.search(prefix):
            prefix = ""
        if after and after not in "─━-":
            return  # a text that speaks of a traceback
        if after or (prefix.endswith("   ") and prefix.strip()):
            # A box that is drawn around it, or a notebook: its frames have forms of their own, and its last line none.
            return
        if '"' in prefix or "'" in prefix:
            return
        state = _State(prefix, kind)
        self._states.pop(state.source, None)
        self._states[state.source] = state
        self._widths.add(state.width)
        self._inside = self._inside or (state.width > 0 and not state.source.strip(" |"))
        if len(self._states) > _STATES:
            self._end(next(iter(self._states.values())))

    # -- everything else ------------------------------------------------------------------------------------------

    def _add(
        self,
        kind: str,
        index: int,
        line: str,
        name: str,
        source: str = "",
        type_: str = "",
        cause: _Event | None = None,
    ) -> None:
        self._events.append(_Event(kind, index, self.total, line.strip(), name, source, type_, cause))

    def _look(self, index: int, line: str) -> None:
        header = log_lines.HEADER.match(line)
        if header is not None:
            self._begin(index, header)
            return
        if log_lines.MAYBE_EXCEPTION.search(line) and self._exception_words(index, line):
            return
        if log_lines.ROOT.match(line):
            self._root = index
        if index - self._root < 12 and (rank := log_lines.ROOT_RANK.match(line)):
            self.root_rank = int(rank[1])
        if self._crash(index, line):
            return
        name = failures.words(line)
        if name is not None:
            self._add("words", index, line, name)
            return
        self._commands(index, line)

    def _exception_words(self, index: int, line: str) -> bool:
        if log_lines.IGNORED.search(line):
            self._mark = ("ignored", index)
            return True
        if line.startswith("Exception in thread ") and '"' not in line[:22]:
            self._mark = ("thread", index)
            return True
        if "Original exception was" in line:
            self._mark = ("", -10)
            return True
        chained = log_lines.CHAINED.match(line)
        if chained is not None:
            source = _source(chained[1])
            at = next((n for n in range(len(self._events) - 1, -1, -1) if self._events[n].source == source), -1)
            self._cause[source] = at, chained[2] is not None
            return True
        bare = log_lines.BARE.match(line)
        if bare is not None and bare[2].rsplit(".", 1)[-1] not in log_lines.LOG_LEVELS:
            metric = log_lines.METRIC.search(line)
            if bare[2].startswith("nccl") or (metric is not None and metric.start() < bare.end(2)):
                return False  # NCCL's name of a status, which explains the exception before it; a metric's name
            kind = "wrapper" if bare[1].strip() and log_lines.USAGE_ERROR.match(line) else "exception"
            if index - self._mark[1] <= 1 and self._mark[0]:
                kind = self._mark[0]
            elif self._events and self._events[-1].kind == "ignored" and line.strip() == self._events[-1].line:
                kind = "ignored"  # of another process, whose lines stand among those of the first
            self._exception(index, line[len(bare[1]) :], bare[2], _source(bare[1]), kind)
            self._events[-1] = self._events[-1]._replace(bare=True)
            return True
        return False

    def _crash(self, index: int, line: str) -> bool:
        if "what():" in line and index - self._terminate <= 4:
            self._terminate = -10
            self._events.pop()
            self._add("crash", index, line, classify(line, "what"))
            return True
        if log_lines.DEVICE_ASSERT.search(line):
            self._add("assert", index, line, "cuda")
            return True
        if log_lines.NCCL_LOG.search(line):
            name = failures.words(line)
            self._add("nccl" if name is None else "words", index, line, name or "nccl")
            return True
        signal = log_lines.BASH_SIGNAL.search(line)
        if signal is not None:
            self._add("signal", index, line, log_lines.SIGNAL_CLASS.get(signal[1], "traceback"))
            return True
        launcher = log_lines.LAUNCHER.search(line)
        if launcher is not None:
            which = next(group for group in launcher.groups() if group)
            self._add("launcher", index, line, log_lines.SIGNAL_CLASS.get(which.lstrip("-"), "traceback"))
            return True
        if log_lines.CRASH.search(line) is None:
            return False
        if "terminate called" in line:
            self._terminate = index
            self._add("crash", index, line, classify(line, "what"))
        elif "Assertion" in line or "Check failed" in line:
            self._add("crash", index, line, "assertion")
        else:
            self._add("crash", index, line, "segfault" if log_lines.SEGFAULT.search(line) else classify(line, "what"))
        return True

    def _commands(self, index: int, line: str) -> None:
        test = log_lines.PYTEST.match(line)
        if test is not None:
            self._add("exception", index, line, classify(line, test[1]) if test[1] else "assertion")
            return
        if log_lines.CONDA.match(line):
            self._add("shell", index, line, classify(line, "CondaError"))
        elif log_lines.FLAGS.search(line):
            self._add("usage", index, line, "arguments")
        elif log_lines.USAGE.match(line):
            self._usage = index
        elif index - self._usage <= 400 and log_lines.USAGE_ERROR.match(line):
            self._add("usage", index, line, "arguments")
        elif log_lines.SHELL.match(line):
            self._add("shell", index, line, failures.of_shell(line))
        elif (
            log_lines.ERROR_CASE.search(line[:200])
            and log_lines.ERROR.search(line[:200])
            and not line.startswith(log_lines.FOOTER_WORDS)
            and not log_lines.WARNS.match(line)
            and not log_lines.METRIC.search(line[:200])
        ):
            self._add("error", index, line, classify(line, "error"))


def _is_type(name: str) -> bool:
    """Whether a word can be the name of an exception."""
    last = name.rsplit(".", 1)[-1]
    if name in log_lines.LOG_LEVELS or not last:
        return False
    return last[0].isupper() or last[0] == "_" or "." in name or last.endswith("error")


# -- which of them it is ----------------------------------------------------------------------------------------------


_LAUNCHERS = ("wrapper", "launcher")
_STRONG = ("exception", "crash", "assert", "thread", *_LAUNCHERS)
"""What ends a process: others of the same job may go on for a line or so."""


class _Survival:
    """What the job went on after, as its steps and losses tell."""

    def __init__(self, lines: Sequence[str], start: int) -> None:
        self._lines = lines
        self._went_on: set[str] = set()
        self._progress = list(log_signs.progress(lines, start))
        self._done = list(log_signs.completions(lines, start))

    def fatal(self, events: Sequence[_Event], total: int) -> list[_Event]:
        """The events that the job did not go on after."""
        left = [one for one in events if not self._survived(one, total)]
        # Where a launcher tells of the end, what its other processes printed meanwhile is no sign of life.
        return list(events) if any(one.kind in _LAUNCHERS for one in left) else left

    def _survived(self, event: _Event, total: int) -> bool:
        steps = len(self._progress) - bisect.bisect_right(self._progress, event.at)
        done = len(self._done) - bisect.bisect_right(self._done, event.at)
        if event.kind in _STRONG and not event.bare:
            return steps >= 2
        if event.kind == "signal" and total - event.before > 2:
            return True  # a word among others
        line = self._lines[event.at]
        if event.kind == "error" and (line.startswith("wandb: ") or log_signs.is_progress(line)):
            return True  # a log that calls all that it writes an error; a tracker that failed
        message = log_lines.NUMBER.sub("0", event.line[-_SAME:])  # a progress bar may stand before it
        may = event.kind != "exception"
        if steps + done > 0 or (may and (message in self._went_on or log_signs.goes_on(line))):
            self._went_on.add(message)
            return True
        return False


def _choose(events: Sequence[_Event], total: int, root_rank: int | None, code: int | None) -> _Event | None:
    killed = code is None or code in SIGKILL_CODES
    recent = list(_recent(events, total, killed))

    def last(*kinds: str) -> _Event | None:
        return next((one for one in reversed(recent) if one.kind in kinds), None)

    exception = _exception(recent, root_rank)
    usage = last("usage")
    if usage is not None and (exception is None or exception.at < usage.at) and code in (1, 2):
        return usage
    words, crash = last("words"), _first_of_last(recent, "crash")
    if exception is not None and crash is not None and crash.before - exception.before > _TEARDOWN:
        exception = None
    if exception is not None and words is not None and words.at > exception.at:
        if failures.is_about_program(exception.type):
            words = None
        elif exception.name == words.name:
            words = None  # the exception says it in its own words
    elif exception is not None and words is not None:
        # What tells of another process's end may follow at once on the reason for it; else it was survived.
        words = words if exception.name == "nccl" and exception.before - words.before <= _LAST_WORDS else None
    if words is not None and crash is not None and crash.at < words.at and crash.name == words.name:
        words = None
    if words is not None and crash is not None and crash.at > words.at and crash.name not in ("traceback", "oom"):
        words = None
    if words is not None:
        return words
    if exception is not None:
        return _more_telling(exception, recent)
    assertion, watchdog = _first_of_last(recent, "assert"), _first_of_last(recent, "nccl")
    for found in (crash, assertion, last("shell"), watchdog, last("signal"), last("thread"), last("launcher")):
        if found is not None:
            return _more_telling(found, recent)
    return last("wrapper") or usage or last("error")


def _first_of_last(recent: Sequence[_Event], kind: str) -> _Event | None:
    """The first of the last few that stand together: the others follow from it."""
    found: _Event | None = None
    for one in reversed(recent):
        if one.kind == kind and (found is None or found.before - one.before <= _TEARDOWN):
            found = one
    return found


def _recent(events: Sequence[_Event], total: int, killed: bool) -> Iterator[_Event]:
    """Events that the job did not survive, as far as the lines behind them tell."""
    for one in events:
        bound = (
            _SURVIVED_EXCEPTION
            if one.kind in ("exception", "wrapper", "assert", "launcher", "usage")
            else _SURVIVED_WORDS
        )
        if killed and one.name == "oom":
            bound = _LAST_WORDS
        if total - one.before <= bound:
            yield one


def _exception(recent: Sequence[_Event], root_rank: int | None) -> _Event | None:
    """The last exception that is no mere consequence of another process's end."""
    found = [one for one in recent if one.kind == "exception"]
    if root_rank is not None:
        mine = [one for one in found if _of_rank(one, root_rank)]
        found = mine or found
    if not found:
        return None
    chosen = found[-1]
    if chosen.name == "nccl":  # the others lose touch with the one that failed
        first = next((one for one in reversed(found) if one.name != "nccl" and one.source != chosen.source), None)
        chosen = first or chosen
    if chosen.cause is not None and chosen.name in ("traceback", "disk_full"):
        return chosen._replace(name=chosen.cause.name)
    return chosen._replace(cause=None)


def _of_rank(event: _Event, rank: int) -> bool:
    found = log_lines.RANK.search(event.source)
    return found is not None and int(found[1]) == rank


def _more_telling(event: _Event, recent: Sequence[_Event]) -> _Event:
    """A device-side assertion is named by the device, and by the exception only afterwards."""
    if event.name == "cuda" and "device-side assert" in event.line:
        return _first_of_last(recent, "assert") or event
    return event
