"""The repository holds together: pins, versions, licence, and nothing in it that belongs to one machine only."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent


def files() -> list[str]:
    """What is in the repository or about to be: tracked, or new and not ignored."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(name for name in set(listed.split("\0")) if name and (ROOT / name).is_file())


@functools.cache
def texts() -> list[str]:
    """Those of them that are text."""
    return [name for name in files() if b"\0" not in (ROOT / name).read_bytes()]


@functools.cache
def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def project() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads(read("pyproject.toml"))["project"]
    return table


def plain(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


# Home directories of people and of root, and the scratch places of build machines. Joined here, so that this file
# does not hold what it looks for.
MACHINE_PATHS = {
    f"/{top}/": re.compile(rf"(?<![\w.~}}]){re.escape('/' + top)}/{rest}")
    for top, rest in [
        ("home", r"(?!(user|me|you|alice|ubuntu)\b)\w+"),
        ("Users", r"\w+"),
        ("root", r"(?!(mini|ana)(conda|forge)3\b)[\w.]+"),  # images do keep conda there
        ("work", r"\w+"),
        ("tmp", r"(v|brief|D)/"),
        ("opt", r"(wheels|pypi)"),
    ]
}
"""By their beginnings, which are looked for first: to look for these alone takes a hundredth of the time."""
REGISTRIES = ["pypi." + "org", "python" + "hosted.org", "file" + "://", "index" + "-url", "find" + "-links"]


def machine_paths(text: str) -> list[str]:
    return [m.group() for top, pattern in MACHINE_PATHS.items() if top in text for m in pattern.finditer(text)]


def test_no_file_names_a_path_of_one_machine_or_a_registry() -> None:
    assert [(name, path) for name in texts() for path in machine_paths(read(name))] == []
    assert [(name, needle) for name in texts() for needle in REGISTRIES if needle in read(name)] == []


@pytest.mark.parametrize("path", ["/" + "home/bob/x", "cd /" + "work/main", "'/" + "root/.pyenv'", "/" + "Users/ann"])
def test_a_path_of_one_machine_is_seen(path: str) -> None:
    assert machine_paths(path) != []


@pytest.mark.parametrize("path", ["~/" + "work/x", "${X}/" + "root/y", "/" + "workspace/code", "a/" + "home/b"])
def test_other_paths_pass(path: str) -> None:
    assert machine_paths(path) == []


def pins() -> dict[str, str]:
    lines = [line for line in read("constraints.txt").splitlines() if not line.startswith("#")]
    return {plain(line.partition("==")[0]): line for line in lines}


def test_constraints_are_names_and_versions_only() -> None:
    assert pins()
    bad = [
        line for line in pins().values() if not re.fullmatch(r"[A-Za-z0-9][\w.-]*==\d+(\.\d+)*(\.?(post|rc)\d+)?", line)
    ]
    assert bad == []


def test_every_dependency_is_pinned() -> None:
    wanted = [*project()["dependencies"], *project()["optional-dependencies"]["dev"]]
    names = {plain(re.split(r"[^\w.-]", requirement, maxsplit=1)[0]) for requirement in wanted}
    assert {"click", "pytest"} <= names
    assert names - set(pins()) == set()


def test_pins_are_for_the_oldest_python_that_is_promised() -> None:
    """A pin that needs a newer one cannot be installed there: `make demo` would fail before anything else."""
    oldest = re.fullmatch(r">=(\d+\.\d+)", project()["requires-python"])
    assert oldest
    needs = {}
    for name, line in pins().items():
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # for another Python
        if found.version == line.partition("==")[2]:
            needs[line] = found.metadata["Requires-Python"] or ""
    assert len(needs) > 40
    assert [line for line, python in needs.items() if f"{oldest[1]}.0" not in SpecifierSet(python)] == []


def test_files_beside_the_code_are_shipped_with_it() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        patterns = tomllib.load(file)["tool"]["setuptools"]["package-data"]
    shipped = {
        path
        for package, globs in patterns.items()
        for pattern in globs
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    beside = [name for name in files() if name.startswith(("skill/", "queue_manager/", "build_manifest/"))]
    assert [name for name in beside if not name.endswith(".py") and ROOT / name not in shipped] == []


def test_licence_is_mit() -> None:
    assert project()["license"] == "MIT"
    assert read("LICENSE").startswith("MIT License\n")
    assert "wavequeue contributors" in read("LICENSE")


def test_newest_heading_of_the_changelog_is_the_version() -> None:
    headings = re.findall(r"^## \[([^]]+)\]", read("CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == project()["version"]


def test_the_front_matter_of_the_skill_is_read_by_agents() -> None:
    """It is YAML between two lines of `---`; run together in a paragraph, no agent would find the skill."""
    _, front, body = read("SKILL.md").split("---\n", 2)
    found = yaml.safe_load(front)
    assert set(found) == {"name", "description", "allowed-tools"}
    assert found["name"] == project()["name"]
    assert len(found["description"]) < 1024, "agents read no more of it"
    assert "Bash(wavequeue:*)" in found["allowed-tools"]
    assert body.startswith("\n# ")


def test_markdown_links_lead_to_files() -> None:
    dead = []
    for name in texts():
        if name.endswith(".md"):
            prose = re.sub(r"^(```|~~~).*?^\1|`[^`\n]*`", "", read(name), flags=re.MULTILINE | re.DOTALL)
            targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", prose)]
            local = [target for target in targets if target and not re.match(r"[a-z]+:", target)]
            dead += [(name, target) for target in local if not (ROOT / name).parent.joinpath(target).exists()]
    assert dead == []


def test_no_test_is_skipped_or_expected_to_fail() -> None:
    evasions = {"skip", "skipif", "skipUnless", "skipIf", "xfail", "importorskip", "SkipTest", "skipTest"}
    named = re.compile(rf"\.\s*({'|'.join(evasions)})\b")
    found = [
        (name, node.lineno)
        for name in texts()
        if name.startswith("tests/") and name.endswith(".py") and named.search(read(name))
        for node in ast.walk(ast.parse(read(name)))
        if isinstance(node, ast.Attribute) and node.attr in evasions
    ]
    assert found == []


def test_nothing_is_put_off_in_a_comment() -> None:
    pattern = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX"]) + r")\b")
    assert [(name, m.group()) for name in texts() for m in pattern.finditer(read(name))] == []


def test_scripts_may_be_run() -> None:
    for name in (".ci/run", "tools/setup.sh"):
        assert (ROOT / name).stat().st_mode & 0o111, name
        shell = read(name).split("\n", maxsplit=1)[0].rsplit("/", maxsplit=1)[-1].rsplit(maxsplit=1)[-1]
        subprocess.run([shell, "-n", str(ROOT / name)], check=True)


WRITTEN = ("skill/", "queue_manager/", "build_manifest/", "docs/", "README", "SKILL", "CONTRIBUTING")
NOT_SAID = (
    "to what is so", "takes in what", "lets us in", "let us in", "why job is where it is", "it is up to",
    "nothing stops it", "for this stops it", "is of no use (", "there no more", "to be rid of",
    "known to be destroyed", "workers.yaml is true", "ended lately", "stays honest", "though it was done", "most $ ",
    "goes on billing", "billed no more", "to be rid of", "gone by itself", "had gone by", "not home yet",
    "not to be had", "did not come up", "lets it in", "at work just now", "to go on all the same", "it said nothing",
    "mend it", "mend the spec", "is no json", "is no regular file", "is no regular expression", "is no safe file name",
    "close a circle", "cannot both be there", "what it answered is not", "code goes by tar", "the code was carried",
    "no job starts any more", "what can be had of", "cannot stand", "serve, too", "make it first", "is there again",
    "bears the label", "bears no label", "does not take the key", "given away without", "is not there; make",
    "as it were", "nothing is left to do", "left alone:", "goes on, then", "say another", "it is not known whether",
    "for ever ", "for ever.", "in the place of", "reckon", "the other way round", "comes home", "come home", "at home,",
    "what is so", "is of no use", "hinder", "cannot be told", "is none; it has to", "nobody can type",
    "keeps every key back", "said nothing", "is brought up to date", "a fault of wavequeue", "ceiling",
    "is done last", "is told apart", "of another kind (", "taken when the run goes on", "has to be had", "is no text",
    "means nothing here", "of its own beginning", "was here before", "is no name of", "would be in vain",
)  # fmt: skip
"""Phrases that users had to read twice. Say what a thing does, in ordinary word order: the fault, then the way out."""


def test_texts_are_in_plain_words() -> None:
    written = {name: " ".join(read(name).lower().split()) for name in texts() if name.startswith(WRITTEN)}
    assert len(written) > 300
    assert [(name, phrase) for name, text in written.items() for phrase in NOT_SAID if phrase in text] == []
