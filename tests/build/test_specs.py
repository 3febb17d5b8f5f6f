"""Specs as data: `good/NAME.yaml` gives `NAME.manifest.json`, byte for byte, and `bad/NAME.yaml` the messages in
`NAME.txt`. A case is added by adding a spec; its counterpart is written by a run with WAVEQUEUE_REGENERATE=1 set,
and then read by a person."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from build_manifest import Built, Fault, SpecErrors, build
from queue_manager.core.manifest import decode, encode

DATA = Path(__file__).parent.parent / "data" / "specs"
GOOD = sorted(
    path for path in (DATA / "good").iterdir() if path.suffix in (".yaml", ".json") and ".manifest" not in path.name
)
BAD = sorted(path for path in (DATA / "bad").iterdir() if path.suffix in (".yaml", ".json"))
_REGENERATE = os.environ.get("WAVEQUEUE_REGENERATE") == "1"


def _expect(path: Path, text: str) -> None:
    if _REGENERATE:
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_good(path: Path) -> None:
    built = build(path.read_text(encoding="utf-8"), path.name)
    _expect(path.with_suffix(".manifest.json"), encode(built.manifest))
    assert decode(encode(built.manifest)) == built.manifest
    warnings = path.with_suffix(".warnings.txt")
    if built.warnings or warnings.exists():
        _expect(warnings, "".join(f"{line}\n" for line in built.warnings))


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_bad(path: Path) -> None:
    with pytest.raises(SpecErrors) as caught:
        build(path.read_text(encoding="utf-8"), path.name)
    _expect(path.with_suffix(".txt"), f"{caught.value}\n")
    lines = str(caught.value).splitlines()
    assert len(lines) == len(caught.value.faults)
    assert all(line.startswith(f"{path.name}:") for line in lines)


def test_every_case_has_its_counterpart() -> None:
    assert len(GOOD) >= 15
    assert len(BAD) >= 40
    expected = {path.with_suffix(".txt").name for path in BAD} | {path.name for path in BAD}
    assert {path.name for path in (DATA / "bad").iterdir()} == expected


_mutations = st.tuples(st.integers(min_value=0), st.sampled_from(["delete", "double", "insert"]), st.text(max_size=3))


@settings(max_examples=300, deadline=None)
@given(path=st.sampled_from([*GOOD, *BAD]), changes=st.lists(_mutations, min_size=1, max_size=4))
def test_a_damaged_spec_is_built_or_refused(path: Path, changes: list[tuple[int, str, str]]) -> None:
    text = path.read_text(encoding="utf-8")
    for place, kind, inserted in changes:
        at = place % (len(text) + 1)
        if kind == "insert":
            text = text[:at] + inserted + text[at:]
        else:
            end = text.find("\n", at) + 1 or len(text)
            text = text[:at] + (text[at:end] * 2 if kind == "double" else "") + text[end:]
    _built_or_refused(text)


@settings(max_examples=300, deadline=None)
@given(text=st.one_of(st.text(), st.text(st.sampled_from("{}[]:,-&*!|>'\"#%@`$~? \n\tabidcmd01"), max_size=60)))
def test_any_text_is_built_or_refused(text: str) -> None:
    _built_or_refused(text)
    _built_or_refused(f"project: p\njobs:\n- id: a\n  cmd: {text}")
    _built_or_refused(f"project: p\ngrid: {text}\ntemplate: {{id: a, cmd: b}}")


@pytest.mark.parametrize("end", ["\x85", "\u2028", "\u2029", "\r"])
def test_an_end_of_line_that_no_editor_shows_is_named(end: str) -> None:
    _, faults = _try(f"project: p\njobs:\n- id: a\n  cmd: x{end}y")
    assert [(fault.line, fault.column) for fault in faults] == [(4, 9)]
    assert f"the character U+{ord(end):04X} is not allowed in a spec" in faults[0].what


def _built_or_refused(text: str) -> None:
    built, faults = _try(text)
    if built is None:
        lines = text.count("\n") + 2
        assert faults
        assert all(1 <= fault.line <= lines and fault.column >= 1 for fault in faults)
    else:
        again = build(text, "s.yaml")
        assert encode(again.manifest) == encode(built.manifest)
        assert decode(encode(built.manifest)) == built.manifest


def _try(text: str) -> tuple[Built | None, list[Fault]]:
    try:
        return build(text, "s.yaml"), []
    except SpecErrors as error:
        return None, error.faults
