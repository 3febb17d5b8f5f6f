"""Patterns against the real glob: what it finds matches, what it does not find does not."""

from __future__ import annotations

import fnmatch
import functools
import glob
import itertools
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from queue_manager.core.outputs import escape, is_glob, literal_ends, pattern_matches, patterns_overlap, shown

_NAMES = ["a", "b", "ab", ".a", "a.b", "[", "a]", "-", "a-b", "!", "^", "ba", "\\", "*", "?", "**"]
_PATHS = [*_NAMES, *(f"{d}/{n}" for d in ("a", ".a", "ab", "[") for n in _NAMES), "ab/b/a", "ab/b/.a", "ab/.b/a"]
_component = st.one_of(
    st.just("**"),
    st.sampled_from(_NAMES),
    st.text(st.sampled_from("ab.*?[]!-^\\"), min_size=1, max_size=6).filter(lambda one: one not in (".", "..")),
)
_short = st.text(st.sampled_from("ab*?[]!-"), min_size=1, max_size=3)
_SHORT_NAMES = ["".join(name) for size in range(1, 5) for name in itertools.product("abc-![]?*", repeat=size)]
"""A shortest name that two of `_short` have in common is at most as long as what is no `*` in both."""
_patterns = st.lists(_component, min_size=1, max_size=3).map("/".join)


@pytest.fixture(scope="module")
def tree() -> Iterator[Path]:
    """A directory with all of _PATHS as files, but for those that are directories of others."""
    with tempfile.TemporaryDirectory() as root:
        for name in sorted(_PATHS, key=len, reverse=True):
            path = Path(root, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.touch()
        yield Path(root)


@functools.cache  # the tree stays as it is
def _everything(root: Path) -> frozenset[str]:
    found: set[str] = set()
    for where, directories, files in os.walk(root):
        found |= {os.path.relpath(os.path.join(where, name), root) for name in (*directories, *files)}
    return frozenset(found)


@settings(
    max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(pattern=_patterns)
def test_matches_what_glob_finds(tree: Path, pattern: str) -> None:
    found = {os.path.normpath(one) for one in glob.glob(pattern, root_dir=tree, recursive=True)}
    there = _everything(tree)
    found &= there  # older globs name `x/` for `x/**` where there is no x
    mine = {path for path in there if pattern_matches(pattern, path)}
    # No file is looked at: that `file/**` wants a directory is what the docstring excepts.
    extra = {path for path in mine - found if pattern.endswith("**") and not (tree / path).is_dir()}
    assert mine - extra == found


@settings(max_examples=300, deadline=None)
@given(a=_patterns, b=_patterns)
def test_patterns_that_share_a_path_overlap(a: str, b: str) -> None:
    assert patterns_overlap(a, b) == patterns_overlap(b, a)
    if any(pattern_matches(a, path) and pattern_matches(b, path) for path in _PATHS):
        assert patterns_overlap(a, b)


@settings(max_examples=300, deadline=None)
@given(a=_short, b=_short)
def test_without_recursion_overlap_is_exact(a: str, b: str) -> None:
    in_a, in_b = (re.compile(fnmatch.translate(pattern)).match for pattern in (a, b))
    assert patterns_overlap(a, b) == any(in_a(name) and in_b(name) for name in _SHORT_NAMES)


@pytest.mark.parametrize(
    ("a", "b", "overlap"),
    [
        ("out/s1_*.json", "out/s10_*.json", False),
        ("out/s1*.json", "out/s10_*.json", True),
        ("out/*/x.pt", "out/*.pt", False),
        ("out/**/x.pt", "out/x.pt", True),
        ("out/**/x.pt", "out/a/.b/x.pt", False),
        ("*.json", ".hidden.json", False),
        (".*", "*.json", False),
        (".*", ".[a-c]*", True),
        ("[a-c]x", "[d-f]x", False),
        ("[!a-c]x", "[b-d]x", True),
        ("[!a]", "[a]", False),
        ("./out/a.pt", "out//a.pt", True),
        ("/data/x_*", "/data/*_y", True),
        ("a**b", "a/b", False),
    ],
)
def test_overlap(a: str, b: str, overlap: bool) -> None:
    assert patterns_overlap(a, b) is overlap
    assert patterns_overlap(b, a) is overlap


@pytest.mark.parametrize(("text", "expected"), [("a[1", True), ("a*", True), ("a?", True), ("out/a.pt", False)])
def test_is_glob(text: str, expected: bool) -> None:
    assert is_glob(text) is expected


@given(pattern=_patterns, path=st.sampled_from(_PATHS))
def test_literal_ends_begin_and_end_every_match(pattern: str, path: str) -> None:
    begin, end = literal_ends(pattern)
    if pattern_matches(pattern, path):
        assert path.startswith(begin)
        assert path.endswith(end)


def test_the_exact_pattern_of_a_shorter_sibling_does_not_match() -> None:
    assert not pattern_matches("figures/s1_*.json", "figures/s10_N4.json")
    assert pattern_matches("figures/s1_*.json", "./figures/s1_N4.json")


@given(text=st.text(st.sampled_from("ab.*?[]!-^$~{}\\"), min_size=1, max_size=8))
def test_an_escaped_text_matches_itself_alone_and_is_shown_as_it_was(text: str) -> None:
    assert fnmatch.fnmatchcase(text, escape(text))
    assert pattern_matches(escape(text), text) or text in (".", "..")
    assert not pattern_matches(escape(text), text + "x")
    assert not pattern_matches(escape(text), "x" + text)
    if not re.search(r"\[[*?\[$~]\]", text):
        assert shown(escape(text)) == text


def test_an_empty_set_matches_nothing() -> None:
    assert not any(pattern_matches("[b-a]", name) for name in ("a", "b", "[b-a]", "c"))
    assert not patterns_overlap("[b-a]*", "*")
    assert not patterns_overlap("x[b-a]", "x?")


def test_a_file_may_be_called_as_a_pattern_is() -> None:
    assert not pattern_matches("a/*/b", "a/**")
    assert not pattern_matches("x", "**")
    assert not pattern_matches("a*/b", "**")
    assert pattern_matches("*", "**")
