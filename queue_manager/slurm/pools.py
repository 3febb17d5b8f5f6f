"""The pools of a run: allocations that attempts with `gpu_mem_mib` share, each with a pilot in it, see `pilot`.

Attempts that ask Slurm for the same are offered to all pilots of one pool. While some wait, pilots are submitted, up to
`allocations` at a time; while none does, those that wait in Slurm's queue are taken out. How many there are decides
nothing about an attempt: its claim does. So a pilot too many does no harm, and what a lost one leaves is offered still.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import queue_manager
from queue_manager.adapters.files import write_text
from queue_manager.core.layout import RunPaths, shared_name
from queue_manager.core.readings import Unreadable
from queue_manager.slurm import commands, wrapper
from queue_manager.slurm.admission import Admission
from queue_manager.slurm.batches import Batch, Batches, Task, last_line
from queue_manager.slurm.cluster import Cluster
from queue_manager.slurm.commands import Listed
from queue_manager.slurm.nodes import with_excluded
from queue_manager.slurm.orders import Gone, Orders, Seen
from queue_manager.slurm.packing import Offer
from queue_manager.slurm.sent import Sent

MARK = "@"
"""First character of what stands for an attempt in a batch of pilots; no job id begins so."""
LOOKS_PER_POLL = 5
"""Looks of a pilot at its orders, for one poll of the manager."""
FASTEST = 0.1
"""Seconds between two of them, at least."""
LOST_AFTER = 150.0
"""As of tasks, see `watch`."""
AGAIN = 60.0
"""Seconds after which one more pilot is tried, where others of the pool go on."""
_NO_FAULT = (*commands.LOST, "COMPLETED", "TIMEOUT", "CANCELLED")


class Asked(NamedTuple):
    """What allocations of a pool have in common: sbatch's options, what their environment has beside it, and how many
    there may be at a time."""

    options: tuple[str, ...]
    values: tuple[tuple[str, str], ...]
    allocations: int


class _Pilot:
    """One pilot: a task of a batch. `has_run`: an attempt was seen to run in it; `is_kept`: it is of an earlier
    manager."""

    def __init__(self, sent: Sent, task: int, is_kept: bool) -> None:
        self.sent, self.task, self.is_kept = sent, task, is_kept
        self.has_run = False
        self.is_held = is_kept

    @property
    def place(self) -> tuple[str, int]:
        return self.sent.batch.name, self.task


class _Pool:
    """`waiting`: attempts that are offered, and that nobody is known to have begun; `asked`: None where only an earlier
    manager knows; `error`: why nothing can begin them, and whether that passes by itself. `opens`: before that no more
    pilots are submitted beside others (epoch seconds), since one was refused or could not start."""

    def __init__(self, name: str, orders: Orders) -> None:
        self.name, self.orders = name, orders
        self.asked: Asked | None = None
        self.pilots: list[_Pilot] = []
        self.waiting: set[str] = set()
        self.error: tuple[str, bool] | None = None
        self.opens = 0.0


class Pools:
    """The pools of one run. `poll` in seconds; `lost_after`: seconds after which a pilot that Slurm does not list was
    never submitted. `note` is called with each batch that is about to be submitted."""

    note: Callable[[Batch], Sent]

    def __init__(
        self,
        paths: RunPaths,
        store: Batches,
        cluster: Cluster,
        key: str,
        poll: float,
        is_paused: Callable[[], bool],
        admission: Admission,
    ) -> None:
        self._paths, self._store, self._cluster, self._key = paths, store, cluster, key
        self._poll, self._is_paused, self._admission = poll, is_paused, admission
        self._pause = store.root / "paused"
        self._was_paused: bool | None = None
        self._pools: dict[str, _Pool] = {}
        self._pool_of: dict[str, _Pool] = {}
        self.note = Sent

    def know(self, sent: Sent) -> None:
        """Take note of a batch that an earlier manager has made, if it is one of pilots."""
        pool = self._of(sent.batch)
        if pool is None:
            return
        pool.pilots += [_Pilot(sent, task, True) for task in range(len(sent.batch.tasks))]
        look = pool.orders.look()
        for attempt in look.offered if isinstance(look, Seen) else ():
            pool.waiting.add(attempt)
            self._pool_of[attempt] = pool

    def _of(self, batch: Batch) -> _Pool | None:
        """The pool of a batch of pilots; None of another batch."""
        first = next(iter(batch.attempts), "")
        return self._pool(first[len(MARK) :].partition("~")[0]) if first.startswith(MARK) else None

    def _pool(self, name: str) -> _Pool:
        if name not in self._pools:
            self._pools[name] = _Pool(name, Orders(self._store.root / "pools" / name))
        return self._pools[name]

    def has(self, attempt: str) -> bool:
        """Whether an attempt is offered, or runs in a pilot."""
        return attempt in self._pool_of

    def waiting_for(self, sent: Sent) -> set[str]:
        """The attempts that wait for the pilots of this batch; none where it is no batch of pilots."""
        pool = self._of(sent.batch)
        return set() if pool is None else pool.waiting

    def wanted(self) -> list[str]:
        """What stands in batches of pilots, of those that somebody waits for."""
        return [
            name for pool in self._pools.values() if pool.waiting for p in pool.pilots for name in p.sent.batch.attempts
        ]

    def note_pause(self) -> None:
        """Let pilots begin nothing while the run is paused."""
        paused = self._is_paused()
        if paused != self._was_paused:
            with contextlib.suppress(OSError):
                if paused:
                    write_text(self._pause, "")
                else:
                    self._pause.unlink(missing_ok=True)
                self._was_paused = paused

    # -- attempts -----------------------------------------------------------------------------------------------

    def offer(self, asked: Asked, offers: Iterable[Offer], now: float) -> None:
        """Offer attempts to the pilots of the pool for what they ask; `now` in epoch seconds. Raises OSError."""
        pool = self._pool(shared_name(json.dumps([self._key, asked])))
        pool.asked, pool.error = asked, None
        pool.pilots = [one for one in pool.pilots if one.sent.refusal is None]
        pool.orders.make()
        for offer in offers:
            pool.orders.offer(offer)
            pool.waiting.add(offer.attempt)
            self._pool_of[offer.attempt] = pool
        self._staff(pool, now)

    def began(self, attempt: str, sent: Sent, task: int) -> None:
        """Take note that a pilot runs an attempt."""
        pool = self._of(sent.batch)
        if pool is None:
            return
        self._pool_of[attempt] = pool
        pool.waiting.discard(attempt)
        pool.orders.withdraw(attempt)
        for one in pool.pilots:
            if one.place == (sent.batch.name, task):
                one.has_run = True

    def stop(self, attempt: str, kill: bool) -> None:
        """Have an attempt that runs asked to end, or ended. One that has not begun is not offered any more."""
        pool = self._pool_of[attempt]
        if attempt in pool.waiting:
            self.forget(attempt)
        else:
            with contextlib.suppress(OSError):  # it is asked again
                pool.orders.stop(attempt, kill)

    def forget(self, attempt: str) -> None:
        """Remove all about an attempt that has ended, or was taken back."""
        pool = self._pool_of.pop(attempt, None)
        if pool is not None:
            pool.waiting.discard(attempt)
            pool.orders.forget(attempt)

    def end(self) -> None:
        """Let pilots end that have nothing to do: the run is over."""
        for pool in self._pools.values():
            if not isinstance(pool.orders.look(), Gone):
                with contextlib.suppress(OSError):
                    pool.orders.end()

    # -- pilots -------------------------------------------------------------------------------------------------

    def keep(self, now: float) -> None:
        """Submit pilots where attempts wait for one. Call it when Slurm has been asked."""
        for pool in self._pools.values():
            living = [one for one in pool.pilots if self._may_live(one, now)]
            faults = [why for one in pool.pilots if one not in living and (why := self._fault(one, now)) is not None]
            if faults and living:
                pool.opens = now + AGAIN
            elif faults and pool.waiting and pool.error is None:
                pool.error = faults[0]
            pool.pilots = living
            self._staff(pool, now)
        self._hold()

    def _staff(self, pool: _Pool, now: float) -> None:
        if pool.asked is None or pool.error is not None or self._is_paused():
            return
        if pool.pilots and now < pool.opens:
            return
        missing = min(pool.asked.allocations, len(pool.waiting)) - len(pool.pilots)
        if missing <= 0:
            return
        tasks = [[Task(MARK + pool.name, index, "")] for index in range(missing)]
        try:
            batch = self._store.make(tasks, now, wrapper.pilot_script(self._command(pool)))
        except OSError as error:
            pool.error = str(error), False
            return
        sent = self.note(batch)
        pool.pilots += [_Pilot(sent, index, False) for index in range(missing)]
        options = with_excluded(pool.asked.options, self._admission.nodes.excluded(now))
        self._cluster.submit(batch, options, dict(pool.asked.values))

    def _command(self, pool: _Pool) -> list[str]:
        """The command of a pilot. It has our code from where this manager has it."""
        folder = Path(queue_manager.__file__ or "").resolve().parent.parent
        alone = ("-E", "-s", "-S") if (folder / "__main__.py").exists() else ()  # all that it imports is in there
        code = f"import sys; sys.path.insert(0, {str(folder)!r}); from queue_manager.slurm import pilot as p; p.main()"
        return [
            sys.executable, *alone, "-B", "-c", code, "--run", str(self._paths.root), "--logs",
            str(self._paths.log_dir), "--pool", str(pool.orders.directory), "--key", self._key, "--poll",
            f"{max(FASTEST, self._poll / LOOKS_PER_POLL):g}",
        ]  # fmt: skip

    def _row(self, pilot: _Pilot) -> Listed | Unreadable | None:
        """What Slurm lists of a pilot since it was submitted; None if it lists nothing."""
        listing, sent = self._cluster.listing, pilot.sent
        if sent.at is None or listing is None or listing.asked < sent.at:
            return Unreadable("was submitted to Slurm")
        return listing.tasks if isinstance(listing.tasks, Unreadable) else listing.tasks.get(pilot.place)

    def _may_live(self, pilot: _Pilot, now: float) -> bool:
        if pilot.sent.refusal is not None:
            return False
        row = self._row(pilot)
        if row is None:
            return not pilot.is_kept and now - (pilot.sent.at or now) < LOST_AFTER
        return isinstance(row, Unreadable) or row.state not in commands.OVER

    def _fault(self, pilot: _Pilot, now: float) -> tuple[str, bool] | None:
        """Why a pilot that is over has run nothing, and whether that passes by itself; None where nothing is wrong."""
        if pilot.sent.refusal is not None:
            return pilot.sent.refusal, pilot.sent.put_off
        row = self._row(pilot)
        if pilot.has_run or pilot.is_kept or not isinstance(row, Listed) or row.state in _NO_FAULT:
            return None
        directory, place = pilot.sent.batch.directory, f" on {row.node}" if row.node else ""
        why = f"Slurm: {row.state} ({row.reason}){place}: "
        why += last_line(directory / f"{pilot.task}.out") or f"see {directory}"
        return why, bool(row.node) and self._admission.nodes.failed(row.node, f"jobs cannot start there: {why}", now)

    def _hold(self) -> None:
        """Keep pilots in the queue from starting while the run is paused, and let them start when it goes on."""
        paused, changed = self._is_paused(), []
        for one in (one for pool in self._pools.values() for one in pool.pilots):
            row = self._row(one)
            if isinstance(row, Listed) and row.state == "PENDING":
                is_held = row.reason.startswith("JobHeld")
                if is_held != paused and (paused or one.is_held):
                    one.is_held = True
                    changed.append(one.place)
        self._cluster.tell(commands.hold if paused else commands.release, changed)

    # -- words --------------------------------------------------------------------------------------------------

    def error(self, attempt: str) -> tuple[str, bool] | None:
        """Why nothing can begin an attempt, and whether that passes by itself; None where it waits."""
        pool = self._pool_of[attempt]
        refused = [one.sent for one in pool.pilots if one.sent.refusal is not None]
        if len(refused) < len(pool.pilots) or not refused:
            return pool.error
        return refused[0].refusal or "", refused[0].put_off

    def never(self, attempt: str) -> bool:
        """Whether Slurm has said that it can never run such a pilot."""
        return any(one.sent.never for one in self._pool_of[attempt].pilots)

    def where(self, attempt: str) -> str | None:
        """Where an attempt waits that nobody has begun; None if no pilot is left to begin it and none will be
        submitted."""
        pool = self._pool_of[attempt]
        if not pool.pilots and pool.asked is None:
            return None
        rows = [row for one in pool.pilots if isinstance(row := self._row(one), Listed)]
        running = sorted({row.node for row in rows if row.state == "RUNNING"})
        if running:
            return f"waits for GPU memory in its allocation on {', '.join(running)}"
        if not rows:
            unread = next((row.reason for one in pool.pilots if isinstance(row := self._row(one), Unreadable)), None)
            return unread or "is being submitted to Slurm"
        why = f": {rows[0].reason}" if rows[0].reason not in ("None", "") else ""
        return f"waits in Slurm's queue ({rows[0].state.lower()}{why})"
