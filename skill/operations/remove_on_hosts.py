"""Remove what hosts keep of a run: its states, journals and logs there. Code and results stay where they are, unless
named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from queue_manager.core.layout import HostPaths
from skill.common.errors import FailedError
from skill.common.project import locate_workers
from skill.fleet.drift import is_known_gone
from skill.hosts import bootstrap, registry
from skill.hosts.connection import Host, Unreachable, each
from skill.operations.submit import identity_fault
from skill.runs import assignment
from skill.runs.assignment import LOST, PLANNED, Part
from skill.runs.directory import Run

_PATIENCE = 120.0
_TRIES = 2
# It is no run any more before its first file goes.
_REMOVE = 'cd -- "$1" && [ -d "$2" ] && [ ! -L "$2" ] || exit 0; mv -- "$2" ".removed-$2" && rm -rf -- ".removed-$2"'
_REMOVE_CODE = 'cd -- "$1" || exit 0; shift; for name; do rm -rf -- "./$name" || exit 1; done'


def hosts_of(run: Run) -> list[str]:
    """Return the hosts that keep something of a run and can be asked: none for a run on this machine, and none that are
    registered no more."""
    found = assignment.read(run)
    known = registry.Registry.load(locate_workers()).workers
    parts = [] if found is None else [part for part in found.parts if part.state not in (LOST, PLANNED)]
    return [part.host for part in parts if part.host in known and not is_known_gone(known[part.host])]


def remove_there(run: Run, code: Sequence[str] = ()) -> None:
    """Remove a run from its hosts. `code`: names in its directory of code there that are removed, too. Raises
    FailedError where one cannot be reached, or the run goes on there; what was removed elsewhere stays removed."""
    found = assignment.read(run)
    if found is None:
        return
    where = locate_workers()
    known = registry.Registry.load(where)
    hosts = [registry.connect(known.named(name), where, _TRIES) for name in hosts_of(run)]
    try:
        outcomes = each(hosts, lambda host: _remove(host, run, found.part(host.name), code), _PATIENCE)
    finally:
        for host in hosts:
            host.close()
    faults = [
        f"{name}: {one.reason if isinstance(one, Unreachable) else one}"
        for name, one in outcomes.items()
        if one is not None
    ]
    if faults:
        raise FailedError(
            f"{run.id} is kept, since its copy on a host is: {'; '.join(faults)}. Of a host that no longer exists: "
            "wavequeue hosts remove NAME"
        )


def _remove(host: Host, run: Run, part: Part, code: Sequence[str]) -> str | Unreachable | None:
    """Remove a run from one host. Returns why it is still there; None where it is not."""
    facts = bootstrap.facts(host, run.id)
    if isinstance(facts, Unreachable):
        return facts
    if identity_fault(part, facts) is not None or facts.manifest_sha256 is None:
        return None  # that is another machine by now, or nothing of the run is left
    if facts.manager_pid is not None or not facts.ended:
        return f"it goes on there; look: wavequeue status --run {run.id}"
    done = host.script(_REMOVE, str(HostPaths(Path(facts.place)).runs), run.id)
    if not isinstance(done, Unreachable) and done.code == 0 and code:
        done = host.script(_REMOVE_CODE, part.workspace, *code)
    if isinstance(done, Unreachable):
        return done
    return None if done.code == 0 else f"it could not be removed: {done.why}"
