"""Commands, files and their input through every login shell with hostile login files, and hosts that run no command.

One sshd for all: which shell a session gets stands in a file, and the shell reads the login files of the host's home.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from queue_manager.core.excerpt import excerpt
from skill.hosts import code_push, remote_command, ssh_words
from skill.hosts.code_push import Pushed
from skill.hosts.connection import CommandResult, Host, Unreachable
from tests.sshd import Sshd

ODD = [
    "a b", "it's", 'say "x"', "; rm -rf /", "two\nlines", "$HOME `id`", "~", "-n", "", "ü", "!x ^a !!", "%s %b",
    "\\ \\\\ \\n \\0041 \\' \\", "{a,b} [c] *", "#", "\t", "\x01\x7f",
]  # fmt: skip
"""Words of which each shell quotes some in its own way."""
DATA = bytes(range(256)) * 2000
SCRIPT = """\
pwd; printf '%s\\0' "$@"; cat
wc -c /dev/null >/dev/null || echo "PATH leads nowhere" >&2
mkdir -p made && cd made && pwd >/dev/null || exit 1
: > file; : > file; echo "${UNSET}done" >&2; exit 7
"""


class Shell(NamedTuple):
    """A login shell. `file`: what it reads before it runs a command, in the home; `hostile` and `quiet`: such files, of
    which the second neither writes nor reads."""

    name: str
    file: str
    hostile: str
    quiet: str


_SH = """\
alias ls=false mkdir=false python3=false rsync=false sh=false cd=false
mkdir() { return 9; }
stty erase 2
umask 077; set -u; set -f; set -o noclobber
export LC_ALL=xx_YY CDPATH=/usr:/etc PATH=/nowhere
cd /
"""
_CSH = """\
alias ls false; alias mkdir false; alias python3 false; alias rsync false; alias sh false; alias cd false
umask 077; set noclobber; set noglob; set nounset
setenv LC_ALL xx_YY; setenv CDPATH /usr:/etc; setenv PATH /nowhere
chdir /
"""
_FISH = """\
alias ls false; alias mkdir false; alias python3 false; alias rsync false; alias sh false
umask 077
set -x LC_ALL xx_YY; set -x CDPATH /usr /etc; set -x PATH /nowhere
builtin cd /
"""
ALL = [
    Shell("sh", "", "", ""),
    Shell("dash", "", "", ""),
    Shell("ksh", "", "", ""),
    Shell("bash", ".bashrc", f"echo noise; echo noise >&2; read x\n{_SH}export SHELLOPTS\n", _SH),
    Shell("zsh", ".zshenv", f"echo noise; echo noise >&2; read x\n{_SH}", _SH),
    Shell("fish", ".config/fish/config.fish", f"echo noise; echo noise >&2; read x\n{_FISH}", _FISH),
    Shell("tcsh", ".tcshrc", f"echo noise\nset x = $<\n{_CSH}", _CSH),
    Shell("csh", ".cshrc", f"echo noise\nset x = $<\n{_CSH}", _CSH),
]


SHELLS = [shell for shell in ALL if shutil.which(shell.name)]
"""Those that are installed here. tools/setup.sh installs what Debian has."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("host")) as made:
        yield made


@pytest.fixture
def host(server: Sshd, tmp_path: Path) -> Iterator[Host]:
    made = Host(server.worker("a"), tmp_path / "known_hosts")
    yield made
    made.close()
    server.shell.unlink(missing_ok=True)
    (server.home / ".bashrc").unlink(missing_ok=True)


@pytest.fixture(params=SHELLS, ids=lambda shell: shell.name)
def shell(request: pytest.FixtureRequest, server: Sshd) -> Iterator[Shell]:
    found: Shell = request.param
    server.log_in_by(found.name)
    yield found
    if found.file:
        (server.home / found.file).unlink(missing_ok=True)


def write(server: Sshd, shell: Shell, text: str) -> None:
    server.log_in_by(shell.name, shell.file, text)


def test_a_command_arrives_whole_whatever_the_login_shell_is(shell: Shell, server: Sshd, host: Host) -> None:
    for text in ("", shell.hostile):
        write(server, shell, text)
        for data in (b"", DATA):
            result = host.script(SCRIPT, *ODD, stdin=data)
            assert isinstance(result, CommandResult), result
            out = "\0".join([f"{server.home}\n{ODD[0]}", *ODD[1:], ""]).encode()
            assert (result.out, result.code) == (out + data, 7), (result.err, text)
            assert result.err.endswith("done\n")
            assert "PATH leads nowhere" not in result.err
    assert (server.home / "made" / "file").exists()
    assert host.is_quiet is (not shell.file)


def test_code_is_carried_whatever_the_login_shell_is(shell: Shell, server: Sshd, host: Host, tmp_path: Path) -> None:
    """By rsync, whose other end is begun in the same way; by tar where login files would mix with what it says."""
    source = tmp_path / "it's here"
    source.mkdir()
    workspace = f"~/it's {shell.name} !"
    for n, text in enumerate((shell.quiet, shell.hostile)):
        write(server, shell, text)
        (source / f"a b{n}").write_text("one\n")
        os.utime(source / f"a b{n}", (1_700_000_000, 1_700_000_000))  # of this second, it would be waited for
        files = sorted(path.name for path in source.iterdir())
        how = "tar" if n and shell.file else "rsync"
        assert code_push.push_files(host, source, workspace, files) == Pushed(1, 4, how)
        assert (server.home / workspace[2:] / f"a b{n}").read_text() == "one\n"


def test_rsync_is_not_tried_where_a_login_file_reads(server: Sshd, host: Host, tmp_path: Path) -> None:
    """It would wait for an answer to what the login file has taken."""
    (tmp_path / "file").write_text("one\n")
    os.utime(tmp_path / "file", (1_700_000_000, 1_700_000_000))
    server.log_in_by("bash", ".bashrc", "read x\n")
    assert code_push.push_files(host, tmp_path, "~/read", ["file"]) == Pushed(1, 4, "tar")


def test_openssh_is_given_the_same_line(shell: Shell, server: Sshd, host: Host) -> None:
    """As a pull and `attach` use it."""
    write(server, shell, shell.hostile)
    assert isinstance(host.run(["true"]), CommandResult)  # its key is known then
    ssh = host.ssh_command()
    assert ssh is not None
    sent = remote_command.framed(["sh", "-c", SCRIPT, "x", *ODD], secrets.token_hex(8), takes_input=True)
    done = subprocess.run(
        [*ssh, host.destination, sent.line], input=sent.early + sent.begin + DATA, capture_output=True, timeout=150
    )
    found = remote_command.parts(sent, done.returncode, done.stdout, done.stderr)
    assert found is not None, done
    assert (done.returncode, found.out.endswith(b"\0" + DATA)) == (7, True), found
    assert found.out.startswith(f"{server.home}\n".encode())
    line = remote_command.command_line(["printf", "%s|", *ODD[:5]])
    done = subprocess.run([*ssh, host.destination, line, "more"], capture_output=True, timeout=150)
    assert done.stdout.decode().endswith("|".join([*ODD[:5], "more|"])), done


# -- hosts that run no command ------------------------------------------------------------------------------------


SILENT = {
    "nologin": ("echo 'This account is currently not available.'; exit 1", "not available", "login shell there"),
    "expired": (
        "printf 'WARNING: Your password has expired.\\nPassword change required but no TTY available.\\n' >&2; exit 1",
        "Your password has expired. / Password change required", "once by hand",
    ),
    "sftp": ("echo 'This service allows sftp connections only.'; exit 1", "allows sftp connections", "another account"),
    "gateway": ("echo \"Error: Your SSH client doesn't support PTY\"; exit 1", "support PTY", "hosts add NAME USER@"),
    "menu": (
        "for n in 1 2 3 4 5 6; do echo line $n; done; printf '\\033[2Jx\\n'; exit 4",
        r"(exit code 4) before our command and printed line 1 / line 2 / … / line 6 / \x1b[2Jx; ", "case $- in",
    ),
    "silent": ("exit 0", "printed nothing; a login file", "case $- in"),
}  # fmt: skip


@pytest.mark.parametrize("case", SILENT)
def test_why_a_host_runs_no_command_is_reported_in_its_own_words(case: str, server: Sshd, host: Host) -> None:
    text, words, way = SILENT[case]
    server.log_in_to(text)
    for data in (b"", b"x"):
        found = host.run(["cat"], stdin=data)
        assert isinstance(found, Unreachable), found
        assert (found.kind, words in found.reason, way in found.reason) == ("shell", True, True), found


@pytest.mark.parametrize("text", ["exec sh", "exec cat", "while read x; do :; done"])
def test_input_goes_to_nobody_but_the_command(
    text: str, server: Sshd, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login file that goes on reading gets nothing of it, and its host is told of."""
    monkeypatch.setattr(remote_command, "BEGIN", 0.5)
    server.log_in_by("bash", ".bashrc", f"{text}\n")
    found = host.script("cat", stdin=b"touch here\nloot\n")
    assert isinstance(found, Unreachable), found
    assert (found.kind, "login file" in found.reason, "loot" in found.reason) == ("shell", True, False), found
    assert not (server.home / "here").exists()


def test_a_login_file_that_never_ends_is_named(server: Sshd, host: Host) -> None:
    server.log_in_by("bash", ".bashrc", "echo choose one\nexec sleep 100\n")
    found = host.run(["true"], timeout=1)
    assert isinstance(found, Unreachable)
    assert (found.kind, "did not start our command within 1 s" in found.reason) == ("timeout", True), found
    assert remote_command.delay(2, b"choose one\n", b"\x1b[2J\n") == (
        r"its login shell did not start our command within 2 s and printed choose one / \x1b[2J; see whether a login "
        "file there (such as ~/.bashrc) waits for something"
    )


def test_a_session_that_is_cut_before_its_command_is_tried_again(server: Sshd, tmp_path: Path) -> None:
    host = Host(server.worker("a"), tmp_path / "known_hosts", tries=2)
    server.log_in_by("bash", ".bashrc", "[ -e ~/cut ] || { : > ~/cut; kill -KILL $PPID; sleep 100; }\n")
    try:
        assert host.run(["echo", "mine"]) == CommandResult(0, b"mine\n", "")
    finally:
        host.close()
        for name in (".bashrc", "cut"):
            (server.home / name).unlink()
        server.shell.unlink()


# -- words of tools -----------------------------------------------------------------------------------------------


RSYNC = """\
rsync: connection unexpectedly closed (0 bytes received so far) [sender]
rsync error: unexplained error (code 255) at io.c(228) [sender=3.2.7]
"""


@pytest.mark.parametrize(
    ("text", "reason", "kind"),
    [
        (
            f"Permission denied, please try again.\r\nroot@h: Permission denied (publickey).\r\n{RSYNC}",
            "Permission denied, please try again. / root@h: Permission denied (publickey).", "auth",
        ),
        (
            "Connection closed by 10.0.0.1 port 22\nrsync error: unexplained error (code 255) at io.c(228)\n",
            "Connection closed by 10.0.0.1 port 22", "dropped",
        ),
        ("rsync error: some (code 30)\n", "rsync error: some (code 30)", "other"),
        ("", "no output", "other"),
    ],
)  # fmt: skip
def test_why_rsync_failed_is_reported_in_the_words_of_ssh(text: str, reason: str, kind: str) -> None:
    assert (code_push.reason_of(text), ssh_words.kind(reason)) == (reason, kind)


def test_an_excerpt_keeps_both_ends() -> None:
    assert excerpt("\n a\n\nb\nc\nb\n") == "a / b / c"
    assert excerpt("".join(f"{n}\n" for n in range(9))) == "0 / 1 / … / 7 / 8"
    assert excerpt("x" * 999).endswith("x…")
    assert excerpt("\x1b[2J\u202e") == r"\x1b[2J\u202e"
    assert excerpt(" \n") == ""
    assert CommandResult(3, b"", "the cause\nwhat came of it\n").why == "the cause / what came of it"
    assert CommandResult(3, b"", " \n").why == "exit code 3"
