"""Whether ssh can be used from here at all, found out before a machine is paid for: the configuration, the key and the
agent that holds it, and the jump hosts that it puts before a rented machine.

A fault of this side would be met at every machine, and none of them is to blame for it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable

from queue_manager.core.terminal_text import one_line
from skill.hosts import ssh_keys, ssh_way
from skill.hosts.registry import Ssh, Worker
from skill.hosts.ssh_settings import Fault, Settings, ask, words
from skill.hosts.ssh_way import Way

PROXY = "ssh1.vast.ai"
PROBES = ("203.0.113.1", PROXY)
"""What rented machines are called: an address (this one is nobody's), and a proxy of Vast.ai."""
_ANSWERED = ("Permission denied", "Host key verification failed", "Too many authentication failures")
"""What ssh says of a server that it has reached."""
_CONNECT = 10
_PATIENCE = 45.0
_SSH_FAILED = 255
"""The exit code of ssh where it is ssh that failed, and not what ran there."""


def fault(key: str | None, public: str) -> str | None:
    """Why no rented machine could be entered from here, in words; None if nothing is known against it.

    `key`: the private half of the key to go with, None where an agent holds it; `public`: the text of its public half.
    """
    hops: dict[str, None] = {}
    proxied: str | None = None
    for probe in PROBES:
        found = ask(("ssh", *ssh_way.config_option()), f"root@{probe}")
        if isinstance(found, Fault):
            return found.reason if found.is_missing else f"{found.reason}; fix it, and try: ssh -G {probe}"
        refused = _key_fault(ssh_way.find(_rented(probe, key)), key, public)
        if refused is not None:
            return refused
        hops |= dict.fromkeys(jumps(found))
        if probe == PROXY and found.is_set("proxycommand"):
            proxied = found.first("proxycommand")
    closed = next((f"the jump host {chain} of your ssh configuration {why}" for chain, why in _closed(hops)), None)
    return closed or (None if proxied is None else _proxy_fault(proxied))


def _rented(address: str, key: str | None) -> Worker:
    """A rented machine at an address, as one is registered."""
    return Worker("rented", ssh=Ssh(address, 22, "root", key), instance_id=1)


def _key_fault(way: Way, key: str | None, public: str) -> str | None:
    """Why ssh would not offer a key to a rented machine, in words; None where it would, or this is not known. `key` and
    `public` as for `fault`."""
    if way.problem is not None:
        return way.problem
    settings, mine = way.settings, ssh_keys.public_half(public)
    if settings.first("pubkeyauthentication") in ("no", "false"):  # as it is printed differs by version
        return "PubkeyAuthentication no of your ssh configuration disables all keys; limit it to hosts that need it"
    known = next((one for one in way.identities if mine is not None and one.blob == mine[1]), None)
    if mine is None or (known is None and key is not None):
        return None
    if known is not None and known.is_private and not known.is_locked:
        return None
    if known is None and settings.first("identitiesonly") == "yes":
        return (
            "IdentitiesOnly yes of your ssh configuration disables the key for rented machines, which only the agent "
            "has; name it there under IdentityFile"
        )
    from skill.hosts.fabric_transport import agent_holds  # a fifth of a second, which most keys need not pay

    held, fault = agent_holds(way.agent)
    if any(blob == mine[1] for _, blob in held):
        return None
    asked = fault or (f"the agent that ssh asks ({way.agent}) does not show it" if way.agent else "ssh asks no agent")
    what = f"the key {known.path}" if known is not None else "the key for rented machines"
    return f"{what} needs an agent, and {asked}; see: ssh-add -l, and IdentityAgent in your ssh configuration"


def _proxy_fault(proxied: str) -> str | None:
    """Why no server is reached by the ProxyCommand that the configuration has for Vast.ai's proxy; None if one is.

    That proxy lets nobody in without a key that it knows, and says so: then the way to it is open.
    """
    done = _run(proxy_command())
    if done is None:
        return f"the ProxyCommand of your ssh configuration did not reach {PROXY} within {_PATIENCE:g} s: {proxied}"
    if done.returncode != _SSH_FAILED or any(text in done.stderr for text in _ANSWERED):
        return None
    return (
        f"the ProxyCommand of your ssh configuration does not reach {PROXY}: {one_line(proxied, 200)}: {_words(done)}"
    )


def proxy_command() -> list[str]:
    """The command that knocks at Vast.ai's proxy, keeps no key of it, and asks nobody anything."""
    options = (
        "BatchMode=yes", f"ConnectTimeout={_CONNECT}", "RemoteCommand=none", "RequestTTY=no", "ControlPath=none",
        "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR",
    )  # fmt: skip
    options_sent = (word for one in options for word in ("-o", one))
    return ["ssh", "-n", *ssh_way.config_option(), *options_sent, f"root@{PROXY}", "true"]


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
