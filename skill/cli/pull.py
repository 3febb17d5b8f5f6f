"""The verb that brings results, logs and state home: pull."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click

from build_manifest.faults import listed
from queue_manager.core.summary import duration
from skill.cli.console import print_json, say
from skill.cli.options import JSON, RUN, the_run, time_option
from skill.common.errors import DONE, FAILED, INTERRUPTED, FailedError, UseError
from skill.common.units import size_text
from skill.hosts.connection import Host
from skill.runs import assignment, directory, pulled_states
from skill.runs.assignment import Placed
from skill.runs.directory import Run
from skill.runs.open import on_hosts
from skill.runs.path_map import ground
from skill.terminal import live
from skill.transfer import pull, relay
from skill.transfer.pull import Turn
from skill.transfer.relay import Carried

_NAMED = 5
_FRAME = 0.25
"""Seconds between two changes of the line that shows how much has come."""


class Pulled(NamedTuple):
    """One pull: how it went on each host, what was carried on, and whether the run has ended on all of them.

    `over`: hosts that had finished when they were last pulled whole: all that they had is here, and they may be gone.
    """

    turns: Mapping[str, Turn]
    carried: Sequence[Carried]
    ended: bool
    over: frozenset[str]

    @property
    def failed(self) -> bool:
        refused = any(turn.received.refused or any(turn.doubts) for turn in self.turns.values())
        return refused or not all(map(self._is_here, self.turns.values())) or any(one.fault for one in self.carried)

    @property
    def away(self) -> list[str]:
        """Hosts that could not be reached, and may yet have something for us."""
        return [turn.host for turn in self.turns.values() if turn.unreachable is not None and not self._is_here(turn)]

    @property
    def last(self) -> bool:
        """Whether another pull could bring nothing more."""
        return self.ended and all(self._is_here(turn) and not turn.received.later for turn in self.turns.values())

    def _is_here(self, turn: Turn) -> bool:
        return turn.whole or (turn.unreachable is not None and turn.host in self.over)


@click.command("pull", short_help="Copy results, logs and state from the hosts to this machine.")
@click.argument("run", required=False, metavar="[RUN]")
@RUN
@click.option(
    "--host", "names", metavar="NAME", multiple=True, help="Pull from this host only; may be given several times."
)
@click.option(
    "--every", callback=time_option, metavar="TIME", help="Pull again every TIME, such as 30m, until the run has ended."
)
@JSON
def pull_verb(run: str | None, run_name: str | None, names: tuple[str, ...], every: float | None, as_json: bool) -> int:
    """Bring home what a run has on its hosts: results (expected_output, and pull: in the spec), logs and state.

    Only what is newer there is taken, and checked by its hash; nothing is deleted, and nothing that is newer here is
    overwritten. A glob takes no program, no hidden file, and nothing in the place of a file that git tracks, that was
    here before, or that came from another host: spell such a name out. Results go where a run on this machine would
    have written them. Exit code 1 if something is missing or was refused.
    """
    if run is not None and run_name is not None:
        raise UseError("give RUN or --run, not both")
    meant = _meant(run or run_name)
    hosts = _connect(meant, names)
    try:
        done = _mending(meant, names, hosts) if every is None else _go_on(meant, names, hosts, every, as_json=as_json)
    except KeyboardInterrupt:
        again = f" --every {every:g}s" if every is not None else ""
        say(f"left; what came is kept, and {meant.id} goes on. Go on pulling: wavequeue pull {meant.id}{again}")
        return INTERRUPTED
    finally:
        for host in hosts.values():
            host.close()
    if as_json:
        print_json(_document(meant, done))
    elif every is None:
        _report(meant, done)
    return FAILED if done.failed else DONE


def _meant(name: str | None) -> Run:
    """The run that is meant: by name, or else the newest on hosts. Raises UseError."""
    if name is None:
        known = directory.known(Path.cwd(), Path.home())
        found = next((run for run in known if on_hosts(run)), None)
        if found is None:
            raise UseError("no run is on hosts; submit one with: wavequeue submit SPEC")
        return found
    run = the_run(name)
    if not on_hosts(run):
        raise UseError(f"run {run.id} runs on this machine: its results are here already")
    return run


def _connect(run: Run, names: Sequence[str]) -> dict[str, Host]:
    """The ways to the hosts of a run. One that is registered no more is said, and left out."""
    from skill.hosts import registry

    found = assignment.read(run)
    assert found is not None
    where = _registry(found)
    known = registry.Registry.load(where)
    hosts = {}
    for part in pull.parts(found, names):
        try:
            hosts[part.host] = registry.connect(known.named(part.host), where, pull.TRIES)
        except UseError as error:
            say(str(error))
    return hosts


def _registry(found: Placed) -> Path:
    from skill.hosts import registry

    here = registry.locate(Path.cwd())
    return here if here.exists() else registry.locate(Path(found.source))


def once(run: Run, patience: float) -> Pulled:
    """One pull of a run from all its hosts, for other verbs, in `patience` seconds. What was not taken is said.

    Raises FailedError.
    """
    hosts = _connect(run, ())
    try:
        done = _mending(run, (), hosts, patience)
    finally:
        for host in hosts.values():
            host.close()
    _details(done)
    return done


def _mending(run: Run, names: Sequence[str], hosts: dict[str, Host], patience: float = pull.PATIENCE) -> Pulled:
    """One pull, and another one if a rented host could not be reached because it had moved. `hosts` are then new."""
    done = _pull(run, names, hosts, patience)
    if done.away and _have_moved(run, done.away):
        for host in hosts.values():
            host.close()
        hosts.clear()
        hosts.update(_connect(run, names))
        done = _pull(run, names, hosts, patience)
    return done


def _have_moved(run: Run, names: Sequence[str]) -> bool:
    """Whether workers.yaml had an old address of one of these hosts, which is mended now; what is found is said."""
    from skill.fleet.reconcile import reconcile_before
    from skill.hosts.registry import Registry

    found = assignment.read(run)
    assert found is not None
    where = _registry(found)
    before = Registry.load(where).workers
    for text in reconcile_before(where, names):
        say(text)
    after = Registry.load(where).workers
    return any(before[name].ssh != after[name].ssh for name in names if name in before and name in after)


def _pull(run: Run, names: Sequence[str], hosts: Mapping[str, Host], patience: float) -> Pulled:
    """One pull, and what follows from it. Raises FailedError where another is at work."""
    manifest = directory.read_manifest(run, ours=True)
    with pull.alone(run):
        before = assignment.read(run)
        assert before is not None
        with _progress() as heard:
            turns = pull.pull(run, manifest, pull.parts(before, names), hosts, say, heard, patience)
        found = assignment.read(run)
        assert found is not None
        states = pulled_states.documents(run, found)
        carried = relay.carry(run, found, manifest, hosts, turns, states, say)
        over = frozenset(host for host, state in states.items() if state["meta"]["manager"] == "finished")
        return Pulled(turns, carried, pull.conclude(run, manifest, time.time()), over & found.pulled.keys())


@contextmanager
def _progress() -> Iterator[Callable[[str, int], None]]:
    """A line on a terminal that shows how much has come of each host."""
    console = live.console(error=True)
    sizes: dict[str, int] = {}
    shown = time.monotonic()
    with console.status("pulling") as line:

        def heard(name: str, size: int) -> None:
            nonlocal shown
            sizes[name] = sizes.get(name, 0) + size
            if time.monotonic() - shown > _FRAME:
                shown = time.monotonic()
                line.update("pulling: " + ", ".join(f"{one} {size_text(sizes[one])}" for one in sorted(sizes)))

        yield heard if console.is_terminal else lambda _name, _size: None


def _go_on(run: Run, names: Sequence[str], hosts: dict[str, Host], every: float, *, as_json: bool) -> Pulled:
    """Pull until the run has ended and all is here, with a line for each pull."""
    while True:
        begin = time.monotonic()
        try:
            done = _mending(run, names, hosts)
        except FailedError as error:
            say(str(error))
        else:
            at = time.strftime("%H:%M:%S")
            print(f"{at} {line(run, done)}", file=sys.stderr if as_json else sys.stdout, flush=True)
            _details(done)
            if done.last:
                return done
        time.sleep(max(0.0, every - (time.monotonic() - begin)))


# -- what is printed ----------------------------------------------------------------------------------------------


def line(run: Run, done: Pulled) -> str:
    """One pull in one line."""
    texts = [f"{turn.host}: {_brought(turn) if turn.whole else _missed(run, turn)}" for turn in done.turns.values()]
    return f"{'; '.join(texts)}{'; the run has ended' if done.ended else ''}"


def _report(run: Run, done: Pulled) -> None:
    for turn in done.turns.values():
        print(f"{turn.host}: {_brought(turn) if turn.whole else _missed(run, turn)}")
    _details(done)
    found = assignment.read(run)
    assert found is not None
    manifest = directory.read_manifest(run, ours=True)
    places = dict.fromkeys(str(ground(run, found, manifest, part).here) for part in found.parts)
    print(f"results are below {listed(places)}, logs and state below {run.root / directory.MIRRORS}")
    if done.ended:
        print(f"the run has ended: {run.paths.summary}")


def _details(done: Pulled) -> None:
    """What was not taken, and what was carried on."""
    for turn in done.turns.values():
        got = turn.received
        for name, why in got.refused:
            say(f"{turn.host}: {name} {why}")
        if got.kept:
            say(f"{turn.host}: newer here, and kept: {listed(got.kept, _NAMED)}")
        if got.later:
            say(f"{turn.host}: changed while being read, and left for the next pull: {listed(got.later, _NAMED)}")
        if got.ahead:
            say(
                f"{turn.host}: from the future by its clock, and given the time of this machine: "
                f"{listed(got.ahead, _NAMED)}"
            )
        for job, output in turn.doubts.missing[:_NAMED]:
            say(f"{turn.host}: {job} has completed there, but of its output {output} nothing is here")
        for name, job in turn.doubts.unproven[:_NAMED]:
            say(f"{turn.host}: {name} came, but by its manager's record {job} never ran there: do not rely on it")
        left = sum(max(0, len(found) - _NAMED) for found in turn.doubts)
        if left:
            say(f"{turn.host}: and {left} outputs more that do not agree with its manager's record")
        if got.more:
            say(f"{turn.host}: and {got.more} files more")
        if turn.outside:
            where = "write outside of the code's directory; these outputs are not pulled"
            say(f"{turn.host}: {listed(turn.outside, _NAMED)} {where}")
    for one in done.carried:
        what = f"what {listed(one.jobs, _NAMED)} wrote"
        if one.fault is None:
            say(f"{what} was carried to {one.dst}")
        else:
            say(f"{what} could not be carried to {one.dst}: {one.fault}")


def _brought(turn: Turn) -> str:
    got = turn.received
    if not got.files:
        return f"nothing new, {got.same} files are here already"
    return f"{got.files} files, {size_text(got.size)}"


def _missed(run: Run, turn: Turn) -> str:
    found = assignment.read(run)
    age = None if found is None else pulled_states.age(found, turn.host, time.time())
    last = "never pulled before" if age is None else f"last pulled {duration(age)} ago"
    came = f"{_brought(turn)}, then " if turn.received.files else ""
    return f"{came}{turn.reason}; {last}"


def _document(run: Run, done: Pulled) -> dict[str, Any]:
    """What `pull --json` prints."""
    found = assignment.read(run)
    hosts = []
    for turn in done.turns.values():
        got = turn.received
        hosts.append(
            {
                "name": turn.host,
                "whole": turn.whole,
                "reachable": turn.unreachable is None,
                "reason": turn.reason,
                "files": got.files,
                "bytes": got.size,
                "same": got.same,
                "kept": list(got.kept),
                "refused": [{"name": name, "why": why} for name, why in got.refused],
                "later": list(got.later),
                "ahead": list(got.ahead),
                "missing": [{"job": job, "output": output} for job, output in turn.doubts.missing],
                "unproven": [{"name": name, "job": job} for name, job in turn.doubts.unproven],
                "outside": list(turn.outside),
                "last_pull": None if found is None else found.pulled.get(turn.host),
            }
        )
    carried = [{"to": one.dst, "jobs": list(one.jobs), "files": one.files, "fault": one.fault} for one in done.carried]
    return {
        "run_id": run.id,
        "directory": str(run.root),
        "ended": done.ended,
        "hosts": hosts,
        "carried": carried,
    }
