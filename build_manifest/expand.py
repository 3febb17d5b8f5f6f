"""Expand a spec's form into its manifest: cells, jobs, dependencies, and faults of the whole. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from build_manifest import grid as grids
from build_manifest.default_ids import with_ids
from build_manifest.faults import Faults, Mark, listed, nearest
from build_manifest.forms import EACH_ID, PhaseForm, SpecForm
from build_manifest.jobs import JobMaker, Params, Surroundings, show
from build_manifest.names import RenderError, Scope, compile_text, is_template
from build_manifest.nodes import Scalar
from queue_manager.core.layout import id_fault
from queue_manager.core.manifest import MAX_JOBS, JobSpec, Manifest, Phase, find_circle
from queue_manager.core.outputs import escape

_BARE = re.compile(r"[^\s,=\[\]\"]+")

GRACE = 30.0
"""Seconds between TERM and KILL where a spec does not say."""
_DEFAULTED = (
    "gpu_free_threshold_mib", "oom_retry", "wave", "stale_after", "when_done", "launcher", "notify", "slurm_manager",
)  # fmt: skip
"""What the manifest has a default for, where the spec says nothing."""
_COMMANDS = ("on_complete", "analyze_on_complete", "results_to")


class Made(NamedTuple):
    """A job and its origin: `form` counts the jobs of its phase as they were written."""

    job: JobSpec
    form: int
    cell: tuple[str, ...]


class _Phase(NamedTuple):
    """A phase and its jobs; `whole` is False if some could not be made."""

    form: PhaseForm
    made: list[Made]
    whole: bool


def expand(faults: Faults, spec: SpecForm) -> tuple[Manifest, tuple[tuple[PhaseForm, list[Made]], ...]] | None:
    """Expand a spec into its manifest, and its jobs with their origin, by phase. None if there are faults; all are
    noted."""
    if not _check_size(faults, spec):
        return None
    phases = [_expand_phase(faults, spec, with_ids(faults, form)) for form in spec.phases]
    _check_phase_names(faults, spec)
    _check_ids(faults, phases)
    groups: dict[str, tuple[str, ...]] = {}
    waits = [_match(faults, phase, phases, groups) for phase in phases]
    _check_jobs_exist(faults, phases)
    # Spec-wide texts have no names; `$${…}` in them still means `${…}`.
    plain = {key: _spec_text(faults, getattr(spec, key), key) for key in ("cwd", *_COMMANDS)}
    if faults.found:
        return None
    jobs = [
        made.job if wait is None else _waiting_for(made.job, wait[n])
        for phase, wait in zip(phases, waits)
        for n, made in enumerate(phase.made)
    ]
    manifest = Manifest(
        project=spec.project,
        jobs=tuple(jobs),
        phases=tuple(Phase(form.name, _texts(form.depends_on), _texts(form.match)) for form in spec.phases),
        groups=groups,
        cwd=plain["cwd"] or ".",
        hosts=spec.hosts,
        **spec.environment._asdict(),
        env={name: scalar.text for name, scalar in spec.env if not is_template(scalar.text)},
        gpus=spec.gpus,
        max_parallel=spec.max_parallel,
        on_complete=plain["on_complete"],
        analyze_on_complete=plain["analyze_on_complete"],
        pull=_pulled(spec.pull, jobs),
        idle_after=spec.idle_after,
        max_cost=spec.max_cost,
        deadline=spec.deadline,
        results_to=plain["results_to"],
        errexit=spec.errexit is not False,
        shell_paths=True,
        grace=GRACE if spec.grace is None else spec.grace,
        wandb=spec.wandb is not False,
        rendezvous=True,
        **{key: getattr(spec, key) for key in _DEFAULTED if getattr(spec, key) is not None},
    )
    circle = find_circle(manifest.phases, manifest.groups, manifest.jobs)
    if circle:
        what = "circular dependency: " + " -> ".join(circle[:20])
        faults.add(_circle_mark(circle, phases), what, "remove one of them from depends_on")
        return None
    return manifest, tuple((phase.form, phase.made) for phase in phases)


def _pulled(patterns: Sequence[str], jobs: Sequence[JobSpec]) -> tuple[str, ...]:
    """List what is pulled, each path once; with `${id}` in it, that of each job."""
    found: dict[str, None] = {}
    for one in patterns:
        found.update(dict.fromkeys([one.replace(EACH_ID, escape(job.id)) for job in jobs] if EACH_ID in one else [one]))
    return tuple(found)


def _waiting_for(job: JobSpec, names: list[str]) -> JobSpec:
    return job._replace(depends_on=tuple(dict.fromkeys((*names, *job.depends_on))))


def _texts(scalars: Sequence[Scalar]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(scalar.text for scalar in scalars))


def _spec_text(faults: Faults, scalar: Scalar | None, key: str) -> str | None:
    if scalar is None:
        return None
    text = compile_text(faults, scalar, Scope((), f"{key} of the whole spec"), shell=key != "cwd")
    try:
        return None if text is None else text.render({}).rstrip()
    except RenderError as error:
        faults.add(error.mark, str(error), "fix the expression")
        return None


def _check_size(faults: Faults, spec: SpecForm) -> bool:
    sizes = [(form.grid.size() if form.templated else len(form.jobs)) if form.is_valid else 0 for form in spec.phases]
    if sum(sizes) <= MAX_JOBS:
        return True
    form = spec.phases[sizes.index(max(sizes))]
    at = form.grid.mark if form.templated else form.mark
    factors = [*(len(one.values) for one in form.grid.product), *(len(one.values) for one in form.grid.zipped[:1])]
    product = f" ({' x '.join(map(str, factors))})" if form.templated and len(factors) > 1 else ""
    what = f"this grid makes {max(sizes):,} jobs{product}" if form.templated else f"these are {max(sizes):,} jobs"
    whole = "" if max(sizes) == sum(sizes) else f", the spec {sum(sizes):,}"
    faults.add(at, what + whole, f"at most {MAX_JOBS:,} are allowed: use fewer values, or split the spec")
    return False


def _expand_phase(faults: Faults, spec: SpecForm, form: PhaseForm) -> _Phase:
    """Make all jobs of a phase. Texts are compiled, and so checked, even if the cells are not known."""
    names = form.grid.names if form.templated else ()
    templated_env = tuple((name, scalar) for name, scalar in spec.env if is_template(scalar.text))
    made: list[Made] = []
    whole = form.is_valid and bool(form.jobs)
    for number, job_form in enumerate(form.jobs):
        around = Surroundings(
            phase=form.name,
            where=_where(form, number),
            env=(*templated_env, *form.env),
            preconditions=(*spec.preconditions, *form.preconditions),
            default_cmd=spec.default_cmd,
            cards=None if spec.gpus is None else len(spec.gpus),
            est_minutes=spec.est_minutes if form.est_minutes is None else form.est_minutes,
            exported=tuple([one for one in spec.env if one not in templated_env]),
            metrics={**spec.metrics, **form.metrics},
            health={**spec.health, **form.health},
            recover=spec.recover if form.recover is None else form.recover,
            slurm={**spec.slurm, **form.slurm},
        )
        maker = JobMaker(faults, job_form, names, around)
        if not (form.is_valid and maker.ids_known):
            whole = False
            continue
        cells = grids.cells(faults, form.grid) if form.templated else iter([()])
        count = 0
        for cell in cells:
            count += 1
            params: Params = dict(zip(names, cell))
            job = maker.make(params)
            if job is None:
                whole = False
                continue
            fault = id_fault(job.id)
            if fault:
                assert job_form.id is not None
                whole = False
                of = f" (for {show(params)})" if params else ""
                hint = "" if not params else 'an expression can fix it: {{ name | replace("/", "_") }}'
                what = f"the id {job.id!r} {fault}{of}"
                faults.add(job_form.id.mark, what, hint, once=("id", job_form.id.mark))
            made.append(Made(job, number, tuple([value.text for value in cell])))
        if not count:
            faults.add(form.grid.mark, "exclude removes every cell of the grid", "exclude fewer cells")
            whole = False
    return _Phase(form, made, whole)


def _where(form: PhaseForm, number: int) -> str:
    if form.templated:
        return f"phase {form.name!r}" if form.name != "jobs" else "the template"
    job = form.jobs[number]
    scalar = None if job.default_id else job.id
    return f"job {scalar.text!r}" if scalar is not None else f"the job on line {form.jobs[number].mark.line}"


def _check_phase_names(faults: Faults, spec: SpecForm) -> None:
    names = [form.name for form in spec.phases]
    for form in spec.phases:
        for scalar in form.depends_on:
            if scalar.text not in names:
                close = nearest(scalar.text, names)
                hint = f"did you mean {close!r}?" if close else f"the phases are: {listed(names)}"
                faults.add(scalar.mark, f"phase {form.name!r} depends on {scalar.text!r}, which is not a phase", hint)


def _check_ids(faults: Faults, phases: Sequence[_Phase]) -> None:
    seen: dict[str, tuple[_Phase, Made]] = {}
    for phase in phases:
        for made in phase.made:
            first = seen.setdefault(made.job.id, (phase, made))
            if first[1] is not made:
                _duplicate(faults, made.job.id, first, (phase, made))
    _warn_of_case(faults, phases, seen)


def _warn_of_case(faults: Faults, phases: Sequence[_Phase], ids: Collection[str]) -> None:
    """Warn once of ids whose files would be the same on a file system that ignores case, as on a Mac that pulls the
    logs."""
    first: dict[str, str] = {}
    for name in ids:
        other = first.setdefault(name.casefold(), name)
        if other != name:
            what = f"the ids {other!r} and {name!r} differ in case only: on macOS and Windows their logs are one file"
            faults.warn(phases[0].form.mark, what)
            return


def _duplicate(faults: Faults, name: str, first: tuple[_Phase, Made], second: tuple[_Phase, Made]) -> None:
    (phase, made), (other, again) = first, second
    form = other.form.jobs[again.form]
    assert form.id is not None
    if phase is other and phase.form.templated:
        keys = phase.form.grid.names
        differ = [key for key, one, two in zip(keys, made.cell, again.cell) if one != two]
        cells = [", ".join(f"{key}={value}" for key, value in zip(keys, row)) for row in (made.cell, again.cell)]
        if not differ:
            what = f"two jobs have the id {name!r}: the cell {cells[0]} appears twice"
            hint = "remove it from include"
        else:
            what = f"two jobs have the id {name!r}: {cells[0]} and {cells[1]}"
            missing = [key for key in differ if f"${{{key}}}" not in form.id.text] or differ
            hint = "add " + " and ".join(f"${{{key}}}" for key in missing) + " to the id"
            if form.default_id:
                hint = "write an id that differs between them"
        faults.add(form.id.mark, what, hint, once=("duplicate", form.id.mark))
    else:
        earlier = phase.form.jobs[made.form].id
        line = earlier.mark.line if earlier is not None else phase.form.mark.line
        what = f"two jobs have the id {name!r}; the other is on line {line}"
        hint = "give each job its own id"
        if phase is not other:
            what += f", in phase {phase.form.name!r}"
            hint = "add the phase's name to one of them"
        faults.add(form.id.mark, what, hint, once=("duplicate", form.id.mark))


def _match(
    faults: Faults, phase: _Phase, phases: Sequence[_Phase], groups: dict[str, tuple[str, ...]]
) -> list[list[str]] | None:
    """Return for each job of a phase with `match` the names of its dependencies; None for a phase without."""
    form = phase.form
    if not form.match or not form.is_valid:
        return None
    by_name = {one.form.name: one for one in phases}
    needed = [by_name[scalar.text] for scalar in form.depends_on if scalar.text in by_name]
    keys = list(_texts(form.match))
    before = len(faults.found)
    for one in (phase, *needed):
        for scalar in form.match:
            _check_key(faults, form, one, scalar)
    if len(faults.found) > before or not all(one.whole for one in (phase, *needed)):
        return None
    waits: list[list[str]] = [[] for _ in phase.made]
    for one in needed:
        members: dict[tuple[str, ...], list[str]] = {}
        for made in one.made:
            members.setdefault(tuple([made.job.params[key] for key in keys]), []).append(made.job.id)
        for made, wait in zip(phase.made, waits):
            values = tuple([made.job.params[key] for key in keys])
            ids = members.get(values)
            shown = ",".join(f"{key}={_value(value)}" for key, value in zip(keys, values))
            if ids is None:
                what = f"no job of phase {one.form.name!r} has {shown}, which {made.job.id!r} would wait for"
                hint = f"add the value to its grid, or remove it from phase {form.name!r} (values compare as written)"
                faults.add(form.match[0].mark, what, hint, once=("match", form.match[0].mark, one.form.name, shown))
            elif len(ids) == 1:
                wait.append(ids[0])
            else:
                name = f"{one.form.name}[{shown}]"
                groups[name] = tuple(ids)
                wait.append(name)
    return waits


def _check_key(faults: Faults, form: PhaseForm, one: _Phase, scalar: Scalar) -> None:
    """Tell whether all jobs of a phase have a key of `match`."""
    if not one.whole:
        return
    lacking = next((made for made in one.made if scalar.text not in made.job.params), None)
    if lacking is not None:
        names = list(lacking.job.params)
        close = nearest(scalar.text, names)
        hint = f"did you mean {close!r}?" if close else f"its keys are: {listed(names)}" if names else "it has no keys"
        owner = (
            f"phase {one.form.name!r}" if one.form.templated else f"job {lacking.job.id!r} of phase {one.form.name!r}"
        )
        what = f"phase {form.name!r} matches by {scalar.text!r}, which {owner} lacks"
        faults.add(scalar.mark, what, hint)


def _value(value: str) -> str:
    return value if _BARE.fullmatch(value) else json.dumps(value, ensure_ascii=False)


def _check_jobs_exist(faults: Faults, phases: Sequence[_Phase]) -> None:
    if not all(phase.whole for phase in phases):
        return  # some ids are not known
    ids: Mapping[str, None] | None = None
    names = {phase.form.name for phase in phases}
    for phase in phases:
        for made in phase.made:
            for name in made.job.depends_on:
                if ids is None:
                    ids = {one.job.id: None for other in phases for one in other.made}
                if name not in ids:
                    _unknown_job(faults, phase, made, name, list(ids), names)


def _unknown_job(faults: Faults, phase: _Phase, made: Made, name: str, ids: Sequence[str], phases: set[str]) -> None:
    scalars = phase.form.jobs[made.form].depends_on
    mark = scalars[0].mark if scalars else phase.form.mark
    for scalar in scalars:
        if scalar.text == name:
            mark = scalar.mark
    once = ("depends_on", mark) if phase.form.templated else None
    if name in phases:
        hint = f"{name!r} is a phase: put it in depends_on of phase {phase.form.name!r}"
    else:
        close = nearest(name, ids)
        hint = f"did you mean {close!r}?" if close else f"the jobs are: {listed(ids, 5)}"
    faults.add(mark, f"job {made.job.id!r} depends on {name!r}, which is not a job", hint, once=once)


def _circle_mark(circle: Sequence[str], phases: Sequence[_Phase]) -> Mark:
    """Return a place where the circle can be broken."""
    for phase in phases:
        for made in phase.made:
            if made.job.id in circle and phase.form.jobs[made.form].depends_on:
                return phase.form.jobs[made.form].depends_on[0].mark
    for phase in phases:
        if phase.form.depends_on and (phase.form.name in circle or any(m.job.id in circle for m in phase.made)):
            return phase.form.depends_on[0].mark
    return phases[0].form.mark
