"""Imports point only downwards, the core stays pure, and what runs on hosts keeps to Python 3.9.

`faults` finds every breach in one file; it is run over all files of the product, and over samples it has to refuse.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest

from tools import packages

ROOT = Path(__file__).resolve().parent.parent
MAX_BYTES = 24 * 1024

PURE = frozenset({
    "__future__", "bisect", "collections", "copy", "csv", "dataclasses", "datetime", "enum", "fnmatch", "functools",
    "hashlib", "heapq", "itertools", "json", "math", "operator", "pathlib", "re", "shlex", "string", "typing",
    "zlib",
})  # fmt: skip


class Layer(NamedTuple):
    """What the files under `folder` may import: `own` packages and all below them, and `stdlib` modules (None: all
    of them), and `foreign` libraries, each from one file where a name is given."""

    folder: str
    own: tuple[str, ...]
    stdlib: frozenset[str] | None = None
    foreign: Mapping[str, str | None] = MappingProxyType({})


PACKAGES = (
    "cli", "mcp", "operations", "terminal", "auto", "research", "reports", "fleet", "transfer", "planning", "runs",
    "providers", "hosts", "common",
)  # fmt: skip
"""The packages of `skill`, from the top down: each imports itself and those below it."""

SHARED = ("queue_manager.adapters.code_identity",)
"""What hosts and this machine ask of their files in the same way, without a state or a process of its own."""

LAYERS = (  # the first whose folder fits is meant
    Layer("queue_manager/core", ("queue_manager.core",), PURE),
    Layer(
        "queue_manager/adapters",
        ("queue_manager.adapters", "queue_manager.launchers.script", "queue_manager.core"),
        None,
        {"psutil": "processes.py", "pynvml": "nvml.py"},
    ),
    Layer("queue_manager/launchers", ("queue_manager.launchers", "queue_manager.adapters", "queue_manager.core")),
    Layer("queue_manager", ("queue_manager",)),
    Layer("build_manifest", ("build_manifest", "queue_manager.core"), None, {"yaml": "spec.py", "jinja2": None}),
    *(
        Layer(
            f"skill/{package}",
            (
                "skill.__version__",
                *(f"skill.{one}" for one in PACKAGES[height:]),
                "build_manifest",
                "queue_manager.core",
                *(SHARED if package == "runs" else ()),
            ),
            None,
            {
                **({"click": None} if package == "cli" else {}),
                **({"mcp": "server.py", "mcp_types": "server.py", "anyio": "server.py"} if package == "mcp" else {}),
                **({"pydantic": None} if package == "mcp" else {}),
                "rich": None,
                "fabric": "fabric_transport.py",
                "jinja2": "html_page.py",
                "paramiko": "fabric_transport.py",
                "ruamel": "registry.py",
                "httpx": "http.py",
                "msgspec": "typed_json.py",
                "pathspec": "gitignore.py",
                "matplotlib": "png.py",
            },
        )
        for height, package in enumerate(PACKAGES)
    ),
    Layer("skill", ("skill.cli", "skill.hosts.early_ssh")),
    Layer("manifests/demo", ("digits", "mlp")),
)

# Builtins and methods by which a pure module could reach the clock, the files or the world. `replace` is not among
# the methods, since strings have it too.
WORLD_NAMES = frozenset({"__import__", "breakpoint", "eval", "exec", "exit", "input", "open", "print", "quit"})
WORLD_METHODS = frozenset({
    "absolute", "chmod", "cwd", "exists", "expanduser", "glob", "home", "is_dir", "is_file", "is_symlink", "iterdir",
    "lstat", "mkdir", "now", "open", "read_bytes", "read_text", "resolve", "rglob", "rmdir", "stat", "symlink_to",
    "today", "touch", "unlink", "utcnow", "write_bytes", "write_text",
})  # fmt: skip


KNOW_PROVIDERS = frozenset({"skill/fleet/provider.py", "skill/operations/check_keys.py"})
"""Who may import one provider of rented machines: the table of them, and the check of the services' keys."""

EXIT_CODES = frozenset({"DONE", "FAILED", "USE", "PERSON", "INTERRUPTED", "PROBLEM", "TIMEOUT"})
"""The names of exit codes in skill.common.errors: only skill.cli knows them."""

CLI_BELOW_OPERATIONS = {
    "hosts.py": {"hosts.health"},
    "job.py": {"runs.logs", "runs.open"},
    "plan_output.py": {"planning.plan"},
    "repair.py": {"runs.repair"},
    "run.py": {"runs.digest", "runs.directory", "runs.open"},
    "status.py": {"runs.digest"},
    "submit.py": {"planning.host_preflight"},
    "up.py": {"fleet.ledger"},
    "wait.py": {"runs.digest"},
    "vast/hunt.py": {"fleet.offers", "providers.outcomes"},
    "vast/instances.py": {"fleet.inventory", "providers.outcomes"},
    "vast/rent.py": {"fleet.ledger"},
    "vast/watcher.py": {"fleet.watch_rules"},
}
"""What verbs take from below the use cases, by their file: to draw what they print, or to show a run while it goes.
This may only shrink: what a verb can do, a function of skill.operations does."""


def product_files() -> list[str]:
    """All Python files of the product, relative to the repository."""
    folders = dict.fromkeys(layer.folder.split("/")[0] for layer in LAYERS)
    files = [path.relative_to(ROOT) for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [file.as_posix() for file in files if "out" not in file.parts]


def faults(file: str, source: str) -> list[str]:
    """Everything in `source` that the place of `file` does not allow, in words. Empty if it is in order."""
    layer = next((layer for layer in LAYERS if file.startswith(layer.folder + "/")), None)
    if layer is None:
        return ["no layer names this folder"]
    of_hosts = layer.folder.startswith("queue_manager")
    found = []
    try:
        tree = ast.parse(source, file, feature_version=(3, 9) if of_hosts else None)
    except SyntaxError as error:
        found.append(f"line {error.lineno}: not Python 3.9: {error.msg}")
        tree = ast.parse(source, file)
    found += [fault for line, name in imports(tree, file) for fault in import_faults(layer, file, line, name)]
    if layer.folder == "queue_manager/core":
        found += impurities(tree)
    if layer.folder == "skill/operations":
        found += outward(tree, file)
    if of_hosts:
        found += too_new(tree)
    if len(source.encode()) > MAX_BYTES:
        found.append(f"has {len(source.encode())} bytes; split it below {MAX_BYTES}")
    has_code = len(tree.body) > 1
    if (tree.body and not ast.get_docstring(tree)) or (has_code and "from __future__ import annotations" not in source):
        found.append("begins without a docstring and `from __future__ import annotations`")
    return found


def imports(tree: ast.Module, file: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported, at whatever depth; a relative import is made absolute."""
    for node in packages.import_statements(tree.body):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        else:
            package = file.split("/")[: -node.level] if node.level else []
            module = ".".join([*package, *([node.module] if node.module else [])])
            # `from a import b` may take the module a.b: whether that one is allowed is asked, too.
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def import_faults(layer: Layer, file: str, line: int, name: str) -> Iterator[str]:
    top = name.split(".", maxsplit=1)[0]
    if of_a_provider(name) and file.split("/")[1] != "providers" and file not in KNOW_PROVIDERS:
        yield f"line {line}: imports {name}, and only {sorted(KNOW_PROVIDERS)} know one provider from another"
        return
    if any(name == own or name.startswith(own + ".") for own in layer.own):
        return
    if top == "importlib" and file in ("skill/cli/main.py", "queue_manager/remote/__main__.py"):
        return  # they name modules of their own packages only
    if top in ("importlib", "runpy"):
        yield f"line {line}: imports by {top}, which no table can check"
    elif top in layer.foreign:
        owner = layer.foreign[top]
        if owner not in (None, file.rsplit("/", maxsplit=1)[-1]):
            yield f"line {line}: imports {top}, which belongs to {owner} alone"
    elif top not in sys.stdlib_module_names or (layer.stdlib is not None and top not in layer.stdlib):
        yield f"line {line}: {layer.folder} may not import {name}"


def of_a_provider(name: str) -> bool:
    """Whether something imported is of one provider, and not of what all providers share."""
    parts = name.split(".")
    return parts[:2] == ["skill", "providers"] and len(parts) > 2 and (ROOT / "skill/providers" / parts[2]).is_dir()


def impurities(tree: ast.Module) -> Iterator[str]:
    """Where a pure module could touch the world."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in WORLD_NAMES:
            yield f"line {node.lineno}: the core uses {node.id}"
        # Only calls: a field may well be named cwd.
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WORLD_METHODS:
            yield f"line {node.lineno}: the core calls .{node.func.attr}"


def outward(tree: ast.Module, file: str) -> Iterator[str]:
    """Where a use case prints, ends the process or knows of the command."""
    for line, name in imports(tree, file):
        if name.startswith("skill.terminal"):
            yield f"line {line}: a use case imports {name}"
        elif name.startswith("skill.common.errors.") and name.rsplit(".", 1)[1] in EXIT_CODES:
            yield f"line {line}: a use case knows the exit code {name.rsplit('.', 1)[1]}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in ("print", "input", "exit", "SystemExit"):
            yield f"line {node.lineno}: a use case uses {node.id}"
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in ("sys.exit", "sys.stdout", "sys.stderr"):
            yield f"line {node.lineno}: a use case uses {ast.unparse(node)}"


def below_operations(tree: ast.Module) -> set[str]:
    """The modules below skill.operations that a verb imports, but for types alone; what is drawn is left out."""
    types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in packages.import_statements(tree.body):
        if isinstance(node, ast.ImportFrom) and node not in types and (node.module or "").startswith("skill."):
            package, _, module = (node.module or "").removeprefix("skill.").partition(".")
            if package not in ("cli", "mcp", "operations", "terminal", "reports", "common"):
                found |= {f"{package}.{module}"} if module else {f"{package}.{alias.name}" for alias in node.names}
    return found


def too_new(tree: ast.Module) -> Iterator[str]:
    """The commonest calls that Python 3.9 does not have yet."""
    later = {"zip": {"strict"}, "dataclass": {"slots", "kw_only"}}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            for keyword in node.keywords:
                if keyword.arg in later.get(node.func.id, ()):
                    yield f"line {node.lineno}: Python 3.9 has no {node.func.id}({keyword.arg}=)"
            if node.func.id == "isinstance" and isinstance(node.args[-1], ast.BinOp):
                yield f"line {node.lineno}: Python 3.9 has no isinstance(…, A | B)"


def test_files_keep_to_their_layers() -> None:
    found = {file: faults(file, (ROOT / file).read_text(encoding="utf-8")) for file in product_files()}
    assert {file: breaches for file, breaches in found.items() if breaches} == {}


def test_every_package_is_looked_at() -> None:
    seen = {file.split("/")[0] for file in product_files()}
    assert seen == {"queue_manager", "build_manifest", "skill", "manifests"}


HEAD = '"""A docstring."""\n\nfrom __future__ import annotations\n\n'


@pytest.mark.parametrize(
    ("file", "source", "says"),
    [
        ("queue_manager/core/a.py", "import os", "may not import os"),
        ("queue_manager/core/a.py", "import time", "may not import time"),
        ("queue_manager/core/a.py", "def f():\n    from random import random", "may not import random.random"),
        ("queue_manager/core/a.py", "from queue_manager import daemon", "may not import queue_manager.daemon"),
        ("queue_manager/core/a.py", "from .. import daemon", "may not import queue_manager.daemon"),
        ("queue_manager/core/a.py", "f = open", "uses open"),
        ("queue_manager/core/a.py", "from datetime import datetime\nx = datetime.now()", "calls .now"),
        ("queue_manager/core/a.py", "def f(path):\n    return path.read_text()", "calls .read_text"),
        ("queue_manager/core/a.py", "import importlib", "imports by importlib"),
        ("queue_manager/a.py", "import psutil", "may not import psutil"),
        ("queue_manager/adapters/a.py", "from queue_manager import daemon", "may not import queue_manager.daemon"),
        ("queue_manager/a.py", "import skill.cli", "may not import skill.cli"),
        ("queue_manager/a.py", "from build_manifest import spec", "may not import build_manifest.spec"),
        ("queue_manager/a.py", "import yaml", "may not import yaml"),
        ("queue_manager/adapters/a.py", "import psutil", "belongs to processes.py"),
        ("queue_manager/adapters/a.py", "from pynvml import nvmlInit", "belongs to nvml.py"),
        ("queue_manager/a.py", "match 1:\n    case 1:\n        pass", "not Python 3.9"),
        ("queue_manager/a.py", "x = list(zip([], [], strict=True))", "zip(strict=)"),
        ("queue_manager/a.py", "x = isinstance(1, int | str)", "isinstance"),
        ("build_manifest/a.py", "import yaml", "belongs to spec.py"),
        ("build_manifest/a.py", "from queue_manager import daemon", "may not import queue_manager.daemon"),
        ("build_manifest/a.py", "import skill", "may not import skill"),
        ("skill/cli/a.py", "from queue_manager.daemon import Daemon", "may not import queue_manager.daemon"),
        ("skill/cli/a.py", "import importlib", "imports by importlib"),
        ("skill/cli/a.py", "import fabric", "belongs to fabric_transport.py"),
        ("skill/runs/a.py", "import psutil", "may not import psutil"),
        ("skill/operations/a.py", "import click", "may not import click"),
        ("skill/operations/a.py", "from skill.cli import console", "may not import skill.cli"),
        ("skill/operations/a.py", "from skill.terminal import live", "a use case imports skill.terminal"),
        ("skill/operations/a.py", "from skill.common.errors import FAILED", "a use case knows the exit code FAILED"),
        ("skill/operations/a.py", "def f():\n    print(1)", "a use case uses print"),
        ("skill/operations/a.py", "import sys\n\nsys.exit(1)", "a use case uses sys.exit"),
        ("skill/operations/a.py", "raise SystemExit(1)", "a use case uses SystemExit"),
        ("skill/runs/a.py", "from skill.transfer import pull", "may not import skill.transfer.pull"),
        ("skill/providers/vast/a.py", "from skill import fleet", "may not import skill.fleet"),
        ("skill/fleet/a.py", "from skill.providers.vast.client import Client", "know one provider from another"),
        ("skill/cli/a.py", "from skill.providers import vast", "know one provider from another"),
        ("skill/a.py", "from skill.runs import directory", "may not import skill.runs.directory"),
        ("skill/providers/vast/client.py", "import httpx", "belongs to http.py"),
        ("manifests/demo/a.py", "import numpy", "may not import numpy"),
        ("elsewhere/a.py", "", "no layer"),
        ("skill/a.py", "x = 1\n" * 5000, "split it"),
    ],
)
def test_a_breach_is_seen(file: str, source: str, says: str) -> None:
    assert any(says in fault for fault in faults(file, HEAD + source)), faults(file, HEAD + source)


@pytest.mark.parametrize(
    "source", ["x = 1\n", '"""A docstring."""\nx = 1\n', "from __future__ import annotations\nx = 1\n"]
)
def test_a_file_without_its_head_is_seen(source: str) -> None:
    assert any("begins without" in fault for fault in faults("skill/a.py", source))


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("queue_manager/core/a.py", "from pathlib import Path\nfrom queue_manager.core import layout\nimport json"),
        ("queue_manager/core/a.py", "x = 'a'.replace('a', 'b')\ncwd = x.cwd"),
        ("queue_manager/adapters/processes.py", "import os\nimport psutil\nfrom queue_manager.core.tick import tick"),
        ("build_manifest/spec.py", "import yaml\nfrom queue_manager.core import manifest"),
        (
            "skill/hosts/fabric_transport.py",
            "import fabric\nfrom build_manifest.spec import read\nfrom . import address",
        ),
        ("manifests/demo/a.py", "import random\nimport mlp"),
    ],
)
def test_what_is_allowed_passes(file: str, source: str) -> None:
    assert faults(file, HEAD + source) == []


def test_verbs_take_nothing_new_from_below_the_use_cases() -> None:
    folder = ROOT / "skill" / "cli"
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in folder.rglob("*.py")}
    found = {path.relative_to(folder).as_posix(): below_operations(tree) for path, tree in trees.items()}
    assert {name: modules for name, modules in found.items() if modules} == CLI_BELOW_OPERATIONS


def test_what_a_verb_takes_from_below_is_seen() -> None:
    text = "if TYPE_CHECKING:\n    from skill.runs.directory import Run\ndef f():\n    from skill.hosts import probe\n"
    assert below_operations(ast.parse(text + "from skill.runs.open import open_run\n")) == {"hosts.probe", "runs.open"}


def test_no_module_lies_outside_the_packages_of_skill() -> None:
    assert sorted(path.name for path in (ROOT / "skill").glob("*.py")) == ["__init__.py", "__main__.py"]
    assert {path.parent.name for path in (ROOT / "skill").glob("*/__init__.py")} == set(PACKAGES)


def test_the_drawing_of_the_packages_is_what_the_imports_say() -> None:
    drawing = packages.drawing()
    assert packages.DRAWING.read_text(encoding="utf-8") == drawing, "run: PYTHONPATH=. python tools/packages.py"
    assert 'class="up"' not in drawing, "an import leads upwards"


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_files_and_folders_that_documents_name_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    named = set(re.findall(r"(?:build_manifest|queue_manager|skill|tests|benchmarks|docs|tools)/[\w./-]*", text))
    assert len(named) > 3
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
