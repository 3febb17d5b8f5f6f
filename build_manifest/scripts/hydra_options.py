"""Options of a script that Hydra configures: the keys of its configuration, which are given as overrides."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import NamedTuple

from build_manifest import spec
from build_manifest.faults import Faults, SpecErrors
from build_manifest.nodes import ListNode, MapNode, Node, Scalar
from build_manifest.scripts.options import FLAG, VALUE, WORDS, Option, Script
from build_manifest.scripts.syntax import Source, called, called_name, imported, keywords, last, type_words

Read = Callable[[str], str | None]
"""Reads a file, relative to the script; None where there is none."""
Listing = Callable[[str], tuple[str, ...]]
"""The names in a directory, relative to the script."""
_MISSING = "???"
_OWN = ("_self_", "override hydra", "hydra")


class _Config(NamedTuple):
    """What a configuration says. `groups`: the choice of each group of its defaults list, by its path."""

    options: tuple[Option, ...]
    groups: dict[str, str | None]


def read(source: Source, read_file: Read, listing: Listing) -> Script | None:
    """Return the options of a script; None where it does not use Hydra."""
    if not any(name.split(".")[0] == "hydra" for name in imported(source.tree)):
        return None
    given = next((found for node in source.nodes() if (found := _decorated(node)) is not None), None)
    if given is None:
        return None
    path, name = source.value(given.get("config_path")), source.value(given.get("config_name"))
    if name is None:
        return Script("Hydra", notes=("it names no configuration, so its keys are not known; write them as key=value",))
    file = "/".join(filter(None, [path, f"{name.removesuffix('.yaml')}.yaml"]))
    text = read_file(file)
    if text is None:
        fields = _structured(source, name)
        if not fields:
            return Script("Hydra", notes=(f"its configuration {file} does not exist, so its keys are not known",))
        return Script("Hydra", fields)
    notes: list[str] = []
    config = _config(file, text, notes)
    options = list(config.options)
    for group, choice in config.groups.items():
        folder = "/".join(filter(None, [path, group]))
        choices = tuple(one.removesuffix(".yaml") for one in listing(folder) if one.endswith(".yaml"))
        options.append(Option(group, f"{group}=", default=choice, choices=choices, required=choice is None))
        inner = read_file(f"{folder}/{choice}.yaml") if choice is not None else None
        if inner is not None:
            own = _config(f"{folder}/{choice}.yaml", inner, notes)
            prefix = "" if inner.startswith("# @package _global_") else group.replace("/", ".") + "."
            options += [one._replace(name=prefix + one.name, before=f"{prefix}{one.before}") for one in own.options]
    by_name = {one.name: one for one in reversed(options)}
    return Script(
        "Hydra", tuple(by_name[one] for one in dict.fromkeys(one.name for one in options)), notes=tuple(notes)
    )


def _decorated(node: ast.AST) -> dict[str, ast.expr] | None:
    """Return the arguments of hydra.main."""
    for one in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
        if isinstance(one, ast.Call) and called(one) in ("hydra.main", "hydra_main", "main"):
            return {**dict(zip(("config_path", "config_name"), one.args)), **keywords(one)}
    return None


def _config(file: str, text: str, notes: list[str]) -> _Config:
    try:
        root = spec.read(Faults(file, text))
    except SpecErrors as error:
        notes.append(f"{file} cannot be read: {error.faults[0].what}")
        return _Config((), {})
    groups: dict[str, str | None] = {}
    options: list[Option] = []
    for key, node in root.entries:
        if key.text == "defaults" and isinstance(node, ListNode):
            groups.update(_groups(node))
        elif key.text != "hydra":
            options += _flat(key.text, node)
    return _Config(tuple(options), groups)


def _groups(node: ListNode) -> Iterator[tuple[str, str | None]]:
    for item in node.items:
        if isinstance(item, MapNode):
            for key, value in item.entries:
                group = key.text.removeprefix("override ").removeprefix("optional ").split("@")[0].strip("/")
                if isinstance(value, Scalar) and not group.startswith("hydra"):
                    text = value.text
                    yield group, None if text == _MISSING else None if text in ("null", "~") else text


def _flat(name: str, node: Node) -> Iterator[Option]:
    if isinstance(node, MapNode):
        for key, value in node.entries:
            yield from _flat(f"{name}.{key.text}", value)
    elif isinstance(node, ListNode):
        texts = [one.text for one in node.items if isinstance(one, Scalar)]
        yield Option(name, f"{name}=", WORDS, f"[{','.join(texts)}]")
    elif isinstance(node, Scalar) and "${" not in node.text and not name.rsplit(".", maxsplit=1)[-1].startswith("_"):
        is_missing = node.text == _MISSING
        is_switch = node.plain and node.text in ("true", "false", "True", "False")
        default = None if is_missing or node.text in ("null", "~", "") else node.text
        yield Option(name, f"{name}=", FLAG if is_switch else VALUE, default, required=is_missing)


def _structured(source: Source, name: str) -> tuple[Option, ...]:
    """Return the fields of the dataclass that a ConfigStore has under a name."""
    for node in source.nodes():
        if isinstance(node, ast.Call) and last(called(node)) == "store":
            given = keywords(node)
            if source.value(given.get("name")) == name and "node" in given:
                return tuple(_fields(source, last(called_name(given["node"])), ""))
    return ()


def _fields(source: Source, name: str, prefix: str, depth: int = 0) -> Iterator[Option]:
    found = source.class_of(name)
    for one in found.body if found is not None and depth < 5 else ():
        if not isinstance(one, ast.AnnAssign) or not isinstance(one.target, ast.Name):
            continue
        key, words = f"{prefix}{one.target.id}", type_words(one.annotation)
        if source.class_of(words) is not None and not source.members(words, by_name=True):
            yield from _fields(source, words, f"{key}.", depth + 1)
            continue
        kind = FLAG if words == "bool" else VALUE
        default, is_missing = source.value(one.value), one.value is None or last(called_name(one.value)) == "MISSING"
        yield Option(key, f"{key}=", kind, default, source.members(words, by_name=True), is_missing, words)
