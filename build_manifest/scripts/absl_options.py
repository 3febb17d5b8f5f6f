"""Options of a script that reads them with absl.flags."""

from __future__ import annotations

import ast

from build_manifest.scripts.options import FLAG, VALUE, Option, Script
from build_manifest.scripts.syntax import Source, called, is_true, keywords, last

_TYPES = {
    "DEFINE_string": "str", "DEFINE_integer": "int", "DEFINE_float": "float", "DEFINE_bool": "bool",
    "DEFINE_boolean": "bool", "DEFINE_enum": "str", "DEFINE_enum_class": "str", "DEFINE_list": "a,b,c",
    "DEFINE_spaceseplist": "'a b c'", "DEFINE_multi_string": "str", "DEFINE_multi_integer": "int",
    "DEFINE_multi_float": "float", "DEFINE_multi_enum": "str", "DEFINE_config_file": "path",
}  # fmt: skip
_AFTER_DEFAULT = ("DEFINE_enum", "DEFINE_enum_class", "DEFINE_multi_enum")
"""Those whose third argument is not their help, but their values."""


def read(source: Source) -> Script | None:
    """Return the options of a script; None where it does not use absl.flags."""
    required: set[str] = set()
    options: list[Option] = []
    notes: list[str] = []
    for node in source.nodes():
        if not isinstance(node, ast.Call):
            continue
        function = last(called(node))
        if function == "mark_flag_as_required" and node.args:
            required.add(source.value(node.args[0]) or "")
        elif function == "mark_flags_as_required" and node.args:
            required.update(source.values(node.args[0]))
        elif function in _TYPES:
            option = _option(source, node, function)
            if option is None:
                notes.append(f"line {node.lineno} makes the name of an option while it runs")
            else:
                options.append(option)
    if not options and not notes:
        return None
    made = tuple(one._replace(required=True) if one.name in required else one for one in options)
    return Script("absl", made, notes=tuple(notes))


def _option(source: Source, call: ast.Call, function: str) -> Option | None:
    given = keywords(call)
    places = ["name", "default", *(["values", "help"] if function in _AFTER_DEFAULT else ["help"])]
    given = {**dict(zip(places, call.args)), **given}
    name = source.value(given.get("name"))
    if not name:
        return None
    values = given.get("enum_values", given.get("values", given.get("enum_class")))
    choices = source.values(values)
    if isinstance(values, ast.Name) and not choices:
        choices = source.members(values.id, by_name=True)
    kind = FLAG if function in ("DEFINE_bool", "DEFINE_boolean") else VALUE
    default = source.value(given.get("default")) or ",".join(source.values(given.get("default"))) or None
    return Option(
        name,
        f"--{name}=",
        kind,
        None if kind == FLAG else default,
        choices,
        is_true(given.get("required")),
        _TYPES[function],
        source.words(given.get("help")),
    )
