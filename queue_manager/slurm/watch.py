"""Follows attempts that run as tasks of Slurm: by what they leave in the run's directory, and by what Slurm lists.

The files decide: a claim says that an attempt has begun, an exit record how it ended. Slurm is one witness more, who
may be away, behind, or wrong: it says where an attempt waits, and that one without an exit record is gone.
"""

from __future__ import annotations

import selectors
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from queue_manager.activity_watch import last_output
from queue_manager.adapters import evidence
from queue_manager.adapters.run_dir import RunDir
from queue_manager.core.boundary import Doing, Evidence, ExitRecord, Place, Revoked
from queue_manager.core.launchers import SLURM
from queue_manager.core.manifest import JobSpec
from queue_manager.core.model import Attempt
from queue_manager.core.readings import Cards, Unreadable
from queue_manager.core.snapshot import OF_ONE
from queue_manager.end_facts import EndFacts
from queue_manager.slurm import attempt_files, commands, stopping, wrapper
from queue_manager.slurm.admission import Admission
from queue_manager.slurm.attempt_files import Taken, was_told_to_end
from queue_manager.slurm.batches import Answer, Batch, Batches
from queue_manager.slurm.cluster import Cluster
from queue_manager.slurm.commands import Listed
from queue_manager.slurm.fate import Fate, fate, was_taken, was_taken_out
from queue_manager.slurm.followed import Followed
from queue_manager.slurm.leftover_tasks import leftover_tasks
from queue_manager.slurm.look_pace import LookPace
from queue_manager.slurm.pausing import to_change
from queue_manager.slurm.places import Places
from queue_manager.slurm.pools import Pools
from queue_manager.slurm.sent import Sent
from queue_manager.slurm.server_clock import ServerClock
from queue_manager.slurm.task_ends import TaskEnds
from queue_manager.slurm.unbegun import why_unbegun

BOOT = SLURM
"""Stands for the boot of attempts: they outlive a restart of the machine that the manager is on."""
LOOKS_PER_POLL = 6
"""Polls of the run's directory for one look at Slurm's queue: with the usual poll one in 30 seconds."""
LOST_AFTER = 150.0
"""Seconds after which a task that Slurm does not list was never submitted: half the time for which it lists what has
ended (MinJobAge, 300 seconds by default)."""
_AGAIN = 1.0
"""Seconds between looks at Slurm's queue while one of those waits for what it says."""
BEGINS_WITHIN = 600.0
"""Seconds for a task that Slurm takes for running to begin an attempt, after what its cluster does before each job."""
SETTLES = 10.0
"""Seconds for an exit record to be seen here, once Slurm says that the task has ended."""


class SlurmWatch:
    """The followed attempts of a run, by the job's order. `poll` in seconds; `is_paused` tells whether a person has
    paused the run."""

    boot = BOOT
    has_pidfd = False
    left_dead = False

    def __init__(
        self,
        run_dir: RunDir,
        store: Batches,
        cluster: Cluster,
        patterns: Callable[[], evidence.Patterns],
        clock: Callable[[], float],
        poll: float,
        is_paused: Callable[[], bool],
        admission: Admission,
        pools: Pools,
    ) -> None:
        self._run_dir, self._store, self._cluster, self._pools = run_dir, store, cluster, pools
        self._facts, self._clock, self._poll, self._is_paused = EndFacts(run_dir, patterns), clock, poll, is_paused
        self._admission = admission
        self._server = ServerClock(self._facts.now_ns)
        self._ends = TaskEnds(run_dir, self._facts, cluster.accounting)
        self._followed: dict[int, Followed] = {}
        self._orders: dict[str, int] = {}
        self._places = Places(store, cluster)
        self._was_paused = False
        self._marked: set[str] = set()
        self._listed_at: float | None = None
        self._due = 0.0
        self._pace = LookPace(poll * LOOKS_PER_POLL)
        self.selector = selectors.DefaultSelector()
        pools.note = self.sent
        for sent in self._places.kept:
            pools.know(sent)

    def sent(self, batch: Batch) -> Sent:
        """Take note of a batch that is handed to sbatch now."""
        return self._places.add(batch)

    # -- what is followed ---------------------------------------------------------------------------------------

    def follow(self, order: int, spec: JobSpec, attempt: Attempt, cwd: str, inherited: bool = False) -> None:
        """Begin to follow an attempt; `inherited` from an earlier manager."""
        followed = self._followed[order] = Followed(spec, attempt, cwd, inherited)
        self._orders[followed.name] = order

    def respecify(self, order: int, spec: JobSpec) -> None:
        """Judge an attempt by another spec of its job from now on, if it is followed."""
        if order in self._followed:
            self._followed[order].spec = spec

    def launched(self, order: int, frontend: subprocess.Popen[bytes] | None, error: str | None) -> None:  # noqa: ARG002
        """Take note of why an attempt cannot be submitted."""
        self._followed[order].launch_error = error

    def drop(self, order: int) -> None:
        """Follow an attempt no longer."""
        name = self._followed.pop(order).name
        self._orders.pop(name, None)
        self._places.drop(name)
        self._store.forget(name)
        self._pools.forget(name)

    def close_up(self) -> list[int]:
        """Attempts that no mark announces: just begun, being ended, or ended by somebody unknown."""
        return [
            order
            for order, one in self._followed.items()
            if one.attempt.stopping is not None
            or one.is_unsure
            or (one.taken is not None and one.attempt.wrapper is None)
        ]

    def over(self) -> set[int]:
        """Attempts to be observed: those that have begun or ended by their marks, and those of which Slurm has said
        something new."""
        now = self._clock()
        names = {f"{name}/ended" for name in self._store.seen(self._store.ended)}
        names |= {f"{name}/claimed" for name in self._store.seen(self._store.claimed)}
        fresh, self._marked = names - self._marked, names
        found = {self._orders.get(name.rpartition("/")[0]) for name in fresh}
        for sent in self._places.take_answers(now, self._puts_off):
            found.update(map(self._orders.get, self._pools.waiting_for(sent) or sent.batch.attempts))
        self._pools.note_pause()
        if self._is_paused() != self._was_paused or (self._was_paused and found):
            self._was_paused = self._is_paused()
            self._cluster.look()
        listing = self._cluster.listing
        if listing is not None and listing.asked != self._listed_at:
            self._listed_at = listing.asked
            found.update(order for order, one in self._followed.items() if self._has_news(one, now))
            self._hold()
            self._pools.keep(now)
            if not isinstance(listing.tasks, Unreadable):
                wanted = {*self._orders, *self._pools.wanted()}
                self._cluster.tell(commands.end, leftover_tasks(listing.tasks, self._places.batches(), wanted))
            for followed in self._followed.values():
                if followed.taken is not None:
                    log = self._run_dir.paths.log(followed.spec.id)
                    followed.doing = last_output(log, now, followed.doing)
        if found:
            self._pace.changed()
        return {order for order in found if order is not None}

    def ended(self, fd: int, order: int) -> bool:  # noqa: ARG002
        """No process of an attempt is watched."""
        return False

    # -- looks --------------------------------------------------------------------------------------------------

    def sample_due(self) -> float:
        """When to look next (epoch seconds)."""
        return self._due

    def sample(self, now: float, cards: Cards | Unreadable | None, pace: float) -> list[int]:  # noqa: ARG002
        """Look for what has changed. Returns the attempts to be observed."""
        self._due = now + self._poll
        if self._pace.is_due(now, self._admission.slower):
            self._cluster.look(age=self._pace.usual / 2)
        return sorted(self.over())

    def _puts_off(self, batch: Batch, answer: Answer) -> bool:
        """Whether Slurm's answer about a batch is a refusal that passes by itself."""
        return self._admission.answered(answer, self._places.held(self._orders), len(batch.attempts), self._clock())

    def _hold(self) -> None:
        """Keep tasks from starting while the run is paused, and let them start when it goes on."""
        rows = ((one, self._row(one, 0.0), self._task(one)) for one in self._followed.values() if one.taken is None)
        for make, tasks in zip((commands.hold, commands.release), to_change(rows, self._was_paused)):
            self._cluster.tell(make, tasks)

    def _has_news(self, followed: Followed, now: float) -> bool:
        name, place = followed.name, self._places.of(followed.name)
        if followed.taken is None and place is not None and place.sent.at is None:  # it is said whether sbatch waits
            return True
        offered = (self._pools.error(name), self._pools.where(name)) if self._pools.has(name) else None
        return followed.has_news(self._row(followed, 0.0), offered, now)

    def doing(self) -> dict[int, Doing]:
        """What each running attempt did when that was last looked at."""
        return {order: one.doing for order, one in self._followed.items() if one.doing is not None}

    def queued(self) -> dict[int, str]:
        """Where each attempt waits that has not begun, in words."""
        return {order: one.queued for order, one in self._followed.items() if one.queued is not None}

    def began_ns(self, order: int) -> int | None:
        """When a followed attempt began, see EndFacts.since; None if it has not."""
        followed = self._followed[order]
        return None if followed.taken is None else self._since(followed, followed.taken)

    def _since(self, followed: Followed, taken: Taken) -> int:
        return self._facts.since(followed.spec, followed.cwd, taken.at_ns)

    # -- evidence -----------------------------------------------------------------------------------------------

    def observe(self, orders: Iterable[int], now: float) -> dict[int, Evidence]:
        """Look at these attempts."""
        found = {order: self._observe(self._followed[order], now) for order in orders if order in self._followed}
        if self._listed_at is not None:
            self._cluster.accounting.look(self._listed_at)
        return found

    def _observe(self, followed: Followed, now: float) -> Evidence:
        job, n = followed.spec.id, followed.attempt.n
        if followed.taken is None:
            found = attempt_files.taken(self._run_dir.paths.attempt(job, n))
            if isinstance(found, (Revoked, Unreadable)):
                error, put_off, was_left = followed.launch_error, followed.put_off, self._was_left(followed)
                evidence = Evidence(found, launch_error=error, inherited=was_left, put_off=put_off)
                return replace(evidence, never=followed.never, cancelled=followed.is_cancelled)
            if found is None:
                return self._unclaimed(followed, now)
            followed.taken, followed.queued = found, None
            followed.place = Place(found.node, found.gpus, self._server.here(found.at_ns, now))
            self._admission.nodes.begun()
            place = self._places.settle(followed.name, found.pilot, found.task)
            if place is not None and found.pilot:
                self._pools.began(followed.name, *place)
        taken = followed.taken
        proc = self._run_dir.started(job, n)
        record = self._run_dir.exit_record(job, n)
        since = (taken.at_ns if record is None else record.at_ns) / 1e9
        row = self._row(followed, since + SETTLES if record is not None and self._has_others(followed) else since)
        place = self._places.of(followed.name)
        if row is None and record is None and not taken.pilot and place is not None:
            row = self._ends.forgotten(*place)
        followed.is_unsure = record is not None and self._is_unsure(followed, taken, record, row, now)
        alive = True if followed.is_unsure else record is None and self._is_alive(followed, row, now)
        if alive is not False:
            return Evidence(taken.claim, alive, alive, proc=proc, place=followed.place)
        output = self._output(followed)
        if taken.pilot:
            was_lost = self._ends.was_lost_with_pilot(followed, taken, record, row, output)
        elif isinstance(row, Unreadable):
            was_lost = False
        elif record is None:
            was_lost = fate(row) not in (Fate.ENDED, Fate.RUNS)
        else:
            was_lost = self._ends.is_doubtful(followed, taken, record, output) and was_taken(row)
        if was_lost:
            record = None  # the cluster ended it, and it has no part in that
        state = row.state if isinstance(row, Listed) else ""
        self._admission.nodes.ended(taken.node, None if record is not None else state, now - taken.at_ns / 1e9, now)
        ended = self._ends.gather(followed, taken, record, row, output)
        if ended.limit and not taken.pilot and place is not None and place.has_others:
            was_lost, record = True, None  # those before it had some of its time
        over = None if record is None else self._server.here(record.at_ns, now)
        return Evidence(
            taken.claim, proc=proc, exit=record, ended=ended, inherited=was_lost, place=followed.place, over=over
        )

    def _is_unsure(
        self, followed: Followed, taken: Taken, record: ExitRecord, row: Listed | Unreadable | None, now: float
    ) -> bool:
        """Whether it is not known yet who ended an attempt that has left this record. Slurm is asked then."""
        if taken.pilot or not self._ends.is_doubtful(followed, taken, record, self._output(followed)):
            return False
        if not isinstance(row, Unreadable) and (fate(row) is not Fate.RUNS or self._goes_on(followed, row)):
            return False
        followed.unsure_since = followed.unsure_since or now
        listing = self._cluster.listing
        # Epilogs take their time: rarer and rarer.
        if listing is None or now - listing.asked >= max(_AGAIN, (now - followed.unsure_since) / 4):
            self._cluster.look()
        return True

    def _goes_on(self, followed: Followed, row: Listed | None) -> bool:
        """Whether the task of an attempt that has ended goes on with others, and so was not ended by Slurm."""
        files = self._run_dir.paths.attempt(followed.spec.id, followed.attempt.n)
        is_running = row is not None and row.state == "RUNNING"
        return is_running and self._has_others(followed) and not was_told_to_end(files)

    def _unclaimed(self, followed: Followed, now: float) -> Evidence:
        place = self._places.of(followed.name)
        error, queued = followed.launch_error, None
        is_offered = self._pools.has(followed.name)
        if error is None and place is None and not (followed.inherited or is_offered):
            queued = "is being submitted to Slurm"
        elif error is None and is_offered:
            error, followed.put_off = self._pools.error(followed.name) or (None, False)
            followed.never = self._pools.never(followed.name)
            queued = None if error is not None else self._pools.where(followed.name)
        elif error is None and place is not None:
            error, followed.put_off, followed.never = place.sent.refusal, place.sent.put_off, place.sent.never
            if error is None and self._was_taken_out(followed, now):
                followed.is_cancelled, error = True, "cancelled in Slurm's queue, by a person or by the cluster"
            queued = None if error is not None else self._where(followed, place.sent, now)
            if error is None and queued is None:
                row, first = self._row(followed, 0.0), place.attempts[0] == followed.name
                directory, its_nodes = place.sent.batch.directory, self._admission.nodes
                error, followed.put_off = why_unbegun(row, first, directory, its_nodes, now)
        followed.queued, followed.launch_error = queued, error
        quiet = error is None and queued is None
        return Evidence(None, launch_error=error, quiet=quiet, inherited=self._was_left(followed), queued=queued)

    def _where(self, followed: Followed, sent: Sent, now: float) -> str | None:
        """Where an attempt waits that nobody has claimed; None if it will never begin."""
        if sent.at is None:
            full = f", which has as many jobs as it takes of all users ({commands.FULL})"
            return "is being submitted to Slurm" + (full if self._admission.is_full else "")
        row = self._row(followed, sent.at)
        if isinstance(row, Unreadable):
            return row.reason
        if row is None:  # one listing without it proves nothing of a task that earlier ones had
            return "was submitted to Slurm" if now - max(sent.at, followed.listed_at) < LOST_AFTER else None
        followed.listed_at = now
        if row.state not in commands.OVER:
            followed.gone_at = None
            if followed.is_phantom(row.state == "RUNNING" and not self._has_task_begun(followed), now, BEGINS_WITHIN):
                return None
            if row.state == "RUNNING" and self._has_others(followed):
                return f"waits for its turn in a task that runs on {row.node}"
            why = f": {row.reason}" if row.reason not in ("None", "") else ""
            expected = f"{OF_ONE}Slurm expects to start it at {row.expected}" if row.expected else ""
            return f"waits in Slurm's queue ({row.state.lower()}{why}){expected}"
        followed.gone_at = followed.gone_at or now
        return "was started by Slurm" if now - followed.gone_at < SETTLES else None

    def _was_taken_out(self, followed: Followed, now: float) -> bool:
        """Whether somebody took an attempt out of Slurm's queue, see was_taken_out."""
        listing, place, known = self._cluster.listing, self._places.of(followed.name), self._cluster.configuration
        if listing is None or isinstance(listing.tasks, Unreadable) or place is None or place.has_others:
            return False
        age = known.min_job_age if isinstance(known, commands.Configuration) else None
        lately = now - followed.listed_at < (2 * LOST_AFTER if age is None else age) / 2
        return was_taken_out(listing.tasks, place.task, lately)

    def _row(self, followed: Followed, since: float) -> Listed | Unreadable | None:
        """What Slurm lists of an attempt, as it was asked after `since` (epoch seconds); None if it lists nothing."""
        listing, place = self._cluster.listing, self._places.of(followed.name)
        if listing is None or listing.asked < since:
            followed.awaits_listing()
            return Unreadable("was submitted to Slurm")
        if isinstance(listing.tasks, Unreadable) or place is None:
            return listing.tasks if isinstance(listing.tasks, Unreadable) else None
        return listing.tasks.get(place.task)

    def _is_alive(self, followed: Followed, row: Listed | Unreadable | None, now: float) -> bool | Unreadable:
        """Whether an attempt without an exit record runs."""
        if isinstance(row, Unreadable):
            followed.gone_at = None
            return row
        found = fate(row)
        if found is Fate.RUNS:
            followed.gone_at = None
            return not self._has_others(followed) or self._beats(followed, stopping.SILENT)
        followed.gone_at = followed.gone_at or now
        is_sure = found is Fate.ENDED and not (followed.taken and followed.taken.pilot)  # it may outlive its pilot
        if now - followed.gone_at < (SETTLES if is_sure else 3 * wrapper.BEAT):
            return True
        return not is_sure and self._beats(followed)

    def _beats(self, followed: Followed, beats: int = 3) -> bool:
        """Whether an attempt has shown that it lives, within the time of so many heartbeats: Slurm may have lost its
        node, where it goes on; or the script of one attempt was killed, while its task goes on with others."""
        files = self._run_dir.paths.attempt(followed.spec.id, followed.attempt.n)
        return attempt_files.beats(files, self._facts.now_ns, beats * wrapper.BEAT)

    def _output(self, followed: Followed) -> Path | None:
        """The file that Slurm writes of an attempt's task."""
        place = self._places.of(followed.name)
        return None if place is None else place.sent.batch.directory / f"{place.number}.out"

    # -- ends ---------------------------------------------------------------------------------------------------

    def stop(self, order: int, kill: bool) -> None:
        """Ask an attempt to end, or have Slurm end it. A request that is repeated is sent once a poll."""
        followed, now = self._followed[order], self._clock()
        if self._pools.has(followed.name):
            self._pools.stop(followed.name, kill)
            return
        place, (killed, at) = self._places.of(followed.name), followed.last_signal
        if place is not None and (killed != kill or now - at >= self._poll):
            followed.last_signal = kill, now
            files = self._run_dir.paths.attempt(followed.spec.id, followed.attempt.n)
            stopping.stop(self._cluster, place, files, kill, followed.was_killed_for(now) if kill else 0.0)

    def close_unclaimed(self, order: int) -> None:
        """Take an attempt out of Slurm's queue that was taken back, with its task, unless that runs others."""
        followed = self._followed[order]
        followed.is_revoked = True
        place = self._places.of(followed.name)
        if place is not None:
            orders = [self._orders.get(attempt) for attempt in place.attempts]
            if all(self._followed[one].is_revoked for one in orders if one is not None):
                self._cluster.tell(commands.end, [place.task])

    def _task(self, followed: Followed) -> tuple[str, int] | None:
        """The name of an attempt's array, and its index there; None where it is in none."""
        place = self._places.of(followed.name)
        return None if place is None else place.task

    def _has_others(self, followed: Followed) -> bool:
        """Whether the task of an attempt runs others as well."""
        place = self._places.of(followed.name)
        return place is not None and place.has_others

    def _has_task_begun(self, followed: Followed) -> bool:
        """Whether a task has begun an attempt."""
        place = self._places.of(followed.name)
        orders = [self._orders.get(attempt) for attempt in (() if place is None else place.attempts)]
        return any(order is None or self._followed[order].taken is not None for order in orders)

    def _was_left(self, followed: Followed) -> bool:
        """Whether it is no failure that an attempt does not begin: an earlier manager submitted it, or its task has
        begun others and ended."""
        place = self._places.of(followed.name)
        return followed.inherited or (place is not None and place.number in place.sent.begun)

    def quit_session(self, order: int) -> None:
        """A task has no session beside it."""

    def clean_up(self, is_ours: Callable[[str], bool]) -> None:  # noqa: ARG002
        """Nothing is left of a task that was killed. Pilots have nothing more to do."""
        self._pools.end()
