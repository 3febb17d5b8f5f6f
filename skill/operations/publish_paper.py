"""Fill a paper from the evidence of its project, or check that it says what the evidence says. Nothing is posted."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from queue_manager.core.manifest import sha256
from skill.common import typed_json
from skill.common.errors import UseError
from skill.common.files import locked, make_users_directory, read_text, write_whole
from skill.common.project import StudyPaths
from skill.operations.research_projects import now, the_project
from skill.reports.results_text import latex_escape
from skill.research import evidence, evidence_files, latex, macros, paper, paper_check, projects, tex_syntax
from skill.research.evidence import Aggregate
from skill.research.paper_check import Fault, Use
from skill.research.queue_text import MOST
from skill.research.records import Record
from skill.research.store import Store

MAIN, PUBLISHED = "main.tex", "published.json"
"""The paper, which is the person's; and what was last published: hashes of generated files, and where macros were."""
_BY_HAND = ".by-hand"


class Published(NamedTuple):
    """What came of it. `written`: files of the paper that changed; `kept`: copies of generated files that a person had
    changed; `faults`: where the paper differs from the evidence; `by`: what read the LaTeX, `pdf`: its PDF."""

    paper: Path
    written: tuple[str, ...]
    kept: tuple[str, ...]
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]
    by: str
    pdf: Path | None = None


class _Last(NamedTuple):
    generated: Mapping[str, str]
    uses: tuple[Use, ...]


class _Material(NamedTuple):
    study: StudyPaths
    project: Record
    made: Aggregate
    files: Mapping[str, str]
    last: _Last


def check_paper(workers: Path, project: str | None) -> Published:
    """Hold a paper against the evidence; nothing is written. Raises UseError where its macros were renamed, where its
    LaTeX does not hold together, or where there is none; SpecErrors for what is wrong with files."""
    found = _read(Store(workers), project)
    folder = found.study.paper
    if not (folder / MAIN).exists():
        raise UseError(f"{folder / MAIN} does not exist; fill it with: wavequeue research publish")
    known = macros.macros(found.made)
    there = {name: _text(folder / name) for name in found.files}
    generated = paper_check.generated(found.files, there, known)
    own, _ = paper_check.own_text(_own(folder, found.files), known, found.last.uses)
    faults = (*generated, *own)
    if any(fault.is_unknown for fault in faults):
        raise UseError("\n".join(f"{folder}/{fault}" for fault in faults))
    _hold_together(folder, found.files)
    return Published(folder, (), (), faults, (), "parser")


def publish_paper(workers: Path, project: str | None) -> Published:
    """Fill the numbers, tables and figures of a paper from the evidence, and typeset it where LaTeX is installed.

    A paper that is not there is begun. The person's own text stays as it is. Raises UseError where it names macros that
    there are not, or does not compile, with its first error; SpecErrors for what is wrong with files, OSError.
    """
    store = Store(workers)
    name = the_project(store, project)
    with locked(store.paths.lock):
        found = _read(store, name)
        folder = found.study.paper
        make_users_directory(folder)
        written = _begin(store, found)
        known, kept, notes = macros.macros(found.made), [], []
        for name, text in found.files.items():
            before = _text(folder / name)
            if before == text:
                continue
            if before is not None and sha256(before.encode()) != found.last.generated.get(name):
                write_whole(folder / f"{name}{_BY_HAND}", before, mode=None)
                kept.append(f"{name}{_BY_HAND}")
                notes += [f"{fault}" for fault in paper_check.generated({name: text}, {name: before}, known)]
            make_users_directory((folder / name).parent)
            write_whole(folder / name, text, mode=None)
            written.append(name)
        own = _own(folder, found.files)
        faults, typed = paper_check.own_text(own, known, found.last.uses)
        is_renamed = any(fault.is_unknown for fault in faults)
        uses = [use for file, text in own.items() for use in paper_check.uses(file, text)]
        _keep(folder, found.files, found.last.uses if is_renamed else [*uses, *typed])
    _note(store, found)
    if is_renamed:
        raise UseError("\n".join(f"{folder}/{fault}" for fault in faults))
    notes += _unused(own, found.files)
    out = latex.typeset(folder, MAIN, store.paths.lock.parent / "paper" / found.project["id"])
    if out is None:
        _hold_together(folder, found.files)
        return Published(folder, tuple(written), tuple(kept), tuple(faults), tuple(notes), "parser")
    if out.pdf is None:
        raise UseError(f"{out.by} cannot typeset {folder / MAIN}: {out.fault}")
    pdf = folder / out.pdf.name
    shutil.copyfile(out.pdf, pdf)
    return Published(folder, tuple(written), tuple(kept), tuple(faults), tuple(notes), out.by, pdf)


def _read(store: Store, project: str | None) -> _Material:
    project = the_project(store, project)
    study = store.paths.study(project)
    settings = projects.read(store.paths, project)
    lines = evidence_files.read(study.evidence)
    if not any(one.metrics for one in lines):
        raise UseError(
            f"the project {project} has no numbers in {study.evidence} yet; collect them with: wavequeue research "
            "check-runs"
        )
    made = evidence.aggregate(lines, settings.get("control"))
    return _Material(study, settings, made, paper.files(made), _last(study.paper / PUBLISHED))


def _last(file: Path) -> _Last:
    text = _text(file)
    if text is None:
        return _Last({}, ())
    try:
        data: Any = json.loads(text)
        return _Last(dict(data["generated"]), tuple(Use(**one) for one in data["uses"]))
    except (ValueError, KeyError, TypeError) as error:
        raise UseError(
            f"{file}: cannot be read: {error}; restore it, or remove it: then numbers that were typed by hand before "
            "are not distinguished from words"
        ) from None


def _keep(folder: Path, files: Mapping[str, str], uses: Sequence[Use]) -> None:
    data = {
        "generated": {name: sha256(text.encode()) for name, text in files.items()},
        "uses": [use._asdict() for use in sorted(set(uses))],
    }
    text = typed_json.pretty(data)
    if _text(folder / PUBLISHED) != text:
        write_whole(folder / PUBLISHED, text, mode=None)


def _begin(store: Store, found: _Material) -> list[str]:
    """Begin a paper that is not there, from its template."""
    main = found.study.paper / MAIN
    if main.exists():
        return []
    own = store.paths.templates / "paper" / MAIN
    text = read_text(own if own.exists() else projects.TEMPLATES / "paper" / MAIN)
    fields = {
        "@TITLE@": latex_escape(found.project["title"]),
        "@IDEA@": latex_escape(found.project["idea"]),
        "@RESULTS@": paper.results(found.files),
    }
    for name, value in fields.items():
        text = text.replace(name, value)
    write_whole(main, text, mode=None)
    return [MAIN]


def _own(folder: Path, generated: Mapping[str, str]) -> dict[str, str]:
    """The person's own LaTeX, by its names in the paper's directory."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.tex"))
    return {name: read_text(folder / name) for name in names if name not in generated}


def _text(file: Path) -> str | None:
    try:
        return read_text(file, MOST)
    except FileNotFoundError:
        return None


def _hold_together(folder: Path, generated: Mapping[str, str]) -> None:
    for name, text in {**_own(folder, generated), **generated}.items():
        fault = tex_syntax.fault(name, text, lambda one: one in generated or (folder / one).exists())
        if fault is not None:
            raise UseError(f"{folder}/{fault}")


def _unused(own: Mapping[str, str], files: Mapping[str, str]) -> list[str]:
    """What the paper's text does not take in."""
    text = "\n".join(own.values())
    missing = [name for name in files if name.removesuffix(".tex") not in text]
    return [f"{name} is not in the paper; add \\input{{{name.removesuffix('.tex')}}}" for name in missing]


def _note(store: Store, found: _Material) -> None:
    """Say in the publication queue from which evidence the paper was filled."""
    digest = hashlib.sha256(typed_json.pretty(evidence.document(found.made)).encode()).hexdigest()
    file, project = f"paper/{MAIN}", found.project["id"]

    def mine(record: Record) -> bool:
        return bool(record["project"] == project and record.get("file", file) == file)

    def filled(record: Record) -> Record:
        if not mine(record) or (record.get("evidence_sha256") == digest and record["state"] != "draft"):
            return record
        state = "filled" if record["state"] == "draft" else record["state"]
        return {**record, "file": file, "state": state, "filled": now(), "evidence_sha256": digest}

    def new(records: list[Record]) -> list[Record]:
        if any(mine(record) for record in records):
            return []
        return [{"project": project, "title": found.project["title"], "state": "draft", "file": file, "created": now()}]

    store.add("publication", new)
    store.change("publication", lambda records: [filled(record) for record in records])
