"""A run's environment: kept at its first start, given whole to each attempt, whoever brings its manager back."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import psutil
import pytest

from queue_manager.adapters.environment import adopt, differing, exports
from queue_manager.core.layout import LOCK_DIR_VARIABLE, HostPaths
from tests.e2e.runs import World, job, manifest, until, wait_for

FUNCTION = "() {  echo from a function\n}"


@pytest.fixture
def host(tmp_path: Path) -> HostPaths:
    return HostPaths.of(tmp_path / "home")


def test_a_second_manager_takes_the_first_one_s(host: HostPaths, tmp_path: Path) -> None:
    first = {"A": "1", "a.b": "dot", "BASH_FUNC_f%%": FUNCTION, "BAD": "\udcff", "CONTAINER_ID": "7", "TERM": "x"}
    first[LOCK_DIR_VARIABLE] = "/old"
    mine = dict(first)
    assert adopt(host, "run@1", tmp_path, mine, 0o027, begun=False).differ == ()
    assert mine == first
    machine = {"CONTAINER_ID": "8", LOCK_DIR_VARIABLE: "/new"}
    other = {"A": "2", "NEW": "n", "TERM": "y", "SSH_TTY": "z", **machine}
    kept = adopt(host, "run@1", tmp_path, other, 0o022, begun=True)
    assert kept.differ == ("A", "BAD", "BASH_FUNC_f%%", "NEW", "a.b")
    assert kept.umask == 0o027
    assert other == {**first, **machine}  # what a machine says of itself is as it is now
    for path in host.environments.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", '{"variables": 1, "umask": 2}', '{"variables": {"A": 1}, "umask": 1}'])
def test_what_cannot_be_read_is_replaced(host: HostPaths, tmp_path: Path, text: str) -> None:
    adopt(host, "run@1", tmp_path, {"A": "1"}, 0o022, begun=False)
    (host.environments / "run@1.json").write_text(text)
    mine = {"A": "2"}
    assert adopt(host, "run@1", tmp_path, mine, 0o022, begun=True).fault is None
    assert mine == {"A": "2"}
    assert json.loads((host.environments / "run@1.json").read_text())["variables"] == {"A": "2"}


def test_those_of_deleted_runs_go(host: HostPaths, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    adopt(host, "gone@1", gone, {}, 0o022, begun=False)
    gone.rmdir()
    adopt(host, "run@1", tmp_path, {}, 0o022, begun=False)
    assert sorted(path.name for path in host.environments.iterdir()) == ["run@1.json", "run@1.sh"]


def test_exports_are_read_back_by_bash() -> None:
    values = {"A": "it's $HOME `id`\n x ", "B": "", "a.b": "no", "UID": "7", "SHELLOPTS": "noexec", "TERM": "t"}
    text = exports(values)
    done = subprocess.run(
        ["bash", "-c", f'set -e; {text} printf "<%s>" "$A" "$B" "${{TERM-unset}}"'],
        env={},
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == f"<{values['A']}><><dumb>"


def test_what_every_shell_has_of_its_own_does_not_differ() -> None:
    assert differing({"PWD": "/a", "SHLVL": "1", "SSH_CLIENT": "1", "X": "1"}, {"TERM": "y", "X": "1"}) == []


def test_jobs_get_it_whole_through_screen_and_a_second_manager(world: World) -> None:
    show = 'f; env | grep -aE "^(A|dotted[.]name|LD_LIBRARY_PATH|TMPDIR|PYTHONUNBUFFERED|NEW)="; umask'
    hold = until("stop")
    (world.root / ".env").write_text("SECRET='top secret'  # mine\nexport UNUSED=1\n")
    variables = {"KEY": ("<", "SECRET", ">"), "A": ("", "A", "!")}
    key = '[ "$(printf %s "$KEY" | sha256sum | cut -c 1-16)" = 97349bec22426a8f ]'
    say = f'{key} && [ "$A" = "first!" ] && ! env | grep WAVEQUEUE_FROM && echo told'
    run = world.run(
        manifest(
            job("one", f"{show}; {hold}"),
            job("two", show, depends_on=("one",)),
            job("three", f"{say}; {hold}", env_from=variables),
            job("four", "echo never", env_from={"KEY": ("", "NOWHERE", "")}),
            cwd=str(world.root),
            max_parallel=9,
        )
    )
    begin = {
        "A": "first", "dotted.name": "dot", "BASH_FUNC_f%%": FUNCTION, "LD_LIBRARY_PATH": "/nowhere",
        "TMPDIR": str(world.root), "PYTHONUNBUFFERED": "", "BASH_ENV": str(world.root / "rc"),
    }  # fmt: skip
    (world.root / "rc").write_text(f"echo rc >> {world.root}/read\n")
    run.start(**begin)
    run.wait_running("one")
    run.wait_running("three")
    assert run.wait_status("four", "stuck")["error"].endswith(
        "wavequeue: env KEY is taken from NOWHERE, which neither .env nor the run's environment has; write it into "
        ".env beside the code, then: wavequeue retry"
    )
    for process in psutil.process_iter(["cmdline"]):
        assert "top secret" not in " ".join(process.info["cmdline"] or ())
    assert [path for path in run.directory.rglob("*") if path.is_file() and b"top secret" in path.read_bytes()] == []
    run.kill()
    run.start(A="second", NEW="n")
    found = wait_for(lambda: run.state().get("meta", {}).get("conditions"), say="what differs")
    assert found[0]["kind"] == "environment"
    assert "A, BASH_FUNC_f%%, LD_LIBRARY_PATH, NEW, PYTHONUNBUFFERED, TMPDIR, dotted.name" in found[0]["text"]
    (world.root / "stop").touch()
    assert run.finish() == 3
    assert run.log("three").split() == ["told"]
    for name in ("one", "two"):
        lines = run.log(name).split()
        assert lines[:3] == ["from", "a", "function"]
        assert {
            "A=first",
            "dotted.name=dot",
            "LD_LIBRARY_PATH=/nowhere",
            f"TMPDIR={world.root}",
            "PYTHONUNBUFFERED=",
        } < {*lines}
        assert not any(line.startswith("NEW=") for line in lines)
    # BASH_ENV is for the job's bash, and not for the wrapper's.
    assert (world.root / "read").read_text().split() == ["rc"] * 4
    where = [path for path in run.directory.rglob("*") if path.is_file() and b"/nowhere" in path.read_bytes()]
    assert [path.name for path in where if path.suffix != ".log"] == []


def test_a_session_that_is_robbed_of_variables_gets_them_back(host: HostPaths, tmp_path: Path) -> None:
    """As a screen does that has more rights than its user."""
    kept = adopt(host, "run@1", tmp_path, {**os.environ, "LD_LIBRARY_PATH": "/nowhere"}, 0o022, begun=False)
    assert kept.script is not None
    robbed = {name: value for name, value in os.environ.items() if name not in ("LD_LIBRARY_PATH", "TMPDIR")}
    done = subprocess.run(
        ["bash", "-c", f'. "{kept.script}"; echo "$LD_LIBRARY_PATH"'], env=robbed, capture_output=True, check=True
    )
    assert done.stdout == b"/nowhere\n"
