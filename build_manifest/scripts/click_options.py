"""Options of a script that reads them with click."""

from __future__ import annotations

import ast
import re
from typing import NamedTuple

from build_manifest.scripts.options import FLAG, VALUE, WORDS, Option, Script, main_command
from build_manifest.scripts.syntax import Source, called, called_name, imported, is_true, keywords, last, type_words

_LIBRARIES = frozenset({"click", "rich_click", "asyncclick"})
_ENDINGS = re.compile(r"[-_](?:command|cmd|group|grp)$")


class _Command(NamedTuple):
    """A function that click calls. `name`: as it is typed; `is_group`: it has subcommands."""

    name: str
    is_group: bool
    node: ast.FunctionDef | ast.AsyncFunctionDef
    group: str


def read(source: Source) -> Script | None:
    """Return the options of a script; None where it does not use click."""
    if not _LIBRARIES.intersection(name.split(".")[0] for name in imported(source.tree)):
        return None
    commands = [found for node in source.nodes() if (found := _command(source, node)) is not None]
    if not commands:
        return None
    groups = {one.node.name: one for one in commands if one.is_group}
    inner = [one for one in commands if not one.is_group and (one.group in groups or one.group)]
    alone = [one for one in commands if not one.is_group and not one.group]
    notes: list[str] = []
    if inner and groups:
        chosen = inner[[one.name for one in inner].index(main_command([one.name for one in inner]))]
        way = _way(chosen, groups)
        outer = [option._replace(outer=True) for one in way for option in _options(source, one, notes)]
        words = " ".join([*(one.name for one in way[1:]), chosen.name])
        others = tuple(one.name for one in inner if one is not chosen)
        return Script("click", (*outer, *_options(source, chosen, notes)), words, others, tuple(notes))
    one = (alone or inner or commands)[0]
    return Script("click", tuple(_options(source, one, notes)), notes=tuple(notes))


def _way(command: _Command, groups: dict[str, _Command]) -> list[_Command]:
    """Return the groups that a subcommand is in, the outermost first."""
    found: list[_Command] = []
    name = command.group
    while name in groups and groups[name] not in found:
        found.insert(0, groups[name])
        name = groups[name].group
    return found


def _command(source: Source, node: ast.AST) -> _Command | None:
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return None
    for one in node.decorator_list:
        name = called(one) or called_name(one)
        if last(name) not in ("command", "group"):
            continue
        owner = name.rpartition(".")[0]
        given = keywords(one) if isinstance(one, ast.Call) else {}
        typed = source.value(one.args[0]) if isinstance(one, ast.Call) and one.args else source.value(given.get("name"))
        made = _ENDINGS.sub("", node.name.replace("_", "-"))
        inside = "" if owner in ("", "click", "rich_click") else owner
        return _Command(typed or made, last(name) == "group", node, inside)
    return None


def _options(source: Source, command: _Command, notes: list[str]) -> list[Option]:
    found = []
    for one in command.node.decorator_list:
        if isinstance(one, ast.Call) and last(called(one)) in ("option", "argument"):
            option = _option(source, one)
            if option is not None:
                found.append(option)
            elif one.args:
                notes.append(f"line {one.lineno} makes the name of an option while it runs")
        elif isinstance(one, ast.Name) or (isinstance(one, ast.Call) and "option" in called(one)):
            notes.append(f"options of @{called_name(one) or called(one)} are not read")
    return found


def _option(source: Source, call: ast.Call) -> Option | None:
    given = keywords(call)
    names = [text for node in call.args if (text := source.value(node))]
    if not names:
        return None
    is_argument = last(called(call)) == "argument"
    typed = next((name for name in names if name.startswith("--")), names[0])
    switch = "/" in typed.lstrip("/")
    typed = typed.split("/")[0].strip()
    kind = _kind(source, given, is_switch=switch)
    default = source.value(given.get("default"))
    if kind == WORDS:
        default = " ".join(source.values(given.get("default"))) or default
    nargs = source.value(given.get("nargs"))
    needed = is_argument and default is None and nargs != "-1" and "required" not in given
    return Option(
        typed.lstrip("-"),
        "" if is_argument else f"{typed} ",
        kind,
        None if kind == FLAG else default,
        _choices(source, given.get("type")),
        is_true(given.get("required")) or needed,
        type_words(given.get("type")),
        source.words(given.get("help")),
    )


def _kind(source: Source, given: dict[str, ast.expr], *, is_switch: bool) -> str:
    flagged = is_true(given.get("is_flag")) or "flag_value" in given or is_true(given.get("count"))
    if flagged or is_switch:
        return FLAG
    many = is_true(given.get("multiple")) or source.value(given.get("nargs")) not in (None, "1")
    return WORDS if many else VALUE


def _choices(source: Source, node: ast.expr | None) -> tuple[str, ...]:
    if not isinstance(node, ast.Call) or last(called(node)) != "Choice" or not node.args:
        return ()
    first = node.args[0]
    if isinstance(first, ast.Name) and source.class_of(first.id) is not None:
        return source.members(first.id, by_name=True)
    return source.values(first)
