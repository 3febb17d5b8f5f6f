"""Whether ssh can be used from here at all, found out before a machine is paid for: the configuration, and the jump
hosts that it puts before a rented machine.

A fault of this side would be met at every machine, and none of them is to blame for it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable

from skill.hosts import ssh_way
from skill.hosts.ssh_settings import Fault, Settings, ask, words

PROBES = ("203.0.113.1", "ssh1.vast.ai")
"""What rented machines are called: an address (this one is nobody's), and a proxy of Vast.ai."""
_CONNECT = 10
_PATIENCE = 45.0
_SSH_FAILED = 255
"""The exit code of ssh where it is ssh that failed, and not what ran there."""


def fault() -> str | None:
    """Why no rented machine could be entered from here, in words; None if nothing is known against it."""
    hops: dict[str, None] = {}
    for probe in PROBES:
        found = ask(("ssh", *ssh_way.config_option()), f"root@{probe}")
        if isinstance(found, Fault):
            return None if found.is_missing else f"{found.reason}; mend it, and try: ssh -G {probe}"
        hops |= dict.fromkeys(jumps(found))
    return next((f"the jump host {chain} of your ssh configuration {why}" for chain, why in _closed(hops)), None)


def jumps(settings: Settings) -> list[str]:
    """The chain of jump hosts that settings name, as one text such as a,b; none where there is none."""
    return [settings.first("proxyjump")] if settings.is_set("proxyjump") else []


def command(chain: str) -> list[str]:
    """The command that enters the last host of a chain by those before it, and asks nobody anything."""
    *before, last = chain.split(",")
    through = ["-J", ",".join(before)] if before else []
    options = ("BatchMode=yes", f"ConnectTimeout={_CONNECT}", "RemoteCommand=none", "RequestTTY=no")
    target = last if last.startswith("ssh://") else f"ssh://{last}"
    return [
        "ssh",
        "-n",
        *ssh_way.config_option(),
        *(word for one in options for word in ("-o", one)),
        *through,
        target,
        "true",
    ]


def _closed(chains: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Those that cannot be entered, each with why."""
    for chain in chains:
        done = _run(command(chain))
        if done is None:
            yield chain, f"did not answer within {_PATIENCE:g} s"
        elif done.returncode == _SSH_FAILED:  # a jump host may well let nothing run, and yet pass connections on
            yield chain, f"cannot be entered: {_words(done)}"


def _run(argv: list[str]) -> subprocess.CompletedProcess[str] | None:
    """What a command of OpenSSH says; None where it is not installed, or does not end."""
    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def _words(done: subprocess.CompletedProcess[str]) -> str:
    """ssh's own words: its first line, which names what is wrong."""
    return words(done.stderr) or f"ssh ended with code {done.returncode}"
