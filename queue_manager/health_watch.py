"""Looks at the health of running attempts: their logs, as far as they have grown, and their GPUs; and when to do so."""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from queue_manager.adapters import cpu_time, log_reader, regular
from queue_manager.adapters.files import write_whole
from queue_manager.adapters.log_reader import HEAD, MOST, LogReader, News
from queue_manager.adapters.metric_files import FileMetric
from queue_manager.adapters.partial_file import PartialFile
from queue_manager.core import metric_rules
from queue_manager.core.boundary import Doing, HealthReading
from queue_manager.core.health import projected
from queue_manager.core.health_policy import policy
from queue_manager.core.kept import kept, recall
from queue_manager.core.layout import RunPaths
from queue_manager.core.manifest import JobSpec
from queue_manager.core.metric_rules import Rule, is_simple
from queue_manager.core.model import Attempt, Job, QueueState
from queue_manager.core.readings import Cards, Unreadable
from queue_manager.core.terminal_text import one_line

if TYPE_CHECKING:
    from queue_manager.core.health_tracker import HealthTracker

_log = logging.getLogger(__name__)

FIRST, EVERY, LEAST = 3.0, 10.0, 3.0
"""Seconds until the first look at an attempt, between two looks, and between them at least however many begin."""
GROWING = 0.5
"""Young attempts are looked at more often than at EVERY: after this part of their age."""
_EARLY = 2.0
"""Seconds by which a later look may be early, where the loop is awake for something else."""
VERSION = 1
_MOST = 64 << 20
FOUND = ("traceback", "oom_survived")
"""Flags for what a log has once contained: a later look does not see it again."""
WHOLE = 0.5
"""The part of a job's time by which its progress may be wrong, and still be that of the whole job."""
REGEX_SECONDS = 1.0
"""Seconds of CPU time that regular expressions of the spec may take for the new lines of a log."""
_NAN = re.compile(rb"\b(?:nan|inf|infinity)\b", re.IGNORECASE)
TOGETHER = 2 << 20
"""Bytes that are read of all logs at one look."""


class _Followed:
    """One attempt. `risky`: regular expressions of its spec that may take long; `files`: the metrics that its policy
    wants from files, by name; `partial`: its partial results."""

    def __init__(
        self,
        n: int,
        began: float,
        risky: frozenset[str],
        tracker: HealthTracker,
        log: LogReader,
        files: dict[str, FileMetric],
        partial: PartialFile,
    ) -> None:
        self.n, self.began, self.risky = n, began, risky
        self.tracker, self.log, self.files, self.partial = tracker, log, files, partial
        self.reading: HealthReading | None = None

    def memory(self) -> dict[str, Any]:
        """What a later manager has to know to follow it on."""
        files = {name: kept(one, FileMetric.KEPT) for name, one in self.files.items()}
        return {"n": self.n, "log": kept(self.log, LogReader.KEPT), "files": files, "tracker": self.tracker.memory()}

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Record what an earlier manager knew. Raises ValueError where that does not fit."""
        try:
            log, files = memory["log"], {name: memory["files"][name] for name in self.files}
            self.tracker.recall(memory["tracker"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"does not fit: {error}") from None
        recall(self.log, LogReader.KEPT, log)
        for name, one in self.files.items():
            recall(one, FileMetric.KEPT, files[name])


class HealthWatch:
    """The running attempts of one run. `cwd` names a job's working directory, `began_ns` says when a job's attempt
    began, by the clock of the file server of its outputs; `say` shows a notice of a kind."""

    def __init__(
        self,
        state: QueueState,
        paths: RunPaths,
        environment: Mapping[str, str],
        cwd: Callable[[Job], str],
        began_ns: Callable[[int], int | None],
        say: Callable[[str, str | None], None],
    ) -> None:
        self._state, self._paths, self._environment, self._cwd, self._began_ns = (
            state,
            paths,
            environment,
            cwd,
            began_ns,
        )
        self._say = say
        self._slow: set[str] = set()
        """Regular expressions of the spec that took too long."""
        self._followed: dict[int, _Followed] = {}
        self._looked = 0.0
        self.whole: frozenset[str] = frozenset()
        """Phases whose last job ended about when its progress had predicted."""
        self._earlier: dict[str, Any] | None = None
        """What an earlier manager wrote down; None as long as that was not read."""

    def due(self) -> float | None:
        """When to look (epoch seconds); None while nothing runs."""
        times = [
            self._looked + min(EVERY, max(LEAST, (self._looked - attempt.started) * GROWING))
            if self._is_followed(order, attempt)
            else max(attempt.started + FIRST, self._looked + LEAST)
            for order, attempt in self._state.live.items()
            if attempt.started is not None
        ]
        return min(times, default=None)

    def look(
        self, now: float, doing: Mapping[int, Doing], cards: Cards | Unreadable | None
    ) -> dict[int, HealthReading]:
        """Look at all running attempts, if that is due."""
        due = self.due()
        if due is None or now < due - (_EARLY if due == self._looked + EVERY else 0.0):
            return {}
        self._looked = now
        live = {order: one for order, one in self._state.live.items() if one.started is not None}
        self._followed = {order: one for order, one in self._followed.items() if order in live}
        most = max(HEAD // 4, min(MOST, TOGETHER // len(live)))
        for order, attempt in live.items():
            self._look(order, attempt, now, doing.get(order), cards, most)
        self._state.touched.update(live)
        self._keep()
        return self.readings()

    def look_at_end(self, order: int, now: float) -> dict[int, HealthReading]:
        """Look at an attempt that has just ended, where its last words decide something: its last step, or a loss that
        is NaN, which is looked for in short ones, too."""
        job, attempt = self._state.jobs[order], self._state.live.get(order)
        if attempt is None:
            return {}
        asks = policy(job.spec.health).min_steps is not None or self._is_followed(order, attempt)
        if not asks and not log_reader.ends_with(self._paths.log(job.spec.id), _NAN):
            return {}
        followed = self._followed.get(order)
        before = None if followed is None or followed.n != attempt.n else followed.reading
        found = self._look(order, attempt, now, None, None, MOST)
        self._compare(job.spec.phase, attempt, before, now)
        return {order: found}

    def _compare(self, phase: str, attempt: Attempt, before: HealthReading | None, now: float) -> None:
        """Learn by a job that ends whether the progress in the logs of its phase is that of whole jobs."""
        started = attempt.started
        estimate = None if before is None or started is None else projected(before, started, attempt.n)
        if estimate is None or started is None:
            return
        if abs(estimate - (now - started)) < WHOLE * (now - started):
            self.whole |= {phase}
        else:
            self.whole -= {phase}

    def readings(self) -> dict[int, HealthReading]:
        """What was found at the last look."""
        return {order: one.reading for order, one in self._followed.items() if one.reading is not None}

    def _is_followed(self, order: int, attempt: Attempt) -> bool:
        followed = self._followed.get(order)
        return followed is not None and followed.n == attempt.n

    def _look(
        self,
        order: int,
        attempt: Attempt,
        now: float,
        doing: Doing | None,
        cards: Cards | Unreadable | None,
        most: int,
    ) -> HealthReading:
        if not self._is_followed(order, attempt):
            self._followed[order] = self._follow(self._state.jobs[order], attempt, now)
        followed = self._followed[order]
        news = followed.log.read(most)
        self._take(followed, order, news, now)
        for name, one in followed.files.items():
            value = one.news(self._began_ns(order))
            if value is not None:
                followed.tracker.take_value(name, value)
        counts = followed.partial.news(self._began_ns(order))
        if counts is not None:
            followed.tracker.take_counts(counts)
        util, mem = self._gpus(attempt, cards)
        cpu = None if doing is None else doing.cpu
        followed.reading = followed.tracker.look(now, news.grew, cpu, util, mem)
        return followed.reading

    def _take(self, followed: _Followed, order: int, news: News, now: float) -> None:
        """Let its tracker read new lines. Regular expressions of the spec that take too long are not used again."""
        spec = self._state.jobs[order].spec
        if followed.risky & self._slow:
            followed.tracker, followed.risky = self._tracker(spec, followed.began), followed.risky - self._slow
        if not followed.risky:
            followed.tracker.take(news.lines, now, news.gap)
            return
        try:
            cpu_time.within(REGEX_SECONDS, lambda: followed.tracker.take(news.lines, now, news.gap))
        except cpu_time.TooLongError:
            self._slow |= followed.risky
            shown = ", ".join(sorted(one_line(one, 80) for one in self._slow))
            self._say(
                "slow_rule",
                f"regular expressions of health or metrics take too long for the log of job {spec.id}, and are not "
                f"used while jobs run: {shown}; write them without a repeat inside of a repeat",
            )
            self._take(followed, order, news, now)

    def _follow(self, job: Job, attempt: Attempt, now: float) -> _Followed:
        rules = policy(job.spec.health, job.spec.metrics)
        wanted = {one.metric for one in rules.bounds} | ({rules.early_stop.metric} if rules.early_stop else set())
        files = FileMetric.of(self._state.manifest, job.spec, self._cwd(job), self._environment, wanted)
        began = attempt.started or now
        risky = frozenset(one for one in _own_regexes(job.spec) if not is_simple(one)) - self._slow
        log = LogReader(self._paths.log(job.spec.id))
        partial = PartialFile(self._state.manifest, job.spec, self._cwd(job), self._environment)
        made = _Followed(attempt.n, began, risky, self._tracker(job.spec, began), log, files, partial)
        if self._earlier is None:
            self._earlier = _read(self._paths)
        memory = self._earlier.pop(job.spec.id, None)
        if isinstance(memory, Mapping) and memory.get("n") == attempt.n:
            try:
                made.recall(memory)
            except ValueError as error:
                _log.info("what was known of the health of %s %s", job.spec.id, error)
                made.tracker, made.log = self._tracker(job.spec, began), LogReader(self._paths.log(job.spec.id))
        for flag in attempt.flags.values():
            if flag.kind in FOUND:
                made.tracker.recall_flag(flag.kind, flag.since, flag.line)
        return made

    def _keep(self) -> None:
        """Write down what a later manager cannot read in the journal, nor in logs that it has not read so far."""
        jobs = {self._state.jobs[order].spec.id: one.memory() for order, one in self._followed.items()}
        with contextlib.suppress(OSError):  # it is then known anew, after a while
            write_whole(self._paths.health, [json.dumps({"version": VERSION, "jobs": jobs}).encode()], durable=False)

    def _tracker(self, spec: JobSpec, began: float) -> HealthTracker:
        # Its patterns take long to compile: not while a manager starts.
        from queue_manager.core.health_tracker import HealthTracker

        rules, metrics = policy(spec.health, spec.metrics), spec.metrics
        if self._slow.intersection(_own_regexes(spec)):
            progress, loss = (None if one in self._slow else one for one in (rules.progress, rules.loss))
            rules = rules._replace(progress=progress, loss=loss)
            if isinstance(metrics, Mapping):
                metrics = {name: rule for name, rule in metrics.items() if not _reads(rule, self._slow)}
        return HealthTracker(rules, metrics, began)

    def _gpus(self, attempt: Attempt, cards: Cards | Unreadable | None) -> tuple[float | None, int | None]:
        """The utilization and the memory in use of its GPUs; None where it shares one, and neither is its own."""
        held = self._state.cards.holders
        if (
            not attempt.cards
            or not isinstance(cards, Cards)
            or any(len(held.get(one, ())) > 1 for one in attempt.cards)
        ):
            return None, None
        found = [card for card in cards.cards if card.uuid in attempt.cards]
        if len(found) < len(attempt.cards):
            return None, None
        utils = [card.util for card in found if card.util is not None]
        util = sum(utils) / len(utils) if len(utils) == len(found) else None
        return util, sum(card.used_mib for card in found)


def _read(paths: RunPaths) -> dict[str, Any]:
    """What an earlier manager wrote down of running jobs, by their ids."""
    try:
        found = json.loads(regular.read_regular(paths.health, _MOST))
        return dict(found["jobs"]) if found["version"] == VERSION else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _reads(rule: Any, regexes: AbstractSet[str]) -> bool:
    """Whether a rule of a metric is one of these."""
    return isinstance(rule, Mapping) and rule.get("log") in regexes


def _own_regexes(spec: JobSpec) -> list[str]:
    """The regular expressions that a spec says for the log of a job."""
    rules = policy(spec.health)
    metrics = [
        one.source for one in metric_rules.rules(spec.metrics).values() if isinstance(one, Rule) and one.kind == "log"
    ]
    return [one for one in (rules.progress, rules.loss, *metrics) if one is not None]
