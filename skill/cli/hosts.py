"""Verbs about hosts: add, list, check, remove, accept, setup."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from build_manifest.faults import listed
from queue_manager.core.times import duration
from skill.cli.console import ask_first, print_json, print_lines, print_table, say
from skill.cli.options import JSON, time_option
from skill.common.errors import DONE, FAILED, UseError
from skill.common.project import locate_workers

if TYPE_CHECKING:
    from skill.hosts.registry import Worker

_NAME = click.argument("name", metavar="NAME")


@click.group("hosts", short_help="Register hosts, check them, set them up.")
def hosts() -> None:
    """Register, check and set up the hosts of this project. They are listed in workers.yaml."""


# -- add ----------------------------------------------------------------------------------------------------------


@hosts.command("add", short_help="Register a host.")
@_NAME
@click.argument("address", required=False, metavar="[ADDRESS]")
@click.option("--key", metavar="FILE", help="Private key to log in with (default: ssh's own choice).")
@click.option("--pool", metavar="POOL", help="Add it to this pool: the hosts that --pool POOL means.")
@click.option("--workspace", metavar="DIR", help="Directory for the code on the host (default: ~/wavequeue/PROJECT).")
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
    """Register a host as NAME in workers.yaml, and log in once to keep its host key.

    ADDRESS is [USER@]HOST[:PORT], ssh://USER@HOST:PORT, or a whole 'ssh -p PORT USER@HOST' in quotes. A NAME of
    ~/.ssh/config needs none. A host that is unreachable now is registered as well.
    """
    from skill.operations import register_hosts

    made = register_hosts.add_host(name, address, key, pool=pool, workspace=workspace, notes=notes, local=local)
    entered = "" if local or made.fault is not None else ", SSH login works"
    print(f"{name}: registered in {made.where}{entered}")
    if made.key is not None:
        print(f"host key: {made.key}")
    if made.fault is not None:
        _warn(f"{name} is not verified: {made.fault}")
    print(f"check it: wavequeue hosts check {name}")
    return DONE


# -- list ---------------------------------------------------------------------------------------------------------


@hosts.command("list", short_help="List the hosts without connecting to them.")
@JSON
def list_verb(as_json: bool) -> None:
    """List the hosts of workers.yaml and of ~/.ssh/config, without connecting to them (for that: hosts check)."""
    from skill.hosts import health
    from skill.operations import register_hosts

    found = register_hosts.list_hosts()
    if as_json:
        rows = [_as_json(worker, found.keys.get(worker.name)) for worker in found.workers]
        print_json({"registry": str(found.where), "hosts": rows, "ssh_config": list(found.aliases)})
        return
    if found.workers:
        print_table([["host", "address", "pool", "workspace", "notes"], *map(_cells, found.workers)])
    else:
        print("no host is registered yet; register one: wavequeue hosts add NAME USER@HOST:PORT")
    others = [name for name in found.aliases if all(worker.name != name for worker in found.workers)]
    if others:
        print(f"names in ~/.ssh/config also work: {health.plain(listed(others))}")


def _cells(worker: Worker) -> list[str]:
    from skill.hosts import health

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
    return {**row, "host_key": key}


# -- check --------------------------------------------------------------------------------------------------------


@hosts.command("check", short_help="Check whether hosts can run jobs.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--pool", metavar="POOL", help="All enabled hosts of this pool.")
@JSON
def check(names: tuple[str, ...], pool: str | None, as_json: bool) -> int:
    """Check hosts, all at once: those named, or all that are enabled. Leaves nothing on them.

    Heartbeat is the age of the newest state that a manager wrote. Exit code 1 if a host is unreachable or lacks
    something.
    """
    from skill.hosts import health
    from skill.operations import register_hosts

    rows = register_hosts.probe_hosts(names, pool)
    if as_json:
        print_json(health.document(rows))
    else:
        print_lines(lambda width: health.table(rows, width))
        for text in [*health.note_lines(rows), *health.fault_lines(rows)]:
            print(text)
    return DONE if health.well(rows) else FAILED


# -- remove -------------------------------------------------------------------------------------------------------


@hosts.command("remove", short_help="Remove a host from workers.yaml.")
@_NAME
@click.option("--force", is_flag=True, help="Remove it even if a run has unfinished jobs on it.")
def remove(name: str, force: bool) -> int:
    """Remove a host from workers.yaml, and forget its host key. Nothing changes on the host itself."""
    from skill.operations import register_hosts

    done = register_hosts.remove_host(name, force=force)
    print(f"{name}: removed from {done.where}" + (", and its host key removed" if done.forgot_key else ""))
    return DONE


# -- accept -------------------------------------------------------------------------------------------------------


@hosts.command("accept", short_help="Accept a host's new key.")
@_NAME
@click.option("--yes", is_flag=True, help="Do not ask.")
def accept(name: str, yes: bool) -> int:
    """Accept the host key that a host shows now instead of the known one.

    Do so only if you know why it changed: the machine was reinstalled, or another one was rented under its name.
    """
    from skill.operations import register_hosts

    key = register_hosts.look_at_key(name)
    kept, shown = key.fingerprints
    print(f"kept:  {kept or 'none'}\nshown: {shown}", flush=True)
    if key.shown == key.kept:
        print(f"{name}: its key is the stored one; nothing to accept")
        return DONE
    if key.kept is not None:
        ask_first(f"accept the new key of {name}?", yes=yes, look="compare the keys")
    register_hosts.accept_key(key)
    print(f"{name}: its new key was accepted")
    if key.fault is not None:
        _warn(f"login to {name} failed: {key.fault}")
    return DONE


# -- setup --------------------------------------------------------------------------------------------------------


@hosts.command("setup", short_help="Make hosts ready to run jobs.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--env-file", metavar="FILE", help="Use FILE instead of .env beside workers.yaml.")
def setup(names: tuple[str, ...], env_file: str | None) -> int:
    """Make hosts ready: programs, directories, .env, setup.sh, SETUP_LOG.txt. Repeats only what is needed.

    Missing programs (screen, rsync, python3) are installed (root, apt-get). The workspace is that of workers.yaml, or
    ~/wavequeue. Of .env only known names are copied (WANDB_API_KEY, HF_TOKEN, ... and those of env_allow in
    workers.yaml), with mode 0600. A job that needs them begins with: set -a; . WORKSPACE/.env; set +a. A setup.sh
    beside workers.yaml runs in the workspace, once for each version of it.
    """
    from skill.operations import setup_hosts

    outcomes = setup_hosts.setup_hosts(
        locate_workers(), names, env_file,
        lambda name, text: print(f"{name}: {text}\n", end="", flush=True), _warn,
    )  # fmt: skip
    failed = [one for one in outcomes if one.fault is not None]
    for one in failed:
        say(f"{one.host}: {one.fault}")
    if failed:
        say("run the same command again once that is fixed")
    return FAILED if failed else DONE


def _warn(text: str) -> None:
    say(f"warning: {text}")


# -- idle ---------------------------------------------------------------------------------------------------------


@hosts.command("idle", short_help="Show rented machines that idle, and end them.")
@click.option("--apply", "is_applied", is_flag=True, help="Do it: pull, stop and destroy as shown.")
@click.option("--yes", is_flag=True, help="With --apply: do not ask.")
@JSON
def idle_verb(is_applied: bool, yes: bool, as_json: bool) -> int:
    """Show what is to become of rented machines that no run ends by itself. Changes nothing without --apply.

    More work within 24 hours: stopped, its disk stays. Nothing planned: destroyed if its results are here, else they
    are pulled first; after 24 idle hours it is destroyed once they are. What works, or cannot be looked at, goes on.
    """
    from skill.operations import idle_machines

    where = locate_workers()
    found = idle_machines.look(where)
    changes = [one for one in found if idle_machines.word(one.decision) != "keep"]
    if not as_json:
        if not found:
            print("no rented machine is registered as a worker")
            return DONE
        rows = [
            [one.worker, str(one.instance_id), idle_machines.word(one.decision), one.decision.reason] for one in found
        ]
        print_table([["worker", "instance", "decision", "why"], *rows])
    if is_applied and changes:
        ask_first(f"{len(changes)} of {len(found)} machines: do this?", yes=yes)
        found = [idle_machines.apply(where, one, say) for one in found]
    elif changes and not as_json:
        print("nothing was changed; to do this: wavequeue hosts idle --apply")
    if as_json:
        print_json({"applied": is_applied, "machines": [idle_machines.document(one) for one in found]})
    else:
        for one in found:
            if one.done or one.fault:
                print(f"{one.worker}: {one.done or f'not done: {one.fault}'}")
    return FAILED if any(one.fault for one in found) else DONE


# -- agents -------------------------------------------------------------------------------------------------------


@hosts.command("agents", short_help="Show who shares a host, and register there.")
@_NAME
@click.option("--register", metavar="ID", help="Register as ID, or renew it (a heartbeat).")
@click.option("--experiment", default="", metavar="TEXT", help="With --register: what it works on.")
@click.option("--gpu-gb", type=click.FloatRange(min=0), default=0.0, metavar="GB", help="GPU memory to reserve.")
@click.option("--gpu", type=click.IntRange(min=0), metavar="N", help="The GPU (default: the one with the most room).")
@click.option("--expires", metavar="TIME", callback=time_option, help="Without a heartbeat for so long, it is stale.")
@click.option("--done", metavar="ID", help="Say that ID is done; its GPU memory is free again.")
@JSON
def agents_verb(
    name: str,
    register: str | None,
    experiment: str,
    gpu_gb: float,
    gpu: int | None,
    expires: float | None,
    done: str | None,
    as_json: bool,
) -> int:
    """Show who shares the host NAME, by ~/.wavequeue/AGENT_STATUS.json there, and what GPU memory each was promised.

    Runs of wavequeue respect what live agents were promised, and an agent gets only what runs and others leave. One
    without a heartbeat for 15 minutes (or --expires) is stale: its memory counts as free, and it stays in the list.
    """
    from skill.operations import share_host

    if register is not None and done is not None:
        raise UseError("--register and --done exclude each other; give one of them")
    if register is not None:
        found = share_host.register_agent(name, share_host.Registration(register, experiment, gpu_gb, gpu, expires))
    elif done is not None:
        found = share_host.end_agent(name, done)
    else:
        found = share_host.list_agents(name)
    if as_json:
        print_json({"host": name, "agents": found})
    elif found:
        print_table([["agent", "status", "GPU", "GB", "heartbeat", "experiment"], *map(_agent_cells, found)])
    else:
        print(f"{name}: no agent is registered; register one: wavequeue hosts agents {name} --register ID --gpu-gb GB")
    return DONE


def _agent_cells(agent: dict[str, Any]) -> list[str]:
    gpu = "-" if agent["gpu"] is None else str(agent["gpu"])
    ago = f"{duration(agent['heartbeat_s'])} ago"
    return [agent["id"], agent["status"], gpu, f"{agent['gpu_gb']:g}", ago, agent["experiment"] or "-"]
