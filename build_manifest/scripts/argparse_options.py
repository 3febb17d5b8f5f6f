"""Options of a script that reads them with argparse, or with what is called as argparse is."""

from __future__ import annotations

import ast
from typing import NamedTuple

from build_manifest.scripts.options import FLAG, VALUE, WORDS, Option, Script, main_command
from build_manifest.scripts.syntax import Source, called, called_name, is_true, keywords, last, type_words

_FLAGS = ("store_true", "store_false", "store_const", "append_const", "count", "BooleanOptionalAction")
_NONE = ("help", "version")


class _Parsers(NamedTuple):
    """Subcommands: the name by the variable that holds its parser, and all names in their order."""

    by_variable: dict[str, str]
    names: list[str]


def read(source: Source) -> Script | None:
    """Return the options of a script; None where it does not use argparse."""
    if not any(last(called(node)) == "add_argument" for node in source.nodes()):
        return None
    parsers = _parsers(source)
    chosen = main_command(parsers.names) if parsers.names else ""
    defaults = _set_defaults(source)
    mains, helpers = _mains(source), _helpers(source)
    notes: list[str] = []
    options: dict[str, Option] = {}
    for node in source.nodes():
        if not isinstance(node, ast.Call):
            continue
        owner = called_name(node.func.value) if isinstance(node.func, ast.Attribute) else ""
        if last(called(node)) != "add_argument" or parsers.by_variable.get(owner, chosen) != chosen:
            continue
        option = _option(source, node, defaults)
        if isinstance(option, str):
            notes.append(option)
        elif option is not None:
            is_outer = bool(chosen) and owner in mains and not any(node in inner for inner in helpers.get(owner, ()))
            options.setdefault(option.before + option.name, option._replace(outer=is_outer))
    if any(last(called(node)) in ("parse_known_args", "parse_known_intermixed_args") for node in source.nodes()):
        notes.append("it takes options beside these (parse_known_args)")
    others = tuple(name for name in parsers.names if name != chosen)
    return Script("argparse", tuple(options.values()), chosen, others, tuple(dict.fromkeys(notes)))


def _parsers(source: Source) -> _Parsers:
    found = _Parsers({}, [])
    for node in source.nodes():
        value = node.value if isinstance(node, (ast.Assign, ast.Expr)) else None
        if isinstance(value, ast.Call) and last(called(value)) == "add_parser":
            name = source.value(value.args[0]) if value.args else None
            if name is None:
                continue
            found.names.append(name)
            if isinstance(node, ast.Assign):
                found.by_variable[called_name(node.targets[0])] = name
    groups = [node for node in source.nodes() if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)]
    for node in groups:  # a group of a subcommand's parser belongs to that subcommand
        call = node.value
        assert isinstance(call, ast.Call)
        owner = called_name(call.func.value) if isinstance(call.func, ast.Attribute) else ""
        if last(called(call)).endswith("_group") and owner in found.by_variable:
            found.by_variable[called_name(node.targets[0])] = found.by_variable[owner]
    return found


def _mains(source: Source) -> set[str]:
    """Return the variables that hold the parser of the whole script, or a group of it."""
    found: set[str] = set()
    for node in source.nodes():
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            name, owner = called(node.value), called(node.value).rpartition(".")[0]
            if last(name) == "ArgumentParser" or (last(name).endswith("_group") and owner in found):
                found.add(called_name(node.targets[0]))
    return found


def _helpers(source: Source) -> dict[str, list[set[ast.AST]]]:
    """Return what stands in functions that get a parser, by the name that it has there: it may be any."""
    found: dict[str, list[set[ast.AST]]] = {}
    for node in source.nodes():
        if isinstance(node, ast.FunctionDef):
            for one in node.args.args:
                found.setdefault(one.arg, []).append(set(ast.walk(node)))
    return found


def _set_defaults(source: Source) -> dict[str, str]:
    found = {}
    for node in source.nodes():
        if isinstance(node, ast.Call) and last(called(node)) == "set_defaults":
            found.update({key: text for key, one in keywords(node).items() if (text := source.value(one)) is not None})
    return found


def _option(source: Source, call: ast.Call, defaults: dict[str, str]) -> Option | str | None:
    """Return one option; a note where its name is not known; None where it is none of a sweep."""
    names = [source.value(one) for one in call.args]
    known = [name for name in names if name]
    if not known:
        return f"line {call.lineno} makes the name of an option while it runs" if call.args else None
    given = keywords(call)
    action = source.value(given.get("action")) or last(called_name(given.get("action", ast.Constant(None))))
    if action in _NONE or last(called_name(given.get("help", ast.Constant(None)))) == "SUPPRESS":
        return None
    long = next((name for name in known if name.startswith("--")), known[0])
    is_placed = not long.startswith("-")
    name = long.lstrip("-")
    default = source.value(given.get("default")) or defaults.get(name.replace("-", "_"))
    kind = FLAG if action in _FLAGS else VALUE
    nargs = source.value(given.get("nargs"))
    if kind == VALUE and (nargs not in (None, "?", "1") or action in ("append", "extend")):
        kind = WORDS
        default = " ".join(source.values(given.get("default"))) or default
    return Option(
        name,
        "" if is_placed else f"{long} ",
        kind,
        None if kind == FLAG else default,
        source.values(given.get("choices")),
        is_true(given.get("required")) or (is_placed and nargs not in ("?", "*") and default is None),
        type_words(given.get("type")),
        source.words(given.get("help")),
    )
