"""Find commands that end while their work continues: `nohup train &`, `screen -dm`, `sbatch`. Pure; nothing is run.

Only what the last command of all leaves behind is named: a server that is started with `&` for the command after it,
or anything with a `wait` below it, is in order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from build_manifest.faults import Faults
from build_manifest.nodes import Scalar
from build_manifest.shell import bare

_MAYBE = re.compile(
    r"&|\b(?:screen|tmux|at|batch|sbatch|qsub|bsub|docker|podman|setsid|systemd-run|start-stop-daemon)\b"
)
_TOKEN = re.compile(r"&&|\|\||&>>?|[<>]+&|\|&|;;|[;&|()\n]|[<>]+|[^\s;&|()<>]+")
_ENDS = frozenset({";", ";;", "&", "&&", "||", "|", "|&", "\n"})
_CLOSERS = frozenset({"done", "fi", "esac", "}", ")"})
_TRIVIAL = frozenset({"echo", "printf", "true", ":", "disown", "exit", "jobs", "date", "set", "export"})
_PREFIXES = frozenset({
    "sudo", "env", "nohup", "exec", "command", "time", "nice", "ionice", "setsid", "timeout", "stdbuf", "then", "do",
    "else", "{", "(", "!", "eval",
})  # fmt: skip
_ALONE = re.compile(r"--(?:rm|init|privileged|read-only)|-[itP]+|--?[\w-]+=.*")
"""Options of a container that take no word after them."""
_ASSIGNMENT = re.compile(r"\w+=\S*")
_OPTION_OF_PREFIX = re.compile(r"-\S*|[0-9.]+[smhd]?")


def in_background(command: str) -> tuple[str, str] | None:
    """Say what leaves a command's work running, and what to write instead; None if nothing does."""
    if not _MAYBE.search(command):
        return None
    for words, end in reversed(_commands(bare(command))):
        if end == "&":
            return (
                "&",
                "remove the & (and nohup): the queue runs each job in its own screen session; or end it with wait",
            )
        own = _without_prefixes(words)
        if own and own[0] not in _TRIVIAL and own[0] not in _CLOSERS:
            return next(((what, hint) for fits, what, hint in _LAUNCHERS if fits(own)), None) or _forks(words)
    return None


def check_background(faults: Faults, command: str, scalar: Scalar) -> None:
    """Note a command that leaves its work running. `scalar`: where it is in the spec."""
    found = in_background(command)
    if found:
        what = f"this command ends while its work continues in the background ({found[0]}), so its result stays unknown"
        faults.add(scalar.mark, what, found[1])


def _commands(text: str) -> list[tuple[list[str], str]]:
    """List the commands in order, each with what ends it."""
    found: list[tuple[list[str], str]] = []
    words: list[str] = []
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in _ENDS:
            if words or (found and token == "&"):
                found.append((words, token))
                words = []
        else:
            words.append(token)
    # `( train & )` and `do train & done`: what closes is no command of its own.
    return [*found, (words, "")] if words else found


def _without_prefixes(words: Sequence[str]) -> list[str]:
    """Return the command itself: without assignments, prefixes, and what closes a list."""
    own = list(words)
    prefixed = False
    while own and (
        own[0] in _PREFIXES or _ASSIGNMENT.fullmatch(own[0]) or (prefixed and _OPTION_OF_PREFIX.fullmatch(own[0]))
    ):
        prefixed = own[0] in _PREFIXES or prefixed
        own.pop(0)
    return own


def _forks(words: Sequence[str]) -> tuple[str, str] | None:
    if "setsid" in words and ("-f" in words or "--fork" in words):
        return "setsid --fork", "write setsid without it, or remove setsid"
    return None


def _screen(words: Sequence[str]) -> bool:
    flags = "".join(word[1:] for word in words[1:] if word.startswith("-"))
    return words[0] == "screen" and "d" in flags and "m" in flags


def _tmux(words: Sequence[str]) -> bool:
    if words[0] != "tmux":
        return False
    makes = any(word in ("new", "new-session", "neww", "new-window", "split-window") for word in words)
    return "send-keys" in words or (makes and any(re.fullmatch(r"-\w*d\w*", word) for word in words))


def _container(words: Sequence[str]) -> bool:
    if words[0] not in ("docker", "podman") or "run" not in words:
        return False
    before = words[words.index("run")]
    for word in words[words.index("run") + 1 :]:
        if word == "--detach" or re.fullmatch(r"-[itP]*d[itP]*", word):
            return True
        if not word.startswith("-") and (not before.startswith("-") or _ALONE.fullmatch(before)):
            return False  # the image, and then what is its own
        before = word
    return False


def _named(name: str, *unless: str) -> Callable[[Sequence[str]], bool]:
    return lambda words: words[0] == name and not any(word.split("=")[0] in unless for word in words)


_SCREEN = "remove screen and tmux: the queue runs each job in its own screen session"
_LAUNCHERS: tuple[tuple[Callable[[Sequence[str]], bool], str, str], ...] = (
    (_screen, "screen -dm", _SCREEN),
    (_tmux, "tmux", _SCREEN),
    (_named("at", "-l", "-c", "-d"), "at", "remove it: the queue starts the job"),
    (_named("batch"), "batch", "remove it: the queue starts the job"),
    (_named("sbatch", "--wait", "-W"), "sbatch", "write sbatch --wait, or run the script itself"),
    (_named("qsub", "-sync"), "qsub", "write qsub -sync y, or run the script itself"),
    (_named("bsub", "-K"), "bsub", "write bsub -K, or run the script itself"),
    (_container, "a detached container", "remove -d"),
    (
        _named("systemd-run", "--wait", "--scope", "--pty", "-P", "--pipe", "-t"),
        "systemd-run",
        "write systemd-run --wait",
    ),
    (_named("start-stop-daemon", "--stop", "-K"), "start-stop-daemon", "run the program itself"),
)
