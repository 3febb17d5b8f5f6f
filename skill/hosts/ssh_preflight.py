"""Whether ssh can be used from here at all, found out before a machine is paid for: the configuration, and the jump
hosts that it puts before a rented machine.

A fault of this side would be met at every machine, and none of them is to blame for it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping

from queue_manager.core.terminal_text import one_line

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
        done = _run(["ssh", "-G", f"root@{probe}"])
        if done is None:
            return None
        if done.returncode != 0:
            return f"your ssh configuration cannot be read: {_words(done)}; mend it, and try: ssh -G {probe}"
        hops |= dict.fromkeys(jumps(parse(done.stdout)))
    return next((f"the jump host {chain} of your ssh configuration {why}" for chain, why in _closed(hops)), None)


def parse(text: str) -> dict[str, str]:
    """What `ssh -G` prints: options in small letters, the first line of each."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        found.setdefault(name.lower(), value.strip())
    return found


def jumps(options: Mapping[str, str]) -> list[str]:
    """The chain of jump hosts that options of `ssh -G` name, as one text such as a,b; none where there is none."""
    chain = options.get("proxyjump", "none")
    return [] if chain.lower() in ("", "none") else [chain]


def command(chain: str) -> list[str]:
    """The command that enters the last host of a chain by those before it, and asks nobody anything."""
    *before, last = chain.split(",")
    through = ["-J", ",".join(before)] if before else []
    options = ("BatchMode=yes", f"ConnectTimeout={_CONNECT}", "RemoteCommand=none", "RequestTTY=no")
    target = last if last.startswith("ssh://") else f"ssh://{last}"
    return ["ssh", "-n", *(word for one in options for word in ("-o", one)), *through, target, "true"]


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
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return one_line(lines[0], 300) if lines else f"ssh ended with code {done.returncode}"
