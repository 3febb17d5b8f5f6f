"""`python -m queue_manager.remote.preflight`: print what a manifest would find on this host, as one JSON document.
Starts no job.

The manifest comes on stdin. Its relative cwd is meant from the home directory, since there is no run directory yet.
`--here` looks only at outputs that are there and runs that go on. `--newest-code` tells when the code was changed last.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from queue_manager.adapters import code_identity, evidence, existing, host_place
from queue_manager.adapters.arguments import make_parser
from queue_manager.adapters.named_values import read_env
from queue_manager.core import notify_rules, shell_paths
from queue_manager.core.excerpt import excerpt
from queue_manager.core.launchers import SLURM
from queue_manager.core.manifest import JobSpec, Manifest, ManifestError, Precondition, decode
from queue_manager.launchers import environments
from queue_manager.launchers.environments import CANNOT_START, NOT_PULLED
from queue_manager.launchers.script import look_script
from queue_manager.remote import needs, probe

COMMANDS = 100
"""So many different commands of preconditions are tried at most."""
_AT_ONCE = 8
_PATIENCE = 60.0
"""Seconds that entering an environment may take."""
_MARK = "wavequeue-python="
_FIND_PYTHON = f"printf '{_MARK}%s\\n' \"$(command -v python || command -v python3)\""


class _Asked(NamedTuple):
    """One precondition as some jobs have it: equal ones are looked at once."""

    precondition: Precondition
    cwd: str
    environment: tuple[tuple[str, str], ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the document. 0; 2 where stdin holds no manifest."""
    parser = make_parser("python -m queue_manager.remote.preflight", "Check what a manifest needs.")
    parser.add_argument("--here", action="store_true", help="only the probe, outputs that are there, runs that go on")
    parser.add_argument(
        "--try-task", metavar="DIRECTORY", help="with Slurm: run one task of a second, as a run below it would; - for ~"
    )
    parser.add_argument("--newest-code", action="store_true", help="tell when the code in the cwd was changed last")
    options = parser.parse_args(arguments)
    try:
        manifest = decode(sys.stdin.buffer.read().decode())
    except (ManifestError, UnicodeDecodeError) as error:
        print(error, file=sys.stderr)
        return 2
    manifest = shell_paths.whole(manifest, os.environ)
    document = look(manifest) if options.here else examine(manifest, _place(options.try_task))
    if options.newest_code:
        try:
            document["newest_code"] = newest_code(manifest)
        except code_identity.UnknownCodeError as error:
            document.update(newest_code=None, newest_code_fault=str(error))
    print(json.dumps(document, ensure_ascii=False))
    return 0


def _place(named: str | None) -> Path | None:
    """The directory in which a task is tried; `-` stands for that of a host's runs."""
    return host_place.of_slurm().runs if named == "-" else None if named is None else Path(named).absolute()


def look(manifest: Manifest) -> dict[str, Any]:
    """The document of a run on this machine: `probe`, `existing` as queue_manager.adapters.existing tells it, `place`:
    the directory of all that is this machine's own, `activation` where the manifest names an environment, and `slurm`,
    `unset` and `unset_notify`, as `examine` tells them."""
    cwd = _cwd(manifest)
    place = host_place.here()
    found = existing.describe(manifest, cwd, place)
    there = {"probe": probe.describe(Path(cwd)), "existing": found, "place": str(place.root)}
    if environments.named(manifest) is not None and os.path.isdir(cwd):
        there["activation"] = _activation(manifest, cwd)
    return {**there, **_variables(manifest, cwd), **_slurm(manifest)}


def newest_code(manifest: Manifest) -> dict[str, Any] | None:
    """The source file in the run's cwd that was changed last, as {path, at: epoch seconds}; null: unknown; a
    path of no letters: there is none. Raises UnknownCodeError where git refuses."""
    cwd = _cwd(manifest)
    found = code_identity.newest_source([cwd], existing.OutputTest(cwd).of(lambda: manifest.jobs))
    return None if found is None else found._asdict()


def _cwd(manifest: Manifest) -> str:
    return os.path.normpath(os.path.join(os.path.expanduser("~"), os.path.expanduser(manifest.cwd)))


def examine(manifest: Manifest, place: Path | None = None) -> dict[str, Any]:
    """The document. `place`: where one task of Slurm is tried, where that is to run the jobs.

    `cwd` {path, there}; `cwds_missing`: those of jobs that have their own, [{path, jobs}]; `activation` {kind: conda,
    venv, uv, module, container or null, name, python, fault, note: what a person may want to know}; `unmet` [{type,
    path, cwd, says, jobs}]; `untried`: how many commands were too many to try; `unset` {variable: ids of jobs that take
    it from .env or the environment, which do not have it}; `unset_notify`: such variables of notify; `probe`, `needs`
    `existing`, and `slurm` where that runs the jobs: see the modules of these names.
    """
    home = os.path.expanduser("~")
    cwd = _cwd(manifest)
    there = os.path.isdir(cwd)
    own: dict[str, list[str]] = {}
    asked: dict[_Asked, list[str]] = {}
    for job in manifest.jobs:
        where = os.path.normpath(os.path.join(cwd, os.path.expanduser(job.cwd or ".")))
        if where != cwd:
            own.setdefault(where, []).append(job.id)
        for one in job.preconditions:
            # Only a command can tell one environment from another.
            named = tuple({**manifest.env, **job.env}.items()) if one.type == "command" else ()
            asked.setdefault(_Asked(one, where, named), []).append(job.id)
    commands = [one for one in asked if one.precondition.type == "command"]
    dropped = set(commands[COMMANDS:])
    return {
        "cwd": {"path": cwd, "there": there},
        "cwds_missing": [{"path": path, "jobs": ids} for path, ids in own.items() if not os.path.isdir(path)],
        "activation": _activation(manifest, cwd if there else home, is_there=there),
        "unmet": list(_unmet({one: ids for one, ids in asked.items() if one not in dropped})),
        "untried": len(dropped),
        **_variables(manifest, cwd),
        **_slurm(manifest, place),
        "probe": probe.describe(Path(cwd)),
        "needs": needs.describe(Path(home)),
        "existing": existing.describe(manifest, cwd, host_place.of(Path(home))),
    }


def _slurm(manifest: Manifest, place: Path | None = None) -> dict[str, Any]:
    """What Slurm says, where that is to run the jobs."""
    if manifest.launcher != SLURM:
        return {}
    from queue_manager.remote import slurm

    return {"slurm": slurm.describe(manifest, place)}


def _variables(manifest: Manifest, cwd: str) -> dict[str, Any]:
    """What jobs and notify take from .env or the environment, and neither has."""
    rules = notify_rules.notify(manifest.notify)
    names = () if rules is None else rules.variables
    asked = names or any(job.env_from for job in manifest.jobs)
    known = {**os.environ, **read_env(Path(cwd))} if asked else {}
    unset: dict[str, list[str]] = {}
    for job in manifest.jobs:
        for name in dict.fromkeys(name for parts in job.env_from.values() for name in parts[1::2]):
            if name not in known:
                unset.setdefault(name, []).append(job.id)
    return {"unset": unset, "unset_notify": [name for name in names if name not in known]}


def _unmet(asked: Mapping[_Asked, list[str]]) -> Iterable[dict[str, Any]]:
    if not asked:
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for (one, ids), says in zip(asked.items(), pool.map(_says, asked)):
            if says is not None:
                row = {"type": one.precondition.type, "path": one.precondition.path, "cwd": one.cwd}
                yield {**row, "says": says, "jobs": ids}


def _says(asked: _Asked) -> str | None:
    if asked.precondition.type == "command" and not os.path.isdir(asked.cwd):
        return f"`{asked.precondition.command}` cannot be tried: {asked.cwd} does not exist"
    spec = JobSpec("preflight", "", "", preconditions=(asked.precondition,))
    return evidence.unmet(spec, asked.cwd, {**os.environ, **dict(asked.environment)})


def _activation(manifest: Manifest, cwd: str, *, is_there: bool = True) -> dict[str, Any]:
    """Enter the environment as a job would, and see which python it has. `is_there`: whether `cwd` is the run's."""
    kind, name = environments.named(manifest) or (None, None)
    text = look_script(manifest, cwd, _FIND_PYTHON, is_there=is_there)
    found: dict[str, Any] = {"kind": kind, "name": name, "python": None, "fault": None, "note": None}
    try:
        done = subprocess.run(
            ["bash", "-c", text], cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {**found, "fault": f"could not be entered: {error}"}
    lines = done.stdout.decode(errors="replace").splitlines()
    pythons = [line[len(_MARK) :] for line in lines if line.startswith(_MARK)]
    found["python"] = pythons[-1] or None if pythons else None
    if not pythons:
        messages = [line[len("wavequeue: ") :] for line in lines if line.startswith("wavequeue: ")]
        if done.returncode == NOT_PULLED and messages:
            return {**found, "note": messages[-1]}
        output = (
            messages[-1]
            if done.returncode == CANNOT_START and messages
            else excerpt(done.stderr.decode(errors="replace"))
        )
        found["fault"] = output or f"ends with exit code {done.returncode}"
    return found


if __name__ == "__main__":
    sys.exit(main())
