"""Build the command that shows a job's screen session in any terminal. Pure."""

from __future__ import annotations

FALLBACK = "xterm-256color"
"""The kind of terminal that nearly all emulators can be taken for, and that nearly all machines know."""

# screen ends at once in a terminal whose kind its machine does not know: xterm-kitty, alacritty, xterm-ghostty. Where
# there is no infocmp to ask, only the kinds that are old enough to be known everywhere are taken as they are.
# In one line, since a login shell may be csh, whose quotes end with the line.
_OLD = "xterm|xterm-256color|xterm-color|linux|screen|screen-256color|vt100|vt220"
_KNOWN = "; ".join((
    "if command -v infocmp >/dev/null 2>&1",
    f'then for kind in "${{TERM:-{FALLBACK}}}" {FALLBACK} xterm vt100',
    'do infocmp "$kind" >/dev/null 2>&1 && TERM=$kind && break',
    "done",
    f"else case ${{TERM-}} in {_OLD}) ;; *) TERM={FALLBACK} ;; esac",
    "fi",
    "export TERM",
    '[ -z "$2" ] || export SCREENDIR="$2"',
    'exec screen -x "$1"',
))  # fmt: skip


def build_attach(session: str, folder: str | None) -> list[str]:
    """The command for a session (PID.NAME) whose sockets lie in `folder`; None: where screen keeps them by default."""
    return ["sh", "-c", _KNOWN, "wavequeue", session, folder or ""]
