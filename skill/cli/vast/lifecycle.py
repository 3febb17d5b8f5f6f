"""Verbs about instances of ours: vast stop, vast start, vast destroy."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skill.cli.console import ask_first, print_json, say
from skill.cli.options import JSON
from skill.common.errors import DONE, FailedError

if TYPE_CHECKING:
    from skill.fleet.ownership import Owned
    from skill.providers.vast.client import Client

_WHICH = click.argument("which", metavar="INSTANCE")
_YES = click.option("--yes", is_flag=True, help="Do not ask.")


@click.command("stop", short_help="Stop an instance; its disk is still billed.")
@_WHICH
@_YES
@JSON
def stop_verb(which: str, yes: bool, as_json: bool) -> int:
    """Stop INSTANCE, a number or a worker's name. Its jobs are cut off, and lose no attempt; its disk is kept.

    Stopping does not end billing: the disk is billed until the instance is destroyed, and the GPU may be somebody
    else's when it is started again.
    """
    from skill.fleet import ledger as book
    from skill.fleet import ownership
    from skill.hosts.registry import locate
    from skill.providers.vast import client as vast
    from skill.providers.vast import confirm

    where = locate(Path.cwd())
    client = vast.connect()
    try:
        found = ownership.find(client, where, which)
        _not_gone(found)
        _show(found)
        ask_first(f"stop instance {found.id}?", yes=yes)
        fault = confirm.stop(client, found.proof())
        if fault is not None:
            raise FailedError(f"instance {found.id} is not known to be stopped, and may go on billing: {fault}")
        _note(where, found, book.STOPPED)
        _patch(where, found, {"health.status": "stopped"})
        return _tell(client, found, as_json)
    finally:
        client.close()


@click.command("start", short_help="Start a stopped instance.")
@_WHICH
@_YES
@JSON
def start_verb(which: str, yes: bool, as_json: bool) -> int:
    """Start INSTANCE, a number or a worker's name, wait until it can be entered, and mend its address.

    Its managers go on by themselves. If its GPU is taken, the start is cancelled: left waiting, it would begin to bill
    whenever a GPU becomes free.
    """
    from skill.fleet import ownership
    from skill.hosts.registry import locate
    from skill.providers.vast import client as vast

    where = locate(Path.cwd())
    client = vast.connect()
    try:
        found = ownership.find(client, where, which)
        _not_gone(found)
        _show(found)
        ask_first(f"start instance {found.id}?", yes=yes)
        start(client, where, found)
        return _tell(client, found, as_json)
    finally:
        client.close()


def start(client: Client, where: Path, found: Owned) -> None:
    """Start an instance of ours, and have its worker's address mended. Raises FailedError; it is then stopped, or it is
    said that this is not known."""
    from skill.fleet import await_ready, reconcile, settings, ssh_key
    from skill.fleet import ledger as book
    from skill.fleet.startup import Broken
    from skill.providers.vast.ownership import NotOurs
    from skill.providers.vast.responses import Gone, Refused, Unknown

    chosen = settings.read_renting(where)
    key = ssh_key.find_key(chosen.key)
    asked = time.time()
    answer = client.set_state(found.proof(), "running")
    if isinstance(answer, Refused):
        _take_back(client, where, found, answer.why)
    if isinstance(answer, Unknown):
        raise FailedError(
            f"whether instance {found.id} starts is unknown, and it may be billed: {answer.reason}. Run the same "
            f"again, or: wavequeue vast stop {found.id}"
        )
    _note(where, found, book.STARTED)
    name = found.worker.name if found.worker is not None else f"instance-{found.id}"
    came = await_ready.come(client, found.claim, name, key, asked, chosen.bounds.ready_within, say)
    if isinstance(came, Gone):
        raise FailedError(f"instance {found.id} no longer exists")
    if isinstance(came, NotOurs):
        raise FailedError(f"{came.why}; nothing more was done")
    if isinstance(came, Broken):
        _take_back(client, where, found, came.why)
    if found.worker is not None:
        mended = reconcile.reconcile(client, where, fix=True, names=[found.worker.name])
        if isinstance(mended, Unknown):
            say(f"{found.worker.name}: its address could not be compared; later: wavequeue vast reconcile --fix")


def _take_back(client: Client, where: Path, found: Owned, why: str) -> None:
    """Stop what was to be started. Raises FailedError in any case."""
    from skill.fleet import ledger as book
    from skill.fleet import startup
    from skill.providers.vast import confirm

    fault = confirm.stop(client, found.proof())
    if fault is not None:
        raise FailedError(
            f"instance {found.id} did not start ({why}), and the start could not be taken back ({fault}): it may begin "
            f"to bill at any time; run: wavequeue vast stop {found.id}"
        )
    _note(where, found, book.STOPPED)
    raise FailedError(
        f"instance {found.id} did not start ({why}), and the start was taken back. "
        f"{startup.billing(found.id, client.instance(found.id))}"
    )


@click.command("destroy", short_help="Destroy an instance, with its disk.")
@_WHICH
@_YES
@click.option("--force", is_flag=True, help="Destroy it even if results on it have not been pulled.")
@JSON
def destroy_verb(which: str, yes: bool, force: bool, as_json: bool) -> int:
    """Destroy INSTANCE, a number or a worker's name, with all that lies on it. Ends its billing.

    Refuses while results of a run on it are not here. Only instances are destroyed that a worker names, or that bear a
    label given here. Its worker is disabled.
    """
    from skill.fleet import ownership
    from skill.hosts.registry import locate
    from skill.providers.vast import client as vast

    where = locate(Path.cwd())
    client = vast.connect()
    try:
        found = ownership.find(client, where, which)
        missing = ownership.at_risk(where, found.worker) if found.worker is not None else []
        if missing and not _is_gone(found):
            for text in missing:
                say(text)
            if not force:
                raise FailedError(
                    f"instance {found.id} was not destroyed, for that would be lost; first: wavequeue pull, or add "
                    "--force"
                )
        if not _is_gone(found):
            _show(found)
            ask_first(f"destroy instance {found.id}, with its disk?", yes=yes)
        destroy(client, where, found)
        return _tell(client, found, as_json)
    finally:
        client.close()


def destroy(client: Client, where: Path, found: Owned) -> None:
    """Destroy an instance of ours until that is confirmed, and disable its worker. Raises FailedError."""
    from skill.fleet import ledger as book
    from skill.fleet.drift import GONE
    from skill.providers.vast import confirm

    ended = confirm.Ended(by_us=False) if found.ours is None else confirm.destroy(client, found.ours)
    if isinstance(ended, str):
        raise FailedError(
            f"instance {found.id} was not confirmed as deleted; it may still be billed: {ended}. Run the same again"
        )
    _note(where, found, book.DESTROYED if ended.by_us else book.GONE)
    _patch(where, found, {"enabled": False, "health.status": GONE})


# -- what they share --------------------------------------------------------------------------------------------------


def _is_gone(found: Owned) -> bool:
    from skill.providers.vast.responses import Gone

    return isinstance(found.live, Gone)


def _not_gone(found: Owned) -> None:
    if _is_gone(found):
        raise FailedError(f"instance {found.id} no longer exists, and nothing of it is billed")


def _show(found: Owned) -> None:
    """What is about to be changed."""
    from skill.fleet import startup

    worker = f"{found.worker.name}: " if found.worker is not None else ""
    click.echo(f"{worker}{startup.billing(found.id, found.live)}", err=True)


def _note(where: Path, found: Owned, event: str) -> None:
    """Write into the ledger what became of it, unless that is there already."""
    from skill.fleet import ledger as book
    from skill.fleet import ledger_file

    if found.rental is None:
        return
    now = ledger_file.rentals(where)[found.rental.label]
    is_known = now.ended is not None or {book.STOPPED: now.stopped, book.STARTED: not now.stopped}.get(event, False)
    if not is_known:
        ledger_file.note(where, event, now.label)


def _patch(where: Path, found: Owned, values: dict[str, Any]) -> None:
    from skill.hosts import registry

    if found.worker is None:
        return
    with registry.changed(where) as known:
        now = known.workers.get(found.worker.name)
        if now is not None and now.instance_id == found.id:
            known.patch(found.worker.name, values)


def _tell(client: Client, found: Owned, as_json: bool) -> int:
    """How it is now, and what is billed."""
    from skill.fleet import drift, startup
    from skill.providers.vast.responses import Gone, Unknown

    live = client.instance(found.id)
    words = startup.billing(found.id, live)
    if as_json:
        status = drift.GONE if isinstance(live, Gone) else None if isinstance(live, Unknown) else live.status
        worker = found.worker.name if found.worker is not None else None
        print_json({"instance_id": found.id, "worker": worker, "status": status, "billing": words})
    else:
        print(words)
    return DONE
