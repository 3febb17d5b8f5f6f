"""A host over a real sshd on loopback: commands, files, host keys, and everything that can go wrong on the way."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import skill.hosts.connection
import skill.hosts.transport
from skill.hosts.connection import CommandResult, Host, Unreachable, each, forget_key, known_key, remote
from skill.hosts.registry import Ssh, Worker
from skill.hosts.remote_command import framed
from tests.cutter import Cutter
from tests.e2e.runs import ROOT, wait_for
from tests.sshd import Sshd, make_key

ODD_PATH = 'it\'s a b%h %% "$X" \\" # ~'
"""As a directory of a project may be called: full of what ssh expands, splits or quotes."""
ODD = ["a b", "it's", 'say "x"', "; rm -rf /", "two\nlines", "$HOME `id`", "~", "-n", "", "ü"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("host"), kex=None) as made:
        yield made


@pytest.fixture(params=["ssh", "local"])
def host(
    request: pytest.FixtureRequest, server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Host]:
    if request.param == "local":
        monkeypatch.setenv("HOME", str(server.home))
        made = Host(Worker("here", kind="local"), tmp_path / "known_hosts")
    else:
        made = Host(server.worker("a"), tmp_path / "known_hosts")
    yield made
    made.close()


def _reached(found: CommandResult | Unreachable) -> CommandResult:
    assert isinstance(found, CommandResult), found
    return found


# -- commands and files -----------------------------------------------------------------------------------------------


def test_arguments_arrive_as_they_are(host: Host) -> None:
    result = _reached(host.run(["printf", "%s\\0", *ODD]))
    assert result.code == 0
    assert result.out.decode().split("\0")[:-1] == ODD


def test_input_output_and_exit_code(host: Host) -> None:
    data = bytes(range(256)) * 4000
    result = _reached(host.script('cat; echo "$1" >&2; exit 7', "it's wrong", stdin=data))
    assert result == CommandResult(7, data, "it's wrong\n")


def test_commands_begin_in_the_home(host: Host, server: Sshd) -> None:
    assert _reached(host.run(["pwd"])).out.decode().strip() == str(server.home)
    assert [remote(path) for path in ("~", "~/", "~/a/b", "/x", "y")] == [".", ".", "a/b", "/x", "y"]


def test_what_a_command_does_not_read_is_no_fault(host: Host) -> None:
    assert _reached(host.run(["true"], stdin=b"x" * (8 << 20))).code == 0


def test_a_file_is_put_whole_for_this_user_alone(host: Host, server: Sshd) -> None:
    for text in (b"first", b"second\0\xff"):
        assert host.put("~/new/deep/it's a file", text, 0o640) is None
    file = server.home / "new" / "deep" / "it's a file"
    assert file.read_bytes() == b"second\0\xff"
    assert file.stat().st_mode & 0o777 == 0o640
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert list(file.parent.iterdir()) == [file]


def test_a_file_that_cannot_be_put_says_why(host: Host) -> None:
    found = host.put("/dev/null/file", b"x")
    assert isinstance(found, str)
    assert "null" in found


def test_what_is_written_without_end_is_not_taken(host: Host) -> None:
    result = _reached(host.run(["head", "-c", "4000000", "/dev/zero"], limit=1 << 20))
    assert result == CommandResult(1, b"", "it wrote more than 1 MiB, and all of it was discarded")


def test_a_command_that_does_not_end_is_unknown(host: Host) -> None:
    begin = time.monotonic()
    found = host.run(["sleep", "100"], timeout=0.5)
    assert isinstance(found, Unreachable)
    assert found.kind == "timeout"
    assert time.monotonic() - begin < 60


def test_a_greeting_of_the_shell_is_cut_off(server: Sshd, tmp_path: Path) -> None:
    greeting = server.home / "greeting"
    greeting.write_text("echo Welcome; echo motd >&2; printf '\\033[2J'\n")
    host = Host(server.worker("a"), tmp_path / "known_hosts")
    try:
        assert host.run(["echo", "mine"]) == CommandResult(0, b"mine\n", "")
        greeting.write_text("echo only the greeting; exit 3\n")
        found = host.run(["echo", "mine"])
        assert isinstance(found, Unreachable)
        assert found.kind == "shell"
        assert "(exit code 3) before our command and printed only the greeting; a login file there" in found.reason
    finally:
        greeting.unlink()
        host.close()


def test_openssh_goes_the_same_way(server: Sshd, tmp_path: Path) -> None:
    odd = tmp_path / ODD_PATH
    odd.mkdir()
    worker = server.worker("a")
    assert worker.ssh is not None
    assert worker.ssh.key is not None
    shutil.copy2(worker.ssh.key, odd / "key")
    worker = worker._replace(ssh=worker.ssh._replace(key=str(odd / "key")))
    host = Host(worker, odd / "known_hosts")
    _reached(host.run(["true"]))
    host.close()
    command = host.ssh_command()
    assert command is not None
    done = subprocess.run(
        [*command, host.destination, shlex.join(["printf", "%s", "a  b"])], capture_output=True, text=True, timeout=150
    )
    assert (done.returncode, done.stdout) == (0, "a  b"), done.stderr
    assert Host(Worker("here", kind="local"), tmp_path / "x").ssh_command() is None


def test_no_agent_is_forwarded(server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    host = Host(server.worker("a"), tmp_path / "known_hosts")
    assert _reached(host.script('echo "[$SSH_AUTH_SOCK]"')).out == b"[]\n"
    host.close()
    assert "ForwardAgent=no" in (host.ssh_command() or [])


# -- host keys --------------------------------------------------------------------------------------------------------


def test_a_changed_host_key_is_refused_until_it_is_accepted(server: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "keys" / "known_hosts"
    with Sshd(tmp_path / "other") as other:
        for name in ("a", "b"):
            _reached(_once(server.worker(name), known, ["true"]))
        impostor = server.worker("a")._replace(ssh=other.worker("a").ssh)
        found = _once(impostor, known, ["touch", "reached"])
        assert isinstance(found, Unreachable)
        assert found.kind == "host_key"
        assert "wavequeue hosts accept a" in found.reason
        assert not (other.home / "reached").exists()
        kept = known_key(known, "b")
        assert forget_key(known, "a")
        assert not forget_key(known, "a")
        _reached(_once(impostor, known, ["touch", "reached"]))
        assert (other.home / "reached").exists()
        assert known_key(known, "b") == kept != known_key(known, "a")
    assert known.stat().st_mode & 0o777 == 0o600


def test_a_host_that_moved_keeps_its_key(server: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    _reached(_once(server.worker("a"), known, ["true"]))
    moved = server.worker("a")._replace(ssh=Ssh("localhost", server.port, "root", str(server.key)))
    _reached(_once(moved, known, ["true"]))
    assert len(known.read_text().splitlines()) == 1


def _once(worker: Worker, known: Path, argv: list[str]) -> CommandResult | Unreachable:
    host = Host(worker, known)
    try:
        return host.run(argv)
    finally:
        host.close()


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_refused_connection_is_tried_again_with_a_bound(tmp_path: Path) -> None:
    with Sshd(tmp_path / "host") as server:
        server.stop()
        host = Host(server.worker("a"), tmp_path / "known_hosts", tries=2)
        found = host.run(["true"])
        assert isinstance(found, Unreachable)
        assert found.kind == "refused"
        assert "tried 2 times" in found.reason
        server.start()
        assert _reached(host.run(["true"])).code == 0
        server.stop()
        server.start()
        assert _reached(host.run(["echo", "again"])).out == b"again\n"  # the old connection has died unnoticed
        host.close()


def test_a_connection_that_is_cut_in_the_middle_is_unknown(tmp_path: Path) -> None:
    with Sshd(tmp_path / "host") as server:
        host = Host(server.worker("a"), tmp_path / "known_hosts")
        found = each([host], _cut, 30)["a"]
        assert isinstance(found, Unreachable)
        assert found.kind == "dropped"
        host.close()


def _cut(host: Host) -> CommandResult | Unreachable:
    _reached(host.run(["true"]))
    return host.script("touch begun; kill -KILL $PPID; sleep 5")


@pytest.mark.parametrize(
    ("ssh", "kind", "words"),
    [
        (Ssh("no-such-host.invalid", 22, "root"), "name", "not known"),
        (Ssh("127.0.0.1", 1, "root"), "refused", "no SSH server listens there"),
    ],
)
def test_an_address_that_leads_nowhere(ssh: Ssh, kind: str, words: str, tmp_path: Path) -> None:
    found = _once(Worker("a", ssh=ssh), tmp_path / "known_hosts", ["true"])
    assert isinstance(found, Unreachable)
    assert (found.kind, words in found.reason) == (kind, True), found


def test_a_wrong_key_and_a_missing_one(server: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "wrong")
    for key in ("wrong", "missing"):
        ssh = Ssh(server.address, server.port, "root", str(tmp_path / key))
        found = _once(Worker("a", ssh=ssh), tmp_path / "known_hosts", ["true"])
        assert isinstance(found, Unreachable)
        assert found.kind == "auth"
        assert str(tmp_path / key) in found.reason


def test_a_host_that_answers_a_byte_at_a_time_ends_by_a_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes in time for the step that waits for it."""
    monkeypatch.setattr(skill.hosts.transport, "LOGIN", 1.0)
    left = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            client, _ = server.accept()
            with client:
                try:
                    while True:
                        client.sendall(b"S")
                        time.sleep(0.05)
                except OSError:
                    left.set()

        threading.Thread(target=drip, daemon=True).start()
        ssh = Ssh("127.0.0.1", server.getsockname()[1], "root")
        found = Host(Worker("slow", ssh=ssh), tmp_path / "known_hosts", tries=3).run(["true"])
        assert found == Unreachable("root@127.0.0.1 did not complete the login within 1 s", "timeout")
        assert left.wait(150), "the connection is closed under it"


def test_an_output_without_end_ends_by_the_deadline(server: Sshd, tmp_path: Path) -> None:
    host = Host(server.worker("a"), tmp_path / "known_hosts")
    for text in ("while :; do printf x; sleep 0.1; done", "yes"):
        found = host.script(text, timeout=1.0, limit=1 << 40)
        assert found == Unreachable("did not answer within 1 s", "timeout"), text
    assert _reached(host.script("echo on")).out == b"on\n", "the host itself is not given up"
    host.close()


class Flood:
    """A channel that always has more to read, faster than it is read."""

    closed = False

    def __init__(self) -> None:
        self.status_event = threading.Event()

    def settimeout(self, seconds: float | None) -> None:
        assert seconds is not None
        assert seconds > 0

    def sendall(self, _data: bytes) -> None:
        pass

    def recv_exit_status(self) -> int:
        return 0

    def recv(self, _size: int) -> bytes:
        return b"x"

    def recv_stderr(self, _size: int) -> bytes:
        return b""

    def shutdown_write(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def test_a_flood_ends_by_the_deadline() -> None:
    flood = Flood()
    found = skill.hosts.connection._talk(
        flood, framed(["true"], "x", takes_input=False), b"", threading.Event(), 0.2, 1 << 40
    )
    assert found == Unreachable("did not answer within 0.2 s", "timeout")
    assert flood.closed


def test_a_dead_host_delays_nobody(server: Sshd, tmp_path: Path) -> None:
    alive = Host(server.worker("a"), tmp_path / "known_hosts")
    slow = Host(server.worker("b"), tmp_path / "known_hosts")
    for host in (alive, slow):  # to log in may take as long as that, on a busy machine
        _reached(host.run(["true"]))
    found = each([slow, alive], lambda host: host.run(["sleep", "20" if host is slow else "0"], timeout=25), 5)
    assert isinstance(found["b"], Unreachable)
    assert _reached(found["a"]).code == 0
    for host in (alive, slow):
        host.close()


# -- whom a line of ~/.ssh/config touches ------------------------------------------------------------------------------

OTHERS = """\
Host other
  HostName nowhere.invalid
Host *
  User nobody
  IdentityFile /nowhere/key
  ProxyJump nowhere.invalid
  RemoteCommand false
"""


@pytest.mark.parametrize("text", [OTHERS, "Host a\n  Port 1\n", "Host *\n  Prot 22\n", "Match exec true\n  Port 1\n"])
def test_a_host_given_in_full_is_touched_by_no_line_for_others(
    text: str, server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _use_config(text, tmp_path, monkeypatch)
    host = Host(server.worker("a"), tmp_path / "known_hosts")
    assert _reached(host.run(["echo", "in"])).out == b"in\n"
    assert host.through() is None
    host.close()
    done = subprocess.run([*(host.ssh_command() or []), host.destination, "echo in"], capture_output=True, timeout=150)
    assert (done.returncode, done.stdout) == (0, b"in\n"), done.stderr


def test_a_line_that_names_the_address_of_a_host_holds(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _use_config(f"Host {server.address}\n  ProxyJump root@localhost:1\n", tmp_path, monkeypatch)
    found = _once(server.worker("a"), tmp_path / "known_hosts", ["true"])
    assert isinstance(found, Unreachable)
    assert found.kind == "refused"
    assert "cannot be reached by the route in ~/.ssh/config" in found.reason


def test_a_rented_machine_goes_by_the_way_of_all_hosts(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _use_config("Host * !localhost\n  ProxyJump root@localhost:1\n", tmp_path, monkeypatch)
    found = _once(server.worker("a", instance_id=7), tmp_path / "known_hosts", ["true"])
    assert isinstance(found, Unreachable)
    assert found.kind == "refused"


def _use_config(text: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".ssh").mkdir(mode=0o700)
    (home / ".ssh" / "config").write_text(text)
    monkeypatch.setenv("HOME", str(home))


# -- logins ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [30, 700, 1900])  # in the greeting, in the exchange of keys, in the login
def test_a_cut_during_the_login_is_a_dropped_connection_and_tried_again(
    most: int, server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(skill.hosts.connection, "PAUSE", 0.01)
    cutter = Cutter(server.port, most)
    worker = server.worker("a")
    assert worker.ssh is not None
    found = _once(worker._replace(ssh=worker.ssh._replace(port=cutter.port)), tmp_path / "known_hosts", ["true"])
    cutter.close()
    assert isinstance(found, Unreachable)
    assert found.kind == "dropped", found
    assert found.reason.endswith("(tried 3 times)")
    assert cutter.count == 3


def test_a_refused_key_is_not_tried_again(server: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "wrong")
    passes = Cutter(server.port, 1 << 30)
    worker = Worker("a", ssh=Ssh("127.0.0.1", passes.port, "root", str(tmp_path / "wrong")))
    found = Host(worker, tmp_path / "known_hosts", tries=5).run(["true"])
    passes.close()
    assert isinstance(found, Unreachable)
    assert (found.kind, "tried" in found.reason, passes.count) == ("auth", False, 1)


_OPEN = """
import os, pathlib, sys, time
from skill.hosts.connection import Host
from skill.hosts.registry import Worker
host = Host(Worker("box"), pathlib.Path(sys.argv[1]))
print(host.run(["true"]).code, host.through(), host._transport._folder, sep="|", flush=True)
time.sleep(600)
"""


def test_a_login_by_openssh_ends_with_the_process_that_made_it(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        f"Host box\n  HostName {server.address}\n  Port {server.port}\n  User root\n  IdentityFile {server.key}\n"
        "  AddressFamily inet\n  IdentityAgent none\n"
    )
    _use_config(text, tmp_path, monkeypatch)
    child = subprocess.Popen(
        [sys.executable, "-c", _OPEN, str(tmp_path / "known_hosts")], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert child.stdout is not None
    code, through, folder = child.stdout.readline().strip().split("|")
    assert (code, through) == ("0", "AddressFamily is set, which only OpenSSH supports")

    def master() -> list[int]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if f"{folder}/s" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
        return found

    assert master()
    child.kill()
    child.wait()
    child.stdout.close()
    wait_for(lambda: not master(), say="the end of the connection")
    shutil.rmtree(folder, ignore_errors=True)
