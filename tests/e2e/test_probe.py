"""The probe as it is called on a host."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from queue_manager.core.layout import HostPaths, RunPaths
from queue_manager.remote.probe import main, screen_version
from tests import nvml
from tests.nvml import Standin, StandinCard, cards

ROOT = Path(__file__).resolve().parents[2]


def variables(home: Path, environment: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    return {**inherited, "HOME": str(home), **environment}


def probe(home: Path, *arguments: str, **environment: str) -> dict[str, Any]:
    """What the probe prints: one line, whatever the host is like. In this process: see `probe_as_process`."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, variables(home, environment), clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        return parsed(main(arguments), out.getvalue(), err.getvalue())


def probe_as_process(home: Path, *arguments: str, **environment: str) -> dict[str, Any]:
    """What it prints as it is called on a host. With libraries of its own it can only be that."""
    done = subprocess.run(
        [sys.executable, "-m", "queue_manager.remote", "probe", *arguments],
        cwd=ROOT,
        env=variables(home, environment),
        capture_output=True,
        text=True,
    )
    return parsed(done.returncode, done.stdout, done.stderr)


def parsed(code: int, out: str, err: str) -> dict[str, Any]:
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
    document: dict[str, Any] = json.loads(out)
    return document


def test_the_host_is_described(tmp_path: Path) -> None:
    found = probe_as_process(tmp_path)
    assert found["python"] == {"version": sys.version.split()[0], "executable": sys.executable}
    assert 1 <= found["cpus"] <= len(os.sched_getaffinity(0))
    assert len(found["load"]) == 3
    assert 0 < found["memory_mib"]["available"] <= found["memory_mib"]["total"]
    assert found["path"] == str(tmp_path)
    assert found["disk_free_mib"] > 0
    assert found["bash"] is not None
    assert probe(tmp_path, PATH=str(tmp_path))["bash"] is None
    assert found["heartbeat"] is None
    assert found["time"].endswith("Z")
    assert found["host"] == os.uname().nodename


def test_tools_are_found_where_they_are(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    assert (probe(tmp_path, PATH=str(tools))["screen"], probe(tmp_path, PATH=str(tools))["rsync"]) == (None, None)
    # screen 4 prints its version and exits with 1.
    (tools / "screen").write_text("#!/bin/sh\necho 'Screen version 4.09.01 (GNU) 20-Aug-23'\nexit 1\n")
    (tools / "rsync").write_text("")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    found = probe(tmp_path, PATH=str(tools))
    assert found["screen"] == {"path": str(tools / "screen"), "version": "4.09.01"}
    assert found["rsync"] == str(tools / "rsync")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Screen version 4.09.00 (GNU) 30-Jan-22\n", "4.09.00"),
        ("Screen version 5.0.0 (build on 2024-08-29 00:00:00) \n", "5.0.0"),
        ("Screen version v4.6.2\n", "4.6.2"),
        ("-bash: screen: command not found\n", None),
        ("", None),
    ],
)
def test_screen_version(text: str, version: str | None) -> None:
    assert screen_version(text) == version


def test_a_path_that_is_not_there_yet(tmp_path: Path) -> None:
    found = probe(tmp_path, "--path", str(tmp_path / "not" / "yet"))
    assert found["path"] == str(tmp_path / "not" / "yet")
    assert found["disk_free_mib"] > 0


def test_the_heartbeat_is_that_of_the_newest_run(tmp_path: Path) -> None:
    runs = HostPaths.of(tmp_path).runs
    old = ((f"old{n}", 1_000_000_000.0 + n) for n in range(20))
    for name, at in (*old, ("new", 1_700_000_000.25), ("older", 900_000_000.0)):
        state = RunPaths.of(runs / name).state
        state.parent.mkdir(parents=True)
        state.write_text("{}")
        os.utime(state, (at, at))
    (runs / "empty").mkdir()
    assert probe(tmp_path)["heartbeat"] == "2023-11-14T22:13:20.250Z"


def test_the_runs_are_those_that_a_manager_holds(tmp_path: Path) -> None:
    assert probe(tmp_path)["runs"] == []
    runs = HostPaths.of(tmp_path).runs
    for name in ("ended", "alive"):
        lock = RunPaths.of(runs / name).lock
        lock.parent.mkdir(parents=True)
        lock.write_text(json.dumps({"pid": os.getpid(), "host": os.uname().nodename}))
    with RunPaths.of(runs / "alive").lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert probe(tmp_path)["runs"] == [{"id": "alive", "pid": os.getpid()}]


def test_what_cannot_be_determined_is_no_empty_answer(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    says = "screen: cannot open shared object file: libtinfo.so.6"
    (tools / "screen").write_text(f"#!/bin/sh\necho '{says}' >&2; exit 127\n")
    (tools / "screen").chmod(0o755)
    runs = HostPaths.of(tmp_path).runs
    RunPaths.of(runs / "r").lock.mkdir(parents=True)
    found = probe(tmp_path, PATH=str(tools))
    assert found["screen"] == {"path": str(tools / "screen"), "version": None, "fault": says}
    assert found["unreadable"] == {"runs": f"{RunPaths.of(runs / 'r').lock}: Is a directory"}
    assert (found["runs"], found["heartbeat"]) == ([], None)
    RunPaths.of(runs / "r").lock.rmdir()
    found = probe(tmp_path)
    assert (found["unreadable"], "fault" in found["screen"]) == ({}, False)


def test_cards(tmp_path: Path) -> None:
    standin = Standin(tmp_path, [StandinCard("GPU-a", "NVIDIA A", 24576, 1000, 37), *cards(2)])
    standin.fail(nvml.GPU_IS_LOST, "nvmlDeviceGetMemoryInfo", card=0)
    found = probe_as_process(tmp_path, **standin.env, CUDA_VISIBLE_DEVICES="0,1")
    lost, well = found["gpus"]
    assert lost["note"] == "it does not answer: GPU is lost"
    assert (lost["index"], lost["uuid"], lost["name"], lost["free_mib"]) == (0, "GPU-a", "NVIDIA A", None)
    assert well == {
        "index": 1,
        "uuid": cards(1)[0].uuid,
        "name": "NVIDIA Stand-in",
        "total_mib": 24576,
        "used_mib": 3,
        "free_mib": 24573,
        "util": 0,
        "note": "",
    }
    assert found["gpu_note"] == "CUDA_VISIBLE_DEVICES=0,1 hides GPU 2"
    assert "gpu_unreadable" not in found


def test_cards_that_cannot_be_read(tmp_path: Path) -> None:
    standin = Standin(tmp_path, cards(1))
    standin.fail(nvml.DRIVER_NOT_LOADED)
    found = probe_as_process(tmp_path, **standin.env)
    assert (found["gpus"], found["gpu_unreadable"]) == ([], "NVML: Driver Not Loaded")
    assert "gpu_note" not in found


def test_without_nvidia_ml_py_the_rest_is_reported(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "pynvml.py").write_text("raise ImportError('No module named pynvml')\n")
    found = probe_as_process(tmp_path, **{**Standin(tmp_path, cards(1)).env, "PYTHONPATH": f"{blocked}:{ROOT}"})
    assert found["gpu_unreadable"] == f"{sys.executable} has no nvidia-ml-py: No module named pynvml"
    assert found["cpus"] >= 1


def test_an_unknown_option_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--pth", "/"])
    assert end.value.code == 2
    said = capsys.readouterr()
    assert (said.out, "unrecognized arguments: --pth" in said.err) == ("", True)
