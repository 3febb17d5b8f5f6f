"""What both ends of a pull agree on: which version is taken, which names are, and what patterns find."""

from __future__ import annotations

import fnmatch
import glob
import itertools
import os
import string
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queue_manager.core import transfer_protocol
from queue_manager.core.transfer_protocol import FILE, FOLDER, KEEP, LINK, OUT, SAME, TAKE, Request, Seen

REQUEST = Request(
    "n", "run", "wavequeue/p", ("a.txt", "out/*.json", "*"), 2, ("out/moved.json", "old"), (".git",),
    {"results": {"a.txt": Seen(1, 2), "\udcff": Seen(0, 0)}, "host": {}}, ("link",), {"abc": 7}, 1 << 40,
)  # fmt: skip

# -- which version ------------------------------------------------------------------------------------------------

_seen = st.builds(Seen, st.integers(0, 3), st.integers(0, 5_000_000_000))


@given(here=_seen, there=_seen, ours=st.booleans())
def test_what_is_newer_here_is_never_overwritten(here: Seen, there: Seen, ours: bool) -> None:
    decided = transfer_protocol.verdict(here, there, ours=ours)
    if not ours and here.mtime_ns > there.mtime_ns:
        assert decided != TAKE
    if here.mtime_ns < there.mtime_ns or here.size != there.size:
        assert decided != KEEP or here.mtime_ns > there.mtime_ns
    if decided == SAME:
        assert here.size == there.size


@given(here=_seen, there=_seen, ours=st.booleans())
def test_what_was_taken_is_the_same_the_next_time(here: Seen, there: Seen, ours: bool) -> None:
    after = there if transfer_protocol.verdict(here, there, ours=ours) == TAKE else here
    assert transfer_protocol.verdict(after, there, ours=ours) != TAKE
    assert transfer_protocol.verdict(there, there, ours=ours) == SAME
    assert transfer_protocol.verdict(None, there, ours=ours) == TAKE


@pytest.mark.parametrize("grain", [100, 1_000, 1_000_000_000, 2_000_000_000])
def test_a_time_that_a_disk_has_cut_off_is_no_difference(grain: int) -> None:
    there = Seen(5, 1_700_000_001_234_567_891)
    cut = Seen(5, there.mtime_ns // grain * grain)
    assert transfer_protocol.verdict(cut, there, ours=False) == SAME
    assert transfer_protocol.verdict(cut._replace(size=6), there, ours=False) == TAKE
    assert transfer_protocol.verdict(Seen(5, cut.mtime_ns - 2 * grain), there, ours=False) == TAKE


def test_our_own_documents_are_always_those_of_the_host() -> None:
    assert transfer_protocol.verdict(Seen(1, 9), Seen(2, 5), ours=True) == TAKE
    assert transfer_protocol.verdict(Seen(1, 9), Seen(2, 5), ours=False) == KEEP


# -- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("/etc/passwd", "absolute"),
        ("../x", "leads out"),
        ("a/../../x", "leads out"),
        ("a//b", "not a plain path"),
        ("a/./b", "not a plain path"),
        ("", "not a plain path"),
        ("a/", "not a plain path"),
        ("a\nb", "control"),
        ("\x1b[2J", "control"),
        ("a\x9bb", "control"),
        ("a\0b", "control"),
        ("\udcff", "UTF-8"),
        ("x" * 256, "too long"),
        ("ü" * 128, "too long"),
        ("a/" * 1100 + "b", "too long"),
    ],
)
def test_a_name_that_could_do_harm_is_refused(name: str, says: str) -> None:
    assert says in (transfer_protocol.name_fault(name) or "")


@pytest.mark.parametrize("name", ["a", "a b/it's ü.json", "..a/b..", ".hidden", "a;b/$HOME", "~/x", "-n"])
def test_odd_names_are_names(name: str) -> None:
    assert transfer_protocol.name_fault(name) is None


@given(name=st.text(st.sampled_from(["a", ".", "/", "\n", "é", "\udc80"]), max_size=8))
def test_a_name_without_fault_stays_below_its_directory(name: str) -> None:
    if transfer_protocol.name_fault(name) is None:
        path = os.path.normpath(os.path.join("/top", name))
        assert path == f"/top/{name}"
        name.encode()


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("queue_state.json", True),
        ("summary.md", True),
        ("logs/s1.log", True),
        ("logs/s1.2.log", True),
        ("logs/s1~2.log", True),
        ("manifest.json", False),
        ("hosts.json", False),
        ("logs/a/b.log", False),
        ("logs/.x.log", False),
        ("logs/x", False),
        ("attempts/a~1/job.sh", False),
    ],
)
def test_only_documents_and_logs_of_a_run_are_pulled(name: str, fits: bool) -> None:
    assert transfer_protocol.is_document(name) is fits


# -- the request --------------------------------------------------------------------------------------------------


def test_a_request_survives_its_way() -> None:
    assert transfer_protocol.decode(transfer_protocol.encode(REQUEST)) == REQUEST
    for data in (b"", b"[]", b"{}", b'{"patterns": 3}'):
        with pytest.raises((ValueError, TypeError, KeyError)):
            transfer_protocol.decode(data)


@pytest.mark.parametrize(
    ("name", "by", "wanted"),
    [
        ("a.txt", 0, True),
        ("a.txt", 1, False),
        ("a.txt", 3, False),
        ("a.txt", -1, False),
        ("out/x.json", 1, True),
        ("out/moved.json", 1, True),  # a job's own pattern counts, whatever else the name fits
        ("out/moved.json", 2, False),
        ("old/deep/x", 2, False),
        ("out/deep/x", 2, True),
        (".git/config", 2, False),
        ("sub/.git/hooks/x", 2, False),
    ],
)
def test_what_a_host_sends_is_held_against_what_was_asked(name: str, by: int, wanted: bool) -> None:
    assert REQUEST.asks_for(name, by) is wanted


# -- what patterns find -------------------------------------------------------------------------------------------

_NAMES = [
    name
    for size, times in ((1, 16), (2, 4), (3, 1))  # of each length as many
    for name in map("".join, itertools.product("ab1.", repeat=size))
    if set(name) != {"."}
    for _ in range(times)
]
_names = st.sampled_from(_NAMES)
_trees = st.dictionaries(st.lists(_names, min_size=1, max_size=3).map("/".join), st.none(), max_size=8)
_pieces = st.sampled_from(["a", "b", "*", "?", "a*", "*1", "[ab]*", ".a", ".*", "**", "b1"])
_patterns = st.lists(st.lists(_pieces, min_size=1, max_size=3).map("/".join), min_size=1, max_size=3)


def _scan(files: Mapping[str, None]) -> transfer_protocol.Scan:
    """A directory tree that holds just these files."""
    tree: dict[str, dict[str, str]] = {"": {}}
    for path in files:
        parts = path.split("/")
        for n, name in enumerate(parts):
            kind = FOLDER if n < len(parts) - 1 else FILE
            folder = tree.setdefault("/".join(parts[:n]), {})
            if folder.get(name) != FOLDER:
                folder[name] = kind
    return lambda folder: tree.get(folder, {})


def _kept(files: Mapping[str, None]) -> dict[str, None]:
    """Without files that are also directories, which no disk has."""
    return {path: None for path in files if not any(other.startswith(path + "/") for other in files)}


@settings(deadline=None, max_examples=300)
@given(files=_trees, patterns=_patterns)
def test_what_is_found_is_what_was_asked_for(files: dict[str, None], patterns: list[str]) -> None:
    files = _kept(files)
    found = dict(transfer_protocol.find(patterns, _scan(files)))
    assert set(found) <= set(files)
    for name, by in found.items():
        # A hidden file at the top is in the whole that ** means, as everything in a directory is.
        assert transfer_protocol.asked_for(patterns[by], name), (name, patterns[by])


@settings(deadline=None, max_examples=60)
@given(files=_trees, pattern=st.lists(_pieces, min_size=1, max_size=3).map("/".join))
def test_globs_find_what_they_find_for_the_manager(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, None], pattern: str
) -> None:
    files = _kept(files)
    root = tmp_path_factory.mktemp("tree")
    for path in files:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    found = glob.glob(os.path.join(glob.escape(str(root)), pattern), recursive=True)
    # Older globs name `x/` for `x/**` where x is a file; the manager asks when it was written, and finds nothing.
    matches = [Path(match) for match in found if os.path.exists(match)]
    wanted = {
        str(path.relative_to(root))
        for match in matches
        for path in ([match] if match.is_file() else [one for one in match.rglob("*") if one.is_file()])
    }
    assert {name for name, _ in transfer_protocol.find([pattern], _scan(files))} >= wanted


def test_each_file_is_found_once_and_by_the_first_pattern() -> None:
    scan = _scan(dict.fromkeys(["out/a.json", "out/b.json", "out/deep/c", ".git/x", "out/.git/y"]))
    assert list(transfer_protocol.find(["out/b.json", "out/*.json", "out", "nothing"], scan, {".git"})) == [
        ("out/b.json", 0),
        ("out/a.json", 1),
        ("out/deep/c", 2),
    ]


def test_links_are_gone_through_where_they_are_named_and_those_that_lead_out_are_reported() -> None:
    tree = {"": {"in": LINK, "out": OUT, "real": FOLDER}, "in": {"x": FILE}, "real": {"up": LINK, "x": FILE, "o": OUT}}

    def listed(folder: str) -> Mapping[str, str]:
        return tree.get(folder, {"never": FILE} if folder == "out" else {})

    assert [name for name, _ in transfer_protocol.find(["in/x", "out/x", "out", "real"], listed)] == [
        "in/x",
        "out",
        "real/o",
        "real/x",
    ]


def test_a_glob_fits_the_names_that_fnmatch_says() -> None:
    names = ["".join(name) for size in (1, 2, 3) for name in itertools.product("ab.]", repeat=size)]
    names = [name for name in names if name not in (".", "..")]
    for size in (1, 2, 3, 4):
        for head in map("".join, itertools.product("ab*?[]", repeat=size)):
            if head != "**":
                found = {name for name, _ in transfer_protocol.find([head], lambda _: dict.fromkeys(names, FILE))}
                assert found == {one for one in fnmatch.filter(names, head) if not one.startswith(".")}, head


def test_many_patterns_over_one_directory_stay_quick() -> None:
    """10,000 globs over 10,000 files would be 100,000,000 comparisons, were each to look at every name."""
    names = {f"s{n}_a.json": FILE for n in range(10_000)}
    looked = 0

    def listed(folder: str) -> Mapping[str, str]:
        nonlocal looked
        looked += 1
        return names if folder == "figures" else {"figures": FOLDER}

    found = list(transfer_protocol.find([f"figures/s{n}_*.json" for n in range(10_000)], listed))
    assert len(found) == 10_000
    assert looked == 2


_path = st.text(string.ascii_letters + "/.*", min_size=1, max_size=12)


@given(pattern=_path, name=_path)
def test_no_pattern_and_no_name_breaks_the_comparison(pattern: str, name: str) -> None:
    assert transfer_protocol.asked_for(pattern, name) in (True, False)
