"""What jobs run in: modules, a uv project, a container; the same promises over a fake engine and over real ones."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from queue_manager.adapters import processes
from queue_manager.adapters.processes import TagScan
from queue_manager.core.manifest import JobSpec, Manifest, Phase
from queue_manager.launchers import environments, script
from queue_manager.remote import preflight
from tests import engines
from tests.contracts.test_script import RUN, Bench
from tests.e2e.runs import wait_for

FAKES = ("docker", "podman", "apptainer")
REAL = os.environ.get("WAVEQUEUE_ENGINES", "").split()
"""What of this machine is tested as well: docker, podman, modules."""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "bench")
    yield made
    left = TagScan(RUN).tagged()
    assert isinstance(left, dict)
    for procs in left.values():
        processes.send(procs, signal.SIGKILL)
    assert left == {}, "a test has left processes"


@pytest.fixture(scope="module")
def real_engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[engines.Real]:
    made = engines.Real(tmp_path_factory.mktemp("engines"))
    yield made
    made.close()


@pytest.fixture(params=[*(f"fake {name}" for name in FAKES), *(name for name in FAKES if name in REAL)])
def engine(request: pytest.FixtureRequest, bench: Bench, tmp_path: Path, real_engines: engines.Real) -> Iterator[str]:
    """An engine, the only one of the bench; its name."""
    kind, _, name = str(request.param).rpartition(" ")
    if kind:
        bench.environment.update(engines.fake(tmp_path / "engines", name))
        yield name
        return
    found = real_engines.only(name, tmp_path / "engines")
    assert found is not None, f"{name} does not work here"
    bench.environment.update(found)
    yield name


def identity(bench: Bench) -> str | None:
    return bench.run_dir.environment("job", bench.n)


def calls(bench: Bench) -> list[str]:
    return Path(bench.environment["FAKE_CALLS"]).read_text().splitlines()


# -- containers --------------------------------------------------------------------------------------------------------


def test_a_container_gives_the_exit_code_and_the_output(bench: Bench, engine: str) -> None:
    code, output = bench.go("echo out; echo err >&2; (exit 7)", container=engines.IMAGE)
    assert (code, sorted(output.split())) == (7, ["err", "out"]), "an engine may mix its two streams"
    assert engine in (identity(bench) or "")


def test_files_of_a_container_are_its_users_in_the_cwd(bench: Bench, engine: str) -> None:
    del engine
    (bench.cwd / "in.txt").write_text("mine\n")
    code, output = bench.go("pwd; id -u; echo made > out.txt; cat in.txt", container=engines.IMAGE)
    assert (code, output.split()) == (0, [str(bench.cwd), str(os.getuid()), "mine"])
    assert (bench.cwd / "out.txt").read_text() == "made\n"
    assert (bench.cwd / "out.txt").stat().st_uid == os.getuid()
    assert (bench.cwd / "out.txt").stat().st_mode & 0o777 == 0o644


def test_a_container_gets_the_variables_of_its_job_and_no_others(bench: Bench, engine: str) -> None:
    del engine
    command = (
        "echo ${A-none} ${B-none} ${OF_THE_HOST-none} $WAVEQUEUE_JOB_ID $CUDA_VISIBLE_DEVICES; printf '%s\\n' \"$C\""
    )
    env = {"A": "job", "C": 'it\'s "$HOME" a\nb'}
    code, output = bench.go(
        command, env=env, manifest_env={"B": "run"}, container=engines.IMAGE, environment={"OF_THE_HOST": "x"}
    )
    assert (code, output) == (0, "job run none job\n" + env["C"] + "\n")


def test_a_pipe_that_fails_and_a_first_failure_end_a_container(bench: Bench, engine: str) -> None:
    del engine
    assert bench.go("false | true; echo went on", container=engines.IMAGE, errexit=True) == (1, "")
    assert bench.go("false; echo went on", container=engines.IMAGE) == (0, "went on\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_kill_reaches_the_container(bench: Bench, engine: str, number: signal.Signals) -> None:
    del engine
    saves = "trap 'echo saved > saved; exit 9' TERM; touch begun; while :; do sleep 0.05; done"
    bench.prepare(f"bash -c {environments.q(saves)}", container=engines.IMAGE)
    wrapper = bench.wrapper()
    bench.wait_file("begun")
    bench.send(number)
    wrapper.communicate(timeout=150)
    wait_for(lambda: TagScan(RUN).tagged() == {}, say="the end of all that it began")
    assert (bench.cwd / "saved").exists() == (number == signal.SIGTERM)
    assert bench.code() == (143 if number == signal.SIGTERM else 137)


def test_an_image_that_is_nowhere_is_named(bench: Bench, engine: str) -> None:
    code, output = bench.go("echo ran", container="localhost:1/no/such:image", environment={"FAKE_NO_REGISTRY": "1"})
    if engine == "apptainer":  # it pulls by itself
        return
    assert code == environments.CANNOT_START
    assert output.splitlines()[-1] == (
        "wavequeue: the image localhost:1/no/such:image is not here, and cannot be pulled"
    )
    assert "ran" not in output.split()


def test_without_an_engine_the_job_says_which_would_do(bench: Bench, tmp_path: Path) -> None:
    bench.environment.update(engines.fake(tmp_path / "engines"))
    code, output = bench.go("echo ran", container="pytorch/pytorch:2.9.0")
    assert code == environments.CANNOT_START
    assert "no container engine works here for pytorch/pytorch:2.9.0: docker, podman, apptainer, singularity" in output
    code, output = bench.go("echo ran", container="~/x.sif")
    assert "no container engine works here for ~/x.sif: apptainer, singularity" in output


def test_docker_without_its_daemon_gives_way_to_podman(bench: Bench, tmp_path: Path) -> None:
    bench.environment.update(engines.fake(tmp_path / "engines", "docker", "podman"))
    assert bench.go("echo ran", container="a/b")[1] == "ran\n"
    assert identity(bench) == "docker repo@sha256:feed"
    assert bench.go("echo ran", container="a/b", environment={"FAKE_NO_DAEMON": "1"})[1] == "ran\n"
    assert identity(bench) == "podman repo@sha256:feed"


@pytest.mark.parametrize(
    ("name", "gpus", "mount"),
    [
        ("docker", "--gpus all", "--mount type=bind,source={0},target={0}"),
        ("podman", "--device nvidia.com/gpu=all", "--mount type=bind,source={0},target={0}"),
        ("apptainer", "--nv", "--bind {0}"),
    ],
)
def test_gpus_and_directories_are_handed_on(bench: Bench, tmp_path: Path, name: str, gpus: str, mount: str) -> None:
    bench.environment.update(engines.fake(tmp_path / "engines", name))
    assert bench.go("echo $CUDA_VISIBLE_DEVICES", indices=(1, 3), container="a/b:c")[1] == "1,3\n"
    started = next(one for one in calls(bench) if " run " in one or " exec " in one)
    assert gpus in started
    assert mount.format(bench.cwd) in started
    assert mount.format(bench.run_dir.paths.root) in started
    assert ("docker://a/b:c sh" if name == "apptainer" else " a/b:c -c ") in started
    if name != "apptainer":
        assert f"--user {os.getuid()}:{os.getgid()}" in started
    bench.go(":", container="a/b:c")
    assert gpus not in [one for one in calls(bench) if " run " in one or " exec " in one][-1]


def test_a_key_is_on_no_command_line(bench: Bench, tmp_path: Path) -> None:
    for name in FAKES:
        bench.environment.update(engines.fake(tmp_path / name, name))
        assert bench.go("echo $TOKEN", env={"TOKEN": "hf_secret"}, container="a/b")[1] == "hf_secret\n"
        engine_calls = "".join(one.partition(" -c ")[0] for one in calls(bench))
        assert "hf_secret" not in engine_calls


def test_an_image_file_lies_beside_the_run(bench: Bench, tmp_path: Path) -> None:
    bench.environment.update(engines.fake(tmp_path / "engines", "docker", "apptainer"))
    code, output = bench.go("echo ran", container="env.sif")
    assert (code, output) == (66, f"wavequeue: the image {bench.cwd}/env.sif does not exist\n")
    (bench.cwd / "env.sif").write_text("image")
    assert bench.go("echo ran", container="env.sif") == (0, "ran\n")
    assert (identity(bench) or "").startswith(f"apptainer {bench.cwd}/env.sif, size 5, changed ")


# -- modules -----------------------------------------------------------------------------------------------------------

MODULES = """
module() {
    [ "$1" = load ] || return 1
    case $2 in
    cuda) set -- load cuda/12.4 ;;
    cuda/12.4|gcc/13) ;;
    old) echo "ModuleCmd_Load.c(213):ERROR:105: Unable to locate a modulefile for 'old'" >&2; return 0 ;;
    *) echo "no module $2" >&2; return 1 ;;
    esac
    case ":$LOADEDMODULES:" in *":$2:"*) return 0 ;; esac
    export LOADEDMODULES=${LOADEDMODULES:+$LOADEDMODULES:}$2 PATH="/opt/$2/bin:$PATH"
}
"""


@pytest.fixture
def modules(bench: Bench) -> Bench:
    """A host whose modules are found by MODULESHOME, as a login would set it."""
    init = bench.home / "modules" / "init" / "bash"
    init.parent.mkdir(parents=True)
    init.write_text(MODULES)
    bench.environment["MODULESHOME"] = str(init.parents[1])
    return bench


def test_modules_are_loaded_before_anything_else(modules: Bench) -> None:
    code, output = modules.go("echo $LOADEDMODULES ${PATH%%:*}", module=("gcc/13", "cuda"))
    assert (code, output) == (0, "gcc/13:cuda/12.4 /opt/cuda/12.4/bin\n")
    assert identity(modules) == "module gcc/13:cuda/12.4"


def test_a_module_that_was_loaded_before_is_no_fault(modules: Bench) -> None:
    assert modules.go("echo ran", module=("cuda", "cuda/12.4"))[0] == 0


@pytest.mark.parametrize("name", ["cuda/99", "old"])
def test_a_module_that_is_not_there_is_named(modules: Bench, name: str) -> None:
    code, output = modules.go("echo ran", module=("gcc/13", name))
    assert code == environments.CANNOT_START
    assert f"wavequeue: module {name} cannot be loaded; see: module avail" in output
    assert "ran" not in output.split()


def test_a_host_without_modules_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "_MODULE_INITS", ())
    code, output = bench.go("echo ran", module=("cuda",))
    assert code == environments.CANNOT_START
    assert "environment modules were not found here" in output


if "modules" in REAL:

    def test_real_environment_modules(bench: Bench) -> None:
        files = bench.home / "files"
        (files / "tool").mkdir(parents=True)
        (files / "tool" / "1.2").write_text("#%Module1.0\nprepend-path PATH /opt/tool/bin\n")
        bench.environment["MODULEPATH"] = str(files)
        assert bench.go("echo ${PATH%%:*}", module=("tool",)) == (0, "/opt/tool/bin\n")
        assert identity(bench) == "module tool/1.2"
        code, output = bench.go("echo ran", module=("tool/9",))
        assert code == environments.CANNOT_START
        assert "wavequeue: module tool/9 cannot be loaded" in output


# -- uv, conda, venv ---------------------------------------------------------------------------------------------------

UV = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
PROJECT = '[project]\nname = "a"\nversion = "0"\nrequires-python = ">=3.9"\n[tool.uv]\npackage = false\n'


def test_uv_runs_a_job_in_the_projects_own_environment(bench: Bench) -> None:
    assert UV is not None, "uv is among the libraries of the tests"
    (bench.cwd / "pyproject.toml").write_text(PROJECT)
    bench.environment.update(PATH=f"{Path(UV).parent}:{bench.environment['PATH']}", UV_OFFLINE="1")
    code, output = bench.go("echo ran", uv=True)
    assert (code, output.splitlines()[-1]) == (
        66, "wavequeue: uv: true needs a uv.lock in the cwd or above it; write it with: uv lock",
    )  # fmt: skip
    subprocess.run([UV, "lock", "-q"], cwd=bench.cwd, env=bench.environment, check=True)
    lock = (bench.cwd / "uv.lock").read_bytes()
    (bench.cwd / "below").mkdir()
    command = "python -c 'import sys; print(sys.prefix)'; (exit 5)"
    code, output = bench.go(command, uv=True, cwd=bench.cwd / "below")
    assert (code, output.splitlines()[-1]) == (5, str(bench.cwd / ".venv"))
    assert identity(bench) == f"uv.lock sha256:{hashlib.sha256(lock).hexdigest()}"
    assert (bench.cwd / "uv.lock").read_bytes() == lock


def test_without_uv_the_job_says_how_to_get_it(bench: Bench, tmp_path: Path) -> None:
    bench.environment.update(engines.fake(tmp_path / "engines"))
    code, output = bench.go("echo ran", uv=True)
    assert code == 66
    assert "uv is not installed here, and the spec says uv: true; install it with: pip install uv" in output


def test_a_stop_of_a_job_under_uv_reaches_it(bench: Bench) -> None:
    assert UV is not None
    (bench.cwd / "pyproject.toml").write_text(PROJECT)
    bench.environment.update(PATH=f"{Path(UV).parent}:{bench.environment['PATH']}", UV_OFFLINE="1")
    subprocess.run([UV, "lock", "-q"], cwd=bench.cwd, env=bench.environment, check=True)
    bench.prepare("sleep 300; echo next", uv=True)
    wrapper = bench.wrapper()
    begun = psutil.Process(bench.started().pid)
    wait_for(lambda: any(one.name() == "sleep" for one in begun.children(recursive=True)), say="the job's command")
    bench.send(signal.SIGTERM)
    output, _ = wrapper.communicate(timeout=150)
    assert bench.code() == 143
    assert b"next" not in output


def test_what_is_installed_in_a_venv_identifies_it(bench: Bench) -> None:
    packages = bench.cwd / ".venv" / "lib" / "python3.12" / "site-packages"
    (packages / "numpy-2.3.0.dist-info").mkdir(parents=True)
    (bench.cwd / ".venv" / "bin").mkdir()
    (bench.cwd / ".venv" / "bin" / "activate").write_text(f"export VIRTUAL_ENV={bench.cwd}/.venv\n")
    bench.go("echo ran", venv=".venv")
    first = identity(bench)
    assert first == "venv sha256:" + hashlib.sha256(b"numpy-2.3.0.dist-info\n").hexdigest()
    (packages / "torch-2.9.0.dist-info").mkdir()
    bench.go("echo ran", venv=".venv")
    assert identity(bench) not in (None, first)


def test_without_an_environment_there_is_no_identity(bench: Bench) -> None:
    assert bench.go("echo ran ${_wq_at-none}") == (0, "ran none\n")
    assert identity(bench) is None


# -- preflight ---------------------------------------------------------------------------------------------------------


def entered(bench: Bench, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> dict[str, Any]:
    for name, value in bench.environment.items():
        monkeypatch.setenv(name, value)
    made = Manifest("p", (JobSpec("a", "true", "main"),), (Phase("main"),), cwd=str(bench.cwd), **fields)
    found: dict[str, Any] = json.loads(json.dumps(preflight.look(made)))["activation"]
    return found


def test_preflight_looks_into_an_image_that_is_there(
    bench: Bench, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = entered(bench, monkeypatch, container="localhost:1/not/pulled")
    if engine != "apptainer":
        assert found["fault"] is None
        assert found["note"] == "container: localhost:1/not/pulled is not on this host yet; the first job pulls it"
    if "FAKE_CALLS" in bench.environment:
        Path(bench.environment["FAKE_CALLS"] + ".image").touch()
    found = entered(bench, monkeypatch, container=engines.IMAGE)
    assert (found["kind"], found["name"], found["fault"], found["note"]) == ("container", engines.IMAGE, None, None)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"container": "a/b"}, "no container engine works here for a/b"),
        ({"uv": True}, "uv is not installed here"),
        ({"module": ("cuda",)}, "environment modules were not found here"),
    ],
)
def test_preflight_says_what_is_missing(
    fields: dict[str, Any], says: str, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "_MODULE_INITS", ())
    bench.environment.update(engines.fake(tmp_path / "engines"))
    assert says in entered(bench, monkeypatch, **fields)["fault"]


def test_commands_of_the_whole_run_are_outside_its_container() -> None:
    made = Manifest("p", (), (), container="a/b", on_complete="echo done")
    assert "docker" not in script.complete_script(made, "r", "/r", "/tmp")
