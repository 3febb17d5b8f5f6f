"""The agent's command: its contract, its envelopes, its misbehaviours, and that nothing of it outlives a call."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from datetime import timezone
from pathlib import Path
from typing import Any

import pytest

from skill.auto import envelopes, process, reply, trouble
from skill.auto.agent import CommandAgent, digest, find_command
from skill.auto.layout import WorkDir
from skill.auto.ports import Answer, Request, Trouble
from skill.auto.replies import EditReply, PlanReply
from skill.common.errors import UseError
from tests.auto.world import SCRIPT, begun, scripted

CASES = sorted((Path(__file__).parent.parent / "data" / "envelopes").glob("*.json"))
PLAN = Request(1, "plan", want=2)
CHOICES = ("--choices", json.dumps({"lr": [0.1, 0.2, 0.4]}))


def prompt(request: Request, _campaign: object) -> str:
    known = {"want": request.want, "best": None, "nodes": [], "editable": ["*.py"], "protected": ["data/*"]}
    return f"Do this.\n\n```json\n{json.dumps(known)}\n```\n"


def ask(
    tmp: Path, spec: Any, request: Request = PLAN, cwd: Path | None = None, stop: threading.Event | None = None,
    **more: Any,
) -> Answer | Trouble:  # fmt: skip
    agent = CommandAgent(spec, WorkDir(tmp / "work"), prompt, **more)
    return agent.ask(request, begun(spec), cwd, stop or threading.Event())


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_an_envelope_is_read(case: Path, tmp_path: Path) -> None:
    fixture = json.loads(case.read_text())
    assert fixture["source"].startswith("written "), "a fixture says where it comes from"
    output = tmp_path / "output"
    output.write_text(fixture["output"])
    spec = scripted(envelope=fixture["envelope"])
    shell = f'cat > /dev/null; cat "{output}"; exit {fixture.get("exit_code", 0)}'
    spec = type(spec)(("sh", "-c", shell), spec.envelope)
    found = ask(tmp_path, spec, clock=lambda: fixture.get("now", 1e9), zone=timezone.utc)
    expected = fixture["expect"]
    assert found.usd == expected["usd"]
    if isinstance(found, Answer):
        assert expected["outcome"] == "answered"
        assert isinstance(found.reply, PlanReply)
        assert [one.settings for one in found.reply.proposals] == [{"lr": 0.1}]
    else:
        assert found.kind == expected["outcome"]
        assert expected["says"] in found.text
        assert found.until == expected.get("until")


@pytest.mark.parametrize("envelope", ["raw", "claude", "codex"])
def test_the_scripted_agent_answers(envelope: str, tmp_path: Path) -> None:
    found = ask(tmp_path, scripted(*CHOICES, "--cost", "0.25", envelope=envelope))
    assert isinstance(found, Answer)
    assert isinstance(found.reply, PlanReply)
    assert [one.settings for one in found.reply.proposals] == [{"lr": 0.1}, {"lr": 0.2}]
    assert found.usd == (0.25 if envelope == "claude" else None)


def test_a_call_is_kept_in_the_logs(tmp_path: Path) -> None:
    spec = scripted(*CHOICES)
    ask(tmp_path, spec)
    logs = tmp_path / "work" / "logs"
    assert (logs / "0001_plan_prompt.md").read_text() == prompt(PLAN, None)
    assert json.loads((logs / "0001_plan_output.md").read_text())["proposals"]
    raw = json.loads((logs / "0001_plan_raw.json").read_text())
    assert (raw["outcome"], raw["cost_usd"], raw["exit_code"]) == ("answered", None, 0)
    assert raw["command"] == list(spec.cmd)
    assert raw["digest"] == digest(spec.cmd)


def test_the_agent_gets_the_allowed_variables_only(tmp_path: Path) -> None:
    shell = """
        env > "$KEPT"; pwd >> "$KEPT"; ls -A >> "$KEPT"; cat "$WQ_SCHEMA" > "$KEPT.schema"
        echo '{"proposals": []}'
    """
    spec = type(scripted())(("sh", "-c", shell), "raw", env=("KEPT", "MY_KEY", "NOT_SET"))
    given = {"PATH": os.environ["PATH"], "KEPT": str(tmp_path / "kept"), "MY_KEY": "k", "SECRET": "s", "HOME": "/h"}
    assert isinstance(ask(tmp_path, spec, environment=given), Answer)
    lines = (tmp_path / "kept").read_text().splitlines()
    names = {line.partition("=")[0] for line in lines if "=" in line} - {"PWD", "OLDPWD", "_", "SHLVL"}
    assert names == {"PATH", "KEPT", "MY_KEY", "HOME", "WQ_ROLE", "WQ_NODE", "WQ_SCHEMA", "WQ_REPLY", "WQ_CALL"}
    assert "WQ_ROLE=plan" in lines
    assert Path(lines[-1]).name == "empty", "the directory holds nothing"
    assert "proposals" in json.loads((tmp_path / "kept.schema").read_text())["$defs"]["PlanReply"]["properties"]


def test_an_edit_happens_in_the_worktree(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "train.py").write_text("pass\n")
    found = ask(tmp_path, scripted(), Request(2, "edit", "n001"), tree)
    assert isinstance(found, Answer)
    assert found.reply == EditReply("appended a line")
    assert (tree / "train.py").read_text() == "pass\n# n001\n"
    assert [path.name for path in tree.iterdir()] == ["train.py"], "the reply is written elsewhere"


@pytest.mark.parametrize(
    ("how", "kind", "says"),
    [
        ("exit", "failed", "exit code 1: something inside broke"),
        ("half", "malformed", "ends in the middle"),
        ("prose", "malformed", "no JSON object"),
        ("limit", "usage_limit", "usage limit reached"),
    ],
)
def test_a_misbehaviour_has_a_name(how: str, kind: str, says: str, tmp_path: Path) -> None:
    found = ask(tmp_path, scripted(*CHOICES, "--misbehave", how))
    assert isinstance(found, Trouble)
    assert (found.kind, found.usd) == (kind, None)
    assert says in found.text
    assert (found.until is not None) == (how == "limit")


def test_a_reply_of_5_mb_is_read_to_its_end(tmp_path: Path) -> None:
    found = ask(tmp_path, scripted(*CHOICES, "--misbehave", "large"))
    assert isinstance(found, Answer)
    assert (tmp_path / "work/logs/0001_plan_output.md").stat().st_size <= 1 << 20


def test_a_large_reply_file_is_refused(tmp_path: Path) -> None:
    spec = type(scripted())(("sh", "-c", 'head -c 2000000 /dev/zero | tr "\\0" " " > "$WQ_REPLY"'), "raw")
    found = ask(tmp_path, spec)
    assert isinstance(found, Trouble)
    assert (found.kind, "WQ_REPLY cannot be used" in found.text) == ("malformed", True)


def test_a_command_that_is_gone_is_a_failure(tmp_path: Path) -> None:
    found = ask(tmp_path, type(scripted())((str(tmp_path / "gone"),), "raw"))
    assert isinstance(found, Trouble)
    assert (found.kind, "No such file" in found.text) == ("failed", True)


def test_a_call_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    shell = 'sleep 600 & echo $! > "$KEPT"; sleep 600'
    spec = type(scripted())(("sh", "-c", shell), "raw", timeout=0.3, env=("KEPT",))
    kept = tmp_path / "pid"
    found = ask(tmp_path, spec, environment={"PATH": os.environ["PATH"], "KEPT": str(kept)})
    assert isinstance(found, Trouble)
    assert found.kind == "timeout"
    assert "agent.timeout" in found.text
    assert_gone(int(kept.read_text()))


def test_a_child_that_outlives_the_call_is_ended(tmp_path: Path) -> None:
    kept = tmp_path / "pid"
    found = ask(tmp_path, scripted(*CHOICES, "--misbehave", "orphan", "--orphan-pid", str(kept)))
    assert isinstance(found, Answer), "the reply was there, and counts"
    assert_gone(int(kept.read_text()))


def test_a_stop_ends_a_call_in_flight_with_its_children(tmp_path: Path) -> None:
    """It ignores SIGTERM, and its child is in a session of its own."""
    kept = tmp_path / "pid"
    code = (
        "import os, signal, subprocess, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "p = subprocess.Popen(['sleep', '600'], start_new_session=True);"
        "open(os.environ['KEPT'] + '.new', 'w').write(str(p.pid));"
        "os.rename(os.environ['KEPT'] + '.new', os.environ['KEPT']); time.sleep(600)"
    )
    spec = scripted()
    spec = type(spec)((spec.cmd[0], "-S", "-E", "-c", code), "raw", env=("KEPT",))
    stop, found = threading.Event(), list[Answer | Trouble]()
    given = {"PATH": os.environ["PATH"], "KEPT": str(kept)}
    thread = threading.Thread(target=lambda: found.append(ask(tmp_path, spec, stop=stop, environment=given)))
    thread.start()
    while not kept.exists():
        assert thread.is_alive()
        time.sleep(0.01)
    stop.set()
    thread.join()
    assert isinstance(found[0], Trouble)
    assert found[0].kind == "interrupted"
    assert_gone(int(kept.read_text()))


def test_what_a_killed_loop_left_is_found_again(tmp_path: Path) -> None:
    spec = scripted()
    agent = CommandAgent(spec, WorkDir(tmp_path), prompt)
    other = CommandAgent(spec, WorkDir(tmp_path / "other"), prompt)
    child = subprocess.Popen(["sleep", "600"], env={process.MARK: f"{agent._mark}/3/"})
    try:
        other.end_leftovers()
        assert child.poll() is None, "it belongs to another campaign"
        agent.end_leftovers()
        assert child.wait() == -9
    finally:
        child.kill()
        child.wait()


def test_the_directory_of_a_call_goes_with_it_or_with_the_next_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop that is killed during a call cannot remove it; that of another campaign may be in use."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    mine, other = (CommandAgent(scripted(), WorkDir(tmp_path / name), prompt) for name in ("work", "other"))
    kept: list[Path] = []

    def killed(*_: object, **_options: object) -> None:
        kept.extend(place.iterdir())
        for path in kept:
            shutil.copytree(path, f"{path}-left")
        raise KeyboardInterrupt

    with monkeypatch.context() as during:
        during.setattr(process, "run", killed)
        with pytest.raises(KeyboardInterrupt):
            mine.ask(Request(1, "plan"), begun(scripted()), None, threading.Event())
    (left,) = place.iterdir()
    assert left.name == f"{kept[0].name}-left"
    other.end_leftovers()
    assert left.exists(), "it belongs to another campaign"
    mine.end_leftovers()
    assert list(place.iterdir()) == []


def test_a_command_is_found_whatever_the_directory(tmp_path: Path) -> None:
    (tmp_path / "agent.sh").write_text("#!/bin/sh\n")
    (tmp_path / "agent.sh").chmod(0o755)
    (tmp_path / "prompt.txt").write_text("x")
    found = find_command(("./agent.sh", "-v", "prompt.txt", "nothing.txt"), tmp_path)
    assert found == (str(tmp_path / "agent.sh"), "-v", str(tmp_path / "prompt.txt"), "nothing.txt")
    with pytest.raises(UseError, match="'not-there' was not found"):
        find_command(("not-there",), tmp_path)
    with pytest.raises(UseError, match="empty"):
        find_command((), tmp_path)


def test_the_digest_is_of_the_files_as_well(tmp_path: Path) -> None:
    script = tmp_path / "agent.py"
    script.write_text("1")
    before = digest(("/bin/sh", str(script)))
    assert before == digest(("/bin/sh", str(script)))
    script.write_text("2")
    assert digest(("/bin/sh", str(script))) != before
    assert digest(("/bin/sh", str(SCRIPT))) != digest(("/bin/sh", str(SCRIPT), "x"))


@pytest.mark.parametrize("text", ["{" * 5_000_000, '{"a":' * 900_000, '{"a"' * 1_000_000, '{" ' * 1_000_000])
def test_a_reply_that_never_ends_well_is_given_up(text: str) -> None:
    with pytest.raises(reply.ReplyError):
        reply.read("plan", text)


def test_an_unknown_cost_is_never_0() -> None:
    for cost in ("null", '"0"', "-1", "true", "1e999"):
        output = f'{{"type": "result", "result": "x", "total_cost_usd": {cost}}}'
        assert envelopes.read("claude", output).cost_usd is None


@pytest.mark.parametrize(
    ("text", "until"),
    [
        ("rate limit: try again in 20s", 1_000_000_020),
        ("429 Too Many Requests, retry-after: 120", 1_000_000_120),
        ("usage limit, try again in 1 hour, 5 minutes", 1_000_003_900),
        ("usage limit reached|1000000000", None),  # past
        ("usage limit reached|9999999999", None),  # not in this month
        ("limit reached, resets at 99pm", None),
        ("usage limit; try again at Sep 10th, 2001 2:15 AM.", 1_000_088_100),
        ("usage limit", None),
    ],
)
def test_when_a_limit_ends(text: str, until: float | None) -> None:
    found = trouble.read(text, 1_000_000_000)
    assert (found.kind, found.until) == ("usage_limit", until)


def assert_gone(pid: int) -> None:
    """A process has ended; a zombie has, too, though nobody took its exit code yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return
    assert state in "ZX", f"process {pid} lives on"
