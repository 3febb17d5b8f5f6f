"""A campaign is begun: from flags, from a known layout, and not where something is wrong with it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from build_manifest.faults import SpecErrors
from skill.auto import config_file, layouts, store
from skill.auto.campaign import Record
from skill.auto.config import Config, Declared, Guard, Limits, Noise, Scope
from skill.auto.events import LoopStarted
from skill.auto.journal import Journal
from skill.auto.layout import WorkDir
from skill.auto.ports import JobSeen, JobToRun
from skill.cli import main
from skill.common import typed_json
from skill.common.errors import DONE, USE, FailedError, UseError
from skill.operations import auto_init, auto_run
from skill.operations.auto_init import Wanted
from tests.auto.world import SCRIPT, begun, scripted

TRAIN = "import sys\nlr = float(sys.argv[1])\nprint(f'loss={(lr - 0.3) ** 2:.4f}')\n"
AGENT = f"{sys.executable} {SCRIPT}"


def git(repo: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=repo, check=True, capture_output=True, text=True).stdout.strip()


def make_repo(folder: Path, **texts: str) -> Path:
    folder.mkdir(parents=True)
    for name, text in texts.items():
        (folder / name.replace("__", ".")).write_text(text)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=Ann", "-c", "user.email=ann@localhost", "commit", "-q", "-m", "Begin")
    return folder


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "repo", train__py=TRAIN, data__csv="1\n")


def wanted(repo: Path, **changes: Any) -> Wanted:
    given = Wanted(
        repo,
        command="python3 train.py ${lr}",
        metric="loss",
        rule=r"{log: 'loss=(\S+)'}",
        goal="min",
        settings={"lr": "0.1"},
        editable=("train.py",),
        protected=("data.csv",),
        agent=AGENT,
        limits={"max_nodes": 4},
    )
    return replace(given, **changes)


def printed(loss: float | None, status: str = "completed", error: str = "") -> Callable[..., JobSeen]:
    """A measurement that gives this loss, in 20 seconds."""

    def measure(_config: Config, _work: WorkDir, job: JobToRun, _say: object) -> JobSeen:
        assert (job.directory / "train.py").is_file(), "it runs in a worktree"
        metrics = {} if loss is None else {"loss": loss}
        return JobSeen(status, metrics, error, started=100.0, ended=120.0)

    return measure


def test_flags_become_a_configuration(repo: Path, tmp_path: Path) -> None:
    work = WorkDir(tmp_path / "search")
    made = auto_init.begin(work.root, wanted(repo), measure=printed(0.04))
    assert (made.value, made.seconds) == (0.04, 20.0)
    config = config_file.read(work)
    assert config == made.config
    assert (config.name, config.repo, config.subdir) == ("search", str(repo), ".")
    assert config.launch.settings == {"lr": 0.1}
    assert config.metrics["loss"]["log"] == r"loss=(\S+)"
    assert config.agent.cmd == (sys.executable, str(SCRIPT))
    assert config.job_minutes == 0.5, "half more than the run took, in minutes"
    assert config.anchor == git(repo, "rev-parse", "wq/search/anchor") == git(repo, "rev-parse", "HEAD")
    assert git(repo, "branch", "--format=%(refname:short)").split() == ["main", "wq/search/anchor"]
    assert sorted(path.name for path in work.root.iterdir()) == ["config.json", "journal.jsonl"]
    with pytest.raises(UseError, match="has a campaign already"):
        auto_init.begin(work.root, wanted(repo), measure=printed(0.04))


def test_what_is_measured_was_built_before(repo: Path, tmp_path: Path) -> None:
    def measure(_config: Config, _work: WorkDir, job: JobToRun, _say: object) -> JobSeen:
        assert (job.directory / "made").exists()
        return JobSeen("completed", {"loss": len(job.image)}, started=0.0, ended=1.0)

    build = "echo begun; touch made; echo image:7"
    assert auto_init.begin(tmp_path / "search", wanted(repo, build=build), measure=measure).value == 7.0
    with pytest.raises(FailedError, match="the build `echo no; exit 3` failed with exit code 3:\nno"):
        auto_init.begin(tmp_path / "other", wanted(repo, build="echo no; exit 3"), measure=measure)
    assert not (tmp_path / "other").exists()


def test_a_program_in_a_directory_of_the_repository(repo: Path, tmp_path: Path) -> None:
    (repo / "sub").mkdir()
    (repo / "sub" / "train.py").write_text(TRAIN)
    git(repo, "add", ".")
    git(repo, "-c", "user.name=Ann", "-c", "user.email=ann@localhost", "commit", "-q", "-m", "Sub")
    config = auto_init.begin(tmp_path / "search", wanted(repo / "sub", protected=()), measure=printed(1.0)).config
    assert (config.subdir, config.scope.editable, config.repo) == ("sub", ("sub/train.py",), str(repo))


def test_uncommitted_changes_are_named_or_committed_to_the_anchor(repo: Path, tmp_path: Path) -> None:
    (repo / "train.py").write_text(TRAIN + "# mine\n")
    (repo / "notes.txt").write_text("not editable\n")
    work = WorkDir(tmp_path / "search")
    with pytest.raises(UseError, match=r"uncommitted changes in train\.py: commit them, or add --include-changes"):
        auto_init.begin(work.root, wanted(repo), measure=printed(0.04))
    assert not work.root.exists()
    before = (git(repo, "status", "--porcelain"), (repo / ".git" / "index").read_bytes())
    config = auto_init.begin(work.root, wanted(repo), include_changes=True, measure=printed(0.04)).config
    assert git(repo, "show", f"{config.anchor}:train.py").endswith("# mine")
    assert git(repo, "ls-tree", "--name-only", config.anchor).split() == ["data.csv", "train.py"]
    assert (git(repo, "status", "--porcelain"), (repo / ".git" / "index").read_bytes()) == before


@pytest.mark.parametrize(
    ("measure", "says"),
    [
        (printed(None), "gives no loss: completed: it printed no loss"),
        (printed(None, "stuck", "exit code 1: no module named torch"), "gives no loss: stuck: exit code 1: no module"),
    ],
)
def test_an_objective_that_no_run_yields_begins_nothing(
    measure: Callable[..., JobSeen], says: str, repo: Path, tmp_path: Path
) -> None:
    work = WorkDir(tmp_path / "search")
    with pytest.raises(FailedError, match=says):
        auto_init.begin(work.root, wanted(repo), measure=measure)
    assert not work.root.exists()
    assert git(repo, "branch", "--format=%(refname:short)") == "main"
    assert len(git(repo, "worktree", "list").splitlines()) == 1


def test_a_directory_that_is_no_repository(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    work = WorkDir(tmp_path / "search")
    with pytest.raises(UseError, match="is in no git repository; make one: git init"):
        auto_init.begin(work.root, wanted(tmp_path / "plain"), measure=printed(1.0))
    git(tmp_path / "plain", "init", "-q")
    with pytest.raises(UseError, match="has no commit yet; make one"):
        auto_init.begin(work.root, wanted(tmp_path / "plain"), measure=printed(1.0))
    with pytest.raises(UseError, match="there is no directory"):
        auto_init.begin(work.root, wanted(tmp_path / "gone"), measure=printed(1.0))
    assert not work.root.exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"protected": ("*.py",)}, r"train\.py is editable and protected"),
        ({"editable": ("trian.py",)}, r"no committed file matches --edit trian\.py"),
        ({"agent": "not-there --fast"}, "the agent's command 'not-there' was not found"),
        ({"command": "python3 train.py ${lr} ${wd}"}, r"uses \${wd}, which launch.settings does not give"),
        ({"settings": {"lr": "0.1", "wd": "0"}}, "wd has no effect"),
        ({"settings": {}, "command": "python3 train.py 1", "editable": ()}, r"say .*--edit or --set"),
        ({"limits": {}}, "nothing ends this campaign"),
        (
            {"limits": {"max_usd": 1.0}, "gpu_usd_per_hour": 2.0, "job_minutes": 10.0},
            r"limits\.max_usd is \$1\.00, and the baseline alone costs \$1\.67 \(5 runs of 10 min at \$2/h\)",
        ),
        ({"metric": None}, "--metric"),
        ({"agent": None}, "--agent"),
    ],
)
def test_bad_input_is_one_message_and_writes_nothing(
    changes: dict[str, Any], says: str, repo: Path, tmp_path: Path
) -> None:
    work = WorkDir(tmp_path / "search")

    def never(*_: object) -> JobSeen:
        raise AssertionError("nothing is run")

    with pytest.raises(UseError, match=says):
        auto_init.begin(work.root, wanted(repo, **changes), measure=never)
    assert not work.root.exists()
    assert git(repo, "branch", "--format=%(refname:short)") == "main"


def test_a_rule_that_cannot_be_one(repo: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecErrors, match="put"):
        auto_init.begin(tmp_path / "search", wanted(repo, rule="{log: 'loss='}"), measure=printed(1.0))


def test_the_time_of_the_first_run_is_priced(repo: Path, tmp_path: Path) -> None:
    """A budget is compared with the baseline as soon as it is known how long a run takes."""
    work = WorkDir(tmp_path / "search")
    given = wanted(repo, limits={"max_usd": 0.01}, gpu_usd_per_hour=2.0)
    with pytest.raises(UseError, match=r"the baseline alone costs \$0\.08"):
        auto_init.begin(work.root, given, measure=printed(1.0))
    assert not work.root.exists()
    assert git(repo, "branch", "--format=%(refname:short)") == "main"


def test_the_agent_instruments_a_program(repo: Path, tmp_path: Path) -> None:
    """One that gives no rule begins nothing."""
    script = tmp_path / "agent.sh"
    script.write_text("#!/bin/sh\ncat > /dev/null\necho '# x' >> train.py\necho '{\"summary\": \"a comment\"}'\n")
    script.chmod(0o755)
    given = wanted(repo, rule=None, agent=str(script))
    with pytest.raises(UseError, match="no rule reads 'loss'"):
        auto_init.begin(tmp_path / "one", given, instrument=True, measure=printed(1.0))
    assert git(repo, "branch", "--format=%(refname:short)") == "main"
    agent = f"{AGENT} --append 'print(\"loss=1\")'"
    made = auto_init.begin(tmp_path / "two", replace(given, agent=agent), instrument=True, measure=printed(1.0))
    assert made.config.metrics == {"loss": {"log": r"loss=(\S+)"}}
    assert git(repo, "show", "wq/two/anchor:train.py").endswith('print("loss=1")')
    assert git(repo, "rev-parse", "wq/two/anchor") == made.config.anchor
    assert (repo / "train.py").read_text() == TRAIN


PROGRAM = """# autoresearch

## Setup

Create the branch.

## Experimentation

The training script runs for a **fixed time budget of 5 minutes**. You launch it simply as: `uv run train.py`.

**The goal is simple: get the lowest val_bpb.**

## Output format

```
---
val_bpb:          0.997900
training_seconds: 300.1
peak_vram_mb:     45060.2
```

## The experiment loop

**Timeout**: If a run exceeds 10 minutes, kill it.
"""


def test_the_layout_of_autoresearch_needs_no_answer(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo", train__py=TRAIN, prepare__py="x\n", program__md=PROGRAM)
    work = WorkDir(tmp_path / "mar5")

    def measure(config: Config, *_: object) -> JobSeen:
        return JobSeen("completed", {config.objective.metric: 0.99}, started=0.0, ended=320.0)

    given = Wanted(repo, agent=AGENT, limits={"max_nodes": 100})
    config = auto_init.begin(work.root, given, measure=measure).config
    assert config.layout == "karpathy"
    assert (config.objective.metric, config.objective.goal) == ("val_bpb", "min")
    assert config.launch.command == "uv run train.py"
    assert config.scope == Scope(("train.py",), ("prepare.py", "program.md"))
    assert config.metrics.keys() == {"val_bpb", "training_seconds", "peak_vram_mb"}
    assert config.job == {"gpus": 1, "timeout": 600.0}
    assert config.time_budget
    assert config.job_minutes == 7.5
    assert "fixed time budget of 5 minutes" in config.brief
    assert "Create the branch" not in config.brief, "the loop is code here"


@pytest.mark.parametrize(
    ("text", "metric", "goal"),
    [
        (PROGRAM, "val_bpb", "min"),
        ("", "val_bpb", "min"),
        ("get the highest score.\n```\n---\nscore:   0.42\nn: 3\n```\n", "score", "max"),
        ("get the highest `acc`.\n```text\n---\nloss: 0.42\nacc: 3e-1\ndrawdown: -15.2%\n```\n", "acc", "max"),
    ],
)
def test_what_a_copy_of_the_layout_measures(text: str, metric: str, goal: str) -> None:
    found = layouts.recognise(layouts.KARPATHY, text)
    assert found is not None
    assert (found.metric, found.goal) == (metric, goal)
    assert "drawdown" not in found.metrics


def test_another_directory_is_not_taken_for_the_layout() -> None:
    assert layouts.recognise(("train.py", "prepare.py"), "") is None


# -- config.json ------------------------------------------------------------------------------------------------------


def written(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> WorkDir:
    config = replace(begun(scripted()).config, limits=Limits(max_nodes=3))
    document: dict[str, Any] = json.loads(typed_json.pretty(typed_json.plain(config)))
    change(document)
    work = WorkDir(tmp_path)
    work.config.write_text(json.dumps(document))
    return work


def test_a_configuration_comes_back(tmp_path: Path) -> None:
    config = replace(
        begun(scripted()).config,
        limits=Limits(max_nodes=3, target=0.5),
        guards=(Guard("loss", max=2.0),),
        declared=(Declared("ceiling", {"lr": 1}, control=True),),
        noise=Noise(baseline=3),
    )
    config_file.write(WorkDir(tmp_path), config)
    assert config_file.read(WorkDir(tmp_path)) == config


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda one: one.update(desired=1), r"unknown key desired; did you mean declared\?"),
        (lambda one: one["limits"].update(max_node=1), r"unknown key limits\.max_node; did you mean max_nodes\?"),
        (lambda one: one.update(guards=[{"metric": "loss", "mx": 1}]), r"unknown key guards\[0\]\.mx"),
        (lambda one: one.update(guards=[{"metric": "acc", "max": 1}]), "guards: no rule reads 'acc'; .*: loss"),
        (lambda one: one.update(guards=[{"metric": "loss"}]), "loss has neither max nor min"),
        (lambda one: one["objective"].update(goal="least"), "objective.goal: invalid enum value 'least'"),
        (lambda one: one["objective"].update(metric="acc"), "objective: no rule reads 'acc'"),
        (lambda one: one["noise"].update(baseline=2), "noise.baseline is 2; fewer than 3 runs"),
        (lambda one: one["agent"].update(cmd=[]), "agent.cmd is empty"),
        (lambda one: one.update(name="a/b"), "name 'a/b' cannot be part of a branch"),
        (lambda one: one.update(repo="code"), "repo 'code' is not an absolute path"),
        (lambda one: one["scope"].update(editable=["a"], protected=["a"]), "a is editable and protected"),
        (lambda one: one["scope"].update(editable=["../a"]), "'../a' has to be relative to the repository"),
        (lambda one: one.update(declared=[{"title": "t", "settings": {"rl": 1}}]), "declared 't': there is no"),
        (lambda one: one["limits"].update(max_nodes=0), "limits.max_nodes is 0, and has to be at least 1"),
        (lambda one: one["launch"].update(command=" "), "launch.command is empty"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_config_json_is_named(change: Callable[[Any], object], says: str, tmp_path: Path) -> None:
    with pytest.raises(UseError, match=says):
        config_file.read(written(tmp_path, change))


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    def change(one: Any) -> None:
        one["noise"]["baseline"] = 1
        one["objective"]["metric"] = "acc"
        one["more"] = 1

    with pytest.raises(UseError, match=r"(?s)3 faults, and nothing was written.*more.*acc.*baseline"):
        config_file.read(written(tmp_path, change))


def test_a_directory_without_a_configuration(tmp_path: Path) -> None:
    with pytest.raises(UseError, match="make it with: wavequeue auto init"):
        config_file.read(WorkDir(tmp_path))


# -- the verbs --------------------------------------------------------------------------------------------------------


def verb(*words: str) -> int:
    return main.main(["auto", *words])


def test_a_terminal_is_asked_for_what_is_missing(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(auto_init, "measure_here", printed(0.04))
    answers = iter(["python3 train.py ${lr}", "loss", r"{log: 'loss=(\S+)'}", "min", AGENT])
    asked: list[str] = []

    def answer(text: str, **_options: object) -> str:
        asked.append(text)
        return next(answers)

    monkeypatch.setattr("click.prompt", answer)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    work = tmp_path / "search"
    assert verb("init", str(work), "--dir", str(repo), "--set", "lr=0.1", "--max-nodes", "3") == DONE
    assert [one.split()[0] for one in asked] == ["How", "Which", "How", "Is", "Which"]
    assert config_file.read(WorkDir(work)).objective.metric == "loss"
    output = capsys.readouterr().out
    assert "one run gives loss 0.04, in 20 s\n" in output
    assert f"start it: wavequeue auto run {work}\n" in output


def test_without_a_terminal_everything_that_is_missing_is_named(
    repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb("init", str(tmp_path / "search"), "--dir", str(repo), "--yes") == USE
    output = capsys.readouterr().err
    for option in ("--command", "--metric", "--goal", "--edit or --set", "--agent"):
        assert f"({option}" in output
    assert verb("init", str(tmp_path / "search"), "--dir", str(repo), "--set", "lr") == USE
    assert "write --set NAME=VALUE" in capsys.readouterr().err


def test_an_idea_that_ships_is_declared(repo: Path, tmp_path: Path) -> None:
    given = wanted(repo, ideas=("cached-loader", "subprocess-loader"))
    config = auto_init.begin(tmp_path / "search", given, measure=printed(1.0)).config
    assert [one.title for one in config.declared] == [
        "Cache decoded samples in memory", "Load data in subprocesses, ahead of the training",
    ]  # fmt: skip
    assert all(one.edit and not one.control for one in config.declared)
    with pytest.raises(UseError, match="there is no idea cache-loader; did you mean cached-loader"):
        auto_init.begin(tmp_path / "other", wanted(repo, ideas=("cache-loader",)), measure=printed(1.0))


def test_the_configuration_may_be_changed_until_it_is_run(repo: Path, tmp_path: Path) -> None:
    work = WorkDir(tmp_path / "search")
    config = auto_init.begin(work.root, wanted(repo), measure=printed(1.0)).config
    config_file.write(work, replace(config, brief="a new brief"))
    output: list[str] = []
    auto_run.take_configuration(work, output.append)
    assert store.load(work)[0].config.brief == "a new brief"
    journal = Journal(work.journal, store.load(work)[1])
    journal.append([Record(2, 1.0, LoopStarted(1))])
    journal.close()
    config_file.write(work, replace(config, brief="too late"))
    auto_run.take_configuration(work, output.append)
    assert store.load(work)[0].config.brief == "a new brief"
    assert "config.json was changed after the campaign began" in output[0]


def supervised(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *words: str) -> list[str]:
    """The command that `auto supervise` becomes."""
    started: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda _file, command: started.append(list(command)))
    talk = tmp_path / "talk"
    talk.write_text("#!/bin/sh\n")
    talk.chmod(0o755)
    assert verb("supervise", *words, "--agent", f"{talk} --fast") == DONE
    (command,) = started
    assert command[:2] == [str(talk), "--fast"]
    return command


def test_a_supervisor_is_told_what_is_known_and_missing(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "search"
    prompt = supervised(monkeypatch, tmp_path, str(work), "--dir", str(repo))[-1]
    assert prompt.startswith("# wavequeue auto: from a program to a search")
    assert "It has not begun." in prompt
    assert "- Which metric is to get better (--metric)" in prompt
    assert not work.exists()
    auto_init.begin(work, wanted(repo), measure=printed(0.04))
    monkeypatch.chdir(tmp_path / "repo" / "..")
    prompt = supervised(monkeypatch, tmp_path, str(work))[-1]
    assert "It has begun: steps 1 and 2 are done." in prompt
    assert '"command": "python3 train.py ${lr}"' in prompt
    assert verb("supervise", str(work), "--agent", "not-there") == USE
    assert "'not-there' was not found" in capsys.readouterr().err


def test_a_supervisor_sees_the_layout_of_autoresearch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = make_repo(tmp_path / "repo", train__py=TRAIN, prepare__py="x\n", program__md=PROGRAM)
    prompt = supervised(monkeypatch, tmp_path, str(tmp_path / "search"), "--dir", str(repo))[-1]
    assert "Its layout is that of karpathy/autoresearch: `uv run train.py`, val_bpb (min)" in prompt
    assert "--metric)" not in prompt
