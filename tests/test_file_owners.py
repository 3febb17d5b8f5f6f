"""Files and directories of ours are made by one module on each side, which gives them their modes whatever the umask.

`makes` finds every call by which a module could make one by itself; it is run over all files of the product, and over
samples that it has to see.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.test_architecture import ROOT, product_files
from tools.packages import import_statements

OWNERS = ("queue_manager/adapters/files.py", "skill/common/files.py")
USERS = {
    "build_manifest/__main__.py": "the manifest that a user asked for, at mode 0600",
    "skill/research/checkpoint_helper.py": "results of an experiment, beside which it is copied; it imports nothing",
    "skill/transfer/local_store.py": "results, which have the mode of the user's umask",
    "skill/transfer/receiver.py": "results on their way, in a directory of mode 0700",
}
"""Modules that make files of other kinds by themselves."""
NAMES = {
    "workers.yaml", "vast.yaml", "vast_blacklist.json", "ledger.jsonl", "watcher.json", "watcher.log", "workers.lock",
}  # fmt: skip
"""Files of a project, whose places one module knows: skill/common/project.py."""
METHODS = frozenset({"mkdir", "touch", "write_text", "write_bytes", "makedirs", "mkfifo", "symlink_to", "hardlink_to"})
FUNCTIONS = frozenset({"mkdir", "makedirs", "mkfifo", "mknod", "link", "symlink"})
READS = frozenset({"", "r", "rb", "rt"})


def makes(tree: ast.Module) -> Iterator[str]:
    """Where a module makes files or directories by itself."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
        of = called.value.id if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) else ""
        if isinstance(called, ast.Attribute) and (name in METHODS or (of == "os" and name in FUNCTIONS)):
            yield f"line {node.lineno}: .{name}()"
        elif of == "os" and name == "open":
            flags = " ".join(ast.unparse(one) for one in node.args[1:2])
            # A mode of 0600 is what it says under every umask that anyone has.
            private = len(node.args) > 2 and ast.unparse(node.args[2]) == str(0o600)
            if "O_CREAT" in flags and not private:
                yield f"line {node.lineno}: os.open() that makes a file"
        elif name == "open" and of != "tarfile":
            position = 1 if isinstance(called, ast.Name) else 0
            given = [*node.args[position : position + 1], *(one.value for one in node.keywords if one.arg == "mode")]
            modes = [one.value for part in given for one in ast.walk(part) if isinstance(one, ast.Constant)]
            if any(isinstance(mode, str) and mode.strip("+").strip() not in READS for mode in modes):
                yield f"line {node.lineno}: open() that makes a file"


def trees(pattern: str) -> Iterator[tuple[str, ast.Module]]:
    """The files of the product in whose text this is found: to parse all takes longer than to look for it."""
    named = re.compile(pattern)
    for file in product_files():
        text = (ROOT / file).read_text(encoding="utf-8")
        if named.search(text):
            yield file, ast.parse(text)


def test_no_other_module_makes_files() -> None:
    found = {
        file: list(makes(tree)) for file, tree in trees(rf"\bopen\s*\(|\.\s*({'|'.join(METHODS | FUNCTIONS)})\s*\(")
    }
    makers = {file: places for file, places in found.items() if places and not file.startswith("manifests/")}
    assert {file: places for file, places in makers.items() if file not in (*OWNERS, *USERS)} == {}
    assert sorted(makers) == sorted([*OWNERS, *USERS]), "those that are named do make files"


@pytest.mark.parametrize(
    "source",
    [
        "path.mkdir()", "path.parent.mkdir(mode=0o700)", "os.makedirs(x)", "path.touch()", "path.write_text(x)",
        "open(path, 'w')", "open(path, mode='xb')", "path.open('ab')", "path.open('r+b' if a else 'w+b')",
        "os.open(p, os.O_CREAT | os.O_RDWR)", "os.open(p, os.O_CREAT, 0o666)", "os.mkfifo(p)", "p.symlink_to(q)",
    ],
)  # fmt: skip
def test_what_makes_a_file_is_seen(source: str) -> None:
    assert list(makes(ast.parse(source))) != []


@pytest.mark.parametrize(
    "source",
    [
        "open(path)",
        "path.open('rb')",
        "os.open(p, os.O_RDONLY)",
        "os.open(p, os.O_CREAT | os.O_RDWR, 0o600)",
        "x.link()",
    ],
)
def test_what_makes_none_is_not(source: str) -> None:
    assert list(makes(ast.parse(source))) == []


def test_one_module_knows_where_the_files_of_a_project_are() -> None:
    named = {
        (file, node.value)
        for file, tree in trees("|".join(map(re.escape, NAMES)))
        if file.startswith("skill/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in NAMES
    }
    assert named == {("skill/common/project.py", name) for name in NAMES}


def test_one_module_takes_locks() -> None:
    locks = {
        file
        for file, tree in trees("fcntl")
        if file.startswith("skill/")
        for node in import_statements(tree.body)
        if any(alias.name == "fcntl" for alias in node.names) or getattr(node, "module", None) == "fcntl"
    }
    assert locks == {"skill/common/files.py"}
