"""What a pull may write, by what is declared and what is here: the rules themselves, as tables."""

from __future__ import annotations

import pytest

from skill.transfer.write_rules import Facts, Rules, Writer, fold, is_program, is_program_text

NEVER = (".git", ".env", "workers.yaml")
PATTERNS = ("out/a.json", "out/own*", "run.sh", "ckpt", "*.txt", ".cache/x", ".hid/*", "**/.deep", "in/*/.mark", ".")
DECLARED = 3
OTHERS = {"gpu-b": ("out/b.json", "out/theirs*", "ckpt/b", "[xy]/**")}
MINE, THEIRS = Writer("gpu-a", False, True), Writer("gpu-b", False, True)


def fault(name: str, pattern: str, facts: Facts = Facts(), place: str | None = None) -> str | None:  # noqa: B008
    rules = Rules("gpu-a", PATTERNS, DECLARED, OTHERS, NEVER)
    claim = rules.claim(name, PATTERNS.index(pattern))
    assert claim is not None
    return rules.fault(name, claim, facts, place)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("out/a.json", "out/a.json"),
        ("out/own1", "out/own*"),
        ("run.sh", "run.sh"),
        ("run.sh", "."),
        ("ckpt/deep/model.pth", "ckpt"),
        ("notes.txt", "*.txt"),
        (".cache/x", ".cache/x"),
        (".hid/plain", ".hid/*"),
        ("in/any/.mark", "in/*/.mark"),
        ("gitignore", "."),
    ],
)
def test_what_is_declared_comes(name: str, pattern: str) -> None:
    assert fault(name, pattern) is None


@pytest.mark.parametrize(
    ("name", "pattern", "facts", "says"),
    [
        (".git/config", ".", Facts(), "never pulled"),
        (".GIT/config", ".", Facts(), "never pulled"),
        ("a/.Git/hooks/x", ".", Facts(), "never pulled"),
        (".g\u200cit/config", ".", Facts(), "never pulled"),
        (".git. /config", ".", Facts(), "never pulled"),
        ("GIT~1/config", ".", Facts(), "never pulled"),
        ("\uff0egit/config", ".", Facts(), "never pulled"),
        ("Workers.YAML", ".", Facts(), "never pulled"),
        (".ENV", ".", Facts(), "never pulled"),
        (".envrc", ".", Facts(), "hidden"),
        ("ckpt/.x", "ckpt", Facts(), "hidden"),
        ("ckpt/.x/y", "ckpt", Facts(), "hidden"),
        ("sub/.deep", "**/.deep", Facts(), "hidden"),
        ("conftest.py", ".", Facts(), "program"),
        ("ckpt/lib.so.1", "ckpt", Facts(), "program"),
        ("sub/Makefile", ".", Facts(), "program"),
        ("X.SH", ".", Facts(), "program"),
        ("out/b.json", ".", Facts(), "a job on gpu-b"),
        ("OUT/B.JSON", ".", Facts(), "a job on gpu-b"),
        ("out/theirs7", ".", Facts(), "a job on gpu-b"),
        ("x/deep/file", ".", Facts(), "a job on gpu-b"),
        ("ckpt/b/model.pt", "ckpt", Facts(), "a job on gpu-b"),
        ("notes.txt", "*.txt", Facts(is_tracked=True), "tracked by git"),
        ("notes.txt", "*.txt", Facts(is_tracked=True, is_here=True, writer=MINE), "tracked by git"),
        ("notes.txt", "*.txt", Facts(is_here=True), "existed here before"),
        ("out/own1", "out/own*", Facts(is_here=True), "existed here before"),
        ("notes.txt", "*.txt", Facts(twin="Notes.txt"), "only in case"),
        ("notes.txt", "*.txt", Facts(is_here=True, writer=THEIRS), "came from gpu-b"),
        ("notes.txt", "*.txt", Facts(twin="Notes.txt", writer=THEIRS), "came from gpu-b"),
        ("out/own1", "out/own*", Facts(is_here=True, writer=THEIRS._replace(job=True)), "came from gpu-b"),
        ("out/a.json", "out/a.json", Facts(is_here=True, writer=THEIRS._replace(job=True)), "came from gpu-b"),
    ],
)
def test_what_is_refused_is_reported_with_a_way_on(name: str, pattern: str, facts: Facts, says: str) -> None:
    words = fault(name, pattern, facts)
    assert words is not None
    assert says in words


@pytest.mark.parametrize(
    ("name", "pattern", "facts"),
    [
        ("out/a.json", "out/a.json", Facts(is_here=True, is_tracked=True)),
        ("out/a.json", "out/a.json", Facts(twin="out/A.json")),
        ("out/a.json", "out/a.json", Facts(is_here=True, writer=THEIRS)),
        ("notes.txt", "*.txt", Facts(is_here=True, writer=MINE)),
        ("notes.txt", "*.txt", Facts(is_here=True, writer=THEIRS._replace(firm=False))),
        ("out/own1", "out/own*", Facts(is_here=True, writer=THEIRS._replace(job=True, firm=False))),
    ],
    ids=["spelt", "spelt, other case", "its job's, not what pull: found", "its own", "jobs moved", "its job moved"],
)
def test_what_is_here_gives_way_to_whose_it_is(name: str, pattern: str, facts: Facts) -> None:
    assert fault(name, pattern, facts) is None


def test_a_link_here_leads_to_no_place_that_is_never_written() -> None:
    assert "never pulled" in (fault("notes.txt", "*.txt", place=".git/notes.txt") or "")
    assert fault("notes.txt", "*.txt", place=".big/notes.txt") is None


def test_nothing_that_is_not_declared_can_be_claimed() -> None:
    rules = Rules("gpu-a", PATTERNS[:5], DECLARED, OTHERS, NEVER)
    assert rules.claim("out/c.json", 0) is None
    assert rules.claim("notes.txt", 5) is None
    assert rules.claim("notes.txt", -1) is None
    claim = rules.claim("run.sh", 0)
    assert claim is not None
    assert (claim.is_spelt, claim.job) == (True, True)


def test_a_name_with_escaped_signs_is_spelt_out() -> None:
    rules = Rules("gpu-a", ("n=[[]64,64]/x.sh", "n=[[]6*"), 2, {}, NEVER)
    spelt, found = rules.claim("n=[64,64]/x.sh", 1), rules.claim("n=[64", 1)
    assert spelt is not None
    assert found is not None
    assert (spelt.is_spelt, found.is_spelt) == (True, False)
    assert rules.fault("n=[64,64]/x.sh", spelt, Facts(is_here=True)) is None


def test_names_are_the_same_to_the_most_careless_disk() -> None:
    assert fold("Stra\u00dfe/\u00c9") == fold("STRASSE/E\u0301")
    assert fold("a./b ") == fold("A/B")
    assert fold("..") == ".."
    assert fold("a.b") != fold("ab")


def test_programs_are_known_by_name_or_beginning() -> None:
    assert all(map(is_program, ("x.py", "a/b.pyc", "CMakeLists.txt", "x.so", "x.so.1.2", "x.BAT ")))
    assert not any(map(is_program, ("model.pth", "x.json", "py", "so.txt", "a.sh/x", "model.pt", "x.npz")))
    assert is_program_text(b"#!/bin/sh")
    assert is_program_text(b"\x7fELF\x02")
    assert not is_program_text(b"# notes")
