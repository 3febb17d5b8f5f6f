"""The packages of a Python on a host, as pip itself would list them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pip
import pytest

from skill.hosts import package_list

COMMIT = "3f9c2d1a7b0e5b21c09e3f9c2d1a7b0e5b21c09e"
PLAIN = ["a-b==1.0", "flat==1", "nested==2", "Torch_Extra==2.1.0rc1.post2+cu118.0a", "x==2!1.0.dev3"]


class Environment:
    """A workspace whose environment has what lies in `site` and, less important, in `later`, and no more."""

    def __init__(self, root: Path) -> None:
        self.root, self.site, self.later = root, root / "site", root / "later"
        self.python = root / "venv" / "bin" / "python"
        self.site.mkdir()
        self.later.mkdir()
        self.python.parent.mkdir(parents=True)
        self.python.write_text(f'#!/bin/sh\nPYTHONPATH={self.site}:{self.later} exec {sys.executable} -S "$@"\n')
        self.python.chmod(0o755)

    def add(self, name: str, version: str, url: Mapping[str, object] | None = None) -> None:
        folder = self._info(self.site, name, version)
        if url is not None:
            (folder / "direct_url.json").write_text(json.dumps(url))

    def add_later(self, name: str, version: str) -> None:
        self._info(self.later, name, version)

    def _info(self, site: Path, name: str, version: str) -> Path:
        folder = site / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        return folder

    def packages(self) -> list[str]:
        words = ["sh", "-c", *package_list.command(str(self.root), "/usr/bin/python3")]
        words.insert(3, "sh")
        done = subprocess.run(
            words, cwd=self.root, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
        )
        python, *found = done.stdout.splitlines()
        assert python == str(self.python)
        return found


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    made = Environment(tmp_path)
    for line in PLAIN:
        name, version = line.split("==")
        if name not in ("flat", "nested"):
            made.add(name, version)
    written = "Metadata-Version: 1.0\nSummary: none\n  Name: folded\nname: {}\nVersion: {}\n\nName: described\n"
    (made.site / "flat-1.egg-info").write_text(written.format("flat", 1))  # as distutils installs
    (made.site / "nested-2.egg-info").mkdir()
    (made.site / "nested-2.egg-info" / "PKG-INFO").write_text(written.format("nested", 2))
    for name in ("pip", "argparse", "~orch"):  # which pip does not list either
        made.add(name, "1")
    made.add_later("A.b", "9")  # which "a-b" hides
    (made.root / "zipfile.py").write_text("raise SystemExit(5)\n")  # what lies where a session begins is not Python's
    return made


def test_pip_itself_lists_what_is_listed_without_it(environment: Environment) -> None:
    fake = environment.site / "pip.py"
    fake.write_text("print('of pip')\n")
    assert environment.packages() == PLAIN
    fake.unlink()
    (environment.site / "pip").symlink_to(Path(pip.__file__).parent)
    git = {"url": "https://example.com/g.git", "vcs_info": {"vcs": "git", "commit_id": COMMIT}}
    environment.add("from-git", "1.0", git)
    environment.add("edited", "1.0", {"url": environment.root.as_uri(), "dir_info": {"editable": True}})
    assert environment.packages() == [
        PLAIN[0],
        "# Editable install with no version control (edited==1.0)",
        f"-e {environment.root}",
        PLAIN[1],
        f"from-git @ git+https://example.com/g.git@{COMMIT}",
        *PLAIN[2:],
    ]


@pytest.mark.parametrize("odd", ["1.0-alpha", "2024.01.02", "1.0+AB", "url", "old.egg-link", "old.egg"])
def test_pip_is_asked_for_what_it_writes_in_another_way(environment: Environment, odd: str) -> None:
    version = odd if odd[0].isdigit() else "1.0"
    environment.add("odd", version, {"url": "https://example.com/odd", "archive_info": {}} if odd == "url" else None)
    if odd.startswith("old"):
        (environment.site / odd).touch()
    (environment.site / "pip.py").write_text("print('of pip')\n")
    assert environment.packages() == ["of pip"]


def test_where_there_is_no_pip_names_and_versions_are_listed(environment: Environment) -> None:
    environment.add("odd", "1.0-alpha", {"url": "https://example.com/odd", "archive_info": {}})
    assert environment.packages() == sorted([*PLAIN, "odd==1.0-alpha"], key=str.lower)
