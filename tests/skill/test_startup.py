"""The command starts with what its verb needs and no more, and Ctrl-C meanwhile ends it without a word."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from skill.cli import main
from skill.common.errors import INTERRUPTED
from tests.skill.story import RUN_ID, Story, job, manifest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("jinja2", "rich", "yaml", "ruamel", "fabric", "paramiko", "httpx", "psutil", "mcp", "pydantic", "anyio")

RUN = """
import sys
from skill.__main__ import main
code = main()
print([name for name in %r if name in sys.modules], file=sys.stderr)
sys.exit(code)
"""

INTERRUPT = """
import os, signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name == %r:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from skill.__main__ import main
sys.exit(main())
"""

EVERYWHERE = """
import json, os, signal, sys, threading
from skill.__main__ import main
codes, first = {}, os.getpid()
class Finder:
    def find_spec(self, name, *_):
        if threading.current_thread() is threading.main_thread():
            child = os.fork()
            if child == 0:
                sys.meta_path.remove(self)
                os.kill(os.getpid(), signal.SIGINT)
            else:
                codes[name] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
sys.meta_path.insert(0, Finder())
code = main()
if os.getpid() != first:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
print(json.dumps(codes), file=sys.stderr)
"""
"""At each import the command is tried with Ctrl-C, in a copy of the process, and goes on without it. A copy does not
take its modules apart at its end, as those started with INTERRUPT do: that takes longer than all the rest."""


def start(program: str, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HOME": str(cwd), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )


def test_help_and_status_import_no_library_that_they_do_not_use(tmp_path: Path) -> None:
    Story(manifest(job("a")), tmp_path / "experiment_queue" / RUN_ID).complete("a").write()
    for arguments in (["--help"], ["status", "--json"]):
        ended = start(RUN % (HEAVY,), tmp_path, *arguments)
        assert (ended.returncode, ended.stderr) == (0, "[]\n"), (arguments, ended)
        assert ended.stdout.startswith("Usage: ") or json.loads(ended.stdout)["counts"] == {"completed": 1}


@pytest.mark.parametrize("module", ["click", "skill.cli.main", "skill.cli.status", "skill.runs.directory"])
def test_ctrl_c_while_it_starts_is_silent(tmp_path: Path, module: str) -> None:
    ended = start(INTERRUPT % module, tmp_path, "status")
    assert (ended.returncode, ended.stdout, ended.stderr) == (INTERRUPTED, "", "")


def test_ctrl_c_at_any_import_of_a_status_is_silent(tmp_path: Path) -> None:
    Story(manifest(job("a")), tmp_path / "experiment_queue" / RUN_ID).complete("a").write()
    ended = start(EVERYWHERE, tmp_path, "status", "--run", RUN_ID)
    *before, last = ended.stderr.splitlines()
    codes = json.loads(last)
    assert {"click", "skill.cli.status", "skill.runs.local", "rich", "skill.terminal.frame"} <= codes.keys()
    assert set(codes.values()) == {INTERRUPTED}, {name: code for name, code in codes.items() if code != INTERRUPTED}
    assert set(before) <= {""}, "a line end at most"
    assert ended.stdout.count("recently finished") == 1, "none of them went on"


@pytest.mark.parametrize(
    ("start_of", "goes_on"),
    [("skill.__main__", "skill.cli.status.the_run"), ("queue_manager.__main__", "queue_manager.manager.main")],
)
def test_garbage_is_looked_for_once_all_is_imported(tmp_path: Path, start_of: str, goes_on: str) -> None:
    """Not before, when there is none; what was imported is passed over."""
    module, name = goes_on.rsplit(".", 1)
    program = f"""
import gc, sys
import {start_of} as begin, {module} as module
def told(*_):
    print(gc.isenabled(), gc.get_freeze_count() > 1000)
    sys.exit(7)
module.{name} = told
begin.main()
"""
    ended = start(program, tmp_path, "status")
    assert (ended.returncode, ended.stdout) == (7, "True True\n"), ended


@pytest.mark.parametrize("name", list(main.VERBS))
def test_the_table_of_verbs_says_what_the_verbs_say(name: str) -> None:
    command = main.load(name)
    assert command.name == name
    assert command.get_short_help_str(200) == main.VERBS[name].help


def test_commands_in_messages_are_typed_as_this_one_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bin_folder = tmp_path / "my venv" / "bin"
    bin_folder.mkdir(parents=True)
    (bin_folder / "wq").write_text("#!/bin/sh\n")
    (bin_folder / "wq").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["my venv/bin/wq"])
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert main._as_found("wq") == "'my venv/bin/wq'"
    monkeypatch.chdir(bin_folder)
    monkeypatch.setattr(sys, "argv", ["./wq"])
    assert main._as_found("wq") == shlex.quote(str(bin_folder / "wq"))
    monkeypatch.setenv("PATH", f"{bin_folder}:/bin")
    assert main._as_found("wq") == "wq"
    monkeypatch.setattr(sys, "argv", ["-c"])
    assert main._as_found("wavequeue") == "wavequeue"
