"""Pull results, logs and state of a run from its hosts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from skill.common.errors import FailedError, UseError
from skill.common.project import workers_of
from skill.hosts.connection import Host
from skill.operations.build_spec import Say, ignore
from skill.runs import assignment, directory, pulled_states
from skill.runs.assignment import Assigned
from skill.runs.directory import Run
from skill.runs.path_map import map_paths
from skill.transfer import pull, relay
from skill.transfer.completeness import LEFTOVERS
from skill.transfer.pull import Turn
from skill.transfer.relay import Relayed

OnBytes = Callable[[str, int], None]
"""Receives the progress of a pull: the host, and the number of bytes that arrived."""
Progress = Callable[[], AbstractContextManager[OnBytes]]
"""Shows the progress of one pull."""


class Pulled(NamedTuple):
    """One pull: the outcome by host, what was copied between hosts, and whether the run has ended on all of them.

    `over`: hosts that had finished when they were last pulled completely. All their results are here, so they may be
    gone.
    """

    turns: Mapping[str, Turn]
    relayed: Sequence[Relayed]
    ended: bool
    over: frozenset[str]

    @property
    def failed(self) -> bool:
        """Whether something is missing or was refused."""
        fails = any(LEFTOVERS[kind].fails for turn in self.turns.values() for kind in turn.left)
        return fails or not all(map(self._is_here, self.turns.values())) or any(one.fault for one in self.relayed)

    @property
    def away(self) -> list[str]:
        """Hosts that could not be reached and may still have results."""
        return [turn.host for turn in self.turns.values() if turn.unreachable is not None and not self._is_here(turn)]

    @property
    def last(self) -> bool:
        """Whether another pull could bring nothing more."""
        again = any(LEFTOVERS[kind].again for turn in self.turns.values() for kind in turn.left)
        return self.ended and not again and all(map(self._is_here, self.turns.values()))

    def _is_here(self, turn: Turn) -> bool:
        return turn.whole or (turn.unreachable is not None and turn.host in self.over)


def pull_run(run: Run, names: Sequence[str] = (), say: Say = ignore, patience: float = pull.PATIENCE) -> Pulled:
    """Pull once from the hosts of a run: from `names`, or from all that were not given up.

    `say` gets lines about retries and about hosts that are no longer registered; `patience`: seconds per host. Raises
    UseError for a name that is not a host of the run, and FailedError where another pull is running.
    """
    with Puller(run, names, say) as puller:
        return puller.pull(patience)


class Places(NamedTuple):
    """Directories of what was pulled: results in `results`, logs and states of hosts in `hosts`."""

    results: tuple[Path, ...]
    hosts: Path


def results_below(run: Run) -> Places:
    """Return the directory for the results of a run on hosts. Raises UseError for a run on this machine."""
    found = assignment_of(run)
    manifest = directory.read_manifest(run, ours=True)
    results = dict.fromkeys(map_paths(run, found, manifest, part).here for part in found.parts)
    return Places(tuple(results), run.root / directory.HOST_FOLDERS)


class Puller:
    """Pull one run several times over connections that stay open. Use it in a `with` block.

    Raises UseError for a name that is not a host of the run.
    """

    def __init__(
        self, run: Run, names: Sequence[str], say: Say, progress: Progress = lambda: nullcontext(_ignore_bytes)
    ) -> None:
        self._run, self._names, self._say, self._progress = run, names, say, progress
        self._hosts = connect(self._run, self._names, self._say)

    def __enter__(self) -> Puller:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._close()

    def pull(self, patience: float = pull.PATIENCE) -> Pulled:
        """Pull once, and again where a rented host had moved to another address.

        `patience`: seconds per host. Raises FailedError where another pull is running.
        """
        done = self._pull(patience)
        if done.away and self._have_moved(done.away):
            self._close()
            self._hosts = connect(self._run, self._names, self._say)
            done = self._pull(patience)
        return done

    def until_the_end(self, every: float, tell: Callable[[Pulled], None]) -> Pulled:
        """Pull at an interval (seconds) until the run has ended and everything is here. `tell` receives each pull; a
        failed one is reported and repeated."""
        while True:
            begin = time.monotonic()
            try:
                done = self.pull()
            except FailedError as error:
                self._say(str(error))
            else:
                tell(done)
                if done.last:
                    return done
            time.sleep(max(0.0, every - (time.monotonic() - begin)))

    def _close(self) -> None:
        for host in self._hosts.values():
            host.close()
        self._hosts = {}

    def _pull(self, patience: float) -> Pulled:
        """Pull once, then copy outputs between hosts and tell rented machines what was pulled."""
        run = self._run
        manifest = directory.read_manifest(run, ours=True)
        with pull.alone(run):
            before = assignment_of(run)
            with self._progress() as on_bytes:
                turns = pull.pull(
                    run, manifest, pull.parts(before, self._names), self._hosts, self._say, on_bytes, patience
                )
            found = assignment_of(run)
            states = pulled_states.documents(run, found)
            relayed = relay.relay_inputs(run, found, manifest, self._hosts, turns, states, self._say)
            over = frozenset(host for host, state in states.items() if state["meta"]["manager"] == "finished")
            last = pull.conclude(run, manifest, states, time.time())
            return Pulled(turns, relayed, last, over & found.pulled.keys())

    def _have_moved(self, names: Sequence[str]) -> bool:
        """Return whether workers.yaml had an old address of one of these hosts, after updating it. Findings are
        reported."""
        from skill.fleet.reconcile import reconcile_before
        from skill.hosts.registry import Registry

        where = workers_of(self._run.root)
        before = Registry.load(where).workers
        for text in reconcile_before(where, names):
            self._say(text)
        after = Registry.load(where).workers
        return any(before[name].ssh != after[name].ssh for name in names if name in before and name in after)


def connect(run: Run, names: Sequence[str], say: Say) -> dict[str, Host]:
    """Connect to the hosts of a run that are to be pulled. Hosts that are no longer registered are reported and left
    out. Raises UseError."""
    from skill.hosts import registry

    found = assignment_of(run)
    where = workers_of(run.root)
    known = registry.Registry.load(where)
    hosts = {}
    for part in pull.parts(found, names):
        try:
            hosts[part.host] = registry.connect(known.named(part.host), where, pull.TRIES)
        except UseError as error:
            say(str(error))
    return hosts


def _ignore_bytes(_name: str, _size: int) -> None:
    pass


def assignment_of(run: Run) -> Assigned:
    """Return which host has which jobs of a run. Raises UseError for a run on this machine."""
    found = assignment.read(run)
    if found is None:
        raise UseError(f"run {run.id} runs on this machine: its results are already here")
    return found
