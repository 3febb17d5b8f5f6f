"""The end of a rented machine, carried out: what is seen of the machine, the run's own last commands, and requests to
the provider that are repeated until it confirms. It decides nothing; that is core.teardown's."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from queue_manager.adapters import commands, facts, vast
from queue_manager.adapters.files import SHOWN, write_whole
from queue_manager.core import machine, teardown
from queue_manager.core.layout import HostPaths, RunPaths
from queue_manager.core.machine import Container, Instance, MachineReading, Other
from queue_manager.core.model import QueueState
from queue_manager.core.readings import Unreadable
from queue_manager.core.teardown import Decision, SyncFirst
from queue_manager.core.times import epoch

_log = logging.getLogger(__name__)

PACE = 2.0
"""Seconds between requests to the provider; doubles up to SLOWEST while it does not answer as it should."""
SLOWEST = 120.0
SLOWEST_LOOK = 30.0
"""Seconds between looks at the machine, at most."""
PUSH_AGAIN = 30.0
"""Seconds until `results_to` is tried again; doubles up to PUSH_SLOWEST."""
PUSH_SLOWEST = 600.0


class Teardown:
    """Watches over the machine of one run. `wake` is called from other threads, when there is something to look at.

    `cwd`: of the run, absolute. `elsewhere`: whose runs have cards now that are none of this home, in words. `poll`:
    seconds between looks at the machine, up to SLOWEST_LOOK. `pace`: see PACE.
    """

    def __init__(
        self,
        paths: RunPaths,
        state: QueueState,
        host: HostPaths,
        environment: Mapping[str, str],
        cwd: str,
        poll: float,
        wake: Callable[[], None],
        elsewhere: Callable[[], Iterable[str]],
        pace: float = PACE,
    ) -> None:
        self._paths, self._state, self._host, self._wake = paths, state, host, wake
        self._elsewhere = elsewhere
        self._environment, self._cwd, self._poll, self._pace = environment, cwd, poll, pace
        self._guarded = teardown.guarded(state.manifest)
        self._reading: MachineReading | None = None
        self._decision: Decision | None = None
        self._looked_at = -1e9
        self._news = False
        self._others: dict[Path, tuple[object, Other]] = {}
        self._doing: str | None = None
        self._completed: int | None = None
        self._pushed = 0
        self._push_fault: str | None = None
        self._push_at, self._push_pause = 0.0, PUSH_AGAIN
        self._wanted: tuple[str, int] | None = None
        self._confirmed: str | None = None
        self._fault: str | None = None
        self._stir = threading.Event()

    # -- look -----------------------------------------------------------------------------------------------------

    def look(self, now: float, rung: bool) -> MachineReading | None:
        """What is seen of the machine; None where the run does not ask, or it is not time yet."""
        if not self._guarded or not (rung or self._news or now >= self.due()):
            return None
        self._looked_at, self._news = now, False
        doing = self._doing  # before `completed`, which is there before the other goes
        completed, self._completed = self._completed, None
        instance, container = _instance(self._paths), vast.container(self._environment)
        if isinstance(container, Unreadable) and instance is None:
            container = Container(None, None)  # another user's process 1, and nothing says that the machine is rented
        self._reading = MachineReading(
            container=container if isinstance(container, Unreadable) else container.id,
            key=isinstance(container, Container) and container.key is not None,
            instance=instance,
            acknowledged=_acknowledged(self._paths),
            others=None if self._state.live else (*self._look_around(now), *self._at_work()),
            doing=doing,
            completed=completed,
            pushed=self._pushed,
            push_fault=self._push_fault,
            confirmed=self._confirmed,
            fault=self._fault,
        )
        return self._reading

    def due(self) -> float:
        """When to look next (epoch seconds)."""
        return self._looked_at + min(self._poll, SLOWEST_LOOK) if self._guarded else float("inf")

    def _at_work(self) -> list[Other]:
        """Runs of other homes and users that have cards. What is at work is not known of the rest of them."""
        return [Other(f"of {owner}", busy=True, left=False, safe=True) for owner in self._elsewhere()]

    def _look_around(self, now: float) -> list[Other]:
        """The other runs of this home. Of those that have not changed, nothing is read again."""
        try:
            places = [path for path in self._host.runs.iterdir() if path.is_dir()]
        except OSError as error:
            # Whether others work here is not known, and the machine stays as long as that is so.
            return [Other(f"unknown ({self._host.runs}: {error.strerror})", busy=True, left=False, safe=True)]
        patience = self._state.manifest.idle_after or teardown.PUSH
        mine = self._paths.root.resolve()
        return [
            self._other(RunPaths.of(path), now, patience)
            for path in sorted(places)
            if path.resolve() != mine and (path / self._paths.journal.name).exists()
        ]

    def _other(self, paths: RunPaths, now: float, patience: float) -> Other:
        stamp = (_stamp(paths.state), _stamp(paths.acknowledged))
        known = self._others.get(paths.root)
        if known is not None and known[0] == stamp and not known[1].left:
            return known[1]
        meta = facts.state_meta(paths.state)
        held = meta.get("manager") != "finished" and _may_be_held(paths)
        found = machine.other(paths.root.name, meta, held, _acknowledged(paths), now, patience)
        self._others[paths.root] = (stamp, found)
        return found

    # -- what is to be shown and done -----------------------------------------------------------------------------

    @property
    def waits(self) -> bool:
        """Whether a finished run's manager stays."""
        return teardown.waits(self._state, self._reading)

    def row(self, now: float) -> dict[str, object] | None:
        """For a snapshot."""
        return teardown.row(self._state, self._reading, self._decision, now)

    def follow(self, decision: Decision | None) -> bool:
        """Carry out what the journal holds by now: the intent to end the machine, or the results that go first.

        Returns whether there is something new to be shown.
        """
        if not self._guarded:
            return False
        known, self._decision = self._decision, decision or self._decision
        going = self._state.machine.teardown
        wanted = None if going is None or going.done else (going.plan, going.instance)
        if wanted != self._wanted:
            self._wanted, self._confirmed, self._fault = wanted, None, None
            self._stir.set()
            self._stir = stir = threading.Event()
            if wanted is not None:
                text = teardown.note(self._state, self._reading or MachineReading())
                self._start("teardown", lambda: self._end(wanted, text, stir))
        if isinstance(decision, SyncFirst) and self._doing is None and time.monotonic() >= self._push_at:
            command, upto = self._state.manifest.results_to, self._state.results_seq
            pulled = max(self._pushed, self._state.pushed_seq, self._reading.acknowledged if self._reading else 0)
            if command is not None and upto > pulled:
                self._doing = "results_to"
                self._start("results_to", lambda: self._push(command, upto))
        return self._decision != known

    def complete(self) -> None:
        """Run `on_complete` beside the loop, which has to go on."""
        self._doing = "on_complete"
        self._start("on_complete", self._complete)

    def close(self) -> None:
        """Send no further request."""
        self._wanted = None
        self._stir.set()

    # -- in threads of their own ----------------------------------------------------------------------------------

    def _start(self, name: str, work: Callable[[], None]) -> None:
        threading.Thread(target=work, name=name, daemon=True).start()

    def _tell(self) -> None:
        self._news = True
        self._wake()

    def _run(self, bash: str, more: Mapping[str, str] = MappingProxyType({})) -> int:
        state, environment = self._state, {**self._environment, **more}
        return commands.run(self._paths, state.manifest, state.run_id, environment, self._cwd, bash)

    def _complete(self) -> None:
        code = self._run(self._state.manifest.on_complete or ":", commands.told_at_the_end(self._state))
        _log.info("on_complete ended with exit code %d", code)
        self._completed, self._doing = code, None
        self._tell()

    def _push(self, command: str, upto: int) -> None:
        code = self._run(command)
        _log.info("results_to ended with exit code %d", code)
        if code == 0:
            self._pushed, self._push_fault = upto, None
            self._push_at, self._push_pause = 0.0, PUSH_AGAIN
        else:
            self._push_fault = f"results_to ended with exit code {code}: see {self._paths.manager_log}"
            self._push_at = time.monotonic() + self._push_pause
            self._push_pause = min(PUSH_SLOWEST, self._push_pause * 2)
        self._doing = None
        self._tell()

    def _end(self, wanted: tuple[str, int], text: str, stir: threading.Event) -> None:
        """Stop or destroy, until the provider confirms it by id, or it is no longer wanted."""
        plan, instance = wanted
        try:
            write_whole(self._paths.teardown, [text.encode()], mode=SHOWN)
        except OSError as error:
            _log.error("%s cannot be written: %s", self._paths.teardown, error)
        pause, ending = self._pace, Ending(plan, instance, self._environment, self._pace)
        while self._wanted == wanted and not stir.is_set():
            fault = ending.once(stir)
            if self._wanted != wanted:
                return
            if fault is None:
                _log.info("%s of instance %d is confirmed", plan, instance)
                self._confirmed = plan
                self._tell()
                return
            _log.warning("%s of instance %d: %s", plan, instance, fault)
            if self._fault is None:
                self._fault = fault
                self._tell()
            stir.wait(pause)
            pause = min(SLOWEST, pause * 2)


class Ending:
    """The end of one instance, tried until a query by id confirms it. `pace`: see PACE."""

    def __init__(self, plan: str, instance: int, environment: Mapping[str, str], pace: float = PACE) -> None:
        self._plan, self._instance, self._environment, self._pace = plan, instance, environment, pace
        self._known = self._asked = False

    def once(self, stir: threading.Event) -> str | None:
        """One try: None once it is confirmed, else why it is not. `stir` ends the waits in between.

        It is asked first: an earlier manager may have done it. Where no answer comes the request is sent all the same:
        it was decided before, and does no harm twice.
        """
        container = vast.container(self._environment)
        if not isinstance(container, Container) or container.id != self._instance:
            return f"this machine no longer identifies itself as instance {self._instance}"
        if container.key is None:
            return "process 1 no longer has CONTAINER_API_KEY"
        if self._confirmed(container.key) is True:
            return None
        if stir.is_set():
            return "it is no longer wanted"
        self._asked = True
        reply = self._send(container.key, vast.build_end(self._plan, self._instance))
        refused = reply.reason if isinstance(reply, Unreadable) else vast.parse_end(reply)
        if refused is not None:
            return refused
        _log.info("requested %s of instance %d", self._plan, self._instance)
        shown: bool | Unreadable = False
        for pause in (self._pace / 2, self._pace, self._pace * 2):  # it may be listed for a moment longer
            if stir.wait(pause):
                break
            shown = self._confirmed(container.key)
            if shown is True:
                return None
        return (
            shown.reason
            if isinstance(shown, Unreadable)
            else "Vast.ai accepted the request, but its state has not changed"
        )

    def _send(self, key: str, call: vast.Call) -> vast.Reply | Unreadable:
        from queue_manager.adapters import vast_send

        return vast_send.send(vast.server(self._environment), key, call)

    def _confirmed(self, key: str) -> bool | Unreadable:
        reply = self._send(key, vast.build_query(self._instance))
        if isinstance(reply, Unreadable):
            return reply
        if self._plan == "destroy" and self._known and self._asked and vast.key_refused(reply):
            return True  # the key was that of the instance alone, and has gone with it
        shown = vast.parse_query(reply, self._plan)
        self._known |= not isinstance(shown, Unreadable)
        return shown


def away(paths: RunPaths, state: QueueState, boot: str, now: float) -> float:
    """Seconds between the last sign of the machine's life before this one and now; 0 if it is the same life.

    It was not running for so long, and only its disk was billed.
    """
    if not teardown.guarded(state.manifest) or not state.machine.boot or state.machine.boot == boot:
        return 0.0
    try:
        return round(max(0.0, now - epoch(facts.state_meta(paths.state)["updated"])), 3)
    except (KeyError, ValueError, TypeError, AttributeError):
        return 0.0


def _instance(paths: RunPaths) -> Instance | Unreadable | None:
    try:
        return machine.parse_instance(paths.instance.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        return Unreadable(f"{paths.instance}: {error}")


def _acknowledged(paths: RunPaths) -> int:
    try:
        return machine.parse_acknowledged(paths.acknowledged.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return 0


def _may_be_held(paths: RunPaths) -> bool:
    """Whether a manager holds a run, or it is unknown."""
    try:
        return facts.held_by(paths.lock) is not None
    except OSError:
        return True


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_mtime_ns, info.st_size
