"""Wrap a command so that it works on any host, whatever its login shell is and its login files do. Pure.

sshd gives a command line to the user's login shell (`SHELL -c LINE`), which may be any of sh, bash, zsh, ksh, fish, csh
and tcsh, and which may first read files that print, read stdin, change the directory, cut PATH, or end the session. So
a command goes as a text of sh in one quoted word that all of these read alike; that text goes to the home by itself,
and says by a mark when it has begun. What a login file wrote stands before the mark; where none comes, our command
never ran. Input is held back until then, since what a login file reads is gone for the command.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import NamedTuple

from queue_manager.core.excerpt import excerpt

_PLAIN = re.compile(rb"[^A-Za-z0-9 _./:;,=+@%^(){}\[\]|<>&*?~#$\"`-]")
_END = 1 << 12
"""Bytes of an answer that are looked at, at its beginning and at its end."""
_FILL = 16
"""Empty lines for login files that read some, each of which would wait forever."""
BEGIN = 45.0
"""Seconds for a login shell to begin a command that has input; then the input ends, for login files that wait for
more."""
LOST_INPUT = 97
"""Exit code of a command that never got its input: a login file has read it to its end."""

# Options, a CDPATH and a short PATH may be inherited. PATH is left alone where it leads to the usual programs.
_PRELUDE = """\
set +euxvf; unset CDPATH
command -v env >/dev/null && command -v mkdir >/dev/null ||
  PATH=${PATH:+$PATH:}/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
export PATH
case ${HOME-} in /*) ;; *) eval "HOME=~$(id -un)"; export HOME ;; esac
cd -- "$HOME" || { echo "the home directory $HOME cannot be entered" >&2; exit 1; }
"""
_TAKE = """\
n=0
while :; do
  IFS= read -r l || exit @LOST@
  [ "$l" = @MARK@ ] && break
  n=$((n+1))
done
printf %s. $n
"""


def line(text: str) -> str:
    """A text of sh as a command line for any login shell. It begins in the home directory, and may use "$@": words that
    somebody puts behind the line."""
    # None of ' \ ! and line ends, which some shell changes within single quotes. A backslash before a digit stays in
    # all of them.
    word = _PLAIN.sub(lambda found: b"\\0%03o" % found.group()[0], (_PRELUDE + text).encode(errors="surrogateescape"))
    return f"""exec /bin/sh -c 't=$(printf %b "$1"); shift; eval "$t"' sh '{word.decode()}'"""


def command_line(argv: Sequence[str]) -> str:
    """A command as a line for any login shell; words that somebody puts behind the line are given to it, too."""
    return line(f'exec {shlex.join(argv)} "$@"')


class Framed(NamedTuple):
    """A command with its marks. `line`: for the login shell. `mark`: printed on stdout and stderr once it has begun.

    Where it takes input, `early` is to be given on stdin at once, and `begin` before the input itself, best when the
    mark has come. Both are empty where it takes none: stdin is then closed at once.
    """

    line: str
    mark: bytes
    early: bytes = b""
    begin: bytes = b""


class Parts(NamedTuple):
    """What came of a command that has begun. `is_quiet`: no login file wrote to stdout or read from stdin."""

    out: bytes
    err: str
    is_quiet: bool


def framed(argv: Sequence[str], mark: str, *, takes_input: bool, shown: str = "") -> Framed:
    """Frame a command with a mark that nobody else prints: letters and digits. `shown`: input that is a part of the
    line."""
    text = f"printf {mark}; printf {mark} >&2\n"
    if not takes_input:
        given = f"printf %s {shlex.quote(shown)} | " if shown else ""
        return Framed(line(f"{text}{given}exec {shlex.join(argv)}"), mark.encode())
    take = _TAKE.replace("@MARK@", mark).replace("@LOST@", str(LOST_INPUT))
    whole = line(f"{text}{take}exec {shlex.join(argv)}")
    return Framed(whole, mark.encode(), b"\n" * _FILL, f"{mark}\n".encode())


def parts(sent: Framed, code: int, out: bytes, err: bytes) -> Parts | None:
    """What a command wrote, without what stood before it; None where it never ran. `code`: its exit code."""
    greeting, mark, rest = out.partition(sent.mark)
    if not mark:
        return None
    printed = err.partition(sent.mark)[2].decode(errors="replace")
    if not sent.begin:
        return Parts(rest, printed, not greeting)
    count, dot, rest = rest.partition(b".")
    if not dot or not count.isdigit():
        return None if code == LOST_INPUT else Parts(b"", printed, is_quiet=False)
    return Parts(rest, printed, not greeting and int(count) == _FILL)


# -- why it never ran ---------------------------------------------------------------------------------------------

_LOGIN_FILE = (
    "a login file there (such as ~/.bashrc or ~/.zshenv) ends the session or starts another program instead: let it "
    "do so in terminals only, in bash: case $- in *i*) ... ;; esac"
)
_LOST = (
    "a login file there (such as ~/.bashrc) reads all of stdin, and with it what was sent to our command; let it read "
    "in terminals only, in bash: case $- in *i*) ... ;; esac"
)
_ADVICE = {
    r"not available|nologin|may not log ?in|disabled": (
        "this account may not run commands: use another one, or have it given a login shell there (chsh)"
    ),
    r"password.{0,40}expired|expired.{0,40}password|change your password|password change|account.{0,20}expired": (
        "log in there once by hand, do what it asks, and try again"
    ),
    r"sftp|file transfers? only|scp only|rssh|scponly": (
        "this account serves files only, and wavequeue runs commands: use another account"
    ),
    r"\bpty\b|\btty\b|pseudo-?terminal|interactive": (
        "this is a gateway that serves terminals only: register the direct address of the machine (at RunPod: SSH over "
        "exposed TCP) in its place with: wavequeue hosts add NAME USER@ADDRESS:PORT"
    ),
    r"home directory .* cannot be entered|could not chdir": "create or mount that directory there",
    r"restricted|rbash": "the shell of this account is restricted: use an account with another one",
    r"/bin/sh.*(not found|no such file)": "wavequeue needs a /bin/sh there",
}


def silence(code: int, out: bytes, err: bytes) -> str:
    """Say why a command never ran: what the host answered instead, and what to do. In one line, safe for a terminal."""
    if code == LOST_INPUT:
        return _LOST
    text = _text(out, err)
    printed = excerpt(text)
    found = (advice for pattern, advice in _ADVICE.items() if re.search(pattern, text, re.IGNORECASE))
    advice = next(found, _LOGIN_FILE)
    return f"its login shell ended (exit code {code}) before our command and printed {printed or 'nothing'}; {advice}"


def delay(seconds: float, out: bytes, err: bytes) -> str:
    """Say that a command did not begin in time, and what the host sent meanwhile."""
    printed = excerpt(_text(out, err))
    return (
        f"its login shell did not start our command within {seconds:g} s"
        + (f" and printed {printed}" if printed else "")
        + "; see whether a login file there (such as ~/.bashrc) waits for something"
    )


def _text(out: bytes, err: bytes) -> str:
    """Both, each shortened to its ends."""
    ends = (part if len(part) <= 2 * _END else part[:_END] + b"\n" + part[-_END:] for part in (out, err))
    return b"\n".join(ends).decode(errors="replace")
