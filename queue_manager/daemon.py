"""The loop of one run: observe, decide, journal, act, publish. It decides nothing itself."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from queue_manager import teardown
from queue_manager.adapters import accepted, commands
from queue_manager.adapters.clock import Clock
from queue_manager.adapters.distributed import Ports
from queue_manager.adapters.guard import Guard
from queue_manager.adapters.host_leases import HostLeases
from queue_manager.adapters.journal import Journal
from queue_manager.adapters.leases import Leases
from queue_manager.adapters.named_values import NamedValues
from queue_manager.adapters.run_dir import RunDir
from queue_manager.adapters.run_lock import Lock
from queue_manager.adapters.shared_directory import SharedDirectory
from queue_manager.adapters.shared_ports import SharedPorts
from queue_manager.card_readings import CardReadings
from queue_manager.code_watch import CodeWatch
from queue_manager.commits import Commits
from queue_manager.core import boundary as b
from queue_manager.core import events as ev
from queue_manager.core import pace, unanswered
from queue_manager.core.events import Proc, Record
from queue_manager.core.launchers import SLURM
from queue_manager.core.layout import HostPaths, RunPaths, run_key
from queue_manager.core.model import Job, Need, QueueState
from queue_manager.core.readings import Cards, Unreadable
from queue_manager.core.snapshot import Situation
from queue_manager.core.tick import Tick, next_timer, overdue, tick
from queue_manager.estimator import Estimator
from queue_manager.follower import Follower
from queue_manager.health_watch import HealthWatch
from queue_manager.host_jobs import HostJobs
from queue_manager.launch import Launch
from queue_manager.launchers import script
from queue_manager.launchers.launcher import Launcher
from queue_manager.metric_reader import MetricReader
from queue_manager.notices import Notices
from queue_manager.notifier import Notifier
from queue_manager.preconditions import Preconditions
from queue_manager.publish import Publisher
from queue_manager.teardown import Teardown
from queue_manager.tidy import Tidy
from queue_manager.wakeups import Wakeups
from queue_manager.watch import Watch

if TYPE_CHECKING:
    from queue_manager.slurm.engine import Engine

_log = logging.getLogger(__name__)


class Host(NamedTuple):
    """What the daemon knows about the machine it runs on."""

    name: str
    boot: str
    cores: int
    home: HostPaths
    me: Proc
    shared: SharedDirectory


class Daemon:
    """One manager of one run. `serve` returns when the run has finished, or when told to halt. `when_halted`: what the
    state says of the manager then."""

    when_halted = "halted"

    def __init__(
        self,
        paths: RunPaths,
        state: QueueState,
        journal: Journal,
        lock: Lock,
        records: list[Record],
        host: Host,
        poll: float,
        launcher: Launcher,
        given: script.Given = script.NOTHING_GIVEN,
    ) -> None:
        self._paths, self._state, self._journal, self._host, self._poll = paths, state, journal, host, poll
        self._environment = environment = dict(launcher.environment)
        self._clock = Clock(records[-1].at if records else 0.0)
        self._run_dir = RunDir(paths, launcher.leader)
        self._run_dir.prepare()
        self._guard = Guard(self._run_dir, journal, lock)
        self._jobs = jobs = HostJobs(paths, state, environment)
        cwd = jobs.run_cwd()
        self._key = run_key(state.run_id, os.path.realpath(paths.root))
        self._engine: Engine | None = None
        self._watch: Follower
        if state.manifest.launcher == SLURM:
            from queue_manager.slurm.engine import Engine  # the other managers need none of it

            given_to = (state, self._run_dir, self._key, host.home, environment)
            self._engine = Engine(*given_to, jobs.outputs, self._clock.now, poll)
            self._watch = self._engine.watch
        else:
            self._watch = Watch(self._run_dir, launcher, self._key, host.boot, jobs.outputs, state.seq == 1)
        self._wakeups = Wakeups(paths.bell, self._watch, self._clock)
        wake = self._wakeups.wake
        # A bell is heard on this machine alone.
        self._polls_inbox = self._engine is not None or not self._wakeups.has_bell
        if self._engine is not None:
            self._engine.cluster.wake = wake
        self._cards = CardReadings(state, poll)
        leases = Leases(host.home, state.run_id, self._key, host.boot, host.me)
        self._leases = HostLeases.of(leases, host.shared, self._key)
        self._share = share = pace.OWN_HOST if self._engine is None else pace.LOGIN_NODE
        self._publisher = Publisher(paths, state, wake, share.writing)
        self._commits = Commits(state, self._run_dir, self._guard, self._publisher, self._clock)
        self._teardown = Teardown(paths, state, host.home, environment, cwd, poll, wake, self._leases.owners)
        self._ports = Ports(host.home.ports, self._key, host.boot, SharedPorts(host.shared, host.boot))
        live = {(state.jobs[order].spec.id, one.n) for order, one in state.live.items()}
        self._ports.keep(live)
        self._named = NamedValues(environment, cwd)
        self._preconditions = Preconditions(state, environment, self._named, self._clock, poll, jobs.cwd, wake)
        self._code = CodeWatch(state, environment, cwd, self._clock.now(), wake)
        given = given._replace(run_cwd=cwd)
        parts = (state, self._run_dir, launcher, self._key, given, self._ports, self._named, self._code)
        launch = Launch(*parts) if self._engine is None else self._engine.launch(*parts)
        self._launches, self._warm = launch, launch.warm
        self.notices = Notices(self._publisher, self._clock.now, lambda: state.seq)
        self._notifier = Notifier(paths, state, environment, self._named, cwd, host.name, wake, self.notices.say)
        self._tidy = Tidy(state, self._run_dir)
        self._metrics = MetricReader(state, paths, environment, jobs.cwd, wake)
        self._health = HealthWatch(state, paths, environment, jobs.cwd, self._watch.began_ns, self.notices.say)
        self._estimator = Estimator(
            paths, state, host.cores, self._clock.now(), self._health.readings, lambda: self._health.whole,
            share,
        )  # fmt: skip
        self._impossible: dict[Need, str] = {}
        self._foreign: tuple[b.ForeignLease, ...] = ()
        self._admitted: b.Admitted | None = None
        self._doing: Mapping[int, b.Doing] = {}
        self._halt = False
        self._again = False
        self._just_finished = False
        self._beat_at = self._clean_at = 0.0
        self._turned_at = 0.0
        self._ended: list[tuple[str, int]] = []
        for order, attempt in state.live.items():
            job = state.jobs[order]
            self._watch.follow(order, jobs.spec(job), attempt, jobs.cwd(job), inherited=True)
            self._wakeups.look_at(order)
        self._publisher.catch_up(records)
        self._notifier.catch_up(records)
        self._tidy.catch_up()

    @property
    def wake_fd(self) -> int:
        """A byte written here wakes the loop; fit for signal.set_wakeup_fd."""
        return self._wakeups.fd

    def halt(self) -> None:
        """End after this turn; running jobs go on in their sessions."""
        self._halt = True

    # -- the loop -----------------------------------------------------------------------------------------------

    def serve(self) -> bool:
        """Follow the run to its end. Returns whether it has finished; False if halted.

        Raises InvalidTransition on a fault of ours, RunGoneError where there is no run any more.
        """
        name, pid, boot = self._host.name, self._host.me.pid, self._host.boot
        away = teardown.away(self._paths, self._state, boot, self._clock.now())
        begun = [self._applied(ev.ManagerStarted(name, pid, boot, away, self._host.me.ticks))]
        if not self._commits.append(begun):
            self._commits.wait(begun, lambda: self._halt)
        self._write_leases()
        self._tell(begun)
        while not self._halt:
            begin = time.thread_time()
            self.turn()
            time.sleep(pace.rest(self._share, time.thread_time() - begin))
            if self._is_over() and not self._run_dir.requests():
                break
            self._wait()
        finished = self._state.finished is not None
        if finished:
            self._note_code()
            self._notifier.finish(lambda: self._halt)
        self.close(finished)
        if self._just_finished and self._state.manifest.on_complete is not None:
            self._complete()
        return finished

    def _note_code(self) -> None:
        """Journal which code the last jobs ran, where that has not been seen yet."""
        code = self._code.at_end(self._clock.now())
        if code is not None and code.name != self._state.code:
            record = Record(self._state.seq + 1, self._clock.now(), ev.CodeSeen(code.name, code.since))
            if self._commits.append([record]):
                self._state.apply(record)
                self._tell([record])

    def _is_over(self) -> bool:
        """Whether this manager has nothing left to do: a rented machine may have to be ended when the run is done."""
        going = self._state.machine.teardown
        return (going is not None and going.done) or (self._state.finished is not None and not self._teardown.waits)

    def _applied(self, event: ev.Event) -> Record:
        record = Record(self._state.seq + 1, self._clock.now(), event)
        self._state.apply(record)
        return record

    def turn(self) -> None:
        """One pass: observe, decide, journal, act, publish."""
        now = self._turned_at = self._clock.now()
        self._again = False
        seen = self._observe(now)
        reads_cards = isinstance(seen.cards, Cards)
        with self._placing(reads_cards) as foreign:
            result = tick(self._state, replace(seen, foreign=foreign), now)
            if reads_cards and not isinstance(foreign, Unreadable):
                self._foreign = foreign
            written = not result.records or self._commits.append(result.records)
            if result.records:
                self._write_leases()
        if not written:  # not inside of the lock, for which the runs of all users wait
            self._commits.wait(result.records, lambda: self._halt)
        if seen.cards is not None:
            self._impossible = dict(result.impossible)
        ended = [record.event for record in result.records if isinstance(record.event, ev.AttemptEnded)]
        for event in ended:
            order = self._state.job(event.job).order
            if order in self._state.unread:
                self._metrics.began(order, self._watch.began_ns(order))
            self._watch.drop(order)
            self._warm.ended(self._state.jobs[order])
        self._respecify(result.records)
        if self._engine is not None and any(isinstance(record.event, ev.Resumed) for record in result.records):
            self._engine.resumed()
        for action in result.actions:
            self._act(action)
        self._launches.flush(now)
        self._tell(result.records)
        if not result.actions:
            self._forget()
            self._again |= self._warm.keep(self._guard.disk is None)
        self._ended += [(event.job, event.n) for event in ended]
        self._just_finished = any(isinstance(record.event, ev.RunFinished) for record in result.records)
        self._end_machine(result, now)
        self._wakeups.plan(now, self._state.live)
        self._again |= self._preconditions.ask(result.ask, now)
        self._metrics.ask()
        self._notifier.work(now)
        self._cards.pace(seen.cards is not None, result.records, now)
        if self._cards.read_for_view(now):
            self._publisher.changed()
        self._publisher.snapshot(self._situation, now)

    def _respecify(self, records: list[Record]) -> None:
        """Have running attempts judged by what was changed of their jobs."""
        for record in records:
            if isinstance(record.event, ev.JobsChanged):
                self._jobs.forget_outputs()
                for name in record.event.changes:
                    job = self._state.job(name)
                    self._watch.respecify(job.order, self._jobs.spec(job))

    def _end_machine(self, result: Tick, now: float) -> None:
        """Carry out what was decided about a rented machine. What is to be read of the run is on disk before."""
        stays = self._just_finished and self._teardown.waits
        if stays or any(isinstance(record.event, ev.TeardownStarting) for record in result.records):
            self._publish_whole(now)
        if stays and self._state.manifest.on_complete is not None:
            self._just_finished = False
            self._teardown.complete()
        if self._teardown.follow(result.machine):
            self._publisher.changed()

    @contextlib.contextmanager
    def _placing(self, reads_cards: bool) -> Iterator[tuple[b.ForeignLease, ...] | Unreadable]:
        """Hold the host's cards lock while cards are read, given away and the lease is written."""
        if not reads_cards:
            yield ()
            return
        with self._leases as lock:
            yield lock.foreign()
        self.notices.say("shared", self._leases.fault)

    def _write_leases(self) -> None:
        if any(attempt.cards for attempt in self._state.live.values()) or self._leases.held:
            with contextlib.suppress(OSError):
                self._leases.write(self._state.live.values())

    def _tell(self, records: list[Record]) -> None:
        """Log and publish what is in the journal by now."""
        for record in records:
            _log.info("%s %s", ev.name_of(record.event), " ".join(ev.words(record.event)))
        if records:
            self._publisher.alert(records)
            self._notifier.take(records)
            self._publisher.changed()

    # -- observe --------------------------------------------------------------------------------------------------

    def _observe(self, now: float) -> b.Seen:
        self._guard.look(now)
        orders = self._wakeups.take(now, overdue(self._state, now))
        doing = None
        if now >= self._watch.sample_due() and self._state.live:
            idle = pace.idle_pace(self._poll, self._state.manifest.stale_after)
            idle_orders = self._watch.sample(now, self._cards.for_sample(), idle)
            orders.update(idle_orders)
            known, doing = self._doing, self._watch.doing()
            fresh = [order for order, one in doing.items() if known.get(order) is not one]
            self._doing = doing
            if fresh or idle_orders:
                self._state.touched.update(fresh)
                self._publisher.changed()
        attempts = self._watch.observe(orders, now)
        if self._watch.queued():
            self._state.touched.update(attempts)
        health = self._health.look(now, self._watch.doing(), self._cards.last)
        if health:
            self._publisher.changed()
        for order in [order for order, one in attempts.items() if one.ended is not None]:
            health.update(self._health.look_at_end(order, now))
        requests = tuple(self._run_dir.requests()) if self._wakeups.rung or self._polls_inbox else ()
        machine = self._teardown.look(now, self._wakeups.rung)
        self._wakeups.rung = False
        self._again |= self._preconditions.check_held(now)
        checked = self._preconditions.answers()
        # Cards last: a reading is younger than the evidence beside it.
        before = self._cards.used_mib()
        ended = any(evidence.ended is not None for evidence in attempts.values())
        cards = None
        if ended or requests or checked or self._cards.is_due(now):
            cards = self._cards.read(ended)
        boot, cores, guard = self._watch.boot, self._host.cores, self._guard
        code = self._code.look(now)
        seen = b.Seen(boot, cores, attempts, cards, before, (), checked, requests, guard.disk, machine, code)
        missing = accepted.missing(requests, self._state, self._environment, self._jobs.cwd)
        metrics = self._metrics.answers()
        self._ask_engine(now)
        return replace(
            seen,
            journal=guard.journal,
            missing=missing,
            doing=doing,
            metrics=metrics,
            health=health,
            admitted=self._admitted,
        )

    def _ask_engine(self, now: float) -> None:
        """Ask an engine that places the jobs what it takes of them now, after what became of those before."""
        if self._engine is not None:
            before = self._admitted
            self._admitted = self._engine.look(now)
            if before is None or before.reason != self._admitted.reason:
                self._publisher.changed()

    # -- act ------------------------------------------------------------------------------------------------------

    def _act(self, action: b.Action) -> None:
        if isinstance(action, b.Launch):
            self._launch(self._state.jobs[action.order])
        elif isinstance(action, b.Stop):
            self._watch.stop(action.order, action.kill)
        elif isinstance(action, b.QuitSession):
            self._watch.quit_session(action.order)
        elif isinstance(action, b.Revoke):
            self._revoke(self._state.jobs[action.order])
        else:
            with contextlib.suppress(OSError):  # the request stays, and is answered when there is room
                self._run_dir.reply(action.answer)

    def _launch(self, job: Job) -> None:
        attempt = job.attempt
        assert attempt is not None
        self._watch.follow(job.order, self._jobs.spec(job), attempt, self._jobs.cwd(job))
        frontend: subprocess.Popen[bytes] | None = None
        error = None
        try:
            frontend = self._launches.start(job, attempt, self._jobs.cwd(job), self._turned_at)
        except FileNotFoundError as fault:
            error = str(fault) if "/" in str(fault.filename) else f"{fault.filename} is not installed"
        except OSError as fault:
            error = str(fault)
        self._watch.launched(job.order, frontend, error)

    def _revoke(self, job: Job) -> None:
        assert job.attempt is not None
        try:
            self._run_dir.revoke(job.spec.id, job.attempt.n, self._state.order_of)
        except OSError as error:
            _log.error("attempt %d of %s cannot be revoked yet: %s", job.attempt.n, job.spec.id, error)
            return
        self._watch.close_unclaimed(job.order)
        self._wakeups.look_at(job.order)
        self._again = True

    def _forget(self) -> None:
        """Have done what is left to do for ended attempts; never between a job's end and the next one's start."""
        self._tidy.begin(self._ended)
        for job, n in self._ended:
            self._ports.give_back(job, n)
        self._ended.clear()

    # -- publish and wait -----------------------------------------------------------------------------------------

    def _situation(self, manager: str | None = None) -> Situation:
        screen_dir = self._environment.get("SCREENDIR")
        return Situation(
            self._cards.last,
            self._impossible,
            manager or ("finished" if self._state.finished is not None and self._teardown.waits else "running"),
            self._jobs.run_cwd(),
            self._poll,
            screen_dir,
            lambda job: str(self._paths.log(job)),
            self._teardown.row(self._clock.now()),
            self._foreign,
            self.notices.shown,
            self._watch.doing(),
            self._health.readings(),
            self._watch.queued(),
            self._estimator.eta if self._state.finished is None else None,
            None if self._admitted is None else self._admitted.reason,
        )

    def _wait(self) -> None:
        """Sleep until something happens or is due."""
        now = self._clock.now()
        if self._again:
            self._wakeups.wait(0.0)
        else:
            due = [now + pace.HEARTBEAT if self._beat_at <= now else self._beat_at, self._teardown.due()]
            due += [at for at in (self._cards.due(now), self._preconditions.due()) if at is not None]
            due.extend(self._wakeups.due())
            if self._state.live:
                due.append(self._watch.sample_due())
            if self._watch.left_dead:
                due.append(self._clean_at)
            if self._guard.disk is not None or self._guard.journal is not None:
                due.append(self._guard.due)
            engine = None if self._engine is None else self._engine.due()
            others = (self._code.due(), self._health.due(), self._notifier.due(), engine)
            due.extend(at for at in others if at is not None)
            timers = (self._cards.view_due(), next_timer(self._state, self._turned_at))
            due.extend(at for at in timers if at is not None)
            snapshot = self._publisher.due_in()
            if snapshot is not None:
                due.append(now + snapshot)
            self._sleep(now, min(due))
        if self._watch.left_dead and self._clock.now() >= self._clean_at:
            self._clean_at = self._clock.now() + pace.CLEAN
            self._watch.clean_up(self._launches.has_session)
        if self._clock.now() >= self._beat_at:
            self._beat_at = self._clock.now() + pace.HEARTBEAT
            self._leases.beat()
            self.notices.say(unanswered.KIND, unanswered.words(self._state, self._clock.now()))
            self._wakeups.rung = True
            self._publisher.changed()

    def _sleep(self, now: float, until: float) -> None:
        """Sleep, and estimate the end of the run meanwhile: that asks for no turn as long as nothing comes out."""
        while not self._wakeups.wait(max(0.0, min(until, self._estimator.due(now) or until) - now)):
            now = self._clock.now()
            if self._estimator.work(now, self._cards.last):
                self._publisher.changed()
                return
            if now >= until:
                return

    def _complete(self) -> None:
        """Run the spec's `on_complete`, at most once for each end of the run."""
        manifest, run_id = self._state.manifest, self._state.run_id
        bash = manifest.on_complete or ":"
        environment = {**self._environment, **commands.told_at_the_end(self._state)}
        code = commands.run(self._paths, manifest, run_id, environment, self._jobs.run_cwd(), bash)
        _log.info("on_complete ended with exit code %d", code)
        if code:
            text = f"on_complete ended with exit code {code}: see {self._paths.manager_log}"
            self._publisher.alert_now("on_complete", text, self._clock.now(), self._state.seq)

    def _publish_whole(self, now: float, manager: str | None = None) -> None:
        """Write the snapshot and the summary now."""
        try:
            self._publisher.final(self._situation(manager), now)
        except OSError as error:
            _log.error("the last snapshot or the summary cannot be written: %s", error)

    def close(self, finished: bool, fault: bool = False) -> None:
        """End this life. `fault`: of ours, so that the state may be ahead of the journal."""
        self._preconditions.close()
        self._metrics.close()
        self._teardown.close()
        self._warm.close()
        if self._engine is not None:
            self._engine.cluster.close()
        self._forget()
        self._tidy.close(finish=finished)
        self._cards.read_at_end()
        if finished or self._watch.left_dead:
            self._watch.clean_up(self._launches.has_session)
        if fault:
            self._publisher.halted(self._clock.now())
        else:
            self._publish_whole(self._clock.now(), "finished" if finished else self.when_halted)
        if finished:
            self._run_dir.drop_ballast()
            with contextlib.suppress(OSError):
                self._leases.close()
        self._journal.close()
