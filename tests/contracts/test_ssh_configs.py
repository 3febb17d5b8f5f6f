"""Configurations of ssh as data: for each, `ssh` and wavequeue agree on who is reached, by which key and through what,
or both fail for the same reason.

A file of data/ssh_configs begins with what is so: `# enters: KEY...`, the keys that the server accepts one after the
other, those of jump hosts first; or `# fails: KIND...`. `# through:` has words of why OpenSSH goes, where it does.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from skill.hosts import ssh_once, ssh_way
from skill.hosts.connection import CommandResult, Host, Unreachable
from skill.hosts.registry import Worker
from tests.e2e.runs import wait_for
from tests.ssh_agent import ssh_agent
from tests.sshd import Sshd, free_port, make_key

KEYS = {
    "ed": "ed25519", "rsa": "rsa", "ecdsa": "ecdsa", "jump": "ed25519", "held": "ed25519", "second": "ed25519",
    "locked": "ed25519", "open": "ed25519", "stranger": "ecdsa", "signed": "ed25519", "beside": "ed25519",
    "ca": "ed25519",
}  # fmt: skip
UNKNOWN = ("stranger", "signed", "beside", "ca")
"""Keys that the server lets nobody in by. The stranger's is of the kind of the server's own, for which it stands in
files of known hosts."""
ASK = (
    'while read -r line; do echo "$line"; done < "$SSH_USER_AUTH"; '
    'set -- $SSH_CONNECTION; echo "$3 $4 [$WQ_SENT] [$SSH_AUTH_SOCK]"'
)
_ACCEPTED = re.compile(r"Accepted publickey for \S+ from .* ssh2: (\S+) (SHA256:\S+)")
_RELAY = """
import os, socket, sys, threading
there = socket.create_connection((sys.argv[1], int(sys.argv[2])))
assert sys.argv[3:] == ["a note", "root", "box"], sys.argv
def back():
    while data := there.recv(65536):
        os.write(1, data)
    os._exit(0)
threading.Thread(target=back, daemon=True).start()
while data := os.read(0, 65536):
    there.sendall(data)
"""


def _has_six() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as found:
            found.bind(("::1", 0))
    except OSError:
        return False
    return True


CASES = sorted(
    path
    for path in (Path(__file__).parent.parent / "data" / "ssh_configs").glob("*.conf")
    if _has_six() or "# needs: ipv6" not in path.read_text()
)


class Place(NamedTuple):
    """One server with several doors, keys and agents; what stands for it in the data."""

    server: Sshd
    folder: Path
    words: dict[str, str]
    fingerprints: dict[str, str]

    def accepted(self, since: int) -> list[str]:
        """The keys by which somebody was let in since then, in order."""
        text = (self.server.root / "sshd.log").read_text()[since:]
        return [self.fingerprints[mark] + ("-cert" if "CERT" in kind else "") for kind, mark in _ACCEPTED.findall(text)]

    def mark(self) -> int:
        return len((self.server.root / "sshd.log").read_text())

    def fill(self, text: str, case: Path) -> str:
        for name, value in {**self.words, "CASE": str(case)}.items():
            text = text.replace(f"@{name}@", value)
        return text


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="wqc"))  # sockets lie in it, and their paths have to be short
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        server = stack.enter_context(Sshd(tmp_path_factory.mktemp("host")))
        keys = folder / "keys"
        keys.mkdir()
        fingerprints = {make_key(keys / name, kind): name for name, kind in KEYS.items()}
        both, password = _ports(server, keys)
        words = {
            "PORT": str(server.port), "PORT_BOTH": both, "PORT_PASSWORD": password, "KEYS": str(keys),
            "DIR": str(folder), "PYTHON": sys.executable, "AGENT": str(folder / "agent"),
            "AGENT2": str(folder / "agent2"), "AGENT3": str(folder / "agent3"),
        }  # fmt: skip
        _files(folder, keys, server)
        for name, held in (("agent", ("held", "locked")), ("agent2", ("second",))):
            stack.enter_context(ssh_agent(folder / name, *(keys / one for one in held)))
        bound = ["ssh-add", "-q", "-H", str(folder / "known_bound"), "-h", "root@127.0.0.1", str(keys / "held")]
        stack.enter_context(ssh_agent(folder / "agent3"))
        environment = {**os.environ, "SSH_AUTH_SOCK": str(folder / "agent3")}
        subprocess.run(bound, env=environment, check=True, timeout=60)
        for name in ("held", "second"):  # their private halves are in the agents alone
            (keys / name).unlink()
        lock = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-a", "1", "-f", str(keys / "locked")]
        subprocess.run(lock, check=True, timeout=60)
        yield Place(server, folder, words, fingerprints)
        assert server.process is not None
        sessions = psutil.Process(server.process.pid)  # each has a file in /tmp for SSH_USER_AUTH, until it ends
        wait_for(lambda: not sessions.children(), say="the end of all sessions")


def _ports(server: Sshd, keys: Path) -> tuple[str, str]:
    """Let the server listen on three ports: for keys, for keys and passwords, for passwords."""
    authorized = "".join((keys / f"{name}.pub").read_text() for name in KEYS if name not in UNKNOWN)
    (server.root / "authorized_keys").write_text(authorized)
    config = server.root / "sshd_config"
    sign = ["ssh-keygen", "-q", "-s", str(keys / "ca"), "-I", "host", "-h", "-n", "127.0.0.1,localhost,::1"]
    subprocess.run([*sign, str(server.root / "host_key.pub")], check=True, timeout=60)
    server.stop()
    both, password = (str(free_port("127.0.0.1")) for _ in range(2))
    six = f"ListenAddress [::1]:{server.port}\n" if _has_six() else ""
    config.write_text(
        "LogLevel VERBOSE\nExposeAuthInfo yes\nAcceptEnv WQ_*\n"
        f"TrustedUserCAKeys {keys / 'ca.pub'}\nHostCertificate {server.root / 'host_key-cert.pub'}\n"
        + config.read_text()
        + f"Port {both}\nPort {password}\n{six}"
        + f"Match LocalPort {both}\n  PasswordAuthentication yes\n  PermitRootLogin yes\n"
        "  AuthenticationMethods publickey,password\n"
        + f"Match LocalPort {password}\n  PasswordAuthentication yes\n  PermitRootLogin yes\n"
        "  AuthenticationMethods password\n"
    )
    server.start()
    return both, password


def _files(folder: Path, keys: Path, server: Sshd) -> None:
    """What configurations name: parts of them, keys under other names, known hosts."""
    parts = folder / "parts"
    parts.mkdir()
    (parts / "a.conf").write_text(f"Host box\n  HostName 127.0.0.1\n  IdentityFile {keys}/ed\n")
    (parts / "inner").write_text(f"HostName 127.0.0.1\nIdentityFile {keys}/ed\n")
    (folder / "relay.py").write_text(_RELAY)
    for name in (f"root_box_127.0.0.1_{server.port}%", "a b"):
        shutil.copy2(keys / "ed", keys / name)
    shutil.copy2(keys / "rsa", keys / "rsa_pem")
    again = ["ssh-keygen", "-q", "-p", "-m", "PEM", "-P", "", "-N", "", "-f", str(keys / "rsa_pem")]
    subprocess.run(again, check=True, timeout=60)
    (keys / "open").chmod(0o644)
    for name in ("signed", "beside"):
        sign = ["ssh-keygen", "-q", "-s", str(keys / "ca"), "-I", "me", "-n", "root", str(keys / f"{name}.pub")]
        subprocess.run(sign, check=True, timeout=60)
    (keys / "signed-cert.pub").rename(keys / "elsewhere.pub")
    right = " ".join((server.root / "host_key.pub").read_text().split()[:2])
    wrong = " ".join((keys / "stranger.pub").read_text().split()[:2])
    (folder / "known hosts").write_text(f"* {right}\n")
    (folder / "known_wrong").write_text(f"[127.0.0.1]:{server.port} {wrong}\n")
    (folder / "known_other").write_text(f"other {right}\nimpostor {wrong}\n")
    ca = (keys / "ca.pub").read_text()
    (folder / "known_bound").write_text(f"* {right}\n@cert-authority * {ca}")
    (folder / "known_ca").write_text(f"@cert-authority [127.0.0.1]:{server.port} {ca}")
    (folder / "known_other_ca").write_text(f"@cert-authority [127.0.0.1]:{server.port} {wrong}\n")
    (folder / "known_revoked").write_text(f"@revoked * {right}\n* {right}\n")
    for name, key in (("known_hashed", right), ("known_hashed_wrong", wrong)):
        (folder / name).write_text(f"[127.0.0.1]:{server.port} {key}\n")
        subprocess.run(
            ["ssh-keygen", "-q", "-H", "-f", str(folder / name)], check=True, timeout=60, capture_output=True
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


# -- one case -----------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """What a file of data says. `fails`: kinds of failure, one of which it has to be."""

    text: str
    host: str
    enters: list[str] | None
    fails: list[str]
    says: str
    sees: str
    through: str
    env: dict[str, str]
    master: str
    by_version: bool
    needs: str
    marked: bool


def read(text: str) -> Case:
    head = dict(re.findall(r"^# (\w+):[ ]?(.*)$", text, re.MULTILINE))
    assert head.keys() <= set(Case._fields), head
    assert "enters" in head or "fails" in head
    return Case(
        text, head.get("host", "box"), head["enters"].split() if "enters" in head else None,
        head.get("fails", "").split(), head.get("says", ""), head.get("sees", ""), head.get("through", ""),
        dict(one.split("=", 1) for one in head.get("env", "").split()), head.get("master", ""),
        "by_version" in head, head.get("needs", ""), "marked" in head,
    )  # fmt: skip


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_ssh_and_wavequeue_agree(path: Path, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / ".ssh" / "config"
    config.parent.mkdir(mode=0o700)
    case = read(place.fill(path.read_text().replace("@CONFIG@", str(config)), tmp_path))
    config.write_text(
        f'{case.text}Host *\n  User root\n  UserKnownHostsFile "{place.folder}/known hosts"\n  IdentityAgent none\n'
        if "SSH_AUTH_SOCK" not in case.env
        else f'{case.text}Host *\n  User root\n  UserKnownHostsFile "{place.folder}/known hosts"\n'
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setenv("WQ_NOTE", "a note")
    for name, value in case.env.items():
        monkeypatch.setenv(name, value)
    with contextlib.ExitStack() as stack:
        if case.master:
            stack.callback(_end, _master(case, config, place))
        ssh, by_ssh = _by_ssh(case, config, place)
        host = Host(Worker(case.host), tmp_path / "known_hosts")
        stack.callback(host.close)
        since = place.mark()
        found = host.script(ASK, timeout=60)
        by_us = place.accepted(since)
        if case.by_version and ssh.returncode:  # an option that this ssh does not know yet
            assert isinstance(found, Unreachable), found
            assert "Bad configuration option" in found.reason
            return
        through = host.through()
        assert (through is not None) == bool(case.through), through
        assert case.through in (through or "")
        if case.enters is None:
            assert ssh.returncode == 255, ssh
            assert isinstance(found, Unreachable), found
            assert found.kind in case.fails, found
            assert case.says in found.reason
            assert by_us == by_ssh
            return
        assert ssh.returncode == 0, ssh.stderr
        assert by_ssh == case.enters
        assert isinstance(found, CommandResult), found
        assert by_us == by_ssh
        assert found.out == ssh.stdout
        assert f"[{case.sees}] []" in ssh.stdout.decode()
        if through is not None:  # rsync shares the login, so that a key that needs a touch is touched once
            _like_rsync(host, place, [], ssh.stdout)
        host.close()
        _like_rsync(host, place, by_ssh, ssh.stdout)
        way = ssh_way.plain(host.worker)  # an ssh for one command alone goes as rsync did
        assert (way is None) == bool(case.master or case.marked)
        if way is not None:
            single = [
                word.replace("LogLevel=DEBUG1", "LogLevel=INFO")
                for word in ssh_once.command(way, host.name, host.known_hosts)
            ]
            assert (single, way.destination) == ([*(host.ssh_command() or ()), "-S", "none"], host.destination)


def _by_ssh(case: Case, config: Path, place: Place) -> tuple[subprocess.CompletedProcess[bytes], list[str]]:
    """What ssh itself does, and the keys by which it was let in."""
    since = place.mark()
    options = ["-o", "BatchMode=yes", "-o", "RemoteCommand=none", "-o", "PermitLocalCommand=no", "-T", "-a"]
    done = subprocess.run(
        ["ssh", "-F", str(config), *options, case.host, ASK],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
    )  # fmt: skip
    return done, place.accepted(since)


def _like_rsync(host: Host, place: Place, keys: list[str], out: bytes) -> None:
    """The command that rsync and attach get enters just as the others did."""
    command = host.ssh_command()
    assert command is not None
    since = place.mark()
    done = subprocess.run(
        [*command, host.destination, ASK],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, out), done.stderr
    assert place.accepted(since) == keys


def _master(case: Case, config: Path, place: Place) -> subprocess.Popen[bytes]:
    """A connection that a person has opened, by a key that is nowhere in the configuration."""
    key = f"{place.words['KEYS']}/{case.master}"
    process = subprocess.Popen(
        ["ssh", "-F", str(config), "-o", "BatchMode=yes", "-i", key, "-M", "-N", case.host], stdin=subprocess.DEVNULL
    )
    check = ["ssh", "-F", str(config), "-O", "check", case.host]
    wait_for(lambda: subprocess.run(check, capture_output=True, timeout=60).returncode == 0, say="the connection")
    return process


def test_the_table_is_long_enough() -> None:
    assert len(CASES) >= 70
