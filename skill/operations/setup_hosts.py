"""Prepare hosts for jobs: programs, directories, .env, setup.sh."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from build_manifest import regular_file
from build_manifest.faults import listed
from skill.common.errors import UseError
from skill.common.files import MOST, read_text
from skill.common.project import ProjectPaths
from skill.hosts import probe, registry, setup
from skill.hosts.connection import Host
from skill.hosts.dotenv import ALLOWED, Chosen, choose
from skill.hosts.setup import Outcome, Wanted
from skill.operations.build_spec import Say


def setup_hosts(
    where: Path, names: Sequence[str], env_file: str | None, tell: Callable[[str, str], None], warn: Say
) -> list[Outcome]:
    """Set up registered hosts, all at once, where something is missing.

    `where`: workers.yaml; `env_file`: instead of .env beside it; `tell` gets the name of a host and each step there.
    Returns the outcome by host. Raises UseError.
    """
    known = registry.Registry.load(where)
    workers = [known.named(name) for name in dict.fromkeys(names)]
    wanted = read_wanted(where, env_file, warn)
    ways = [registry.connect(worker, where, probe.TRIES) for worker in workers]
    try:
        return setup.setup(ways, wanted, tell)
    finally:
        for way in ways:
            way.close()


def setup_one(where: Path, host: Host, say: Say) -> Outcome:
    """Set up a connected host with the files beside workers.yaml (`where`). Raises UseError."""
    wanted = read_wanted(where, None, lambda text: say(f"warning: {text}"))
    (outcome,) = setup.setup([host], wanted, lambda name, text: say(f"{name}: {text}"))
    return outcome


def read_wanted(where: Path, env_file: str | None, warn: Say) -> Wanted:
    """Return what the hosts of a project get: the allowed names of its .env or `env_file`, and its setup.sh. `warn`
    gets a line for what is changed or left out. Raises UseError."""
    allow = registry.Registry.load(where).env_allow
    return Wanted(_environment(where, env_file, allow, warn), _script(ProjectPaths.of(where).setup, warn))


def _environment(where: Path, env_file: str | None, allow: Sequence[str], warn: Say) -> Chosen | None:
    """Return the content of the hosts' .env; None where there is no file."""
    path = Path(env_file).expanduser() if env_file is not None else ProjectPaths.of(where).env
    try:
        text = read_text(path)
    except FileNotFoundError:
        if env_file is None:
            return None
        raise UseError(f"{env_file} does not exist") from None
    found = choose(text, {*ALLOWED, *allow}, str(path))
    if found.left_out:
        names = listed(found.left_out)
        warn(f"not allowed to leave this machine: {names}; allow names with env_allow: [NAME] in workers.yaml")
    return found


def _script(path: Path, warn: Say) -> bytes | None:
    """Return the project's setup.sh without a byte order mark and Windows line ends; None where there is none."""
    try:
        text = regular_file.read(path, MOST)
    except FileNotFoundError:
        return None
    plain = text.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    if plain != text:
        warn(f"{path.name} has Windows line endings or a byte order mark; it is run without them")
    return plain
