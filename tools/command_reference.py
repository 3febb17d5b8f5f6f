"""Write docs/commands*.md from the commands themselves: every verb, its options, and the exit codes.

Run it from the repository's root: `PYTHONPATH=. python tools/command_reference.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from skill.cli.main import VERBS, load
from skill.common import errors

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
_SMALL = 3
"""A group with more verbs than this has a page of its own."""
_EXIT_CODES = {
    errors.DONE: "done; of a run: all jobs completed",
    errors.FAILED: "failed, and the message says why",
    errors.USE: "wrong use: nothing was started or changed",
    errors.PERSON: "the run has ended, and some jobs need a person",
    errors.PROBLEM: "`wait`: a new problem in a run that goes on",
    errors.TIMEOUT: "`wait`: the time is over, and the run goes on",
    errors.INTERRUPTED: "Ctrl-C; the run continues",
}


class Page(NamedTuple):
    """A page, its title, its first sentence, and the verbs on it in their order."""

    name: str
    title: str
    purpose: str
    verbs: tuple[str, ...]


_PAGES = (
    Page(
        "commands-run",
        "Commands that start runs",
        "Look up how to write, plan and start a run: here, on hosts, or on a rented machine.",
        ("init", "build", "plan", "run", "preflight", "submit", "up"),
    ),
    Page(
        "commands-follow",
        "Commands that show runs",
        "Look up how to see what runs do. None of these commands changes a job.",
        ("ls", "status", "watch", "wait", "babysit", "why", "logs", "attach", "diagnose"),
    ),
    Page(
        "commands-change",
        "Commands that change runs",
        "Look up how to cancel, retry, extend, move, repair and remove runs.",
        ("cancel", "retry", "accept", "pause", "resume", "add", "rescue", "repair", "rm", "gc"),
    ),
)
_REST = ("commands-results", "Commands for results and this machine",
         "Look up how to fetch and show results, and how to set up the command itself.")  # fmt: skip


def _layout() -> list[tuple[Page, click.Command]]:
    """Every page, and the group whose page it is; for pages of several verbs a group of them."""
    commands = {name: load(name) for name in VERBS}
    own = {
        name: command
        for name, command in commands.items()
        if isinstance(command, click.Group) and len(command.commands) > _SMALL
    }
    placed = {verb for page in _PAGES for verb in page.verbs} | set(own)
    rest = Page(*_REST, tuple(name for name in VERBS if name not in placed))
    found: list[tuple[Page, click.Command]] = [
        (page, click.Group(commands={name: commands[name] for name in page.verbs})) for page in (*_PAGES, rest)
    ]
    for name, group in own.items():
        purpose = f"Look up every verb of `wavequeue {name}`. {_paragraphs(group)[0]}"
        found.append((Page(f"commands-{name}", f"Commands of `{name}`", purpose, ()), group))
    return found


def pages() -> dict[Path, str]:
    """The text of each page."""
    layout = _layout()
    texts = {DOCS / f"{page.name}.md": _page(page, group) for page, group in layout}
    return {DOCS / "commands.md": _overview(layout), **texts}


def _overview(layout: list[tuple[Page, click.Command]]) -> str:
    lines = [
        "# Commands", "",
        "Find the verb for what you want to do; each leads to its options. `wq` is the same command, shorter.", "",
        "| verb | what it does |", "|---|---|",
    ]  # fmt: skip
    where = {}
    for page, group in layout:
        for path, _ in _verbs(group, ()) if page.verbs else ():
            where.setdefault(path[0], f"{page.name}.md#{'-'.join(path)}")
    pages_of = {page.name for page, _ in layout}
    for name, verb in VERBS.items():
        target = where.get(name) or f"commands-{name}.md"
        assert name in where or f"commands-{name}" in pages_of
        lines.append(f"| [`{name}`]({target}) | {_escaped(verb.help)} |")
    lines += [
        "", "## Exit codes", "", "| code | meaning |", "|---|---|",
        *(f"| {code} | {text} |" for code, text in _EXIT_CODES.items()),
        "", "## Options that many verbs have", "",
        "- `--run RUN`: the run, by its name, the beginning of its name, or its directory. Without it a verb uses the",
        "  newest run below the current directory, or else your newest run.",
        "- `--json`: print one JSON document instead of text. Where the verb fails, it is `{\"error\": \"…\"}`,",
        "  and the exit code stays.",
        "- `--yes`: do not ask; for scripts.",
        "- `-h`, `--help`: the help of a verb.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _page(page: Page, group: click.Command) -> str:
    lines = [f"# {page.title}", "", page.purpose, "", "[All commands and the exit codes](commands.md).", ""]
    prefix = "wavequeue" if page.verbs else f"wavequeue {page.name.removeprefix('commands-')}"
    if not page.verbs:
        lines += [text for paragraph in _paragraphs(group)[1:] for text in (paragraph, "")]
    for path, command in _verbs(group, ()):
        lines += _section(prefix, path, command)
    return "\n".join(lines)


def _verbs(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """The commands below a group, each with its words; of groups inside of it their commands."""
    assert isinstance(command, click.Group)
    for name, inner in command.commands.items():
        if isinstance(inner, click.Group):
            yield from _verbs(inner, (*path, name))
        else:
            yield (*path, name), inner


def _section(prefix: str, path: tuple[str, ...], command: click.Command) -> list[str]:
    context = click.Context(command, info_name=f"{prefix} {' '.join(path)}", help_option_names=["-h", "--help"])
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines = [f"## {' '.join(path)}", "", f"`{usage}`", ""]
    for paragraph in _paragraphs(command):
        lines += [paragraph, ""]
    records = [
        record
        for option in command.get_params(context)
        if isinstance(option, click.Option)
        and "--help" not in option.opts
        and (record := option.get_help_record(context)) is not None
    ]
    if records:
        lines += ["| option | what it does |", "|---|---|"]
        lines += [f"| {_code(names)} | {_escaped(_plain(text))} |" for names, text in records]
        lines.append("")
    return lines


def _paragraphs(command: click.Command) -> list[str]:
    """The help of a command, a line for each paragraph."""
    text = re.sub(
        r"\n\s*\n", "\n\n", re.sub(r"^[ \t]+", "", (command.help or "").replace("\b", ""), flags=re.MULTILINE)
    )
    return [_escaped(" ".join(paragraph.split())) for paragraph in text.strip().split("\n\n")]


def _plain(text: str) -> str:
    """The help of an option: a bound on its value in words."""
    text = re.sub(r"\s*\[x>=([\d.]+)\]", r" At least \1.", text)
    return re.sub(r"\s*\[([\d.]+)<=x<=([\d.]+)\]", r" From \1 to \2.", text)


def _code(names: str) -> str:
    return ", ".join(f"`{name}`".replace("|", "\\|") for name in names.split(", "))


def _escaped(text: str) -> str:
    """Text as Markdown shows it, with options as code."""
    return re.sub(r"(?<![\w`-])(--[a-z][a-z-]*)", r"`\1`", re.sub(r"([*|<])", r"\\\1", text))


if __name__ == "__main__":
    for file, content in pages().items():
        file.write_text(content, encoding="utf-8")
