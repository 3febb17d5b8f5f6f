"""Draw docs/packages.svg: which package imports which, read from the imports.

Run it from the repository's root: `PYTHONPATH=. python tools/packages.py`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DRAWING = ROOT / "docs" / "packages.svg"
NODES = (
    *(f"skill.{name}" for name in (
        "cli", "mcp", "operations", "terminal", "auto", "research", "reports", "fleet", "transfer", "planning", "runs",
        "providers", "hosts", "common",
    )),
    "build_manifest", "queue_manager", "queue_manager.core",
)  # fmt: skip
"""From the top down."""
_ROW, _LEFT, _WIDE, _HIGH = 46, 40, 190, 28
_STYLE = """
  text { font: 14px sans-serif; fill: #24292f; } rect { fill: #f6f8fa; stroke: #8c959f; }
  path { fill: none; stroke: #0969da; stroke-opacity: 0.55; } path.up { stroke: #cf222e; stroke-width: 3; }
  @media (prefers-color-scheme: dark) { text { fill: #e6edf3; } rect { fill: #161b22; } path { stroke: #58a6ff; } }
"""


def package(module: str) -> str | None:
    """The node that a module belongs to; None where it is not ours."""
    fits = [node for node in NODES if module == node or module.startswith(f"{node}.")]
    return max(fits, key=len, default=None)


def arrows() -> set[tuple[str, str]]:
    """Who imports whom, at whatever depth of a module, but for itself."""
    found = set()
    for top in ("skill", "build_manifest", "queue_manager"):
        for file in (ROOT / top).rglob("*.py"):
            source = package(".".join(file.relative_to(ROOT).with_suffix("").parts))
            for module in _imports(ast.parse(file.read_text(encoding="utf-8"))):
                target = package(module)
                if source is not None and target is not None and source != target:
                    found.add((source, target))
    return found


def import_statements(block: Iterable[ast.AST]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Those of a block of statements, at whatever depth. No expression is walked: none holds an import."""
    for node in block:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            yield from import_statements(getattr(node, field, ()))


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in import_statements(tree.body):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def drawing() -> str:
    """The SVG: packages from the top down, an arc for each arrow; one that leads upwards is red."""
    rows = {node: number for number, node in enumerate(NODES)}
    height = _ROW * len(NODES) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 460 {height}" width="460" height="{height}" role="img">',
        "  <title>Which package of wavequeue imports which</title>",
        f"  <style>{_STYLE}  </style>",
        '  <defs><marker id="end" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">',
        '    <path d="M0,1 L7,4 L0,7"/></marker></defs>',
    ]
    for source, target in sorted(arrows(), key=lambda pair: (rows[pair[0]], rows[pair[1]])):
        begin, end = (_ROW * rows[node] + 10 + _HIGH / 2 for node in (source, target))
        right, bow = _LEFT + _WIDE, 14 * abs(rows[target] - rows[source])
        kind = ' class="up"' if rows[target] < rows[source] else ""
        curve = f"M{right},{begin:g} C{right + bow},{begin:g} {right + bow},{end:g} {right},{end:g}"
        parts.append(f'  <path{kind} d="{curve}" marker-end="url(#end)"/>')
    for node, row in rows.items():
        top = _ROW * row + 10
        parts.append(f'  <rect x="{_LEFT}" y="{top}" width="{_WIDE}" height="{_HIGH}" rx="5"/>')
        parts.append(f'  <text x="{_LEFT + 12}" y="{top + 19}">{node}</text>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    DRAWING.write_text(drawing(), encoding="utf-8")
