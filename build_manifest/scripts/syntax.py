"""Read values from the syntax tree of a script, as far as they are written in it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

_LONGEST = 80
_HELP = 120


class Source:
    """A script's text and its tree. Raises SyntaxError, and ValueError where it holds what no source may."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tree = ast.parse(text)
        self.constants = dict(_constants(self.tree))

    def nodes(self) -> Iterator[ast.AST]:
        """Return all nodes, in the order of the text."""
        yield from _in_order(self.tree)

    def value(self, node: ast.expr | None, depth: int = 0) -> str | None:
        """Return a constant as it would be typed on a command line, `1e-3` as it was written; None of anything else."""
        if node is None or depth > 5:
            return None
        if isinstance(node, ast.Name) and node.id in self.constants:
            return self.value(self.constants[node.id], depth + 1)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            inner = self.value(node.operand, depth + 1)
            return None if inner is None else f"-{inner}"
        if isinstance(node, ast.Call) and called(node).split(".")[-1] in ("Path", "PurePath", "str", "int", "float"):
            return self.value(node.args[0], depth + 1) if len(node.args) == 1 and not node.keywords else None
        if not isinstance(node, ast.Constant) or node.value is None or node.value is ...:
            return None
        if isinstance(node.value, str):
            return node.value
        if isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
            return ast.get_source_segment(self.text, node) or repr(node.value)
        return str(node.value) if isinstance(node.value, bool) else None

    def values(self, node: ast.expr | None, depth: int = 0) -> tuple[str, ...]:
        """Return the values of a list, tuple, set, of the keys of a dictionary, or of a range, where all are known."""
        if node is None or depth > 5:
            return ()
        if isinstance(node, ast.Name) and node.id in self.constants:
            return self.values(self.constants[node.id], depth + 1)
        if isinstance(node, ast.Call):
            name = called(node)
            if name in ("list", "tuple", "sorted", "set") and len(node.args) == 1:
                return self.values(node.args[0], depth + 1)
            if name.endswith(".keys") and isinstance(node.func, ast.Attribute):
                return self.values(node.func.value, depth + 1)
            bounds = [self.value(one) for one in node.args]
            if name == "range" and bounds and all(one is not None and one.lstrip("-").isdigit() for one in bounds):
                return tuple(str(one) for one in range(*[int(one or 0) for one in bounds])[:_LONGEST])
            return ()
        items: Sequence[ast.expr | None] = ()
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            items = node.elts
        elif isinstance(node, ast.Dict):
            items = node.keys
        found = [self.value(one) for one in items]
        return tuple(one for one in found if one is not None) if None not in found else ()

    def words(self, node: ast.expr | None) -> str:
        """Return a text for people on one line, such as help; empty where it is not known."""
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mod)):
            left, right = self.words(node.left), self.words(node.right) if isinstance(node.op, ast.Add) else ""
            return f"{left}{right}"
        text = self.value(node) or ""
        line = " ".join(text.split())
        return line if len(line) <= _HELP else f"{line[: _HELP - 2]} …"

    def class_of(self, name: str) -> ast.ClassDef | None:
        """Return a class that the script defines."""
        return next((one for one in self.nodes() if isinstance(one, ast.ClassDef) and one.name == name), None)

    def members(self, name: str, *, by_name: bool) -> tuple[str, ...]:
        """Return the values of an Enum that the script defines, or the names of its members."""
        found = self.class_of(name)
        if found is None or not any(called_name(base).split(".")[-1].endswith("Enum") for base in found.bases):
            return ()
        rows = [one for one in found.body if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name)]
        names = [row.targets[0].id for row in rows if isinstance(row.targets[0], ast.Name)]
        values = [self.value(row.value) for row in rows]
        return tuple(names if by_name or None in values else [one for one in values if one is not None])


def called(node: ast.AST) -> str:
    """Return what is called, with dots: `parser.add_argument`; empty for what has no name."""
    return called_name(node.func) if isinstance(node, ast.Call) else ""


def called_name(node: ast.AST) -> str:
    """Return a name with dots."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = called_name(node.value)
        return f"{inner}.{node.attr}" if inner else f".{node.attr}"
    return ""


def last(name: str) -> str:
    """Return the last part of a name with dots."""
    return name.rsplit(".", 1)[-1]


def keywords(call: ast.Call) -> dict[str, ast.expr]:
    """Return the keyword arguments of a call."""
    return {one.arg: one.value for one in call.keywords if one.arg is not None}


def is_true(node: ast.expr | None) -> bool:
    """Tell whether a node is True as it stands."""
    return isinstance(node, ast.Constant) and node.value is True


def type_words(node: ast.expr | None) -> str:
    """Say how a script names a type: `int`, `Optional[float]`."""
    if node is None:
        return ""
    text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ast.unparse(node)
    return text if len(text) <= _LONGEST else ""


def imported(tree: ast.Module) -> Iterator[str]:
    """Return the modules that a script imports, with dots; a relative one begins with a dot."""
    for node in _in_order(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base
            yield from (f"{base.rstrip('.')}.{one.name}" if node.module else f"{base}{one.name}" for one in node.names)


def _constants(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            yield node.target.id, node.value


def _in_order(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _in_order(child)
