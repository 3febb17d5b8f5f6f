"""A paper: its numbers are macros that name their runs, and whatever says otherwise is found."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill.research import evidence, macros, paper, paper_check, tex_syntax
from skill.research.evidence import Aggregate
from tests.skill.paper_evidence import sweep

MAIN = r"""
\documentclass{article}
\input{numbers}
\begin{document}
% once it was \resGone
Accuracy rises from \resAccLamZero{} to
\resAccLamZeroDotFive, over \resAccLamZeroN\ seeds, in 2026.
\input{tables/distill}
\end{document}
"""


def made() -> Aggregate:
    return evidence.aggregate(sweep(), {"lam": "0"})


def test_every_number_of_the_generated_files_is_a_macro_that_names_its_runs() -> None:
    files = paper.files(made())
    for line in files[paper.NUMBERS].splitlines()[1:]:
        found = macros.DEFINITION.fullmatch(line)
        assert found is not None, line
        assert re.search(r"runs: moons-r\d+( moons-r\d+){2,5}$", found[3]), line
    rows = [line for line in files["tables/distill.tex"].splitlines() if line.endswith(r"\\")][1:]
    assert len(rows) == 3
    for row in rows:
        _, *values = row.removesuffix(r" \\").split(" & ")
        assert len(values) == 3
        assert all(re.fullmatch(r"(\{\\boldmath\\textbf\{)?\\res[A-Za-z]+\{\}(\}\})?", value) for value in values), row
    assert sum("textbf" in row for row in rows) == 3, "the best of acc, and the equal losses"
    defined = set(macros.macros(made()).numbers)
    assert {name for text in files.values() for name in macros.NAME.findall(text)} <= defined


def test_a_name_stays_when_more_runs_come() -> None:
    before, after = macros.macros(made()), macros.macros(evidence.aggregate(sweep(("-1", "0", "0.5"))))
    assert r"resAccLamZeroDotFive" in before.numbers
    assert r"resAccLamZeroDotFive" in after.numbers
    assert r"resAccLamMinusOne" in after.numbers


def test_two_numbers_never_share_a_name() -> None:
    known = macros.macros(evidence.aggregate(sweep(("1.0", "1.00", "10"))))
    assert len(known.numbers) == len(known.names)
    odd = [one._replace(params={"k": value}, run=value) for value, one in zip(("a b", "a_b"), sweep(), strict=False)]
    known = macros.macros(evidence.aggregate(odd))
    assert len(known.numbers) == len(known.names) == 8
    assert all(re.fullmatch(r"res[A-Z][A-Za-z]*", name) for name in known.numbers)


def test_generated_files_hold_together() -> None:
    for name, text in paper.files(made()).items():
        assert tex_syntax.fault(name, text, lambda _name: True) is None


def test_runs_without_a_number_have_a_row_without_one() -> None:
    lines = sweep(("0", "1"))
    lines[0] = lines[0]._replace(metrics={"acc": 0.5}, errors={"loss": "no line"})
    lines += [lines[0]._replace(run="odd", params={"lam": "}%", "seed": "1"}, metrics={})]
    files = paper.files(evidence.aggregate(lines, {"lam": "0"}))
    first, _, odd = [line for line in files["tables/distill.tex"].splitlines() if line.endswith(r"\\")][1:]
    assert first.endswith(r"& \resLossLamZeroN{}, \resAccLamZeroN{} \\")
    assert odd == r"\}\% & {--} & {--} & 0 \\"
    for name, text in files.items():
        assert tex_syntax.fault(name, text, lambda _name: True) is None


@settings(max_examples=60)
@given(st.lists(st.text(max_size=6), min_size=1, max_size=4, unique=True), st.text(min_size=1, max_size=8))
def test_keys_and_metrics_may_be_called_anything(values: list[str], metric: str) -> None:
    lines = [
        one._replace(run=f"r{n}", params={"k": value}, metrics={metric: 0.1 * n})
        for n, (one, value) in enumerate(zip(sweep(), values, strict=False))
    ]
    found = evidence.aggregate(lines)
    files, known = paper.files(found), macros.macros(found)
    assert len(known.numbers) == len(known.names) == 2 * len(values)
    for line in files[paper.NUMBERS].splitlines()[1:]:
        name = macros.DEFINITION.fullmatch(line)
        assert name is not None
        assert name[2] == known.numbers[name[1]].value
    for name_of_file, text in files.items():
        assert tex_syntax.fault(name_of_file, text, lambda _name: True) is None


def test_a_paper_as_it_was_written_has_no_fault() -> None:
    files = paper.files(made())
    assert paper_check.generated(files, dict(files), macros.macros(made())) == []
    assert paper_check.own_text({"main.tex": MAIN}, macros.macros(made()), paper_check.uses("main.tex", MAIN)) == (
        [],
        [],
    )


def test_any_digit_that_is_changed_in_a_generated_file_is_found() -> None:
    files, known = paper.files(made()), macros.macros(made())
    chance = random.Random(7)
    for name, text in files.items():
        places = [match.start() for match in re.finditer(r"\d", text) if text[: match.start()].count("\n") > 0]
        for place in chance.sample(places, min(12, len(places))):
            digit = chance.choice([one for one in "0123456789" if one != text[place]])
            changed = text[:place] + digit + text[place + 1 :]
            found = paper_check.generated(files, {**files, name: changed}, known)
            assert [fault.file for fault in found] == [name], (name, changed[place - 20 : place + 20])
            assert found[0].line == text[:place].count("\n") + 1


def test_a_number_that_was_changed_is_told_with_what_the_evidence_says_and_its_runs() -> None:
    files = paper.files(made())
    text = files[paper.NUMBERS].replace("0.520 ", "0.529 ", 1)
    (fault,) = paper_check.generated(files, {**files, paper.NUMBERS: text}, macros.macros(made()))
    assert str(fault) == (
        r"numbers.tex:2: \resAccLamZero is \ensuremath{0.529 \pm 0.010}; the evidence says "
        r"\ensuremath{0.520 \pm 0.010} (runs: moons-r1 moons-r2 moons-r3)"
    )


def test_a_macro_that_was_renamed_is_told_with_its_name() -> None:
    files = paper.files(made())
    text = files[paper.NUMBERS].replace(r"{\resAccLamZero}", r"{\resAccLamZer}")
    first, second = paper_check.generated(files, {**files, paper.NUMBERS: text}, macros.macros(made()))
    assert r"\resAccLamZer is no number of the evidence; it was \resAccLamZero: keep that name" in first.text
    assert r"\resAccLamZero is missing" in second.text


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        (r"\resAccLamZero{}", "0.53", 6, r"0.53 was typed by hand where \resAccLamZero was; the evidence says"),
        (r"\resAccLamZeroDotFive,", r"$1.03$,", 7, r"$1.03$ was typed by hand where \resAccLamZeroDotFive was"),
        (r"\resAccLamZeroN\ ", "3 ", 7, r"3 was typed by hand where \resAccLamZeroN was"),
        (r"\resAccLamZeroN\ ", "4 very different ", 7, r"4 was typed by hand where \resAccLamZeroN was"),
        (r"\resAccLamZero{}", r"\resAccLamZro{}", 6, r"did you mean \resAccLamZero?"),
        (r"\input{numbers}", r"\newcommand{\resAccLamZero}{0.9}", 3, r"\resAccLamZero is defined by hand"),
        (r"\input{numbers}", r"\def\resAccLamZero{0.9}", 3, r"\resAccLamZero is defined by hand"),
    ],
)  # fmt: skip
def test_what_a_person_typed_where_a_macro_was_is_found(old: str, new: str, line: int, says: str) -> None:
    known = macros.macros(made())
    text = MAIN.replace(old, new, 1)
    assert text != MAIN
    (fault,), _ = paper_check.own_text({"main.tex": text}, known, paper_check.uses("main.tex", MAIN))
    assert (fault.file, fault.line) == ("main.tex", line)
    assert says in fault.text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Accuracy rises from \\resAccLamZero{} to\n\\resAccLamZeroDotFive, over", "Over"),
        ("in 2026", "in 2027"),
        ("once it was", "twice it was"),
    ],
)
def test_words_that_a_person_changed_are_theirs(old: str, new: str) -> None:
    text = MAIN.replace(old, new, 1)
    assert text != MAIN
    assert paper_check.own_text({"main.tex": text}, macros.macros(made()), paper_check.uses("main.tex", MAIN)) == (
        [],
        [],
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a\n{b", "main.tex:2: { is never closed"),
        ("a}\n", "main.tex:1: a } closes no {"),
        ("\\begin{table}\n", "main.tex:1: begin{table} is never closed"),
        ("\\begin{a}\n\\begin{b}\n\\end{a}", "main.tex:3: \\end{a} comes before \\begin{b} of line 2 is closed"),
        ("\n\\input{numbers}", "main.tex:2: there is no file numbers.tex"),
        ("\\end{a}", "main.tex:1: \\end{a} closes nothing"),
        ("\\{ % {\n\\% }", "main.tex:2: a } closes no {"),
    ],
)
def test_a_text_that_does_not_hold_together_is_told_by_its_line(text: str, says: str) -> None:
    found = tex_syntax.fault("main.tex", text, lambda _name: False)
    assert found is not None
    assert found.startswith(says)


def test_signs_that_stand_for_themselves_are_no_fault() -> None:
    text = "\\{ \\} 5\\% % }\n\\begin{verbatim}\n}{}{\n\\end{verbatim}\n\\verb|}|\n\\\\% {\n"
    assert tex_syntax.fault("main.tex", text, lambda _name: False) is None


def test_the_first_error_of_latex_is_told_with_its_line() -> None:
    output = "(./main.tex\n./main.tex:12: Undefined control sequence.\nl.12 \\foo\n\n./main.tex:14: Missing $\n"
    assert tex_syntax.first_error(output) == "main.tex:12: Undefined control sequence. (l.12 \\foo)"
    assert tex_syntax.first_error("! Emergency stop.\n") == "Emergency stop."
    assert tex_syntax.first_error("This is pdfTeX\nOutput written\n") is None
