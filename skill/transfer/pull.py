"""Pull results, logs and state of a run from all its hosts at once.

Each host is asked on one connection of OpenSSH (see `queue_manager.remote.send`), so that large files stream. What is
not known of a host is not concluded: one that cannot be reached keeps what was pulled of it before, with its age.
"""

from __future__ import annotations

import functools
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from queue_manager.core import transfer_protocol
from queue_manager.core.manifest import Manifest
from queue_manager.core.times import iso
from queue_manager.core.transfer_protocol import HOST, RESULTS, Request
from skill.common import files
from skill.common.errors import FailedError
from skill.common.files import SHOWN, write_whole
from skill.common.retry import backoff
from skill.hosts import bootstrap, remote_command
from skill.hosts.connection import Host, Unreachable, each, known_key
from skill.hosts.remote_command import Framed
from skill.runs import assignment, merge, pulled_states, summary
from skill.runs.assignment import LOST, PLANNED, Assigned, Part
from skill.runs.directory import Document, Run, added_size, read_pulled_state, read_sent
from skill.runs.merge import Look
from skill.runs.path_map import map_paths, wanted
from skill.transfer.code_files import NEVER
from skill.transfer.completeness import LEFTOVERS, Doubts, doubts, leftovers
from skill.transfer.local_store import Store, look, scan
from skill.transfer.receiver import Received, receive
from skill.transfer.write_gate import Gate, HostGate, open_gate

TRIES = 3
"""How often a connection that was dropped is begun again; what came stays."""
_PAUSE = 1.0
PATIENCE = 86400.0
"""Seconds for one host; what it sends may be large. One that falls silent is given up much earlier."""
_LEAVING = 5.0
"""Seconds that are waited for connections to end after Ctrl-C."""
_LOCK = "pull.lock"
Say = Callable[[str], None]


class Turn(NamedTuple):
    """How a pull of one host went. `unreachable`: why it could not be reached; `fault`: what else was in the way.

    `outside`: ids of its jobs whose output lies where nothing is pulled from. `doubts`: what does not agree with its
    manager's record.
    """

    host: str
    received: Received = Received()
    unreachable: str | None = None
    fault: str | None = None
    outside: tuple[str, ...] = ()
    doubts: Doubts = Doubts()

    @property
    def whole(self) -> bool:
        """Whether everything that the host offered was looked at."""
        return self.unreachable is None and self.fault is None and self.received.broken is None

    @property
    def left(self) -> frozenset[str]:
        """What was left on the host: kinds of completeness.LEFTOVERS."""
        return leftovers(self.received, self.outside, self.doubts)

    @property
    def reason(self) -> str | None:
        """Say why the pull is incomplete."""
        if self.unreachable is not None:
            return f"unreachable: {self.unreachable}"
        return self.fault or self.received.broken


def parts(found: Assigned, names: Sequence[str]) -> list[Part]:
    """Choose the parts to be pulled: those named, else all whose host was not given up. Raises UseError."""
    if names:
        return [found.part(name) for name in dict.fromkeys(names)]
    return [part for part in found.parts if part.state != LOST]


def alone(run: Run) -> AbstractContextManager[None]:
    """Prevent other pulls of the same run. Raises FailedError if one is running."""
    return files.alone(run.root / _LOCK, f"another pull of {run.id} is running; try again when it has finished")


def pull(
    run: Run,
    manifest: Manifest,
    chosen: Sequence[Part],
    hosts: Mapping[str, Host],
    say: Say,
    on_bytes: Callable[[str, int], None] = lambda _name, _size: None,
    patience: float = PATIENCE,
) -> dict[str, Turn]:
    """Pull from all hosts of these parts at once. Call it within `alone`.

    `hosts`: those that can be asked, by name. `say` is told of each retry, `on_bytes` of bytes as they come;
    `patience`: seconds that one host may take in all. On Ctrl-C all
    connections are ended before KeyboardInterrupt goes on. Raises FailedError and OSError.
    """
    found = assignment.read(run)
    if found is None:
        raise FailedError(f"run {run.id} is not on hosts")
    with open_gate(run, found, manifest) as gate:
        return _pull(_Common(run, found, manifest, gate, say, on_bytes, time.monotonic() + patience), chosen, hosts)


def _pull(common: _Common, chosen: Sequence[Part], hosts: Mapping[str, Host]) -> dict[str, Turn]:
    run = common.run

    def gate(part: Part) -> HostGate:
        added = added_size(run.root, assignment.host_folder(run, part.host))
        return common.gate.of(part.host, functools.partial(_state_fault, len(part.jobs), added))

    works = {
        part.host: _Work(common, part, gate(part)) for part in chosen if part.host in hosts and part.state != PLANNED
    }
    turns = {part.host: Turn(part.host, fault=_not_asked(part)) for part in chosen if part.host not in works}
    asked = [hosts[name] for name in works]
    stop, ended = threading.Event(), threading.Semaphore(0)

    def one(host: Host) -> Turn:
        try:
            return _persist(works[host.name], host, stop)
        finally:
            ended.release()

    try:
        answers = each(asked, one, PATIENCE)
    except KeyboardInterrupt:
        stop.set()
        for _ in asked:
            ended.acquire(timeout=_LEAVING)
        raise
    for name, answer in answers.items():
        turns[name] = Turn(name, unreachable=answer.reason) if isinstance(answer, Unreachable) else answer
    whole = [turn.host for turn in turns.values() if turn.whole]
    if whole:
        at = iso(time.time()) or ""
        with assignment.changed(run) as now:
            now.assigned = now.assigned._replace(pulled={**now.assigned.pulled, **dict.fromkeys(whole, at)})
    for name in whole:
        turns[name] = _acknowledge(works[name], hosts[name], turns[name])
    return {part.host: turns[part.host] for part in chosen}


def _state_fault(jobs: int, added: int, path: Path) -> str | None:
    """Why a file is no state of a run that was given so many jobs, see `read_sent`; None if it is one."""
    try:
        read_sent(path, jobs, added)
    except OSError as error:
        return error.strerror or str(error)
    except ValueError as error:
        return str(error)
    return None


def _acknowledge(work: _Work, host: Host, turn: Turn) -> Turn:
    """Tell a machine that ends itself which results were pulled. Results that were not may be lost with it."""
    if not all(LEFTOVERS[kind].may_go for kind in turn.left):
        return turn
    try:
        # The sender opened the state before it looked for results.
        meta = read_pulled_state(assignment.host_folder(work.common.run, host.name), len(work.part.jobs))["meta"]
        seq = meta["seq"] if meta["teardown"] is not None else None
    except (OSError, ValueError, KeyError, TypeError):
        return turn
    if seq is None:
        return turn
    argv = bootstrap.module(None, work.part.python or "python3", work.part.runtime or "", "control", work.common.run.id)
    asked = {"op": "acknowledge", "seq": seq, "host_id": work.part.host_id}
    result = host.run(argv, stdin=json.dumps(asked).encode(), limit=1 << 20)
    if isinstance(result, Unreachable):
        return turn._replace(unreachable=f"{result.reason}; it was not informed that its results have been pulled")
    if result.code != 0:
        return turn._replace(
            fault="it could not be informed that its results have been pulled, and waits for that; pull again"
        )
    return turn


def _not_asked(part: Part) -> str:
    if part.state == PLANNED:
        return "nothing was submitted to it yet; finish that with: wavequeue submit SPEC"
    return "it is not registered here"


class _Common(NamedTuple):
    """What the pulls from all hosts share."""

    run: Run
    assigned: Assigned
    manifest: Manifest
    gate: Gate
    say: Say
    on_bytes: Callable[[str, int], None]
    until: float


class _Work(NamedTuple):
    """What is to be pulled from one host, and what of it may be written here."""

    common: _Common
    part: Part
    gate: HostGate


def _persist(work: _Work, host: Host, stop: threading.Event) -> Turn:
    """Pull from one host, and again after a dropped connection."""
    total = Received()
    outside: tuple[str, ...] = ()
    is_new = host.ssh_command() is not None and known_key(host.known_hosts, host.name) is None
    if is_new or host.shares_login():
        first = host.run(["true"])  # OpenSSH is told to know the key already, or what follows goes by this login, too
        if isinstance(first, Unreachable):
            return Turn(host.name, unreachable=first.reason)
    for number in range(1, TRIES + 1):
        try:
            received, outside = _once(work, host, stop)
        except OSError as error:
            return Turn(host.name, total, fault=f"{error.filename or 'this machine'}: {error.strerror or error}")
        total = _sum(total, received)
        if not received.dropped or stop.is_set():
            break
        found = host.run(["true"])
        if isinstance(found, Unreachable):  # it knows better words than OpenSSH
            return Turn(host.name, total, unreachable=found.reason, outside=outside)
        if number < TRIES:
            work.common.say(f"{host.name}: {received.broken}; going on ({number + 1} of {TRIES})")
            stop.wait(backoff(number, _PAUSE))
    return Turn(host.name, total, outside=outside, doubts=_doubts(work) if total.broken is None else Doubts())


def _doubts(work: _Work) -> Doubts:
    """Compare what was pulled from a host with its manager's record, which was pulled with it."""
    run, found, manifest, part = work.common.run, work.common.assigned, work.common.manifest, work.part
    state = pulled_states.documents(run, found._replace(parts=(part,))).get(part.host)
    if state is None:
        return Doubts()
    jobs = _outputs(run, found, manifest, part)
    return doubts(jobs, state, work.gate.written(), _patterns_here(run, found, manifest, part, tuple(jobs)))


def _outputs(run: Run, found: Assigned, manifest: Manifest, part: Part) -> dict[str, list[str]]:
    """List the jobs of a host by their outputs, relative to the results directory."""
    where, own = map_paths(run, found, manifest, part), set(part.own())
    jobs: dict[str, list[str]] = {}
    for spec in manifest.jobs:
        if spec.id in own and (pattern := where.output(spec)) is not None:
            jobs.setdefault(pattern, []).append(spec.id)
    return jobs


def _patterns_here(
    run: Run, found: Assigned, manifest: Manifest, part: Part, patterns: Sequence[str]
) -> frozenset[str]:
    """List which of a host's patterns match something on this machine."""
    top = str(map_paths(run, found, manifest, part).here.resolve())
    return frozenset(patterns[by] for by in transfer_protocol.finding(patterns, scan(top), NEVER))


def _once(work: _Work, host: Host, stop: threading.Event) -> tuple[Received, tuple[str, ...]]:
    """Pull over one connection. Raises OSError if this machine fails."""
    run, part, manifest = work.common.run, work.part, work.common.manifest
    where = map_paths(run, work.common.assigned, manifest, part)
    asked = wanted(where, manifest, part)
    store = Store(where.here, assignment.host_folder(run, host.name))
    store.make()
    here = look(where.here, asked.patterns, NEVER)
    request = Request(
        nonce=secrets.token_hex(16),
        run_id=run.id,
        root=where.there,
        patterns=asked.patterns,
        declared=asked.declared,
        but=asked.but,
        never=NEVER,
        have={RESULTS: work.gate.have(here.files), HOST: store.documents()},
        closed=(*here.closed, *work.gate.closed(asked.patterns)),
        parts=store.parts(),
        room=store.room(),
    )
    command, sent = build_command(host, part, request.run_id, request.nonce)
    common = work.common
    received = receive(
        command, Path.home(), request, store, work.gate, stop, common.until,
        lambda size: common.on_bytes(host.name, size), sent,
    )  # fmt: skip
    return received, asked.outside


def build_command(host: Host, part: Part, run_id: str, nonce: str) -> tuple[list[str], Framed | None]:
    """The command that runs the sender in the home of a host, if that is still the one that got the part; and as what
    it was sent, None on this machine."""
    argv = bootstrap.module(None, part.python or "python3", part.runtime or "", "send")
    greeting = transfer_protocol.greeting(nonce).decode().strip()
    argv = ["sh", "-c", _GUARD, "wavequeue", part.host_id or "", part.runtime or "", greeting, run_id, *argv]
    ssh = host.ssh_command()
    if ssh is None:
        return argv, None
    sent = remote_command.framed(argv, nonce, takes_input=True)
    return [*ssh, host.destination, sent.line], sent


# Another machine need not have anything of ours, so that it is another one is found out by the shell. A run on Slurm is
# that of all hosts with one home, see queue_manager.adapters.host_place.
_GUARD = f"""\
id=$1 runtime=$2 greeting=$3 run=$4; shift 4
{bootstrap.PLACE}
say() {{ printf '%s\\n{{"fault": "%s"}}\\n' "$greeting" "$1"; exit 0; }}
[ -d "$w/runs/$run" ] || for other in .wavequeue .wavequeue/hosts/*; do
  [ ! -d "$other/runs/$run/slurm" ] || {{ w=$other; break; }}
done
[ "$(cat "$w/host_id" 2>/dev/null)" = "$id" ] || say "another machine"
[ -d ".wavequeue/runtime/$runtime" ] || say "no runtime"
exec "$@"
"""


def _sum(one: Received, other: Received) -> Received:
    """Add up the results of two connections to one host."""
    return other._replace(files=one.files + other.files, size=one.size + other.size)


# -- what was pulled ----------------------------------------------------------------------------------------------


def merged(found: Assigned, manifest: Manifest, states: Mapping[str, Document], now: float) -> Document:
    """Build the state of the whole run from what was pulled. `now` in epoch seconds."""
    times = {part.host: pulled_states.pulled_at(found.pulled.get(part.host)) for part in found.parts}
    looks = [Look(part.host, states.get(part.host), times[part.host]) for part in found.parts]
    return merge.merge(found, manifest, looks, now)


def conclude(run: Run, manifest: Manifest, states: Mapping[str, Document], now: float) -> bool:
    """Tell whether the run has ended on all its hosts, by the states that were pulled; if so, write its summary.md.
    Raises OSError."""
    found = assignment.read(run)
    assert found is not None
    document = merged(found, manifest, states, now)
    if document["meta"]["manager"] != "finished":
        return False
    away: set[str] = set()
    for part in found.parts:
        jobs = _outputs(run, found, manifest, part)
        here = _patterns_here(run, found, manifest, part, tuple(jobs))
        away.update(job for pattern, ids in jobs.items() if pattern not in here for job in ids)
    # A host's own summary.md is no proof of what has come: it stays among what was pulled of it.
    text = summary.summary(document, now, away)
    write_whole(run.paths.summary, text, mode=SHOWN)
    return True
