"""Options of a script that reads them with typer: the parameters of its functions."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from build_manifest.scripts.options import FLAG, VALUE, WORDS, Option, Script, main_command
from build_manifest.scripts.syntax import Source, called, called_name, imported, keywords, last, type_words

_MANY = ("List", "list", "Sequence", "Tuple", "tuple", "Set", "set", "Iterable")
_INSIDE = ("Optional", "Final")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def read(source: Source) -> Script | None:
    """Return the options of a script; None where it does not use typer."""
    if "typer" not in imported(source.tree):
        return None
    functions = {node.name: node for node in source.nodes() if isinstance(node, Function)}
    run = [called_name(one) for node in source.nodes() if last(called(node)) == "run" for one in _args(node)[:1]]
    alone = next((functions[name] for name in run if name in functions), None)
    if alone is not None:
        return Script("typer", tuple(_options(source, alone)))
    commands = dict(_commands(source, functions.values()))
    has_callback = any(last(called(one)) == "callback" for node in functions.values() for one in node.decorator_list)
    if not commands:
        return None
    chosen = main_command(list(commands))
    options = tuple(_options(source, commands[chosen]))
    if len(commands) == 1 and not has_callback:  # typer has no subcommand then
        return Script("typer", options)
    return Script("typer", options, chosen, tuple(name for name in commands if name != chosen))


def _args(node: ast.AST) -> list[ast.expr]:
    return node.args if isinstance(node, ast.Call) else []


def _commands(source: Source, functions: Iterable[Function]) -> Iterator[tuple[str, Function]]:
    for node in functions:
        for one in node.decorator_list:
            if isinstance(one, ast.Call) and last(called(one)) == "command":
                typed = source.value(one.args[0]) if one.args else source.value(keywords(one).get("name"))
                yield typed or node.name.replace("_", "-"), node


def _options(source: Source, node: Function) -> Iterator[Option]:
    arguments = node.args
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [*[None] * (len(plain) - len(arguments.defaults)), *arguments.defaults]
    for one, default in [*zip(plain, defaults), *zip(arguments.kwonlyargs, arguments.kw_defaults)]:
        if last(called_name(one.annotation or one)) not in ("Context", "CallbackParam"):
            yield _option(source, one, default)


def _option(source: Source, one: ast.arg, default: ast.expr | None) -> Option:
    meant, call = _annotated(one.annotation)
    if isinstance(default, ast.Call) and last(called(default)) in ("Option", "Argument"):
        call, default = default, (default.args[0] if default.args else keywords(default).get("default"))
        typed = [source.value(node) for node in call.args[1:]]
    else:
        typed = [source.value(node) for node in call.args] if call is not None else []
    given = keywords(call) if call is not None else {}
    is_absent = default is None or (isinstance(default, ast.Constant) and default.value is ...)
    is_argument = last(called(call)) == "Argument" if call is not None else is_absent
    switch = next((name for name in typed if name and name.startswith("--")), None)
    before = switch.split("/")[0] if switch else f"--{one.arg.replace('_', '-')}"
    kind = _kind(meant)
    choices = source.members(last(called_name(meant)), by_name=False) if meant is not None else ()
    value = source.value(default) or _member(source, default)
    if isinstance(meant, ast.Subscript) and last(called_name(meant.value)) == "Literal":
        literal = meant.slice
        choices = source.values(literal) or tuple(filter(None, [source.value(literal)]))
    return Option(
        before.lstrip("-") if not is_argument else one.arg,
        "" if is_argument else f"{before} ",
        kind,
        None if kind == FLAG else value,
        choices,
        is_absent and kind != FLAG,
        type_words(meant),
        source.words(given.get("help")),
    )


def _annotated(node: ast.expr | None) -> tuple[ast.expr | None, ast.Call | None]:
    """Return a type without `Annotated` and `Optional`, and the call of Option or Argument that was with it."""
    call: ast.Call | None = None
    if isinstance(node, ast.Subscript) and last(called_name(node.value)) == "Annotated":
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        node = parts[0]
        call = next(
            (one for one in parts if isinstance(one, ast.Call) and last(called(one)) in ("Option", "Argument")), None
        )
    if isinstance(node, ast.Subscript) and last(called_name(node.value)) in _INSIDE:
        node = node.slice
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        is_none = isinstance(node.left, ast.Constant) and node.left.value is None
        node = node.right if is_none else node.left
    return node, call


def _kind(node: ast.expr | None) -> str:
    if isinstance(node, ast.Name) and node.id == "bool":
        return FLAG
    base = node.value if isinstance(node, ast.Subscript) else node
    return WORDS if base is not None and last(called_name(base)) in _MANY else VALUE


def _member(source: Source, node: ast.expr | None) -> str | None:
    """Return the value of a member of an Enum: `Model.small`, `Model.small.value`."""
    parts = called_name(node).split(".") if node is not None else []
    parts = parts[:-1] if parts[-1:] == ["value"] else parts
    found = source.class_of(parts[0]) if len(parts) == 2 else None
    for one in found.body if found is not None else ():
        if isinstance(one, ast.Assign) and called_name(one.targets[0]) == parts[1]:
            return source.value(one.value)
    return None
