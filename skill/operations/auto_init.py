"""Begin a campaign: find out what is missing, prove that one real run gives the metric, commit the anchor, and write
config.json. Where something is wrong, nothing is written."""

from __future__ import annotations

import os
import shlex
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from build_manifest import build
from build_manifest.faults import Fault, SpecErrors
from build_manifest.written_spec import project_name
from skill.auto import config_file, gate, ideas, layouts, repository, store
from skill.auto.agent import CommandAgent, find_command
from skill.auto.campaign import Campaign, job_id
from skill.auto.config import AgentSpec, Config, Launch, Limits, Objective, Scope, Settings, Value
from skill.auto.layout import WorkDir
from skill.auto.layouts import Recognised
from skill.auto.ports import Answer, JobSeen, JobToRun, Refused, Request
from skill.auto.prompt import renderer
from skill.auto.replies import InstrumentReply
from skill.auto.repository import Repository
from skill.auto.source import GitSource
from skill.common import files, typed_json
from skill.common.errors import FailedError, UseError
from skill.operations import auto_queue, wait_run
from skill.operations.build_spec import Say, ignore
from skill.research import run_records

PROBE = "probe"
"""The node that is run to prove that the metric can be read."""
AGENTS: Mapping[str, AgentSpec] = {
    "claude": AgentSpec(
        ("claude", "-p", "--output-format", "json", "--permission-mode", "acceptEdits"), "claude",
        env=("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"),
    ),
    "codex": AgentSpec(
        ("codex", "exec", "--json", "--skip-git-repo-check", "--sandbox", "workspace-write", "-"), "codex",
        env=("OPENAI_API_KEY", "CODEX_API_KEY"),
    ),
}  # fmt: skip
"""Agents that are known by one word."""


Measure = Callable[[Config, WorkDir, JobToRun, Say], JobSeen]
"""Runs one job to its end."""


@dataclass(frozen=True)
class Wanted:
    """What a person says of a campaign; None: nothing. `rule`: how the metric is read, as in a spec; `agent`: one of
    AGENTS, or a command; `envelope`: of a command's output;
    `limits`: see skill.auto.config.Limits; `ideas`: names of skill.auto.ideas."""

    directory: Path
    name: str | None = None
    command: str | None = None
    metric: str | None = None
    rule: str | None = None
    goal: Literal["min", "max"] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    editable: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    agent: str | None = None
    envelope: Literal["claude", "codex", "raw"] | None = None
    build: str | None = None
    check: str | None = None
    hosts: tuple[str, ...] = ()
    gpus: int | None = None
    gpu_usd_per_hour: float | None = None
    job_minutes: float | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    brief: str = ""
    ideas: tuple[str, ...] = ()


@dataclass(frozen=True)
class Begun:
    """A campaign that can run. `value`: the metric of the run that proved it; `seconds`: how long that took."""

    config: Config
    value: float
    seconds: float


@dataclass(frozen=True)
class Question:
    """Something that is missing. `field`: of Wanted; `option`: that gives it; `ask`: in words; `default`: None where
    there is none."""

    field: str
    option: str
    ask: str
    default: str | None = None


def look(wanted: Wanted) -> tuple[Repository, Recognised | None]:
    """The repository of a program, and its layout if that is known. Raises UseError."""
    found = repository.find(wanted.directory)
    names = {path.name for path in wanted.directory.iterdir() if path.is_file()}
    program = wanted.directory / "program.md"
    return found, layouts.recognise(names, files.read_text(program) if program.name in names else "")


def questions(wanted: Wanted, known: Recognised | None, *, instrument: bool = False) -> list[Question]:
    """What is missing, in the order in which it is asked."""
    if known is not None:
        return [] if wanted.agent else [_AGENT]
    found = []
    if wanted.command is None:
        found.append(Question("command", "--command", "How is the program run, such as: python train.py --lr ${lr}"))
    if wanted.metric is None:
        found.append(Question("metric", "--metric", "Which metric is to get better"))
    if wanted.rule is None and not instrument:
        found.append(Question("rule", "--metric NAME=RULE", "How is it read, such as: {log: 'loss=(\\S+)'}"))
    if wanted.goal is None:
        found.append(Question("goal", "--goal", "Is smaller (min) or larger (max) better", "min"))
    if not wanted.settings and not wanted.editable:
        found.append(Question("editable", "--edit or --set", "Which files may the agent edit, such as: train.py"))
    return found if wanted.agent else [*found, _AGENT]


_AGENT = Question("agent", "--agent", "Which agent: claude, codex, or a command", "claude")


def begin(
    root: Path,
    wanted: Wanted,
    *,
    include_changes: bool = False,
    instrument: bool = False,
    say: Say = ignore,
    measure: Measure | None = None,
) -> Begun:
    """Check everything, run the program once, and write config.json. `include_changes`: uncommitted changes of files
    that may be edited are part of the anchor; `instrument`: the agent makes the program report its metric; `measure`:
    runs a job, None: as the campaign will. Raises UseError, SpecErrors and FailedError, with nothing left behind."""
    work = WorkDir(Path(os.path.abspath(root)))
    if work.config.exists() or work.journal.exists():
        raise UseError(f"{work.root} has a campaign already; resume it with: wavequeue auto run {work.root}")
    found, known = look(wanted)
    if missing := questions(wanted, known, instrument=instrument):
        raise UseError("say " + "; ".join(f"{one.ask} ({one.option})" for one in missing))
    config = configuration(work, wanted, found, known)
    changed = repository.uncommitted(found.root, config.scope, work.root)
    config_file.raise_faults(str(work.root), _all_faults(work, config, () if include_changes else changed, instrument))
    is_new = not work.root.exists()
    try:
        anchor = repository.make_anchor(found.root, config.name, changed if include_changes else ())
        config = replace(config, anchor=anchor)
        if instrument:
            say("the agent makes the program report its metric")
            config = _instrumented(work, config)
        say(f"running once, to read {config.objective.metric}: {config.launch.command}")
        value, seconds = _prove(work, config, measure or measure_here, say)
        if config.job_minutes is None:
            config = replace(config, job_minutes=round(max(seconds * 1.5, 1.0) / 60, 3))
            config_file.raise_faults(str(work.root), config_file.faults(config))
        config_file.write(work, config)
        store.begin(work, config)
    except BaseException:
        repository.delete_branch(found.root, config.name, repository.ANCHOR)
        if is_new:
            shutil.rmtree(work.root, ignore_errors=True)
        raise
    return Begun(config, value, seconds)


def configuration(work: WorkDir, wanted: Wanted, found: Repository, known: Recognised | None) -> Config:
    """The configuration that follows from what a person said and from the layout. Raises UseError and SpecErrors."""
    metric = wanted.metric or (known.metric if known else "")
    metrics = dict(known.metrics) if known else {}
    if wanted.rule is not None:
        metrics.update(run_records.rules({metric: wanted.rule}, [PROBE], f"--metric {metric}")[PROBE])
    job: dict[str, Any] = {} if wanted.gpus is None else {"gpus": wanted.gpus}
    minutes = wanted.job_minutes
    if known is not None:
        job.setdefault("gpus", 1)  # alone on its GPU: others there would take steps from it, and change its result
        if known.timeout is not None:
            job["timeout"] = known.timeout
        minutes = minutes or known.minutes
    agent = AGENTS.get(wanted.agent or "") or AgentSpec(tuple(shlex.split(wanted.agent or "")))
    agent = replace(
        agent, cmd=find_command(agent.cmd, Path.cwd()), envelope=wanted.envelope or agent.envelope
    )  # fmt: skip
    return Config(
        name=wanted.name or project_name(work.root.resolve().name),
        repo=str(found.root),
        anchor="HEAD",
        objective=Objective(metric, wanted.goal or (known.goal if known else "min")),
        metrics=metrics,
        launch=Launch(
            wanted.command or (known.command if known else ""),
            {name: read_value(text) for name, text in wanted.settings.items()},
            wanted.build,
            wanted.check,
        ),
        agent=agent,
        subdir=found.subdir,
        limits=typed_json.into(dict(wanted.limits), Limits),
        scope=_scope(wanted, found, known),
        declared=tuple(ideas.declared(name) for name in wanted.ideas),
        run={"hosts": list(wanted.hosts)} if wanted.hosts else {},
        job=job,
        gpu_usd_per_hour=wanted.gpu_usd_per_hour,
        job_minutes=minutes,
        time_budget=known is not None,
        layout=known.layout if known else None,
        brief=wanted.brief or (known.brief if known else ""),
    )


def _scope(wanted: Wanted, found: Repository, known: Recognised | None) -> Scope:
    """Globs that a person gives are relative to the program's directory, as its command is."""
    editable = wanted.editable or (known.editable if known else ())
    protected = wanted.protected or (known.protected if known else ())
    inside = "" if found.subdir == "." else f"{found.subdir}/"
    return Scope(tuple(inside + one for one in editable), tuple(inside + one for one in protected))


def read_value(text: str) -> Value:
    """A setting as a person writes it: a number, true or false, or text."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _all_faults(work: WorkDir, config: Config, changed: Sequence[str], instrument: bool) -> list[str]:
    """Everything that is wrong, so that it is said at once. `instrument`: the rule of the metric is still to come."""
    if instrument:
        config = replace(config, metrics={config.objective.metric: {"log": "(.*)"}, **config.metrics})
    found = config_file.faults(config)
    if changed:
        named = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
        found.append(f"uncommitted changes in {named}: commit them, or add --include-changes")
    root = Path(config.repo)
    there = repository.files(root, "HEAD")
    scope = config.scope
    if both := [one for one in there if gate.covers(scope.editable, one) and gate.covers(scope.protected, one)]:
        found.append(f"{both[0]} is editable and protected; narrow --edit or --protect")
    for glob in scope.editable:
        if not any(gate.covers((glob,), one) for one in there):
            found.append(f"no committed file matches --edit {glob}; nothing in it could be edited")
    if repository.has_branches(root, config.name):
        found.append(
            f"there are branches wq/{config.name}/ of an earlier campaign; choose another name with --name, or delete "
            "them: git worktree prune; git branch -D $(git branch --list --format='%(refname:short)' "
            f"'wq/{config.name}/*')"
        )
    try:
        build(auto_queue.spec_of(config, work, [_job(config, work, "n000")]).text, "the jobs of the campaign")
    except SpecErrors as error:
        found += [_in_words(fault) for fault in error.faults]
    return found


def _in_words(fault: Fault) -> str:
    return str(fault._replace(line=0))


def _instrumented(work: WorkDir, config: Config) -> Config:
    """The configuration with the commit and the rules by which the agent made the metric readable. Raises FailedError,
    with the reason that it gives."""
    probe, stop = _probe_dir(work), threading.Event()
    source = GitSource(config, probe)
    try:
        path = source.prepare(PROBE, config.anchor)
        agent = CommandAgent(config.agent, probe, renderer(work))
        agent.end_leftovers()
        answer = agent.ask(Request(1, "instrument"), Campaign(config, time.time()), path, stop)
        if not isinstance(answer, Answer) or not isinstance(answer.reply, InstrumentReply):
            raise FailedError(f"the agent did not instrument the program: {getattr(answer, 'text', '')}")
        passed = source.gate(PROBE, config.anchor, stop)
        if isinstance(passed, Refused):
            raise FailedError(f"what the agent did to the program is refused: {passed.reason}")
        config = replace(config, anchor=passed.commit, metrics={**config.metrics, **answer.reply.metrics})
        config_file.raise_faults("after the agent's edit", config_file.faults(config))
        repository.move_anchor(Path(config.repo), config.name, passed.commit)
        return config
    finally:
        _clear(source, probe, config)


def _prove(work: WorkDir, config: Config, measure: Measure, say: Say) -> tuple[float, float]:
    """Run the anchor once and read the metric as every node's will be. Raises FailedError where that gives none."""
    probe = _probe_dir(work)
    source = GitSource(config, probe)
    try:
        source.prepare(PROBE, config.anchor)
        row = measure(config, probe, _built(config, source, _job(config, probe, PROBE)), say)
        value = row.metrics.get(config.objective.metric)
        if row.status != "completed" or value is None:
            why = row.error or f"it printed no {config.objective.metric}"
            raise FailedError(f"one run of the program gives no {config.objective.metric}: {row.status}: {why}")
        if missing := [one.metric for one in config.guards if one.metric not in row.metrics]:
            say(f"warning: the run gave no {', '.join(missing)}, which a guard needs")
        return value, (row.ended or 0.0) - (row.started or 0.0)
    finally:
        _clear(source, probe, config)


def _built(config: Config, source: GitSource, job: JobToRun) -> JobToRun:
    """Build the anchor as the code of every node is. Raises FailedError where that fails."""
    if config.launch.build is None:
        return job
    image = source.build(job.node, threading.Event())
    if isinstance(image, Refused):
        raise FailedError(image.reason)
    return replace(job, image=image)


def measure_here(config: Config, work: WorkDir, job: JobToRun, say: Say) -> JobSeen:
    """Run a job as a campaign's are, to its end. Raises FailedError."""
    queue = auto_queue.queue_of(config, work, say)
    queue.submit([job])
    run = queue.run()
    assert run is not None
    try:
        while wait_run.wait_run(run).why != wait_run.ENDED:
            continue
        return queue.look()[job.id]
    except BaseException:  # Ctrl-C: what was begun is ended before its directory goes
        queue.cancel([job.id])
        wait_run.wait_run(run)
        raise
    finally:
        try:
            queue.forget()
        except (FailedError, OSError) as error:
            say(f"warning: something of this run is left: {error}")


def _clear(source: GitSource, probe: WorkDir, config: Config) -> None:
    source.remove(PROBE)
    repository.delete_branch(Path(config.repo), config.name, PROBE)
    shutil.rmtree(probe.root, ignore_errors=True)


def _probe_dir(work: WorkDir) -> WorkDir:
    return WorkDir(work.root / PROBE)


def _job(config: Config, work: WorkDir, node: str) -> JobToRun:
    settings: Settings = config.launch.settings
    return JobToRun(job_id(node, 0, 0), node, 0, settings, work.code / node, config.anchor)
