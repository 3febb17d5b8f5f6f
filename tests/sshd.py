"""A real sshd on loopback that is one host: a home, a screen directory and, where asked, hardly any program."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import pwd
import random
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ecdsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from skill.hosts.registry import Ssh, Worker
from tests import lock_dir
from tests.e2e.runs import processes_of, wait_for

_BARE = (
    "awk", "base64", "bash", "basename", "cat", "chmod", "cksum", "cp", "cut", "date", "dd", "df", "dirname", "env",
    "expr", "find", "getconf", "grep", "gzip", "head", "hostname", "id", "kill", "ln", "ls", "mkdir", "mktemp", "mv",
    "nohup", "nproc", "ps", "pwd", "readlink", "rm", "rmdir", "sed", "setsid", "sh", "sha256sum", "sleep", "sort",
    "stat", "tail", "tar", "test", "touch", "tr", "true", "uname", "wc", "xargs",
)  # fmt: skip
"""What a small Debian image has; neither screen nor rsync nor pip."""
PYTHON = "/usr/bin/python3"


_APT = """\
#!/bin/sh
echo "$*" >> "$HOME/apt-calls"
case "$*" in *update*) echo "E: no network" >&2; exit 100 ;; esac
for name in "$@"; do
    case $name in screen) ln -s @screen@ @bin@/screen ;; rsync) ln -s @rsync@ @bin@/rsync ;; esac
done
"""


class Sshd:
    """One host. Started when made; `close` ends everything that has its home.

    `bare`: only `_BARE` and python3 are found there. `environment`: more that sessions get. `address`: where it
    listens; one of this machine. `hostname`: what it calls itself; absent: as this machine does. `home`: one that it
    shares with others; absent: its own. `kex`: how keys are exchanged; by default in the way that takes least, while
    None leaves OpenSSH's own in place.
    """

    def __init__(
        self,
        root: Path,
        *,
        bare: bool = False,
        environment: Mapping[str, str] | None = None,
        address: str = "127.0.0.1",
        namespace: str | None = None,
        hostname: str | None = None,
        home: Path | None = None,
        kex: str | None = "ecdh-sha2-nistp256",
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root, self.address, self._namespace = root, address, namespace
        self._kex = kex
        self.hostname = hostname
        self.home = root / "home" if home is None else home
        self.home.mkdir(exist_ok=True)
        self.screens = Path(tempfile.mkdtemp(prefix="wq"))
        self.bin = root / "bin"
        self.key = root / "client_key"
        self.shell = root / "login_shell"
        """Names the login shell of sessions that begin from now on; where it is not there: bash without its files."""
        self.port = free_port(address) if namespace is None else 2222
        for key in (self.key, root / "host_key"):
            make_key(key, "ecdsa")  # by which OpenSSH logs in with a third less than by ed25519
        path = os.environ["PATH"]
        if bare:
            self.bin.mkdir()
            for name in _BARE:
                found = shutil.which(name)
                if found:
                    (self.bin / name).symlink_to(found)
            (self.bin / "python3").symlink_to(PYTHON)
            path = str(self.bin)
        self.variables = {
            "HOME": str(self.home), "SCREENDIR": str(self.screens), "PATH": path, **lock_dir.make(root / "lock"),
            **(environment or {}),
        }  # fmt: skip
        self._write_config()
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def _write_config(self) -> None:
        # sshd starts the user's own shell in the user's own home, so a file that bash reads before a command puts the
        # host's in their place. That takes no program more than on a real host.
        exports = "".join(f"export {name}='{value}'\n" for name, value in self.variables.items())
        session = self.root / "session"
        session.write_text(
            "unset BASH_ENV PYTHONPATH VIRTUAL_ENV WAVEQUEUE_TAG STY CUDA_VISIBLE_DEVICES XDG_RUNTIME_DIR\n"
            f'{exports}cd "$HOME"\n'
            'if [ -f "$HOME/greeting" ]; then . "$HOME/greeting"; fi\n'
            # As sshd itself does it, with another login shell: bash, too, then reads the login files of the home.
            f"if [ -s '{self.shell}' ]; then read -r SHELL < '{self.shell}'; export SHELL; unset SHLVL\n"
            'exec "$SHELL" -c "$BASH_EXECUTION_STRING"; fi\n'
        )
        has_bash = Path(pwd.getpwuid(os.getuid()).pw_shell).name == "bash"
        force = "" if has_bash else 'ForceCommand exec bash -c "$SSH_ORIGINAL_COMMAND"\n'
        authorized = self.root / "authorized_keys"
        authorized.write_text(self.key.with_suffix(".pub").read_text())
        (self.root / "sshd_config").write_text(
            f"ListenAddress {self.address}\nPort {self.port}\nHostKey {self.root / 'host_key'}\n"
            f"AuthorizedKeysFile {authorized}\n{force}PidFile none\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
            # bash reads the user's own ~/.bashrc in a session, unless a shell seems to be around it.
            "MaxStartups 100\nMaxSessions 100\nPrintMotd no\nAcceptEnv none\n"
            f"SetEnv SHLVL=1 HOME={self.home} BASH_ENV={session}\n"
            + (f"KexAlgorithms {self._kex}\n" if self._kex else "")
        )

    def log_in_by(self, program: str, file: str = "", text: str = "") -> None:
        """Make a program that is installed the login shell of sessions from now on, with a login file in the home."""
        path = shutil.which(program)
        if path is not None:
            self.shell.write_text(f"{path}\n")
            if file:
                (self.home / file).parent.mkdir(parents=True, exist_ok=True)
                (self.home / file).write_text(text)

    def log_in_to(self, text: str) -> None:
        """Make a program of these lines of sh the login shell of sessions from now on."""
        program = self.root / "program"
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
        self.shell.write_text(f"{program}\n")

    def start(self) -> None:
        """Listen, and wait until it does."""
        sshd = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
        assert sshd is not None
        Path("/run/sshd").mkdir(exist_ok=True)
        inside = ["ip", "netns", "exec", self._namespace] if self._namespace else []
        if self.hostname:
            inside += ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.hostname]
        path = self.root / "sshd.log"
        with path.open("ab") as log:
            position = log.tell()
            self.process = subprocess.Popen(
                # -r: a connection is served by a fork, and not by a new program that reads the configuration again.
                [*inside, sshd, "-D", "-r", "-e", "-f", str(self.root / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "WAVEQUEUE_TEST_HOST": str(self.root)},
                start_new_session=True,
            )
        words = f"Server listening on {self.address} port {self.port}.".encode()

        def listens() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, path.read_text()
            return words in path.read_bytes()[position:]

        wait_for(listens, say="sshd to listen")

    def stop(self) -> None:
        """End sshd and its sessions: connections are refused. What was detached goes on."""
        if self.process is None:
            return
        pids = [self.process.pid]
        for pid in pids:
            pids += _children(pid)
        for pid in pids:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if process.name().startswith("sshd") or pid == self.process.pid:
                    process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = None

    def kill_all(self) -> None:
        """The host dies: sshd and everything that it runs."""
        self.stop()
        self.end_processes()

    def end_processes(self) -> None:
        """SIGKILL every process whose home is this host's."""

        def gone() -> bool:
            left = processes_of(self.home)
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            return not left

        wait_for(gone, say="the end of all processes of the host")

    def close(self) -> None:
        self.kill_all()
        shutil.rmtree(self.screens, ignore_errors=True)

    def worker(self, name: str, **fields: Any) -> Worker:
        """This host as a registered worker."""
        return Worker(name, ssh=Ssh(self.address, self.port, "root", str(self.key)), **fields)

    def entry(self, **fields: Any) -> dict[str, Any]:
        """This host as an entry of workers.yaml."""
        ssh = {"host": self.address, "port": self.port, "user": "root", "key": str(self.key)}
        return {"kind": "ssh", "ssh": ssh, **fields}

    def __enter__(self) -> Sshd:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _children(pid: int) -> list[int]:
    """The children of a process: by the kernel's own list where it has one, since psutil looks at all processes."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        with contextlib.suppress(psutil.NoSuchProcess):
            return [child.pid for child in psutil.Process(pid).children()]
        return []


_KINDS: dict[str, Callable[[], Ed25519PrivateKey | RSAPrivateKey | EllipticCurvePrivateKey]] = {
    "ed25519": Ed25519PrivateKey.generate,
    "rsa": lambda: generate_rsa(65537, 2048),
    "ecdsa": lambda: generate_ecdsa(SECP256R1()),
}


def make_key(path: Path, kind: str = "ed25519") -> str:
    """Make a key without a passphrase, as ssh-keygen does in 50 times the time; its fingerprint."""
    made = _KINDS[kind]()
    text = made.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(text)
    public = made.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    path.with_suffix(".pub").write_bytes(public + b"\n")
    digest = hashlib.sha256(base64.b64decode(public.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def with_apt(host: Sshd) -> None:
    """Give a bare host an apt-get. There is no network: it installs by linking the real program, and has no lists."""
    text = _APT.replace("@bin@", shlex.quote(str(host.bin)))
    for name in ("screen", "rsync"):
        text = text.replace(f"@{name}@", shlex.quote(str(shutil.which(name))))
    (host.bin / "apt-get").write_text(text)
    (host.bin / "apt-get").chmod(0o755)


def free_port(address: str) -> int:
    """A port that nobody listens at, and that nobody gets by chance until we do: the kernel gives higher ones to those
    who connect, which are many, and some while this host is away."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(10_000, max(first, 30_000))
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind((address, port))
            return port
