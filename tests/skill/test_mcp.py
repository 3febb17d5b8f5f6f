"""The MCP server, asked by the SDK's own client within the process."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp_types import TextContent, TextResourceContents

from queue_manager.core import events as ev
from skill.cli import main
from skill.common.errors import USE
from skill.hosts import ssh_preflight
from skill.mcp import answers, changes, server
from skill.operations import start_run, up_steps
from skill.operations.start_run import Started
from skill.runs.directory import Run
from tests.memory_provider import MemoryProvider
from tests.skill.story import RUN_ID, Story, job, manifest

SPEC = "project: small\ngrid: {n: [1, 2]}\ntemplate: {cmd: 'echo ${n}', gpus: 0}\n"
RUN = {"change": "run", "spec": "spec.yaml"}
Call = Callable[..., str]


def talk(steps: Callable[[Client], Awaitable[None]]) -> None:
    """Have a client talk to a server of its own."""

    async def connected() -> None:
        async with Client(server.server("1")) as client:
            await steps(client)

    anyio.run(connected)


def ask(name: str, **arguments: Any) -> str:
    """The answer of a tool; of one that fails, after `fault: `."""
    found: list[str] = []

    async def steps(client: Client) -> None:
        result = await client.call_tool(name, arguments)
        (content,) = result.content
        assert isinstance(content, TextContent)
        found.append(("fault: " if result.is_error else "") + content.text)

    talk(steps)
    return found[0]


def preview(change: dict[str, Any]) -> str:
    """The token of a change."""
    found = re.search(r"token=([0-9a-f]{16})$", ask("preview", change=change))
    assert found is not None
    return found[1]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to work in, and a home."""
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "work" / "spec.yaml").write_text(SPEC)
    return tmp_path / "work"


def story(here: Path, count: int = 3) -> Story:
    jobs = [
        job(f"s{number}_a_name_as_long_as_those_of_sweeps", expected_output="out/{number}") for number in range(count)
    ]
    return Story(manifest(*jobs), here / "experiment_queue" / RUN_ID)


def names(made: Story) -> list[str]:
    return [one.id for one in made.manifest.jobs]


# -- what is there -----------------------------------------------------------------------------------------------------


def test_the_tools_say_what_they_are_in_few_words() -> None:
    async def steps(client: Client) -> None:
        tools = (await client.list_tools()).tools
        assert [tool.name for tool in tools] == list(server.TOOLS)
        assert [tool.name for tool in tools if not (tool.annotations and tool.annotations.read_only_hint)] == ["apply"]
        assert all(tool.description and tool.input_schema["type"] == "object" for tool in tools)
        assert sum(len(json.dumps(tool.input_schema)) for tool in tools) < 12_000
        kinds = next(tool for tool in tools if tool.name == "preview").input_schema["$defs"]
        consts = {one["properties"]["change"]["const"] for one in kinds.values()}
        assert consts == set(changes.VARIANTS) == {"run", "submit", "retry", "cancel", "add", "pull", "up"}

    talk(steps)


def test_no_answer_about_a_large_run_has_4_kb(here: Path) -> None:
    made = story(here, 200)
    for name in names(made)[:150]:
        made.start(name).end(name, "stuck", failure="crash", error="a long reason " * 30)
    made.start(names(made)[150])
    made.write()
    log = here / "long.log"
    log.write_text("".join(f"line {number} of many that say nothing much\n" for number in range(5000)))
    made.paths.log(names(made)[150]).write_text(log.read_text())
    asked: dict[str, dict[str, Any]] = {
        "list_runs": {}, "status": {}, "wait": {"timeout_s": 0}, "why": {"job": names(made)[0]},
        "logs": {"job": names(made)[150]}, "results": {},
        "diagnose": {"files": [str(log), *(f"missing{number}.log" for number in range(90))]},
        "plan": {"command": ["python", "train.py", "--seed", "0..199"], "gpus": 0},
        "preview": {"change": {"change": "retry", "stuck": True}},
    }  # fmt: skip
    for name, arguments in asked.items():
        answer = ask(name, **arguments)
        assert not answer.startswith("fault"), answer
        assert len(answer.encode()) < 4096, name
        assert "next" in answer, name


def test_pages_hold_every_job_once_and_a_log_from_its_end(here: Path) -> None:
    made = story(here, 200)
    first = names(made)[0]
    made.start(first)
    made.write()
    made.paths.log(first).write_text("".join(f"line {number}\n" for number in range(3000)))
    listing = ask("status", jobs=True)
    pages = int(re.findall(r"page 1 of (\d+)", listing)[0])
    whole = "".join(ask("status", jobs=True, page=page + 1) for page in range(pages))
    assert pages > 2
    assert all(whole.count(f"{name}  ") == 1 for name in names(made))
    assert "there are only" in ask("status", jobs=True, page=pages + 1)
    end, before = ask("logs", job=first), ask("logs", job=first, page=2)
    assert "line 2999\n" in end
    begin = int(re.findall(r"^line (\d+)$", end, re.M)[0])
    assert f"\nline {begin - 1}\n" in before


def test_a_page_is_cut_by_bytes_and_a_long_line_in_its_middle() -> None:
    answer = answers.text(["é" * 5000, "end"], "x")
    assert len(answer.encode()) < 1000
    assert " ... " in answer
    head = answers.head([f"line {number} {'x' * 90}" for number in range(100)], "x")
    assert len(head.encode()) < answers.MOST
    assert "lines are left out" in head
    assert head.splitlines()[-2].startswith("line 99 ")


def test_status_names_what_to_do_next(here: Path) -> None:
    made = story(here)
    one, two, three = names(made)
    made.start(one)
    made.write()
    assert json.loads(ask("status"))["next"] == "its manager has died; a person has to run: wavequeue resume"
    made.end(one, "stuck", failure="crash", error="it failed").complete(two, three)
    made.write("finished")
    found = json.loads(ask("status"))
    assert found["next"] == f"why(job={one})"
    assert found["counts"]["completed"] == 2
    assert "page" not in ask("status", status=["stuck"])
    assert two not in ask("status", status=["stuck"])
    assert one in ask("status", status=["stuck"])


def test_resources_are_the_state_and_the_summary(here: Path) -> None:
    made = story(here)
    made.complete(*names(made))
    made.write("finished")
    made.paths.summary.write_text("# all completed\n")

    async def steps(client: Client) -> None:
        uris = [str(one.uri) for one in (await client.list_resources()).resources]
        assert uris == [f"wavequeue://runs/{RUN_ID}/state", f"wavequeue://runs/{RUN_ID}/summary"]
        texts = []
        for uri in uris:
            (content,) = (await client.read_resource(uri)).contents
            assert isinstance(content, TextResourceContents)
            texts.append(content.text)
        assert json.loads(texts[0])["counts"] == {"completed": 3}
        assert texts[1].startswith("# all completed\n")
        assert len((await client.list_resource_templates()).resource_templates) == 2
        with pytest.raises(MCPError, match="there is no resource"):
            await client.read_resource("wavequeue://runs/x")

    talk(steps)


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("plan", {"spek": "a"}, "there is no argument spek; did you mean spec?"),
        ("plan", {}, "give either spec, a file, or command"),
        ("plan", {"spec": "-"}, "there is no standard input here"),
        ("plan", {"spec": "spec.yaml", "gpus": 1}, "write them into spec.yaml"),
        ("why", {}, "the argument job is missing"),
        ("wait", {"timeout_s": "long"}, "timeout_s: input should be a valid number"),
        ("status", {"status": ["broken"]}, "no status is called broken; there are: "),
        ("status", {"run": "nothing"}, "there is no run nothing"),
        ("preview", {"change": {"change": "ran"}}, "has to be one of: 'run', 'submit'"),
        ("preview", {"change": {**RUN, "spce": "a"}}, "did you mean spec?"),
        ("preview", {"change": {"change": "cancel"}}, "everything"),
        ("statsu", {}, "did you mean status?"),
    ],
)
def test_what_is_wrong_is_said_in_words(name: str, arguments: dict[str, Any], says: str, here: Path) -> None:
    story(here).write()
    answer = ask(name, **arguments)
    assert answer.startswith("fault: ")
    assert says in answer
    assert "pydantic" not in answer


def test_faults_of_a_spec_are_named_by_line(here: Path) -> None:
    (here / "spec.yaml").write_text(SPEC.replace("grid:", "gird:"))
    answer = ask("preview", change=RUN)
    assert answer.startswith("fault: ")
    assert "spec.yaml:2" in answer
    assert "grid" in answer


# -- preview, token, apply ---------------------------------------------------------------------------------------------


@pytest.fixture
def started(here: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The specs whose runs were started; none is, really."""
    specs: list[Any] = []

    def start(spec: Any, **_: Any) -> Started:
        specs.append(spec)
        return Started(Run.at(here / "experiment_queue" / "x"), 2, 1)

    monkeypatch.setattr(start_run, "start_run", start)
    return specs


def test_a_run_starts_by_preview_and_token_once(started: list[Any]) -> None:
    assert "call preview first" in ask("apply", change=RUN)
    token = preview(RUN)
    assert started == []
    assert "is for another change" in ask("apply", change={**RUN, "again": True}, token=token)
    assert ask("apply", change=RUN, token=token).startswith("started x: 2 jobs")
    assert "was used already" in ask("apply", change=RUN, token=token)
    assert started == ["spec.yaml"]


def test_a_spec_that_changed_since_its_preview_is_not_run(started: list[Any], here: Path) -> None:
    token = preview(RUN)
    (here / "spec.yaml").write_text(SPEC.replace("[1, 2]", "[1, 2, 3]"))
    assert "has changed since" in ask("apply", change=RUN, token=token)
    (here / "spec.yaml").write_text(SPEC + "# a comment changes no job\n")
    assert "started" in ask("apply", change=RUN, token=token)
    assert len(started) == 1


def test_a_command_needs_no_spec(started: list[Any]) -> None:
    change = {"change": "run", "command": ["echo", "--seed", "0..2"], "gpus": 0}
    assert "3 jobs" in ask("preview", change=change)
    assert "is for another change" in ask("apply", change={**change, "gpus": 1}, token=preview(change))
    assert started == []


def test_another_directory_is_another_change(started: list[Any], here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = preview(RUN)
    (here / "other").mkdir()
    (here / "other" / "spec.yaml").write_text(SPEC)
    monkeypatch.chdir(here / "other")
    assert "is for another change" in ask("apply", change=RUN, token=token)
    assert started == []


def test_what_cannot_run_gets_no_token(here: Path) -> None:
    (here / "spec.yaml").write_text(SPEC.replace("gpus: 0", "gpus: 99"))
    answer = ask("preview", change=RUN)
    assert answer.startswith("fault: ")
    assert "it cannot run here" in answer
    assert "token=" not in answer


def test_a_cancel_is_good_for_the_jobs_that_were_shown_while_they_go_on(here: Path) -> None:
    made = story(here)
    one, two, _ = names(made)
    made.start(one)
    made.write()
    change = {"change": "cancel", "everything": True}
    shown = ask("preview", change=change)
    assert f"cancels 3 jobs of {RUN_ID}, 1 running: {one} (running)" in shown
    token = preview(change)
    made.end(one).start(two)
    made.write()
    assert "cancel takes effect when the run continues" in ask("apply", change=change, token=token)
    token = preview(change)
    made.tell(ev.JobsAdded((), {}, (job("late"),)))
    made.write()
    assert "has changed since" in ask("apply", change=change, token=token)


def test_a_retry_is_good_for_the_attempt_that_was_shown(here: Path) -> None:
    made = story(here)
    one = names(made)[0]
    made.start(one).end(one, "stuck", failure="crash", error="it failed")
    made.write()
    change = {"change": "retry", "jobs": [one]}
    assert f"retries 1 job of {RUN_ID}: {one} (stuck)" in ask("preview", change=change)
    token = preview(change)
    made.tell(ev.JobRetried(one)).start(one).end(one, "stuck", failure="crash", error="it failed again")
    made.write()
    assert "has changed since" in ask("apply", change=change, token=token)


def test_jobs_are_added_as_they_were_shown(here: Path) -> None:
    made = story(here)
    made.write("finished")
    taken, new = names(made)[0], {"change": "add", "id": "extra", "cmd": "echo x", "gpus": 0}
    assert "already exists" in ask("preview", change={**new, "id": taken})
    assert "give spec, or id and cmd" in ask("preview", change={"change": "add", "id": "extra"})
    assert "adds extra to" in ask("preview", change=new)
    assert "is for another change" in ask("apply", change={**new, "cmd": "rm -r x"}, token=preview(new))


def test_up_shows_its_price_and_goes_on_by_itself(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    market = MemoryProvider()
    market.put_on_market(7)

    @contextmanager
    def connected() -> Iterator[MemoryProvider]:
        yield market

    monkeypatch.setattr(up_steps, "connected", connected)
    monkeypatch.setattr(ssh_preflight, "fault", lambda *_: None)
    (here / "spec.yaml").write_text(SPEC + "est_minutes: 30\n")
    change = {"change": "up", "spec": "spec.yaml", "max_cost": 5.0}
    assert "the argument change.up.max_cost is missing" in ask("preview", change={"change": "up", "spec": "spec.yaml"})
    assert "cost limit: $5.00" in ask("preview", change=change)
    assert "above the limit of $0.01" in ask("preview", change={**change, "max_cost": 0.01})

    # What it starts stands in for the command: it prints how it was called, in a session of its own.
    says = here / "python"
    says.write_text('#!/bin/sh\necho "$@"; exec python3 -c "import os; print(os.getsid(0) == os.getpid())"\n')
    says.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(says))
    answer = ask("apply", change=change, token=preview(change))
    assert "up has ended: True" in answer
    assert (here / ".wavequeue" / "up.log").read_text() == "-m skill up spec.yaml --yes --max-cost 5\nTrue\n"


def test_what_a_run_lacks_is_said_before_it_is_pulled(here: Path) -> None:
    story(here).write()
    assert "runs on this machine" in ask("preview", change={"change": "pull", "run": RUN_ID})


def test_a_submit_without_hosts_says_how_to_register_one(here: Path) -> None:
    del here
    assert "wavequeue hosts add" in ask("preview", change={"change": "submit", "spec": "spec.yaml"})


def test_without_the_extra_the_verb_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [one for one in sys.modules if one.split(".")[0] in ("mcp", "mcp_types")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "skill.mcp.server")
    monkeypatch.delattr("skill.mcp.server", raising=False)
    monkeypatch.setitem(sys.modules, "mcp_types", None)
    assert main.main(["mcp"]) == USE
    assert "pip install 'wavequeue[mcp]'" in capsys.readouterr().err
