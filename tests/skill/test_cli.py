"""The command's face: verbs, help, and one message for whatever is asked wrongly."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

import skill
from queue_manager.core import events as ev
from queue_manager.core.manifest import Manifest
from skill.cli import console, main
from skill.common import commit
from skill.common.errors import DONE, FAILED, USE, FailedError
from skill.operations import run_status
from skill.runs import local_manager
from tests.skill.story import RUN_ID, Story, job, manifest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROMISED = [
    "init",
    "build",
    "plan",
    "run",
    "preflight",
    "submit",
    "status",
    "watch",
    "babysit",
    "why",
    "logs",
    "attach",
    "cancel",
    "retry",
    "accept",
    "pause",
    "resume",
    "add",
    "pull",
    "rescue",
    "repair",
    "report",
    "results",
    "diagnose",
    "hosts",
    "vast",
    "up",
    "research",
    "doctor",
]
"""The verbs that are documented, in the order of their use."""
VERBS = list(main.VERBS)  # fmt: skip
ROOT = Path(__file__).resolve().parents[2]

Command = Callable[..., int]
TABLE = re.compile(r"\S {2,}\S")
"""A help's options, commands or fields, in columns."""


@pytest.fixture
def wavequeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command in a directory and with a home of its own, where no manager can be started."""
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(local_manager, "start", lambda *_: pytest.fail("a manager was started"))

    def call(*arguments: str) -> int:
        return main.main(list(arguments))

    return call


@pytest.fixture
def story(tmp_path: Path, wavequeue: Command) -> Story:  # noqa: ARG001
    """A run on disk, whose manager has died: a is completed, b is stuck, c waits."""
    root = tmp_path / "work" / "experiment_queue" / RUN_ID
    story = Story(manifest(job("a"), job("b"), job("c", "second")), root)
    story.complete("a").start("b").end("b", "stuck", error="exit code 1; last line: boom")
    story.write()
    story.paths.log("a").write_text("fine\r\n")
    story.paths.log("b").write_text("first\r\n\x1b[31mboom\x1b[0m\r\n")
    return story


def test_the_verbs_are_all_there_in_the_order_of_use() -> None:
    assert [verb for verb in VERBS if verb in PROMISED] == PROMISED
    assert list(main.cli.commands) == VERBS
    context = click.Context(main.cli)
    assert main.cli.list_commands(context) == VERBS


def below(words: list[str], command: click.Command) -> list[list[str]]:
    """A command as words, and those of its subcommands."""
    found = command.commands if isinstance(command, click.Group) else {}
    return [words, *(line for name, one in found.items() for line in below([*words, name], one))]


@pytest.mark.parametrize(
    "verb", [[], *(words for verb in VERBS for words in below([verb], main.load(verb)))], ids=" ".join
)
def test_every_help_reads_as_sentences_and_fits_80_columns(
    verb: list[str], wavequeue: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert wavequeue(*verb, "--help") == DONE
    text = capsys.readouterr().out
    assert [line for line in text.splitlines() if len(line) > 80 or not line.isprintable()] == []
    assert text.startswith(f"Usage: {' '.join(['wavequeue', *verb])} ")
    paragraphs = text.split("\n\n")
    assert all(part.strip().endswith((".", ":")) for part in paragraphs[1:-1] if not TABLE.search(part)), text
    assert "..." not in text.partition("Commands:")[2], "a short help was cut off"


def test_the_help_of_mcp_shows_a_command_that_can_be_copied(
    wavequeue: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    wavequeue("mcp", "--help")
    assert "claude mcp add wavequeue -- wavequeue mcp" in capsys.readouterr().out, "on one line"


def test_the_version_is_that_of_the_project(wavequeue: Command, capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert wavequeue("--version") == DONE
    assert capsys.readouterr().out == f"wavequeue {project['version']} (commit {commit.commit()})\n"
    assert skill.__version__ == project["version"]
    assert project["scripts"] == {"wavequeue": "skill.__main__:main", "wq": "skill.__main__:main"}


def test_the_short_name_is_reported_where_it_was_typed(
    wavequeue: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/wq"])
    wavequeue("plan", "--help")
    assert capsys.readouterr().out.startswith("Usage: wq plan ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fly"], "No such command 'fly'"),
        (["run"], "Missing argument 'SPEC'"),
        (["run", "absent.yaml"], "absent.yaml: cannot be read: no such file"),
        (["plan", "absent.yaml"], "absent.yaml: cannot be read: no such file"),
        (["build", "."], ".: cannot be read: is a directory"),
        (["status"], "there is no run yet"),
        (["status", "--status", "sad"], "'sad' is not one of 'completed'"),
        (["watch", "--run", "x"], "there is no run x"),
        (["why"], "Missing argument 'JOB'"),
        (["logs", "x", "-n", "-1"], "'-n'"),
        (["logs", "x", "-f", "--attempt", "1"], "-f follows the newest attempt"),
        (["cancel"], "give JOB..., or --phase PHASE, or --all"),
        (["cancel", "a", "--all"], "give JOB..."),
        (["retry"], "give JOB..., or --phase PHASE, or --stuck"),
        (["add"], "give SPEC"),
        (["add", "--id", "x"], "give SPEC"),
        (["add", "spec.yaml", "--id", "x", "--cmd", "y"], "give SPEC"),
        (["init", "no/such/dir.yaml"], "there is no directory no/such"),
    ],
)
def test_wrong_use_gets_one_message_and_exit_2(
    wavequeue: Command, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert wavequeue(*arguments) == USE
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.startswith("wavequeue: ")
    assert len(err.splitlines()) == 1
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["why", "B"], "did you mean b?"),
        (["logs", "zz"], "there is no job zz; there are: a, b, c"),
        (["logs", "c"], "not started yet"),
        (["logs", "b", "--attempt", "2"], "no attempt 2: it has one, number 1"),
        (["attach", "b"], "is not running: it is stuck"),
        (["cancel", "zz*"], "there is no job zz*"),
        (["cancel", "--phase", "third"], "there is no phase third"),
        (["cancel", "--all"], "add --yes"),
        (["retry", "a"], "nothing to retry: a is completed"),
        (["add", "--id", "a", "--cmd", "x"], "job a already exists"),
        (["add", "--id", "../x", "--cmd", "x"], "not a safe file name"),
        (["add", "--id", "d", "--cmd", "x", "--depends-on", "aa"], "there is no job aa"),
    ],
)
def test_what_a_run_does_not_have_gets_one_message_and_exit_2(
    story: Story, wavequeue: Command, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert wavequeue(*arguments) == USE
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert len(err.splitlines()) == 1
    assert not story.paths.inbox.exists(), "nothing was asked of the manager"


def test_faults_of_a_spec_come_all_at_once(wavequeue: Command, capsys: pytest.CaptureFixture[str]) -> None:
    Path("spec.yaml").write_text("project: a b\njobz: []\n")
    for verb in ("build", "plan", "run"):
        assert wavequeue(verb, "spec.yaml") == USE
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("wavequeue: ")
        assert len(re.findall(r"^(?:wavequeue: )?spec\.yaml:\d+:\d+: ", err, re.MULTILINE)) >= 2
    assert [path.name for path in Path().iterdir()] == ["spec.yaml"]


def test_init_writes_a_spec_that_builds_and_never_writes_over_one(
    wavequeue: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wavequeue("init") == DONE
    assert "wavequeue plan spec.yaml" in capsys.readouterr().out
    text = Path("spec.yaml").read_text()
    assert "project: work " in text
    assert wavequeue("build", "spec.yaml", "-o", "m.json") == DONE
    out, err = capsys.readouterr()
    assert (out, err) == ("m.json: 6 jobs in 2 phases\n", "")
    jobs = {row["id"]: row for row in json.loads(Path("m.json").read_text())["jobs"]}
    assert jobs["lr1e-4_seed1"]["cmd"].startswith("mkdir -p out")
    assert wavequeue("init") == USE
    assert "spec.yaml already exists" in capsys.readouterr().err
    assert Path("spec.yaml").read_text() == text


def test_init_makes_a_project_name_of_any_directory(
    wavequeue: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "My Thesis (final) 论文"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert wavequeue("init", "sweep.yaml") == DONE
    assert wavequeue("build", "sweep.yaml", "-o", "m.json") == DONE
    assert json.loads(Path("m.json").read_text())["project"] == "My_Thesis_final"


def test_build_prints_the_manifest_or_writes_it_and_spares_the_spec(
    wavequeue: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = "project: p\njobs: [{id: a, cmd: echo}]\n"
    Path("spec.yaml").write_text(spec)
    assert wavequeue("build", "spec.yaml") == DONE
    printed = capsys.readouterr().out
    assert json.loads(printed)["jobs"][0]["id"] == "a"
    assert wavequeue("build", "spec.yaml", "--output", "m.json") == DONE
    assert Path("m.json").read_text() == printed
    capsys.readouterr()
    for output, says in (
        ("./spec.yaml", "is the spec itself"),
        (".", "not a regular file"),
        ("no/m.json", "cannot be written"),
    ):
        assert wavequeue("build", "spec.yaml", "-o", output) == USE
        assert says in capsys.readouterr().err
    assert Path("spec.yaml").read_text() == spec


def test_status_of_a_run_whose_manager_died(
    story: Story, wavequeue: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wavequeue("status") == DONE
    text = capsys.readouterr().out
    assert f"{RUN_ID}: its manager has died, 1 of 3 jobs completed" in text
    assert f"wavequeue resume --run {RUN_ID}" in text
    assert " b  stuck  exit code 1; last line: boom" in text
    assert "\x1b" not in text
    assert wavequeue("status", "--json") == DONE
    document = json.loads(capsys.readouterr().out)
    assert document["manager_alive"] is False
    assert document["directory"] == str(story.paths.root)
    assert document["age_s"] > 0
    expected = story.document()
    expected["meta"]["gone"] = 0  # nothing ran
    assert {key: document[key] for key in expected} == expected


@pytest.mark.usefixtures("story")
def test_status_lists_jobs_by_status_and_phase(
    wavequeue: Command,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def listed(*options: str) -> list[str]:
        assert wavequeue("status", *options) == DONE
        return [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]]

    assert listed("--jobs") == ["a", "b", "c"]
    assert listed("--status", "stuck", "--status", "completed") == ["a", "b"]
    assert listed("--phase", "second") == ["c"]
    assert listed("--phase", "second", "--status", "stuck") == []
    assert wavequeue("status", "--status", "stuck", "--json") == DONE
    assert [row["id"] for row in json.loads(capsys.readouterr().out)["jobs"]] == ["b"]


def test_status_tells_what_changed_since_a_look_before(
    story: Story, wavequeue: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    def document(*options: str) -> dict[str, Any]:
        assert wavequeue("status", "--json", *options) == DONE
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    seq = document()["seq"]
    assert seq == document("--brief")["seq"] == story.state.seq
    assert document("--since", str(seq))["jobs"] == []
    story.tell(ev.JobCancelled("b")).write()
    assert [row["id"] for row in document("--since", str(seq))["jobs"]] == ["b"]
    assert document("--since", str(seq), "--status", "completed")["jobs"] == []
    assert document("--brief", "--since", str(seq))["changed"] == [{"id": "b", "status": "cancelled"}]
    assert wavequeue("status", "--since", str(seq)) == DONE
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]] == ["b"]
    assert wavequeue("status", "--brief", "--jobs") == USE


@pytest.mark.usefixtures("story")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["status", "--json", "--run", "nope"], USE),
        (["status", "--json", "--since", "999"], USE),
        (["status", "--json", "--nonsense"], USE),
        (["plan", "missing.yaml", "--json"], USE),
        (["why", "missing", "--json"], USE),
        (["hosts", "check", "missing", "--json"], USE),
    ],
)
def test_with_json_an_error_is_the_one_document(
    arguments: list[str], code: int, wavequeue: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wavequeue(*arguments) == code
    out, err = capsys.readouterr()
    assert f"wavequeue: {json.loads(out)['error']}\n" == err
    assert wavequeue(*(word for word in arguments if word != "--json")) == code
    assert capsys.readouterr().out == "", "without it stdout stays empty"


def test_behind_two_dashes_json_is_of_a_command(wavequeue: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert wavequeue("status", "--run", "nope", "--", "--json") == USE
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("story")
def test_an_error_after_a_document_is_no_second_one(
    wavequeue: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[dict[str, str]] = []

    def broken(*_: object, **__: object) -> None:
        for one in known:
            console.print_json(one)
        raise FailedError("and then it ended")

    monkeypatch.setattr(run_status, "run_status", broken)
    assert wavequeue("status", "--json") == FAILED
    assert json.loads(capsys.readouterr().out) == {"error": "and then it ended"}
    known.append({"all": "that was known"})
    assert wavequeue("status", "--json") == FAILED
    assert json.loads(capsys.readouterr().out) == known[0]


@pytest.mark.usefixtures("story")
def test_why_and_report_print_one_document(
    wavequeue: Command,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert wavequeue("why", "b", "--json") == DONE
    story = json.loads(capsys.readouterr().out)
    assert (story["id"], story["status"], story["log"]) == ("b", "stuck", ["first", "boom"])
    assert len(story["attempts"]) == 1
    assert wavequeue("why", "b") == DONE
    assert "  | boom" in capsys.readouterr().out
    assert wavequeue("report", "--json") == DONE
    assert json.loads(capsys.readouterr().out)["failures"][0]["jobs"] == ["b"]
    assert wavequeue("report") == DONE
    assert capsys.readouterr().out.startswith(f"# {RUN_ID}: 1 of 3 jobs completed")


@pytest.mark.usefixtures("story")
def test_logs_are_plain_where_stdout_is_no_terminal(
    wavequeue: Command,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert wavequeue("logs", "b") == DONE
    out, err = capfd.readouterr()
    assert out == "first\nboom\n"
    assert RUN_ID in err
    assert wavequeue("logs", "b", "-n", "1") == DONE
    assert capfd.readouterr().out == "boom\n"


@pytest.mark.usefixtures("story")
def test_watch_of_a_dead_run_ends_and_says_how_to_go_on(
    wavequeue: Command,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert wavequeue("watch") == FAILED
    assert f"wavequeue resume --run {RUN_ID}" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["cancel", "c"], ["pause"], ["cancel", "--all", "--yes"]])
def test_what_a_dead_manager_is_asked_waits_for_the_next_one(
    story: Story, wavequeue: Command, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert wavequeue(*arguments) == DONE
    assert f"takes effect when the run continues: wavequeue resume --run {RUN_ID}" in capsys.readouterr().out
    (path,) = story.paths.inbox.iterdir()
    assert json.loads(path.read_text())["verb"] == arguments[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["pause"], "has finished; nothing to pause"),
        (["resume"], "has finished; nothing to resume"),
        (["cancel", "--all", "--yes"], "nothing to cancel"),
        (["retry", "--phase", "second"], "nothing to retry"),
    ],
)
def test_a_finished_run_is_left_alone(
    story: Story, wavequeue: Command, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    story.complete("c").tell(ev.RunFinished())
    story.write("finished")
    assert wavequeue(*arguments) == DONE
    assert says in capsys.readouterr().out
    assert not story.paths.inbox.exists()


NEW = "project: demo\njobs:\n  - {id: new, cmd: echo, gpus: 0}\n"
HEAD = "cwd: /code\n"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (NEW, "differ in cwd, which"),
        (NEW + HEAD + "env: {A: b}\n", "differ in env, which"),
        (NEW + "  - {id: a, cmd: other, gpus: 0}\n" + HEAD, "1 of the jobs of spec.yaml are in run"),
    ],
)
def test_add_refuses_what_does_not_fit_the_run(
    tmp_path: Path, wavequeue: Command, capsys: pytest.CaptureFixture[str], spec: str, says: str
) -> None:
    root = tmp_path / "work" / "experiment_queue" / RUN_ID
    Story(manifest(job("a", "jobs"), cwd="/code"), root).write()
    Path("spec.yaml").write_text(spec)
    assert wavequeue("add", "spec.yaml") == USE
    assert says in capsys.readouterr().err
    assert not (root / "inbox").exists()


def test_add_of_a_spec_that_is_all_there_adds_nothing(
    tmp_path: Path, wavequeue: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "work" / "experiment_queue" / RUN_ID
    Path("spec.yaml").write_text("project: demo\ncwd: /code\njobs:\n  - {id: a, cmd: run a, gpus: 0}\n")
    Story(manifest(job("a", "jobs"), cwd="/code"), root).write()
    assert wavequeue("add", "spec.yaml") == DONE
    assert "nothing to add" in capsys.readouterr().out


@pytest.mark.usefixtures("story")
def test_a_stream_of_ascii_takes_every_character(
    tmp_path: Path, wavequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "out").open("w", encoding="ascii") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        Path("spec.yaml").write_text("project: p\njobs: [{id: a, cmd: echo 训练, gpus: 0}]\n", encoding="utf-8")
        assert wavequeue("build", "spec.yaml") == DONE
        assert wavequeue("status") == DONE
    text = (tmp_path / "out").read_text(encoding="ascii")
    assert "\\u8bad\\u7ec3" in text
    assert "#" in text.rpartition("phases")[2], "bars are drawn in what the stream has"


def test_a_spec_for_other_hosts_is_reported_to_be_looked_at_here_only(
    wavequeue: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("spec.yaml").write_text("project: p\nhosts: [gpu-far]\njobs: [{id: a, cmd: echo, gpus: 0}]\n")
    probed = {"host": "here", "cpus": 2, "gpus": [], "gpu_note": "none", "screen": {}}
    preflight = local_manager.preflight

    def found(made: Manifest) -> dict[str, Any]:
        document = preflight(made)
        return {**document, "probe": {**document["probe"], **probed}}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_manager, "preflight", found)
        assert wavequeue("plan", "spec.yaml") == DONE
    assert "the spec is for gpu-far" in capsys.readouterr().err


def test_a_state_that_is_not_ours_gets_one_message(
    story: Story, wavequeue: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    story.paths.state.write_text("[]")
    assert wavequeue("status") == USE
    errors = capsys.readouterr().err
    assert errors.startswith(
        f"wavequeue: {story.paths.state} is not a state file of wavequeue; the manager restores it "
    )
