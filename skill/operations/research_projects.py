"""Begin a research project, write down its ideas, and check all research files."""

from __future__ import annotations

import json
import string
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from build_manifest.faults import listed
from queue_manager.core.times import iso
from skill.common.errors import UseError
from skill.common.files import locked, make_users_directory, read_text, write_whole
from skill.common.project import QUEUES, ResearchPaths
from skill.research import projects, run_records
from skill.research.ids import slug
from skill.research.json_schema import schemas
from skill.research.overview import idea_state
from skill.research.record_faults import unknown
from skill.research.records import Record
from skill.research.store import Store

_IGNORED = "# What wavequeue keeps beside the queues.\n*.last-good\n.*.tmp\n"
_WORKERS = "# The hosts of this project. Register one: wavequeue hosts add NAME USER@HOST:PORT\nworkers:\n"


class Begun(NamedTuple):
    """A project that is there. `written`: the files that were not, relative to `root`; `idea`: its first idea."""

    project: str
    root: Path
    written: tuple[str, ...]
    idea: Record


def now() -> str:
    """This moment, as records have it."""
    return f"{(iso(time.time()) or '')[:19]}Z"


def init_project(workers: Path, title: str, idea: str, target: str, metric: str, rule: str | None = None) -> Begun:
    """Begin a project: its directory, its first idea, and the files that all projects share, as far as they are not
    there. `rule`: where the metric is, as in a spec. Raises UseError where another project has its id."""
    store, name = Store(workers), slug(title)
    wanted = {"title": title, "idea": idea, "target": target, "metric": metric}
    empty = [key for key, value in wanted.items() if not value.strip()]
    if empty:
        raise UseError(f"--{empty[0]} is empty; write it in a few words")
    if rule is not None:
        run_records.rules({metric: rule}, ["id"], f"--metric {metric}")
    with locked(store.paths.lock):
        written = _shared(workers, store.paths)
        study = store.paths.study(name)
        if study.settings.exists():
            _same(store.paths, name, wanted)
        else:
            template = read_text(store.paths.templates / "project.yaml")
            make_users_directory(study.root)
            fields = {key: json.dumps(value, ensure_ascii=False) for key, value in wanted.items()}
            fields |= {"id": name, "created": json.dumps(now())}
            fields["metrics"] = "{}" if rule is None else f"{{{fields['metric']}: {rule}}}"
            written += _written(study.settings, _filled(template, fields, store.paths.templates))
        for folder in (study.evidence, study.paper, study.benchmarks, study.probes):
            make_users_directory(folder)
    root = store.paths.root
    return Begun(name, root, tuple(str(path.relative_to(root)) for path in written), _add_idea(store, name, idea))


def _shared(workers: Path, paths: ResearchPaths) -> list[Path]:
    """Write what all projects share; the paths of what was not there. Schemas are brought up to date."""
    for folder in (paths.queues, paths.schemas, paths.templates, paths.research):
        make_users_directory(folder)
    written = _written(workers, _WORKERS)  # by which later commands find this directory
    for queue in QUEUES:
        written += _written(paths.queue(queue), "[]\n")
    written += _written(paths.queues / ".gitignore", _IGNORED)
    for name, text in schemas().items():
        written += _written(paths.schemas / name, text, renew=True)
    for source in sorted(projects.TEMPLATES.rglob("*")):
        if source.is_file():
            target = paths.templates / source.relative_to(projects.TEMPLATES)
            make_users_directory(target.parent)
            written += _written(target, read_text(source))
    return written


def _written(path: Path, text: str, *, renew: bool = False) -> list[Path]:
    """Write a file that is not there; `renew`: also one that is different. The path, if it was written."""
    if path.exists() and not (renew and read_text(path) != text):
        return []
    write_whole(path, text, mode=None)
    return [path]


def _filled(template: str, fields: Mapping[str, str], folder: Path) -> str:
    """The text of project.yaml. Its fields are JSON, which YAML is, too: no title needs other quotes."""
    try:
        return string.Template(template).substitute(fields)
    except (KeyError, ValueError) as error:
        what = f"{folder / 'project.yaml'} cannot be filled in: {error}"
        raise UseError(f"{what}; there are: {listed(fields)}; write $$ for a $ itself") from None


def _same(paths: ResearchPaths, name: str, wanted: Mapping[str, str]) -> None:
    """Raise UseError where the project that is there is not the one that is wanted."""
    there = projects.read(paths, name)
    file = paths.study(name).settings
    if there["title"] != wanted["title"]:
        taken = f"this title would get the id {name}, which the project {there['title']!r} has"
        raise UseError(f"{taken}: {file}; choose another title")
    for key, value in wanted.items():
        if there[key] != value:
            more = f"add the idea: wavequeue research idea TEXT --project {name}" if key == "idea" else f"edit {file}"
            raise UseError(f"the project {name} is there, and its {key} is {there[key]!r} and not {value!r}; {more}")


# -- ideas --------------------------------------------------------------------------------------------------------


class IdeaRow(NamedTuple):
    """An idea, its state by its runs, and these: their states by id."""

    idea: Record
    state: str
    runs: dict[str, str]


def the_project(store: Store, name: str | None) -> str:
    """The project that is meant; None: the only one. Raises UseError with the nearest."""
    known = projects.names(store.paths)
    if name is not None:
        projects.check(name, known)
        return name
    if not known:
        raise UseError(f"there is no project yet; {projects.BEGIN}")
    if len(known) > 1:
        raise UseError(f"there are several projects: {listed(known)}; add --project-id with one of them")
    return known[0]


def write_idea(workers: Path, project: str | None, text: str) -> Record:
    """Write down an idea of a project (None: the only one). Raises UseError."""
    if not text.strip():
        raise UseError("the idea is empty; write it in a sentence")
    store = Store(workers)
    return _add_idea(store, the_project(store, project), text)


def _add_idea(store: Store, project: str, text: str) -> Record:
    """Write down an idea; one that is there already is returned as it is."""
    there: list[Record] = []

    def new(records: list[Record]) -> list[Record]:
        there[:] = [one for one in records if one["project"] == project and one["text"] == text]
        return [] if there else [{"project": project, "text": text, "state": "open", "created": now()}]

    return [*store.add("idea", new), *there][0]


def decide_idea(workers: Path, idea: str, state: str) -> Record:
    """Say what became of an idea. Raises UseError where there is none of this id, with the nearest."""

    def edit(records: list[Record]) -> list[Record]:
        find("idea", records, idea)
        return [{**one, "state": state} if one["id"] == idea else one for one in records]

    return find("idea", Store(workers).change("idea", edit), idea)


def list_ideas(workers: Path, project: str | None) -> list[IdeaRow]:
    """The ideas of a project (None: of all), with the runs that test them. Raises UseError and SpecErrors."""
    store = Store(workers)
    if project is not None:
        the_project(store, project)
    of_idea: dict[str, list[Record]] = {}
    for run in store.read("run"):
        of_idea.setdefault(run.get("idea", ""), []).append(run)
    rows = []
    for idea in store.read("idea"):
        if project in (None, idea["project"]):
            runs = of_idea.get(idea["id"], [])
            rows.append(IdeaRow(idea, idea_state(idea, runs), {run["id"]: run["state"] for run in runs}))
    return rows


def find(queue: str, records: list[Record], name: str) -> Record:
    """The record of this id. Raises UseError with the nearest there is."""
    for record in records:
        if record["id"] == name:
            return record
    raise UseError("; ".join(unknown(queue, name, [one["id"] for one in records], f"there is no {queue} yet")))
