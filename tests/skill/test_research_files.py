"""The verbs about research files, as a person types them: init, idea, add-run, project-status, validate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from build_manifest import build
from queue_manager.core.manifest import JobSpec
from skill.operations import research_runs
from skill.research import evidence_files
from skill.research.dispatch import job
from skill.research.evidence import Evidence
from skill.research.store import Store
from tests import in_process

Call = Callable[..., in_process.Ended]
INIT = (
    "init", "--title", "Two moons", "--idea", "Noise helps", "--target", "a loss below 0.3", "--metric", "val_loss",
)  # fmt: skip
SWEEP = """\
project: sweep
conda: moons
env: {WANDB_MODE: offline}
phases:
  - name: teach
    grid: {n: [384, 512]}
    template: {id: "t${n}", cmd: "python teach.py --n ${n}", expected_output: "ckpt/${n}.pt", timeout: 2h}
  - name: distill
    depends_on: teach
    match: [n]
    grid: {n: [384, 512], seed: 0..1}
    template: {cmd: "python distill.py --n ${n} --seed ${seed}", gpu_mem_mib: 9000, env: {X: "1"}, priority: 2}
"""


@pytest.fixture
def research(tmp_path: Path) -> Call:
    """The command, in a directory that is new."""

    def call(*arguments: str, code: int = 0) -> in_process.Ended:
        ended = in_process.run(("research", *arguments), tmp_path, dict(os.environ))
        assert ended.returncode == code, ended
        return ended

    return call


@pytest.fixture
def moons(research: Call) -> Call:
    """The same, where a project has begun."""
    research(*INIT)
    return research


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def queue(root: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((root / "queues" / f"{name}_queue.json").read_text(encoding="utf-8"))
    return found


# -- init ---------------------------------------------------------------------------------------------------------


def test_a_project_begins_with_its_files_and_its_idea(moons: Call, tmp_path: Path) -> None:
    for name in ("evidence", "paper", "benchmarks", "probes"):
        assert (tmp_path / "research" / "two-moons" / name).is_dir()
    assert queue(tmp_path, "idea")[0] | {"created": ""} == {
        "id": "two-moons-i1", "project": "two-moons", "text": "Noise helps", "state": "open", "created": "",
    }  # fmt: skip
    assert {path.name for path in (tmp_path / "schemas").iterdir()} == {
        f"{name}.schema.json" for name in ("idea_queue", "benchmark_queue", "run_queue", "publication_queue", "project")
    }
    assert moons("validate").stdout.startswith("0 faults; checked 1 project, 1 idea record")


def test_init_run_twice_changes_nothing(moons: Call, tmp_path: Path) -> None:
    before = files(tmp_path)
    moons(*INIT)
    assert files(tmp_path) == before


def test_init_brings_schemas_up_to_date_and_leaves_templates(moons: Call, tmp_path: Path) -> None:
    schema, template = tmp_path / "schemas" / "run_queue.schema.json", tmp_path / "templates" / "project.yaml"
    wanted, mine = schema.read_text(encoding="utf-8"), template.read_text(encoding="utf-8") + "notes: ours\n"
    schema.write_text("{}", encoding="utf-8")
    template.write_text(mine, encoding="utf-8")
    moons("init", "--title", "Three suns", *INIT[3:])
    assert schema.read_text(encoding="utf-8") == wanted
    assert template.read_text(encoding="utf-8") == mine
    assert "notes: ours" in (tmp_path / "research" / "three-suns" / "project.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"--title": "Two: moons!"}, "this title would get the id two-moons, which the project 'Two moons' has: "),
        ({"--idea": "Noise hurts"}, "add the idea: wavequeue research idea TEXT --project two-moons"),
        ({"--metric": "acc"}, "its metric is 'val_loss' and not 'acc'; edit "),
        ({"--title": "Suns", "--target": " "}, "--target is empty; write it in a few words"),
        ({"--title": "Suns", "--metric": "loss={json: a.json, ky: x}"}, "did you mean 'key'?"),
    ],
)
def test_init_refuses(moons: Call, tmp_path: Path, changed: dict[str, str], says: str) -> None:
    before = files(tmp_path)
    options = {INIT[n]: INIT[n + 1] for n in range(1, len(INIT), 2)} | changed
    ended = moons("init", *(word for option in options.items() for word in option), code=2)
    assert says in ended.stderr
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Ünïcode & Co.", "unicode-co"),
        ("x" * 60, "x" * 40),
        ("word " * 20, "word-word-word-word-word-word-word-word"),
        ("月", "p"),
    ],
)
def test_every_title_makes_a_safe_id(research: Call, tmp_path: Path, title: str, name: str) -> None:
    research("init", "--title", title, *INIT[3:])
    (made,) = (tmp_path / "research").iterdir()
    assert made.name == name or (name == "p" and len(made.name) == 9)
    assert f"title: {json.dumps(title, ensure_ascii=False)}" in (made / "project.yaml").read_text(encoding="utf-8")
    research("validate")


def test_other_directories_below_mean_the_same_project(moons: Call, tmp_path: Path) -> None:
    below = tmp_path / "src" / "deep"
    below.mkdir(parents=True)
    ended = in_process.run(("research", "idea", "More noise"), below, dict(os.environ))
    assert ended.stdout == "two-moons-i2\n"
    assert [one["id"] for one in queue(tmp_path, "idea")] == ["two-moons-i1", "two-moons-i2"]
    assert "two-moons-i2  open   -     More noise" in moons("idea").stdout


# -- ideas --------------------------------------------------------------------------------------------------------


def test_ideas_are_written_once_decided_and_linked_to_runs(moons: Call, tmp_path: Path) -> None:
    assert moons("idea", "Noise helps").stdout == "two-moons-i1\n"
    moons("add-run", "--command", "true", "--idea", "two-moons-i1")
    store = Store(tmp_path / "workers.yaml")
    store.change("run", lambda runs: [{**run, "state": "running"} for run in runs])
    shown = json.loads(moons("idea", "--json").stdout)
    assert [(one["id"], one["state"], one["runs"]) for one in shown] == [
        ("two-moons-i1", "running", {"two-moons-r1": "running"})
    ]
    assert moons("idea", "two-moons-i1", "--state", "refuted").stdout == "two-moons-i1 refuted: Noise helps\n"
    assert queue(tmp_path, "idea")[0]["state"] == "refuted"
    output = moons("idea", "two-mons-i1", "--state", "open", code=2).stderr
    assert "there is no idea two-mons-i1; did you mean two-moons-i1?" in output


# -- add-run ------------------------------------------------------------------------------------------------------


def test_a_run_has_what_it_was_given_and_what_its_project_says(research: Call, tmp_path: Path) -> None:
    research(*INIT[:-1], "val_loss={json: 'out/${id}.json', key: loss, goal: min}")
    more = ("--env", "A=b=c", "--priority", "7", "--metric", "acc={log: 'acc=(\\S+)'}")
    assert research("add-run", "--command", "python t.py > ${HOME}/x", *more).stdout == "two-moons-r1\n"
    (run,) = queue(tmp_path, "run")
    assert run | {"created": ""} == {
        "id": "two-moons-r1", "project": "two-moons", "command": "python t.py > ${HOME}/x", "priority": 7,
        "state": "pending", "created": "", "env": {"A": "b=c"},
        "metrics": {
            "val_loss": {"json": "out/two-moons-r1.json", "key": "loss", "goal": "min"}, "acc": {"log": "acc=(\\S+)"},
        },
    }  # fmt: skip
    assert job(run).cmd == "python t.py > ${HOME}/x"


def test_the_jobs_of_a_spec_become_runs_that_are_the_same_jobs(moons: Call, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP, encoding="utf-8")
    output = moons("add-run", "--spec", "sweep.yaml", "--idea", "two-moons-i1").stdout
    assert output.split() == [f"two-moons-r{n}" for n in range(1, 7)]
    runs = queue(tmp_path, "run")
    assert [run["depends_on"] for run in runs[2:]] == [["two-moons-r1"]] * 2 + [["two-moons-r2"]] * 2
    assert [run["params"] for run in runs[2:4]] == [{"n": "384", "seed": "0"}, {"n": "384", "seed": "1"}]
    assert [run["priority"] for run in runs] == [0, 0, 2, 2, 2, 2]
    assert {run["settings"]["conda"] for run in runs} == {"moons"}
    jobs = build(SWEEP, "sweep.yaml").manifest.jobs

    def bare(spec: JobSpec) -> JobSpec:
        return spec._replace(id="", depends_on=(), metrics=spec.metrics or None)

    assert [bare(job(run)) for run in runs] == [bare(spec) for spec in jobs]
    moons("validate")


def test_runs_of_a_spec_without_metrics_get_those_of_the_project(research: Call, tmp_path: Path) -> None:
    research(*INIT[:-1], "val_loss={json: 'out/${id}.json', key: loss}")
    (tmp_path / "sweep.yaml").write_text(SWEEP, encoding="utf-8")
    research("add-run", "--spec", "sweep.yaml", "--env", "X=2", "--priority", "9")
    runs = queue(tmp_path, "run")
    assert [run["metrics"]["val_loss"]["json"] for run in runs[:3]] == [
        "out/t384.json", "out/t512.json", "out/distill_n384_seed0.json",
    ]  # fmt: skip
    assert {(run["env"]["X"], run["priority"]) for run in runs} == {("2", 9)}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--command", "x", "--project-id", "two-mons"), "there is no project two-mons; did you mean two-moons?"),
        (("--command", "x", "--idea", "two-moons-i2"), "there is no idea two-moons-i2; did you mean two-moons-i1?"),
        (("--command", "x", "--worker-pool", "gpu"), "there is no pool gpu; did you mean gpus?"),
        (("--command", "x", "--metric", "a"), "write --metric NAME=RULE"),
        (("--command", "x", "--metric", "a=3"), "metric 'a' is not a rule; write {json: PATH"),
        (("--command", "x", "--metric", "a={json: o.json, ky: b}"), "did you mean 'key'?"),
        (("--command", "x", "--metric", "a={log: foo}"), "which has no group; put ( ) around the number"),
        (("--command", "x", "--metric", "a={csv: f.csv"), "--metric a: "),
        (("--command", "x", "--env", "A"), "write --env NAME=VALUE"),
        (("--command", "x", "--env", "A-B=1"), "the name may have letters, digits and _ only"),
        (("--command", "x", "--env", "A=1", "--env", "A=2"), "--env A is given twice"),
        (("--command", "x", "--env", "WANDB_API_KEY=0f3a9b8c7d6e5f4a3b2c1d0e9f8a7b6c5d4e3f2a"), "put it into .env"),
        (("--command", "python x.py &"), "--cmd"),
        (("--command", " "), "--command is empty"),
        (("--command", "x", "--spec", "sweep.yaml"), "give either --command COMMAND or --spec SPEC"),
        ((), "give either --command COMMAND or --spec SPEC"),
        (("--spec", "sweep.yaml", "--metric", "a={log: '(x)'}"), "--metric belongs to --command"),
        (("--spec", "sweep.yaml", "--gpus", "0"), "--gpus belongs to --command"),
        (("--spec", "swep.yaml"), "swep.yaml: cannot be read"),
    ],
)
def test_add_run_refuses(moons: Call, tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    (tmp_path / "workers.yaml").write_text("workers:\n  a: {kind: local, pool: gpus}\n", encoding="utf-8")
    before = files(tmp_path / "queues")
    assert says in moons("add-run", *arguments, code=2).stderr
    assert files(tmp_path / "queues") == before


def test_a_command_says_how_many_gpus_it_needs(moons: Call, tmp_path: Path) -> None:
    for gpus in ((), ("--gpus", "0"), ("--gpus", "4")):
        moons("add-run", "--command", "true", *gpus)
    assert [job(run).gpus for run in queue(tmp_path, "run")] == [1, 0, 4]
    moons("validate")


def test_where_nothing_has_begun_the_way_to_begin_is_said(research: Call, tmp_path: Path) -> None:
    for arguments in (("idea", "x"), ("add-run", "--command", "x"), ("project-status",), ("validate",)):
        assert "begin one: wavequeue research init --title" in research(*arguments, code=2).stderr
    assert list(tmp_path.iterdir()) == []


# -- validate -----------------------------------------------------------------------------------------------------


def fill(root: Path) -> None:
    """One record in each queue."""
    store, time = Store(root / "workers.yaml"), "2026-01-31T12:00:00Z"
    common = {"project": "two-moons", "created": time}
    one = Evidence("two-moons-r1", "on", "j", "main", {"seed": "0"}, {"val_loss": 0.5})
    evidence_files.append(store.paths.study("two-moons").evidence, store.paths.lock, [one])
    store.add("benchmark", lambda _: [{**common, "text": "noise", "state": "open"}])
    store.add("publication", lambda _: [{**common, "title": "t", "state": "draft"}])
    research_runs.add_command(store.paths.workers, None, "true", research_runs.Columns(idea="two-moons-i1"))


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("queues/idea_queue.json", '"state"', '"stte"', "unknown key stte; did you mean state?"),
        ("queues/idea_queue.json", '"open"', '"opne"', "state cannot be 'opne'; did you mean open?"),
        ("queues/benchmark_queue.json", '"text"', '"txt"', "unknown key txt; did you mean text?"),
        ("queues/run_queue.json", '"pending"', '"pendign"', "state cannot be 'pendign'; did you mean pending?"),
        (
            "queues/run_queue.json",
            '"two-moons-i1"',
            '"two-moons-i"',
            "there is no idea two-moons-i; did you mean two-moons-i1?",
        ),
        ("queues/run_queue.json", '"project": "two-moons"', '"project": "twomoons"', "did you mean two-moons?"),
        ("queues/run_queue.json", '"priority": 0', '"priority": "0"', "write a whole number; higher goes first"),
        (
            "queues/run_queue.json",
            '"priority": 0',
            '"priority": 0, "job": {"timeot": 3}',
            "did you mean timeout?",
        ),
        ("queues/run_queue.json", '"priority": 0', '"priority": 0, "settings": {"cnda": "x"}', "did you mean conda?"),
        (
            "queues/run_queue.json",
            '"priority": 0',
            '"depends_on": ["two-moons-r9"], "priority": 0',
            "did you mean two-moons-r1?",
        ),
        ("queues/run_queue.json", '"priority": 0', '"job": {"timeout": "x"}, "priority": 0', "job cannot be used: "),
        ("queues/run_queue.json", '"priority": 0', '"settings": {"gpus": 1}, "priority": 0', "settings cannot be used"),
        ("queues/run_queue.json", '"priority": 0', '"metrics": {"a": {"log": "x"}}, "priority": 0', "the rule of a "),
        ("queues/publication_queue.json", '"draft"', '"drft"', "state cannot be 'drft'; did you mean draft?"),
        ("queues/publication_queue.json", '"title": "t"\n', '"title": "t",\n', "remove the comma before it"),
        (
            "research/two-moons/evidence/runs.jsonl",
            '"metrics"',
            '"metrcs"',
            "unknown key metrcs; did you mean metrics?",
        ),
        ("research/two-moons/evidence/runs.jsonl", "{", "", "is not a line of evidence: "),
        ("research/two-moons/project.yaml", "target:", "taget:", "unknown key taget; did you mean target?"),
        ("research/two-moons/project.yaml", "id: two-moons", "id: twomoons", "write id: two-moons"),
        ("research/two-moons/project.yaml", "title: ", "title: [", "cannot be read as YAML"),
    ],
)
def test_a_typo_by_hand_is_named_with_its_line_and_changes_nothing_else(
    moons: Call, tmp_path: Path, file: str, old: str, new: str, says: str
) -> None:
    fill(tmp_path)
    moons("validate")
    path = tmp_path / file
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != text
    before = files(tmp_path)
    output = moons("validate", code=2).stdout
    line = text[: text.index(old)].count("\n") + 1
    fault = next(one for one in output.splitlines() if says in one)
    where = fault.removeprefix(f"{path}:").split(":")[0]
    assert int(where) - line in (0, 1, 2)  # where the reader noticed: a comma or bracket shows on a later line
    assert files(tmp_path) == before


def test_a_command_that_needs_a_broken_queue_writes_nothing(moons: Call, tmp_path: Path) -> None:
    fill(tmp_path)
    path = tmp_path / "queues" / "run_queue.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"pending"', "pending"), encoding="utf-8")
    before = files(tmp_path / "queues")
    output = moons("add-run", "--command", "true", code=2).stderr
    assert "run_queue.json:9:14: not JSON" in output
    assert "the last good copy is run_queue.json.last-good beside it" in output
    assert files(tmp_path / "queues") == before


# -- project-status -----------------------------------------------------------------------------------------------


def test_all_projects_on_one_screen(moons: Call, tmp_path: Path) -> None:
    moons("init", "--title", "Three suns", *INIT[3:])
    for _ in range(4):
        moons("add-run", "--project-id", "two-moons", "--command", "true")
    hour = {"started": "2026-01-31T12:00:00Z", "finished": "2026-01-31T13:30:00Z", "gpus": 2, "state": "done"}
    after: tuple[dict[str, Any], ...] = ({"state": "running"}, hour, {"state": "stuck"}, {})
    store = Store(tmp_path / "workers.yaml")
    store.change("run", lambda runs: [{**run, **more} for run, more in zip(runs, after, strict=True)])
    suns, two = json.loads(moons("project-status", "--json").stdout)["projects"]
    assert (suns["project"], two["project"]) == ("three-suns", "two-moons")
    assert suns["next"].startswith("add a run: wavequeue research add-run --project-id three-suns")
    assert two["counts"] == {
        "pending": 1, "claimed": 0, "running": 1, "done": 1, "failed": 0, "stuck": 1, "cancelled": 0,
    }  # fmt: skip
    assert two["gpu_hours"] == 3.0
    assert two["next"] == "find out why two-moons-r3 failed: wavequeue research check-runs"
    shown = moons("project-status").stdout.splitlines()
    assert len(shown) == 3
    assert shown[2].split()[:6] == ["two-moons", "1", "1", "1", "0", "1"]


def test_other_verbs_do_not_import_research() -> None:
    code = "import sys; from skill.cli.main import main; main(['--help'])"
    shown = "; print([name for name in sys.modules if 'research' in name])"
    ended = subprocess.run([sys.executable, "-c", code + shown], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"
