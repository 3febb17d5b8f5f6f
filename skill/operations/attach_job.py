"""Find the command that shows the terminal of a running job."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from typing import Any

from queue_manager.core import launchers
from skill.common.errors import FailedError, UseError
from skill.hosts import remote_command
from skill.hosts.connection import Host, Unreachable
from skill.runs import directory, requests
from skill.runs.attach_command import build_attach
from skill.runs.digest import Row, reason
from skill.runs.directory import Run
from skill.runs.open import on_hosts


def attach_command(run: Run, job: str) -> list[str]:
    """Return the command to run in a terminal on this machine, wherever the job runs.

    Raises UseError where the job is not running, and FailedError where its host cannot be reached.
    """
    if on_hosts(run):
        return _on_host(run, job)
    document = directory.read_state(run)
    session = _session(run, requests.one(document, job), document)
    if shutil.which("screen") is None:
        raise FailedError("screen is not installed: sudo apt-get install -y screen")
    return build_attach(session, document["meta"]["screen_dir"])


def _session(run: Run, row: Row, document: Mapping[str, Any]) -> str:
    """Return the name of a running job's screen session. Raises UseError where it has none."""
    job = row["id"]
    if row["status"] != "running":
        why = f" ({reason(row)})" if reason(row) else ""
        hint = f"; its log: {_log(run, job)}" if row["attempt"] else ""
        raise UseError(f"job {job} is not running: it is {row['status']}{why}{hint}")
    launcher = document["meta"].get("launcher", launchers.DEFAULT)
    if not (launcher in launchers.LAUNCHERS and launchers.LAUNCHERS[launcher].has_terminal):
        says = f"job {job} has no terminal to attach to (launcher: {launcher})"
        raise UseError(f"{says}; follow its log instead: {_log(run, job)} -f")
    if row["screen_pid"] is None:
        raise FailedError(f"job {job} is just starting; try again in a moment")
    return f"{row['screen_pid']}.{row['screen_name']}"


def _log(run: Run, job: str) -> str:
    return shlex.join(["wavequeue", "logs", job, "--run", run.id])


def _on_host(run: Run, job: str) -> list[str]:
    from skill.runs import remote, remote_logs

    with remote.RemoteRun.at(run) as there:
        ask = remote_logs.Asker(there, job)
        found, way = ask(lines=0), there.way(ask.host)
    if isinstance(found, Unreachable) or not isinstance(way, Host):
        why_not = found.reason if isinstance(found, Unreachable) else "it is not registered"
        raise FailedError(f"{ask.host} is unreachable: {why_not}; what was pulled of its log: {_log(run, job)}")
    if isinstance(found, str):
        raise FailedError(found)
    command = build_attach(_session(run, found.row, found.document), found.document["meta"]["screen_dir"])
    ssh = way.ssh_command()
    return command if ssh is None else [*ssh, "-t", way.destination, remote_command.command_line(command)]
