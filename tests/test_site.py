"""The pages of docs/: those written from the code are up to date, and all of them become a site without a dead link."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from build_manifest.builder import MAX_BYTES
from queue_manager.core import layout, metric_rules, transfer_protocol
from queue_manager.core.layout import AttemptPaths, HostPaths, RunPaths, SharedPaths
from queue_manager.core.manifest import MAX_JOBS
from queue_manager.core.status import EDGES
from skill.common.project import ProjectPaths, ResearchPaths, StudyPaths
from tools import command_reference, statuses

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


class _Links(HTMLParser):
    """What a page links to or loads, and the anchors that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value and not (tag == "link" and "canonical" in str(attrs)):
                self.targets.append(value)
            elif name == "id" and value:
                self.anchors.add(value)


def _read(page: Path) -> _Links:
    links = _Links()
    links.feed(page.read_text(encoding="utf-8"))
    return links


def _build(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built from a copy: a build keeps a cache beside its pages."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(DOCS, folder / "docs")
    shutil.copy(ROOT / "zensical.toml", folder)
    done = _build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in (done.stdout + done.stderr).lower()
    return folder / "build" / "site"


def test_no_link_of_the_site_is_dead_and_it_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = {page: _read(page) for page in site.rglob("*.html") if page.name != "404.html"}
    assert len(pages) == len(list(DOCS.glob("*.md")))
    dead = []
    for page, links in pages.items():
        for target in links.targets:
            path, _, anchor = target.partition("#")
            if target.startswith(("https://zensical.org", "data:", "javascript:")):
                continue  # the generator's own name at the bottom
            found = (page.parent / path).resolve() if path else page
            found = found / "index.html" if found.is_dir() else found
            if "://" in target or not found.exists() or (anchor and anchor not in pages[found].anchors):
                dead.append((page.relative_to(site).as_posix(), target))
    assert dead == []


def test_a_dead_link_stops_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# Start\n\n[nowhere](nowhere.md)\n")
    (tmp_path / "zensical.toml").write_text('[project]\nsite_name = "x"\n')
    assert _build(tmp_path).returncode != 0


def test_every_page_is_in_the_navigation_and_on_the_first_page() -> None:
    with (ROOT / "zensical.toml").open("rb") as file:
        named = sorted(_names(tomllib.load(file)["project"]["nav"]))
    assert named == sorted(path.name for path in DOCS.glob("*.md"))
    start = (DOCS / "index.md").read_text(encoding="utf-8")
    assert [name for name in named if not name.startswith(("index", "commands-")) and f"({name})" not in start] == []


def _names(entries: list[dict[str, Any]]) -> Iterator[str]:
    for entry in entries:
        for target in entry.values():
            if isinstance(target, str):
                yield target
            else:
                yield from _names(target)


def test_the_reference_of_the_commands_is_what_the_commands_say() -> None:
    pages = command_reference.pages()
    for file, text in pages.items():
        assert file.read_text(encoding="utf-8") == text, "run: PYTHONPATH=. python tools/command_reference.py"
    assert set(DOCS.glob("commands*.md")) == set(pages)


def test_the_table_of_the_statuses_has_the_edges_of_the_code_and_the_drawing_shows_it() -> None:
    pairs = [(a, b) for row in statuses.rows() for a in row.source for b in row.target]
    assert sorted(pairs) == sorted((a.value, b.value) for a, targets in EDGES.items() for b in targets)
    assert statuses.DRAWING.read_text(encoding="utf-8") == statuses.drawing(), (
        "run: PYTHONPATH=. python tools/statuses.py"
    )


def _files() -> Iterator[Path]:
    """Every file and directory that a module names for a run, an attempt, a host and a project."""
    root = Path("x")
    run = RunPaths.of(root)
    for owner in (run, AttemptPaths(root), HostPaths.of(root), SharedPaths(root)):
        for name, value in vars(type(owner)).items():
            if isinstance(value, property) and name not in ("root", "others"):
                yield value.fget(owner)  # type: ignore[misc]
    yield from (run.manifest, run.state, run.log_dir, Path(layout.LOCAL_RUNS))
    for paths in (ProjectPaths.of(root), ResearchPaths.of(root), StudyPaths.of(root)):
        yield from paths


def test_every_file_is_in_the_table_of_files() -> None:
    text = (DOCS / "files.md").read_text(encoding="utf-8")
    names = {path.name for path in _files()} - {"x", ".wavequeue", "by"}
    missing = sorted(name for name in names if not re.search(rf"`([\w./]*/)?{re.escape(name)}[`/]", text))
    assert not missing, "docs/files.md: no row for these"


def test_the_sizes_of_the_limits_are_those_of_the_code() -> None:
    text = (DOCS / "limits.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE))
    assert rows["jobs of a spec"] == f"{MAX_JOBS:,}, in a manifest of {MAX_BYTES >> 20} MiB"
    assert rows["characters of a job's id"] == str(layout.ID_MAX)
    assert layout.project_fault("p" * int(rows["characters of a project's name"])) is None
    assert layout.project_fault("p" * (int(rows["characters of a project's name"]) + 1)) is not None
    assert rows["metrics of a job"] == str(metric_rules.MOST)
    assert rows["files of one pull"] == f"{transfer_protocol.MAX_FILES:,}"
