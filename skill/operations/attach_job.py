"""Find the command that shows the terminal of a running job, or opens a shell beside one on Slurm."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from typing import Any, NamedTuple

from queue_manager.core import launchers, layout
from skill.common.errors import FailedError, UseError
from skill.hosts import remote_command
from skill.hosts.connection import Host, Unreachable
from skill.runs import directory, requests
from skill.runs.attach_command import build_attach
from skill.runs.digest import Row, reason
from skill.runs.directory import Run
from skill.runs.open import on_hosts
from skill.runs.slurm_attach import build_shell


class Attach(NamedTuple):
    """A command to run in a terminal on this machine, and how a person leaves what it shows."""

    command: list[str]
    leave: str


_SCREEN = "Ctrl-a d detaches, and the job keeps running"
_SHELL = "a shell beside the job, on its node and with its GPUs; exit ends the shell, and the job keeps running"


def attach_command(run: Run, job: str) -> Attach:
    """Return the command to run in a terminal on this machine, wherever the job runs.

    Raises UseError where the job is not running, and FailedError where its host cannot be reached.
    """
    if on_hosts(run):
        return _on_host(run, job)
    document = directory.read_state(run)
    found = _on_its_machine(run, requests.one(document, job), document)
    if found.leave == _SCREEN and shutil.which("screen") is None:
        raise FailedError("screen is not installed: sudo apt-get install -y screen")
    return found


def _on_its_machine(run: Run, row: Row, document: Mapping[str, Any]) -> Attach:
    """Return the command on the machine that the manager runs on. Raises UseError where there is none."""
    job, meta = row["id"], document["meta"]
    if row["status"] != "running":
        why = f" ({reason(row)})" if reason(row) else ""
        hint = f"; its log: {_log(run, job)}" if row["attempt"] else ""
        raise UseError(f"job {job} is not running: it is {row['status']}{why}{hint}")
    launcher = meta.get("launcher", launchers.DEFAULT)
    is_known = launcher in launchers.LAUNCHERS
    if launcher != launchers.SLURM and not (is_known and launchers.LAUNCHERS[launcher].has_terminal):
        says = f"job {job} has no terminal to attach to (launcher: {launcher})"
        raise UseError(f"{says}; follow its log instead: {_log(run, job)} -f")
    if row["screen_pid"] is None:
        raise FailedError(f"job {job} is just starting; try again in a moment")
    if launcher == launchers.SLURM:
        instead = [_log(run, job), "-f"]
        shell = build_shell(row["screen_pid"], layout.slurm_name(meta["run_id"]), meta["cwd"] or ".", instead)
        return Attach(shell, _SHELL)
    return Attach(build_attach(f"{row['screen_pid']}.{row['screen_name']}", meta["screen_dir"]), _SCREEN)


def _log(run: Run, job: str) -> str:
    return shlex.join(["wavequeue", "logs", job, "--run", run.id])


def _on_host(run: Run, job: str) -> Attach:
    from skill.runs import remote, remote_logs

    with remote.RemoteRun.at(run) as there:
        ask = remote_logs.Asker(there, job)
        found, way = ask(lines=0), there.way(ask.host)
    if isinstance(found, Unreachable) or not isinstance(way, Host):
        why_not = found.reason if isinstance(found, Unreachable) else "it is not registered"
        raise FailedError(f"{ask.host} is unreachable: {why_not}; what was pulled of its log: {_log(run, job)}")
    if isinstance(found, str):
        raise FailedError(found)
    shown = _on_its_machine(run, found.row, found.document)
    ssh = way.ssh_command()
    if ssh is None:
        return shown
    return shown._replace(command=[*ssh, "-t", way.destination, remote_command.command_line(shown.command)])
