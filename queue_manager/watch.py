"""Follows live attempts: wakes the loop when one of their processes ends, and gathers the evidence about them."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from queue_manager.activity_watch import ActivityWatch, log_mark
from queue_manager.adapters import evidence, processes
from queue_manager.adapters.host import oom_kills
from queue_manager.adapters.processes import TagScan
from queue_manager.adapters.run_dir import RunDir
from queue_manager.core.boundary import Claim, Doing, Ended, Evidence, ExitRecord, Leftovers, Revoked
from queue_manager.core.events import Proc, Work
from queue_manager.core.idle import IdleWatch
from queue_manager.core.layout import tag
from queue_manager.core.leftovers import END
from queue_manager.core.manifest import JobSpec
from queue_manager.core.model import Attempt
from queue_manager.core.pace import ActivityPace
from queue_manager.core.readings import Cards, Unreadable
from queue_manager.end_facts import EndFacts
from queue_manager.launchers.launcher import Launcher
from queue_manager.leftover_watch import LeftoverWatch


class _Followed:
    """What is remembered of one live attempt between two looks."""

    def __init__(self, spec: JobSpec, attempt: Attempt, cwd: str, inherited: bool) -> None:
        self.spec, self.attempt, self.cwd, self.inherited = spec, attempt, cwd, inherited
        self.frontend: subprocess.Popen[bytes] | None = None
        self.launch_error: str | None = None
        self.claim: Claim | None = None
        self.proc: Proc | None = attempt.proc
        self.fds: list[int] = []
        self.oom_kills = oom_kills()
        self.watched = ActivityWatch()
        self.idle = IdleWatch(attempt.idle if attempt.left is None else None)
        self.quits = 0
        self.gone_at: float | None = None
        self.over_at: float | None = None
        self.closed_at: float | None = None
        self.leftovers: int | Unreadable | None = None
        self.was_killed = False
        self.left: Leftovers | None = None
        self.left_watch = LeftoverWatch(attempt.idle)
        self.left_idle: Work | None = None

    @property
    def waits(self) -> bool:
        """Whether its command has ended and it goes on for what that left running."""
        left = self.attempt.left
        return left is not None and left.fate != END and self.attempt.stopping is None


class Watch:
    """The followed attempts of a run, by the job's order. `is_new`: none of them has begun."""

    def __init__(
        self,
        run_dir: RunDir,
        launcher: Launcher,
        key: str,
        boot: str,
        patterns: Callable[[], evidence.Patterns],
        is_new: bool = False,
    ) -> None:
        self._run_dir, self._launcher, self._key, self.boot = run_dir, launcher, key, boot
        self._facts, self._scan = EndFacts(run_dir, patterns), TagScan(key)
        if is_new and not run_dir.kept_attempts():
            self._scan.pass_over_present()
        self._followed: dict[int, _Followed] = {}
        self.selector = selectors.DefaultSelector()
        self.left_dead = False
        """Whether an attempt has ended whose session may have been killed, so that something of it is still there."""
        self.has_pidfd = True
        self._pace = ActivityPace()

    def follow(self, order: int, spec: JobSpec, attempt: Attempt, cwd: str, inherited: bool = False) -> None:
        """Begin to follow an attempt; `inherited` from an earlier manager."""
        self._followed[order] = _Followed(spec, attempt, cwd, inherited)

    def respecify(self, order: int, spec: JobSpec) -> None:
        """Judge an attempt by another spec of its job from now on, if it is followed."""
        if order in self._followed:
            self._followed[order].spec = spec

    def launched(self, order: int, frontend: subprocess.Popen[bytes] | None, error: str | None) -> None:
        """Take note of how the launch went so far."""
        self._followed[order].frontend, self._followed[order].launch_error = frontend, error

    def drop(self, order: int) -> None:
        """Follow an attempt no longer."""
        followed = self._followed.pop(order)
        # Only what came to its end by itself, or was asked to, has surely left nothing.
        self.left_dead |= followed.was_killed or followed.claim is None
        for fd in followed.fds:
            self._unwatch(fd)
        if followed.frontend is not None:
            followed.frontend.poll()

    def orders(self) -> list[int]:
        return list(self._followed)

    def close_up(self) -> list[int]:
        """Attempts that no event announces: not yet begun, being ended, or all where the kernel has no pidfd."""
        return [
            order
            for order, followed in self._followed.items()
            if not self.has_pidfd
            or followed.claim is None
            or followed.attempt.wrapper is None
            or (followed.gone_at is not None and not (followed.waits and followed.fds))
            or followed.closed_at is not None
            or followed.attempt.stopping is not None
        ]

    def over(self) -> set[int]:
        """Attempts whose command has ended while their wrapper stays, as far as that is not known yet."""
        return {
            order
            for order, followed in self._followed.items()
            if followed.gone_at is None
            and followed.claim is not None
            and self._run_dir.exit_record(followed.spec.id, followed.attempt.n) is not None
        }

    def ended(self, fd: int, order: int) -> bool:
        """A watched process of an attempt has ended. Returns whether it was the last one: wrapper and session end
        within a moment, in either order."""
        self._unwatch(fd)
        followed = self._followed[order]
        followed.fds.remove(fd)
        if followed.fds and followed.leftovers is None and self._has_left_nothing(followed):
            followed.leftovers = 0
        return not followed.fds

    def _has_left_nothing(self, followed: _Followed) -> bool:
        """Whether an attempt's wrapper has ended and nothing else of it lives; seen while its session ends."""
        over = self._is_alive(followed) is False
        return over and self._left(followed, _Look(self._key, self._scan, self._launcher)) == []

    def _unwatch(self, fd: int) -> None:
        self.selector.unregister(fd)
        os.close(fd)

    # -- evidence ---------------------------------------------------------------------------------------------

    def observe(self, orders: Iterable[int], now: float) -> dict[int, Evidence]:
        """Look at these attempts. One scan of the processes, one list of the sessions, as a rule."""
        look = _Look(self._key, self._scan, self._launcher)
        found = [order for order in orders if order in self._followed]
        for order in found:
            self._is_alive(self._followed[order])  # all ends that are known before the scan need no other one
        return {order: self._observe(order, self._followed[order], look, now) for order in found}

    def _is_alive(self, followed: _Followed) -> bool | Unreadable:
        """Whether an attempt's command runs. A wrapper with its verdict stays for what that left running."""
        claim, attempt = followed.claim, followed.attempt
        if claim is None or attempt.boot != self.boot:
            return False
        alive = processes.alive(claim.wrapper)
        if alive is True and self._run_dir.exit_record(followed.spec.id, attempt.n) is not None:
            alive = False
        if alive is False and followed.over_at is None:
            followed.over_at = time.monotonic()
        return alive

    def _observe(self, order: int, followed: _Followed, look: _Look, now: float) -> Evidence:
        job, attempt = followed.spec.id, followed.attempt
        if followed.claim is None:
            claim = self._run_dir.claim(job, attempt.n)
            if not isinstance(claim, Claim):
                return self._unclaimed(followed, claim, look)
            followed.claim = claim
            self._pace.began(now)
            self._watch_processes(order, followed, dict.fromkeys((claim.wrapper, claim.leader)))
            if followed.frontend is not None:
                followed.frontend.poll()
        claim = followed.claim
        if followed.proc is None:
            followed.proc = self._run_dir.started(job, attempt.n)
        same_boot = attempt.boot == self.boot
        alive = self._is_alive(followed)
        exit_record = self._run_dir.exit_record(job, attempt.n)
        if alive is True:
            followed.inherited = False
            leader = processes.alive(claim.leader)
            followed.closed_at = (followed.closed_at or now) if leader is False else None
            followed.was_killed |= leader is False
            closed_for = now - followed.closed_at if followed.closed_at else 0.0
            return Evidence(claim, True, leader, 0, 0.0, closed_for, followed.proc, idle=followed.idle.began)
        if alive is False and followed.gone_at is None:
            followed.gone_at = now
        if same_boot and alive is False and followed.leftovers != 0:
            # Once none is left none can come: only what was started by the attempt could start more of it.
            followed.leftovers = self._look_at_leftovers(order, followed, look, now)
        leader = processes.alive(claim.leader) if same_boot else False
        leftovers = followed.leftovers if same_boot and followed.leftovers is not None else 0
        gone = alive is False and leader is False and leftovers == 0
        followed.was_killed |= followed.quits > 1 or (gone and exit_record is None)
        return Evidence(
            claim,
            alive,
            leader,
            leftovers,
            now - followed.gone_at if followed.gone_at is not None else 0.0,
            0.0,
            followed.proc,
            exit_record,
            self._gather(followed, claim, exit_record) if gone else None,
            idle=followed.left_idle if followed.waits else None,
            inherited=followed.inherited,
            left=followed.left,
        )

    def _look_at_leftovers(self, order: int, followed: _Followed, look: _Look, now: float) -> int | Unreadable:
        """How many processes outlive the attempt's command; what they do is in `followed.left` then."""
        procs = self._left(followed, look)
        if isinstance(procs, Unreadable):
            return procs
        if followed.waits and not followed.fds:
            self._watch_processes(order, followed, procs)
        elif procs and followed.attempt.left is None:
            followed.left = self._leftovers(followed, procs, now)
        return len(procs)

    def _leftovers(self, followed: _Followed, procs: list[Proc], now: float) -> Leftovers | None:
        found, pattern = followed.left_watch.look(procs, now, followed.waits), followed.spec.expected_output
        claim = followed.claim
        if found is None or pattern is None or claim is None:
            return found
        there = evidence.find_output(pattern, followed.cwd, self._since(followed, claim)).fresh
        return replace(found, output_there=there)

    def _left(self, followed: _Followed, look: _Look) -> list[Proc] | Unreadable:
        """The processes of an attempt whose command has ended: those with its tag, else those that hold its gate, for
        which its wrapper stays."""
        # What was looked at before the command's end may lack what that began last.
        found = look.procs(followed.spec.id, followed.attempt.n, after=followed.over_at or 0.0)
        claim = followed.claim
        if found or claim is None or isinstance(found, Unreadable) or processes.alive(claim.wrapper) is not True:
            return found
        gate = self._run_dir.paths.attempt(followed.spec.id, followed.attempt.n).gate
        return [proc for proc in processes.holding(gate) if proc != claim.wrapper]

    def _unclaimed(self, followed: _Followed, claim: Revoked | Unreadable | None, look: _Look) -> Evidence:
        frontend = followed.frontend
        if frontend is not None and followed.launch_error is None and frontend.poll():
            complaint = self._run_dir.paths.attempt(followed.spec.id, followed.attempt.n).complaint
            _, words = evidence.scan_log(complaint, code=1)
            followed.launch_error = words or f"it ended with exit code {frontend.returncode}"
        quiet = followed.inherited and look.has_no_session(followed.attempt.session)
        return Evidence(claim, launch_error=followed.launch_error, quiet=quiet, inherited=followed.inherited)

    def _watch_processes(self, order: int, followed: _Followed, procs: Iterable[Proc]) -> None:
        if followed.attempt.boot != self.boot:
            return
        for proc in procs:
            try:
                fd = processes.open_pidfd(proc)
            except OSError:
                self.has_pidfd = False
                return
            if fd is not None:
                self.selector.register(fd, selectors.EVENT_READ, order)
                followed.fds.append(fd)

    def _gather(self, followed: _Followed, claim: Claim, exit_record: ExitRecord | None) -> Ended:
        def oom_kill() -> bool:
            killed = oom_kills()
            return killed is not None and followed.oom_kills is not None and killed > followed.oom_kills

        since = self._since(followed, claim)
        return self._facts.gather(followed.spec, followed.cwd, followed.attempt.n, since, exit_record, oom_kill)

    def _since(self, followed: _Followed, claim: Claim) -> int:
        return self._facts.since(followed.spec, followed.cwd, claim.at_ns)

    def queued(self) -> dict[int, str]:
        """A session begins at once."""
        return {}

    def began_ns(self, order: int) -> int | None:
        """When a followed attempt began, see EndFacts.since; None if it has not."""
        followed = self._followed[order]
        return None if followed.claim is None else self._since(followed, followed.claim)

    # -- activity -----------------------------------------------------------------------------------------------

    def sample_due(self) -> float:
        """When to look at what running attempts do (epoch seconds)."""
        return self._pace.due

    def sample(self, now: float, cards: Cards | Unreadable | None, pace: float) -> list[int]:
        """Take note of what each running attempt does. Returns those whose output is there and that do nothing, to be
        observed. `pace`: seconds over which that counts."""
        look = _Look(self._key, self._scan, self._launcher)
        idle = [order for order, followed in self._followed.items() if self._sample(followed, look, now, cards, pace)]
        self._pace.looked(now, list(self.doing().values()), pace, any(one.waits for one in self._followed.values()))
        return idle

    def doing(self) -> dict[int, Doing]:
        """What each running attempt did when that was last looked at."""
        return {order: one for order, followed in self._followed.items() if (one := followed.watched.doing) is not None}

    def _sample(
        self, followed: _Followed, look: _Look, now: float, cards: Cards | Unreadable | None, pace: float
    ) -> bool:
        spec, claim = followed.spec, followed.claim
        if claim is None or followed.attempt.wrapper is None:
            return False
        path = self._run_dir.paths.log(spec.id)
        doing = followed.watched.look(look.procs(spec.id, followed.attempt.n), claim.wrapper, path, now)
        if followed.waits:
            return self._sample_left(followed, look, now, cards)
        idle, output = followed.idle, spec.expected_output
        if output is not None and idle.is_due(now, pace):
            work = None if isinstance(doing, Unreadable) else Work(now, *doing, *log_mark(path))
            busy = work is None or idle.looks_busy(work) or _uses_cards(followed.attempt, cards)
            idle.looked(
                work, busy or not evidence.find_output(output, followed.cwd, self._since(followed, claim)).fresh
            )
        return idle.began is not None

    def _sample_left(self, followed: _Followed, look: _Look, now: float, cards: Cards | Unreadable | None) -> bool:
        """Look at what goes on after an attempt's command. Always to be observed: what it does decides its fate."""
        procs = self._left(followed, look)
        if procs and not isinstance(procs, Unreadable):
            followed.left = self._leftovers(followed, procs, now) or followed.left
        if isinstance(procs, Unreadable) or _uses_cards(followed.attempt, cards):
            followed.left_watch.idle = None
        followed.left_idle = followed.left_watch.idle
        return True

    # -- deeds --------------------------------------------------------------------------------------------------

    def stop(self, order: int, kill: bool) -> None:
        """Signal all that an attempt started."""
        followed = self._followed[order]
        look = _Look(self._key, self._scan, self._launcher)
        ended = followed.gone_at is not None
        procs = self._left(followed, look) if ended else look.procs(followed.spec.id, followed.attempt.n)
        if not isinstance(procs, Unreadable):
            processes.send(procs, signal.SIGKILL if kill else signal.SIGTERM)

    def close_unclaimed(self, order: int) -> None:
        """Close the session of an attempt that was taken back, if it came up after all."""
        session = self._followed[order].attempt.session
        sessions = self._launcher.sessions()
        if not isinstance(sessions, Unreadable) and session in sessions:
            self._launcher.close(sessions[session], session)

    def clean_up(self, is_ours: Callable[[str], bool]) -> None:
        """Remove what killed sessions of this run have left; see Launcher.clean_up."""
        self.left_dead = False
        self._launcher.clean_up(is_ours)

    def quit_session(self, order: int) -> None:
        """Close an attempt's session; the second time, by killing it."""
        followed = self._followed[order]
        if followed.claim is None:
            return
        leader = followed.claim.leader
        if followed.quits == 0:
            self._launcher.close(leader.pid, followed.attempt.session)
        else:
            processes.send([leader], signal.SIGKILL)
        followed.quits += 1


class _Look:
    """One look at the world: the process scan and the session list are made once, when first asked for."""

    def __init__(self, key: str, scan: TagScan, launcher: Launcher) -> None:
        self._key, self._scan, self._launcher = key, scan, launcher
        self._tagged: dict[str, list[Proc]] | Unreadable | None = None
        self._scanned_at = 0.0
        self._sessions: dict[str, int] | Unreadable | None = None

    def procs(self, job: str, n: int, after: float = 0.0) -> list[Proc] | Unreadable:
        """The processes of an attempt, as they are or were since `after` (monotonic)."""
        if self._tagged is None or self._scanned_at < after:
            self._scanned_at = time.monotonic()
            self._tagged = self._scan.tagged()
        if isinstance(self._tagged, Unreadable):
            return self._tagged
        return self._tagged.get(tag(self._key, job, n), [])

    def count(self, job: str, n: int) -> int | Unreadable:
        found = self.procs(job, n)
        return found if isinstance(found, Unreadable) else len(found)

    def has_no_session(self, name: str) -> bool:
        if self._sessions is None:
            self._sessions = self._launcher.sessions()
        return not isinstance(self._sessions, Unreadable) and name not in self._sessions


def _uses_cards(attempt: Attempt, cards: Cards | Unreadable | None) -> bool:
    """Whether one of its cards works, or it is unknown."""
    if not attempt.cards:
        return False
    if not isinstance(cards, Cards):
        return True
    idle = {card.uuid for card in cards.cards if card.util == 0}
    return not idle.issuperset(attempt.cards)
