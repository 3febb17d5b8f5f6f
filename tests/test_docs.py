"""Every command that README.md, SKILL.md and the pages of docs/ show is run, in order, as a new user would."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from build_manifest import build
from skill.cli.main import VERBS, cli, load
from skill.fleet import settings
from tests import forked, in_process, kept_runtime
from tests.auto.world import SCRIPT
from tests.demo_copy import copy_manifests
from tests.e2e.runs import PATIENCE, ROOT, World
from tests.sshd import Sshd, make_key
from tests.vast_account import QUICK
from tests.vast_double import Double
from tests.vast_hosts import LoopbackHosts

GUIDE = (
    "README.md", "docs/first-sweep.md", "docs/spec.md", "docs/results.md", "docs/health.md", "docs/statuses.md",
    "docs/recover.md", "docs/hosts.md", "docs/vast.md", "docs/files.md", "docs/research.md",
    "docs/autoresearch.md",
)  # fmt: skip
"""Read one after the other, in one directory: a page may use what an earlier one has made."""
SUPERVISOR = "skill/auto/SKILL.md"
"""Read after the guide, whose search it supervises."""
READ = {"guide": GUIDE, "skill": ("SKILL.md",)}
ELSEWHERE = (
    ("docs/research.md", "## Walk through a sweep", "tests/e2e/test_research.py"),
    ("docs/slurm.md", "## From login to results", "tests/e2e/test_slurm.py"),
)
"""Sections whose commands other tests run."""
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(document: str, kind: str) -> list[str]:
    """The text of all fenced blocks of a kind, such as sh."""
    text = (ROOT / document).read_text(encoding="utf-8")
    for page, section, _ in ELSEWHERE:
        if document == page:
            before, after = text.split(section)
            text = before + after.partition("\n## ")[2]
    found = BLOCK.findall(text)
    return [text for word, text in found if word == kind]


def commands(document: str) -> list[str]:
    """The lines of all ```sh blocks; one that ends in a backslash goes on in the next."""
    return [line for block in blocks(document, "sh") for line in block.replace("\\\n", " ").splitlines() if line]


@pytest.fixture
def gpu_a(world: World) -> Iterator[Sshd]:
    """The host that the documents name, by the user's own ~/.ssh/config."""
    with Sshd(world.root / "gpu-a") as host:
        kept_runtime.give(host.home)
        config = world.home / ".ssh" / "config"
        config.parent.mkdir(mode=0o700)
        config.write_text(
            f"Host gpu-a.example\n  HostName {host.address}\n  Port {host.port}\n  IdentityFile {host.key}\n"
        )
        yield host


@pytest.fixture
def vast(world: World, reader: str) -> Iterator[Double]:
    """Vast.ai, with one offer, and a key to enter what is rented; for the guide that is new."""
    hosts = LoopbackHosts(world.root / "rented", lambda: double.url, new=reader == "guide")
    double = Double(hosts)
    double.world.offer()
    key = world.home / ".ssh" / "id_ed25519"
    make_key(key)
    yield double
    hosts.close()
    double.close()


def run(line: str, cwd: Path, environment: dict[str, str]) -> tuple[int, str, str]:
    """Run a line as a shell would. Our command is run in this process, or forked where it starts what outlives it or
    waits for what the double starts, but for a look at what is installed under its name."""
    words = shlex.split(line, comments=True)
    if words[0] == "wavequeue" and "--version" not in words:
        if words[1] not in ("add", "auto", "babysit", "up") and in_process.can_run(tuple(words[1:])):
            ended = in_process.run(tuple(words[1:]), cwd, environment)
            return ended.returncode, ended.stdout, ended.stderr
        process = forked.start("skill", words[1:], cwd, environment)
        out, err = process.communicate(2 * PATIENCE)
        return process.wait(), out, err
    if words[0] == "make":  # its two targets hold this very test; make itself says whether it knows them
        line = f"make -n -C {ROOT} {shlex.join(words[1:])}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def agents(root: Path) -> Path:
    """A directory with a `claude` in it, which is a scripted agent."""
    folder = root / "agents"
    folder.mkdir()
    choices = json.dumps({"hidden": [2, 3, 4, 6, 8, 12]})
    command = [sys.executable, "-S", "-E", str(SCRIPT), "--envelope", "claude", "--cost", "0.01", "--choices", choices]
    (folder / "claude").write_text(f"#!/bin/sh\nexec {shlex.join(command)}\n")
    (folder / "claude").chmod(0o755)
    return folder


def commit_all(folder: Path) -> None:
    """Make a directory the git repository that a checkout is."""
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@localhost")
    for words in (("init", "-q"), ("add", "manifests"), (*who, "commit", "-q", "-m", "Begin")):
        subprocess.run(["git", *words], cwd=folder, check=True)


def added_by_the_supervisor(shown: list[str]) -> list[str]:
    """What the skill of a supervisor shows beside what the guide has shown of the same search, in the same order."""
    lines = commands(SUPERVISOR)
    assert {"init", "run", "status", "steer", "report"} <= {line.split()[2] for line in lines if " auto " in line}
    places = [shown.index(line) for line in lines if line in shown]
    assert places == sorted(places)
    return [line for line in lines if line not in shown]


TOY = """
import os, sys
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert given.keys() <= {"--lr", "--seed", "--n_hidden", "--teacher", "--out"}, given
if "--teacher" in given:
    assert "loss" in open(given["--teacher"]).read()
os.makedirs(os.path.dirname(given["--out"]), exist_ok=True)
loss = float(given.get("--lr") or given.get("--n_hidden", 1)) + int(given.get("--seed", 0))
with open(given["--out"], "w") as file:
    file.write('{"loss": %s}' % loss)
"""
"""A script that takes what those of SKILL.md take, and imports nothing: it runs two dozen times."""


def has_scripts_of_the_skill(place: Path) -> None:
    """Have a project in which SKILL.md can be followed: the scripts that it names, and its spec as a file."""
    (place / "train.py").write_text(TOY)
    (place / "distill.py").write_text(TOY)
    (text,) = [block for block in blocks("SKILL.md", "yaml") if "phases:" in block]
    (place / "sweep.yaml").write_text(text)


@pytest.mark.usefixtures("gpu_a")
@pytest.mark.parametrize("reader", READ)
def test_commands_run_as_written(world: World, vast: Double, reader: str) -> None:
    lines = [line for document in READ[reader] for line in commands(document)]
    assert any("wavequeue run " in line for line in lines)
    assert any("wavequeue submit " in line for line in lines)
    if reader == "guide":
        lines += added_by_the_supervisor(lines)
    checkout = world.root / "checkout"
    checkout.mkdir()
    if reader == "skill":
        has_scripts_of_the_skill(checkout)
    else:
        copy_manifests(checkout / "manifests")
        commit_all(checkout)
        (checkout / ".venv").symlink_to(sys.prefix)
    (checkout / "vast.yaml").write_text(QUICK)
    environment = {key: value for key, value in world.environment.items() if key != "PYTHONPATH"} | vast.environment
    environment["PATH"] = f"{agents(world.root)}:{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}"
    out = err = ""
    for line in lines:
        code, out_text, complained = run(line, checkout, environment)
        out, err = f"{out}{out_text}", f"{err}+ {line}\n{complained}"
        assert code == 0, f"{line}: exit code {code}\n{out_text}\n{err}"
    spec = "sweep.yaml" if reader == "skill" else "manifests/demo.yaml"
    assert f"all checks passed; next: wavequeue submit {spec} --host gpu-a\n" in out
    if reader == "skill":
        runs = json.loads(run("wavequeue ls --all --json", checkout, environment)[1])["runs"]
        assert [one["counts"] for one in runs] == [{"completed": 8}] * 3, "here, on the host, on a rented machine"
    else:
        summaries = [path.read_text() for path in checkout.glob("manifests/experiment_queue/*/summary.md")]
        assert sum("8 of 8 jobs completed" in summary for summary in summaries) >= 2, "here, and on the host"
        assert "6 of 6 jobs completed" in err, "on a rented machine"
        assert "stopped (max_nodes)" in out
        assert (checkout / "search.html").exists()
    assert vast.count("PUT", "/asks/") == 1
    assert vast.world.boxes == {}, "nothing is left rented"


PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES)
def test_every_page_with_commands_is_run(page: str) -> None:
    assert not commands(page) or page in GUIDE
    shown = [
        line for kind in ("", "bash", "text", "console") for block in blocks(page, kind) for line in block.split("\n")
    ]
    assert [line for line in shown if re.match(r"\$?\s*(wavequeue|wq) ", line)] == [], "only ```sh blocks are run"


@pytest.mark.parametrize(("page", "section", "test"), ELSEWHERE)
def test_the_section_that_another_test_runs_is_there(page: str, section: str, test: str) -> None:
    assert f"\n{section}\n" in (ROOT / page).read_text(encoding="utf-8")
    assert section in (ROOT / test).read_text(encoding="utf-8")


MENTION = re.compile(r"`(?:wavequeue|wq) ([^`\n]*)`")


def mentions(document: str) -> list[str]:
    """The commands that a document names in its sentences, which may run over the end of a line."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / document).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [words for paragraph in text.split("\n\n") for words in MENTION.findall(paragraph.replace("\n", " "))]


@pytest.mark.parametrize("document", ["README.md", "SKILL.md", "CHANGELOG.md", *PAGES])
def test_verbs_and_options_that_a_sentence_names_are_there(document: str) -> None:
    for line in mentions(document):
        words = shlex.split(line.partition(" | ")[0].replace("'", ""))
        command: click.Command = cli
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            name = words.pop(0)
            found = load(name) if command is cli and name in VERBS else command.commands.get(name)
            if found is None and (name.isupper() or command is not cli):
                break  # stands for any verb, or is an argument
            assert found is not None, (document, line)
            command = found
        known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}
        asked = [re.split("[=.,]", word)[0] for word in words[: words.index("--") if "--" in words else None]]
        if command is not cli:
            assert [word for word in asked if re.match(r"--?[a-z]", word) and word not in known] == [], (document, line)


SPECS = [(page, block) for page in ("README.md", "SKILL.md", *PAGES) for block in blocks(page, "yaml")]


@pytest.mark.parametrize(("page", "text"), [spec for spec in SPECS if re.search(r"^project: ", spec[1], re.MULTILINE)])
def test_the_specs_that_pages_show_are_specs(page: str, text: str) -> None:
    assert build(text, page).manifest.jobs


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_short_and_begins_with_what_the_reader_gets(page: str) -> None:
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 300
    assert lines[0].startswith("# ")
    assert len(lines[2]) > 40, "a sentence that says what the page is for"


def test_no_sentence_is_on_two_pages() -> None:
    """Each thing is said in one place, and the others lead there. Pages written from the code are as it is."""
    seen: dict[str, str] = {}
    for page in ("README.md", *(page for page in PAGES if not page.startswith(("docs/commands-", "docs/spec-ref")))):
        text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        sentences = {one for part in text.split("\n\n") for one in re.split(r"(?<=[.:;]) ", " ".join(part.split()))}
        for sentence in sentences:
            if len(sentence) > 60:
                assert seen.setdefault(sentence, page) == page, (page, sentence)


def test_the_readme_fits_a_screen_or_two() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 110


def test_the_demo_ends_with_commands_that_work_where_it_was_made() -> None:
    out_text = re.findall(
        r'^\t@echo "(.*)"$', (ROOT / "Makefile").read_text().partition("\ndemo:")[2].partition("\n\n")[0], re.M
    )
    commands = [re.search(r": \.venv/bin/wavequeue (\w+)$", line) for line in out_text]
    assert [found and found.group(1) for found in commands] == ["init", "report"], "by its path, and last in its line"


def test_the_skill_costs_an_agent_less_than_200_lines() -> None:
    assert len((ROOT / "SKILL.md").read_text(encoding="utf-8").splitlines()) < 200


def test_the_vast_yaml_of_the_docs_says_what_it_seems_to(tmp_path: Path) -> None:
    (text,) = [block for block in blocks("docs/vast.md", "yaml") if "watcher:" in block]
    (tmp_path / "vast.yaml").write_text(text)
    where = tmp_path / "workers.yaml"
    rules, sources = settings.read_rules(where)
    assert (rules.every, rules.most_instances, sources["most_dph"]) == (300.0, 2, "vast.yaml:4")
    assert settings.read_renting(where) == settings.Renting(), "it shows what is built in"
    assert settings.read_profiles(where)["mine"].cards == 2
