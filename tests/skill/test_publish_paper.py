"""The paper of a project is filled from its evidence, checked against it, and never loses what a person wrote."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from skill.common.errors import UseError
from skill.operations import publish_paper, research_evidence
from skill.operations.publish_paper import check_paper
from skill.research import evidence, evidence_files, latex
from skill.research.store import Store
from tests.skill.fake_workers import make_store
from tests.skill.paper_evidence import sweep


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A project with evidence, where no LaTeX is installed."""
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    made = make_store(tmp_path, [])
    study = made.paths.study("moons")
    study.settings.write_text(study.settings.read_text() + 'control: {lam: "0"}\n')
    evidence_files.append(study.evidence, made.paths.lock, sweep())
    return made


def publish(store: Store) -> publish_paper.Published:
    return publish_paper.publish_paper(store.paths.workers, None)


def paper(store: Store) -> Path:
    return store.paths.study("moons").paper


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_a_paper_is_begun_filled_and_then_stays_as_it_is(store: Store) -> None:
    first = publish(store)
    assert set(first.written) == {
        "main.tex", "numbers.tex", "tables/distill.tex", "tables/effects.tex", "figures/distill-acc.tex",
        "figures/distill-loss.tex",
    }  # fmt: skip
    assert (first.faults, first.notes, first.by, first.pdf) == ((), (), "parser", None)
    (record,) = store.read("publication")
    assert (record["state"], record["file"]) == ("filled", "paper/main.tex")
    there, queue = files(paper(store)), files(store.paths.queues)
    again = publish(store)
    assert (again.written, again.kept, again.faults) == ((), (), ())
    assert files(paper(store)) == there
    assert files(store.paths.queues) == queue
    assert check_paper(store.paths.workers, "moons").faults == ()


def test_one_digit_that_is_changed_by_hand_fails_the_check(store: Store) -> None:
    publish(store)
    edit(paper(store) / "main.tex", "\\section{Results}", "It reaches \\resAccLamZero{} at best.")
    publish(store)
    for name, old, new in (
        ("numbers.tex", "0.520", "0.521"),
        ("tables/distill.tex", "\\resAccLamZero{}", "0.520"),
        ("figures/distill-acc.tex", "(10.0,", "(11.0,"),
        ("main.tex", "\\resAccLamZero{}", "0.521"),
    ):
        kept = (paper(store) / name).read_text()
        edit(paper(store) / name, old, new)
        (fault,) = check_paper(store.paths.workers, None).faults
        assert fault.file == name
        (paper(store) / name).write_text(kept)
    assert check_paper(store.paths.workers, None).faults == ()


def test_a_paper_of_older_evidence_fails_the_check_until_it_is_filled(store: Store) -> None:
    publish(store)
    more = [one._replace(run=f"{one.run}0", metrics={"acc": 0.9}, params={"lam": "0", "seed": "9"}) for one in sweep()]
    evidence_files.append(store.paths.study("moons").evidence, store.paths.lock, more[:1])
    assert check_paper(store.paths.workers, None).faults
    assert publish(store).kept == (), "nobody had edited it"
    assert check_paper(store.paths.workers, None).faults == ()


def test_a_generated_file_that_was_edited_is_told_and_kept(store: Store) -> None:
    publish(store)
    edit(paper(store) / "tables/distill.tex", "\\resAccLamZero{}", "0.53")
    edited = (paper(store) / "tables/distill.tex").read_text()
    found = publish(store)
    assert found.kept == ("tables/distill.tex.by-hand",)
    assert (paper(store) / "tables/distill.tex.by-hand").read_text() == edited
    assert found.notes[0].startswith("tables/distill.tex:6: 0.53 was typed by hand")
    assert check_paper(store.paths.workers, None).faults == ()


def test_a_number_typed_by_hand_is_told_until_the_macro_is_back(store: Store) -> None:
    publish(store)
    edit(paper(store) / "main.tex", "\\section{Results}", "It reaches \\resAccLamZero{} at best.")
    publish(store)
    edit(paper(store) / "main.tex", "\\resAccLamZero{}", "0.6")
    for _ in range(2):
        (fault,) = publish(store).faults
        assert fault.text.startswith("0.6 was typed by hand where \\resAccLamZero was; the evidence says")
    assert "0.6 at best" in (paper(store) / "main.tex").read_text(), "the text is the person's"
    edit(paper(store) / "main.tex", "0.6", "\\resAccLamZero{}")
    assert publish(store).faults == ()


def test_a_macro_that_was_renamed_is_told_with_the_nearest(store: Store) -> None:
    publish(store)
    edit(paper(store) / "main.tex", "\\section{Results}", "It reaches \\resAccLamZro{} at best.")
    there = files(paper(store))
    for act in (publish_paper.publish_paper, check_paper):
        with pytest.raises(UseError, match=r"main\.tex:\d+: \\resAccLamZro .*did you mean \\resAccLamZero\?"):
            act(store.paths.workers, None)
    assert files(paper(store)) == there
    edit(paper(store) / "main.tex", "Zro", "Zero")
    edit(paper(store) / "numbers.tex", "{\\resAccLamZero}", "{\\resMine}")
    with pytest.raises(UseError, match=r"numbers\.tex:2: \\resMine is no number of the evidence"):
        check_paper(store.paths.workers, None)


def test_latex_that_does_not_hold_together_is_told_with_its_line(store: Store) -> None:
    publish(store)
    edit(paper(store) / "main.tex", "\\section{Results}", "\\begin{center}")
    with pytest.raises(UseError, match=r"main\.tex:\d+: \\end\{document\} comes before \\begin\{center\}"):
        publish(store)


def fake_latex(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    program = folder / "pdflatex"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(program) if name == "pdflatex" else None)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_the_first_error_of_latex_is_told(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_latex(tmp_path, monkeypatch, "printf './main.tex:9: Undefined control sequence.\\nl.9 \\\\foo\\n'; exit 1")
    with pytest.raises(UseError, match=r"pdflatex cannot typeset .*main\.tex:9: Undefined control sequence"):
        publish(store)


def test_a_pdf_is_put_beside_its_paper(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_latex(
        tmp_path,
        monkeypatch,
        'for one; do case $one in -output-directory=*) echo pdf > "${one#*=}/main.pdf"; esac; done',
    )
    assert publish(store).pdf == paper(store) / "main.pdf"
    assert (paper(store) / "main.pdf").read_text() == "pdf\n"


def test_the_latex_that_is_installed_takes_what_is_generated(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    found = publish(store)
    assert found.by == next((name for name in ("latexmk", "pdflatex") if shutil.which(name)), "parser")
    assert (found.pdf is None) == (found.by == "parser")
    if found.pdf is not None:
        assert found.pdf.read_bytes().startswith(b"%PDF")
        assert latex.typeset(paper(store), "numbers.tex", store.paths.root / "out") is not None


def test_where_nothing_has_begun_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(UseError, match="there is no project yet; begin one: wavequeue research init"):
        publish_paper.publish_paper(tmp_path / "workers.yaml", None)
    assert list(tmp_path.iterdir()) == []


def test_a_paper_without_evidence_says_what_to_do(tmp_path: Path) -> None:
    store = make_store(tmp_path, [])
    with pytest.raises(UseError, match=r"has no numbers in .* yet; collect them with: wavequeue research check-runs"):
        publish(store)
    with pytest.raises(UseError, match=r"main\.tex does not exist|has no numbers"):
        check_paper(store.paths.workers, None)


def test_evidence_that_was_edited_is_told_with_its_line(store: Store) -> None:
    file = store.paths.study("moons").evidence / evidence_files.LINES
    lines = file.read_text().splitlines()
    lines[3] = lines[3].replace('"acc": ', '"acc": "x')
    file.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=re.escape(f"{file}:4:1: ")):
        publish(store)


def test_evidence_is_put_together_beside_it_and_compared_with_the_control(store: Store) -> None:
    found = research_evidence.aggregate_evidence(store.paths.workers, None)
    assert {one.says for one in found.aggregate.comparisons} == {evidence.NULL, evidence.BETTER}
    text = (store.paths.study("moons").evidence / evidence_files.AGGREGATE).read_text()
    research_evidence.aggregate_evidence(store.paths.workers, None, {"lam": "0.5"})
    assert (store.paths.study("moons").evidence / evidence_files.AGGREGATE).read_text() == text
    for control, says in (({"lma": "0"}, "did you mean lam?"), ({"lam": "3"}, "lam is one of: 0, 0.5")):
        with pytest.raises(UseError, match=re.escape(says)):
            research_evidence.aggregate_evidence(store.paths.workers, None, control)
