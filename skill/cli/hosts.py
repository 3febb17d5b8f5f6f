"""Verbs about hosts: add, list, check, remove, accept, setup."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from build_manifest import regular_file
from build_manifest.faults import listed
from queue_manager.core.layout import id_fault
from skill.cli.console import ask_first, print_json
from skill.cli.options import JSON
from skill.common.errors import DONE, FAILED, FailedError, UseError
from skill.common.files import MOST, read_text
from skill.common.text_table import columns
from skill.hosts import health
from skill.hosts.address import parse
from skill.hosts.connection import fingerprint, forget_key, known_key, replace_key
from skill.hosts.dotenv import ALLOWED, choose
from skill.runs import directory
from skill.terminal import live

if TYPE_CHECKING:
    from skill.hosts.dotenv import Chosen
    from skill.hosts.registry import Registry, Ssh, Worker

SETUP = "setup.sh"
_NAME = click.argument("name", metavar="NAME")


@click.group("hosts", short_help="Register hosts, check them, set them up.")
def hosts() -> None:
    """Register, check and set up the hosts of this project. They are listed in workers.yaml."""


def _registry() -> Path:
    from skill.hosts import registry

    return registry.locate(Path.cwd())


# -- add ----------------------------------------------------------------------------------------------------------


@hosts.command("add", short_help="Register a host.")
@_NAME
@click.argument("address", required=False, metavar="[ADDRESS]")
@click.option("--key", metavar="FILE", help="Private key to log in with (default: ssh's own choice).")
@click.option("--pool", metavar="POOL", help="Put it into this pool, a group of hosts for --pool.")
@click.option("--workspace", metavar="DIR", help="Where the code goes on it (default: ~/wavequeue/PROJECT).")
@click.option("--notes", metavar="TEXT", help="Notes for yourself.")
@click.option("--local", is_flag=True, help="Register this machine itself, without ADDRESS.")
def add(
    name: str,
    address: str | None,
    key: str | None,
    pool: str | None,
    workspace: str | None,
    notes: str | None,
    local: bool,
) -> int:
    """Register a host as NAME in workers.yaml.

    ADDRESS is [USER@]HOST[:PORT], ssh://USER@HOST:PORT, or a whole 'ssh -p PORT USER@HOST' in quotes. A NAME of
    ~/.ssh/config needs none. The host is entered once and its key kept; one that is away is registered all the same.
    """
    from skill.hosts import probe, registry

    where = _registry()
    fault = id_fault(name)
    if fault:
        raise UseError(f"the name {name!r} {fault}")
    if local and (address is not None or key is not None):
        raise UseError("--local is this machine, and goes without ADDRESS and --key")
    if name in registry.Registry.load(where).workers:
        raise UseError(f"{name} is registered already; first: wavequeue hosts remove {name}")
    ssh = None if local else _ssh(name, address, key)
    kind = "local" if local else "ssh"
    worker = registry.Worker(name, kind, pool=pool, ssh=ssh, workspace=workspace, notes=notes)
    said = None if local else probe.let_in(registry.connect(worker, where, probe.TRIES))
    with registry.changed(where) as known:
        known.add(worker)
    kept = None if local else known_key(registry.known_hosts(where), name)
    print(f"{name}: registered in {where}" + ("" if local or said is not None else ", and entered by ssh"))
    if kept is not None:
        print(f"host key: {fingerprint(kept)}")
    if said is not None:
        print(f"wavequeue: warning: {name} is not verified: {said}", file=sys.stderr)
    print(f"see how it is: wavequeue hosts check {name}")
    return DONE


def _ssh(name: str, address: str | None, key: str | None) -> Ssh | None:
    """Where the host listens; None for a name of ~/.ssh/config. Raises UseError."""
    from skill.hosts import registry, ssh_way

    if address is None:
        if name not in registry.ssh_aliases(Path.home() / ".ssh" / "config") and not ssh_way.is_alias(name):
            raise UseError(
                f"say where {name} is: wavequeue hosts add {name} USER@HOST:PORT (~/.ssh/config has no host {name})"
            )
        if key is not None:
            raise UseError(
                f"the key of {name} is chosen by ~/.ssh/config; write IdentityFile there, or give an ADDRESS"
            )
        return None
    found = parse(address)
    if key is not None and found.key is not None and key != found.key:
        raise UseError("two keys are given, by --key and in the address; give one")
    key = key if key is not None else found.key
    return registry.Ssh(*found._replace(key=None if key is None else _key_file(key)))


def _key_file(key: str) -> str:
    """The path of a key as it is kept: it has to mean the same from everywhere. Raises UseError."""
    path = Path(os.path.abspath(os.path.expanduser(key)))
    if not path.is_file():
        raise UseError(f"the key {key} is not there")
    if path.suffix == ".pub":
        raise UseError(f"{key} is the public half of a key; give the private one: {key.removesuffix('.pub')}")
    return f"~/{path.relative_to(Path.home())}" if path.is_relative_to(Path.home()) else str(path)


# -- list ---------------------------------------------------------------------------------------------------------


@hosts.command("list", short_help="List the hosts without connecting to them.")
@JSON
def list_verb(as_json: bool) -> None:
    """List the hosts of workers.yaml and of ~/.ssh/config. Asks none of them; that is: hosts check."""
    from skill.hosts import registry

    where = _registry()
    workers = registry.Registry.load(where).workers.values()
    keys = registry.known_hosts(where)
    aliases = registry.ssh_aliases(Path.home() / ".ssh" / "config")
    if as_json:
        print_json(
            {
                "registry": str(where),
                "hosts": [_as_json(worker, known_key(keys, worker.name)) for worker in workers],
                "ssh_config": aliases,
            }
        )
        return
    if workers:
        rows = [["host", "address", "pool", "workspace", "notes"], *map(_cells, workers)]
        output = live.console()
        for line in columns(rows, output.width, head=True):
            output.print(line, no_wrap=True, crop=False)
    else:
        print("no host is registered yet; register one: wavequeue hosts add NAME USER@HOST:PORT")
    others = [name for name in aliases if all(worker.name != name for worker in workers)]
    if others:
        print(f"names of ~/.ssh/config, which serve, too: {health.plain(listed(others))}")


def _cells(worker: Worker) -> list[str]:
    notes = [*([] if worker.enabled else ["disabled"]), *([worker.notes] if worker.notes else [])]
    cells = [worker.name, _address(worker), worker.pool or "-", worker.workspace or "~/wavequeue/PROJECT"]
    return [health.plain(cell) for cell in (*cells, "; ".join(notes))]


def _address(worker: Worker) -> str:
    if worker.kind == "local":
        return "this machine"
    ssh = worker.ssh
    if ssh is None:
        return "by ~/.ssh/config"
    host = f"[{ssh.host}]" if ":" in ssh.host else ssh.host
    return f"{ssh.user}@" * (ssh.user is not None) + host + f":{ssh.port}" * (ssh.port is not None)


def _as_json(worker: Worker, key: str | None) -> dict[str, Any]:
    row = worker._asdict()
    row["ssh"] = None if worker.ssh is None else worker.ssh._asdict()
    return {**row, "host_key": None if key is None else fingerprint(key)}


# -- check --------------------------------------------------------------------------------------------------------


@hosts.command("check", short_help="Check whether hosts can run jobs.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--pool", metavar="POOL", help="All enabled hosts of this pool.")
@JSON
def check(names: tuple[str, ...], pool: str | None, as_json: bool) -> int:
    """Ask hosts how they are, all at once: those named, or else all that are enabled. Leaves nothing on them.

    Heartbeat is the age of the newest state that a manager wrote. Exit code 1 if one did not answer, or misses
    something.
    """
    from skill.hosts import probe, registry

    where = _registry()
    meant = _meant(registry.Registry.load(where), names, pool)
    ways = [registry.connect(worker, where, probe.TRIES) for worker in meant]
    rows = [health.row(name, one) for name, one in probe.hear(ways).items()]
    if as_json:
        print_json(health.document(rows))
    else:
        output = live.console()
        for line in health.table(rows, output.width):
            output.print(line, no_wrap=True, crop=False)
        for text in [*health.note_lines(rows), *health.fault_lines(rows)]:
            print(text)
    return DONE if health.well(rows) else FAILED


def _meant(known: Registry, names: Sequence[str], pool: str | None) -> list[Worker]:
    if names and pool is not None:
        raise UseError("give NAME... or --pool, not both")
    if names:
        return [known.named(name) for name in dict.fromkeys(names)]
    if pool is not None:
        return known.in_pool(pool)
    found = [worker for worker in known.workers.values() if worker.enabled]
    if not found:
        what = "no host is enabled" if known.workers else "no host is registered yet"
        raise UseError(f"{what}; register one: wavequeue hosts add NAME USER@HOST:PORT, or name one of ~/.ssh/config")
    return found


# -- remove -------------------------------------------------------------------------------------------------------


@hosts.command("remove", short_help="Take a host out of workers.yaml.")
@_NAME
@click.option("--force", is_flag=True, help="Remove it even if a run has unfinished jobs on it.")
def remove(name: str, force: bool) -> int:
    """Take a host out of workers.yaml, and forget its key. The host itself is left as it is."""
    from skill.hosts import registry
    from skill.runs import remote

    where = _registry()
    known = registry.Registry.load(where)
    if name in known.workers and not force:
        way = registry.connect(known.workers[name], where)
        try:
            known_runs = directory.of_project(where.parent, Path.cwd())
            open_runs = [run.id for run in known_runs if remote.is_unfinished(run, way)]
        finally:
            way.close()
        if open_runs:
            raise FailedError(
                f"{name} still has jobs of {listed(open_runs, 5)} that are not known to have ended; wait for them, "
                f"move them (wavequeue rescue RUN --from {name}), or add --force"
            )
    with registry.changed(where) as known:
        known.remove(name)
    forgot = forget_key(registry.known_hosts(where), name)
    print(f"{name}: removed from {where}" + (", and its host key forgotten" if forgot else ""))
    return DONE


# -- accept -------------------------------------------------------------------------------------------------------


@hosts.command("accept", short_help="Accept a host's new key.")
@_NAME
@click.option("--yes", is_flag=True, help="Do not ask.")
def accept(name: str, yes: bool) -> int:
    """Accept the key that a host shows now, in the place of the one that was kept for it.

    Do so only if you know why it changed: the machine was set up anew, or another one was rented under its name.
    """
    from skill.hosts import probe, registry

    where = _registry()
    worker = registry.Registry.load(where).named(name)
    if worker.kind == "local":
        raise UseError(f"{name} is this machine, and has no host key")
    keys = registry.known_hosts(where)
    old = known_key(keys, name)
    shown, said = probe.shown_key(worker)
    if shown is None:
        raise FailedError(f"{name} is unreachable, and nothing was changed: {said}")
    print(f"kept:  {'none' if old is None else fingerprint(old)}\nshown: {fingerprint(shown)}", flush=True)
    if shown == old:
        print(f"{name}: shows the key that is kept; nothing is to be accepted")
        return DONE
    if old is not None:
        ask_first(f"keep the new key of {name}?", yes=yes, look="compare the keys")
    replace_key(keys, name, shown)
    print(f"{name}: the key that it shows now is kept")
    if said is not None:
        print(f"wavequeue: warning: {name} could not be entered: {said}", file=sys.stderr)
    return DONE


# -- setup --------------------------------------------------------------------------------------------------------


@hosts.command("setup", short_help="Make hosts ready to run jobs.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--env-file", metavar="FILE", help="Use FILE instead of .env beside workers.yaml.")
def setup(names: tuple[str, ...], env_file: str | None) -> int:
    """Make hosts ready: programs, directories, .env, setup.sh, SETUP_LOG.txt. Does again only what is needed.

    Missing programs (screen, rsync, python3) are installed (root, apt-get). The workspace is that of workers.yaml, or
    ~/wavequeue. Of .env only known names are copied (WANDB_API_KEY, HF_TOKEN, ... and those of env_allow in
    workers.yaml), at mode 0600; a job that needs them begins with: set -a; . WORKSPACE/.env; set +a. A setup.sh beside
    workers.yaml is run in the workspace, once for each version of it.
    """
    from skill.hosts import probe, registry
    from skill.hosts import setup as host_setup

    where = _registry()
    known = registry.Registry.load(where)
    workers = [known.named(name) for name in dict.fromkeys(names)]
    wanted = host_setup.Wanted(env_of(where.parent, env_file, known.env_allow), setup_script(where.parent))
    ways = [registry.connect(worker, where, probe.TRIES) for worker in workers]
    try:
        outcomes = host_setup.setup(ways, wanted, lambda name, text: print(f"{name}: {text}\n", end="", flush=True))
    finally:
        for way in ways:
            way.close()
    failed = [one for one in outcomes if one.fault is not None]
    for one in failed:
        print(f"wavequeue: {one.host}: {one.fault}", file=sys.stderr)
    if failed:
        print("wavequeue: run the same command again once that is mended", file=sys.stderr)
    return FAILED if failed else DONE


def env_of(project: Path, env_file: str | None, allow: Sequence[str]) -> Chosen | None:
    """What goes into the hosts' .env; None where there is no file. Raises UseError."""
    path = Path(env_file).expanduser() if env_file is not None else project / ".env"
    try:
        text = read_text(path)
    except FileNotFoundError:
        if env_file is None:
            return None
        raise UseError(f"{env_file} is not there") from None
    found = choose(text, {*ALLOWED, *allow}, str(path))
    if found.left_out:
        names = listed(found.left_out)
        print(
            f"wavequeue: warning: not allowed to leave this machine: {names}; allow names with env_allow: [NAME] in "
            "workers.yaml",
            file=sys.stderr,
        )
    return found


def setup_script(project: Path) -> bytes | None:
    """The setup.sh of a project as bash takes it, without what editors of Windows leave in it; None: it has none."""
    try:
        text = regular_file.read(project / SETUP, MOST)
    except FileNotFoundError:
        return None
    plain = text.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    if plain != text:
        words = f"{SETUP} has line ends of Windows, or its mark at the beginning; it is run without them"
        print(f"wavequeue: warning: {words}", file=sys.stderr)
    return plain
