"""The wrapper and the job's script, run by the real sh and bash: claim, exit record, signals, environment."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import select
import shlex
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queue_manager.adapters import processes
from queue_manager.adapters.processes import TagScan
from queue_manager.adapters.run_dir import RunDir
from queue_manager.core.boundary import Claim, Revoked
from queue_manager.core.events import Proc
from queue_manager.core.layout import AttemptPaths, RunPaths, tag
from queue_manager.core.manifest import JobSpec, Manifest, Phase
from queue_manager.launchers import environments, script
from queue_manager.launchers.screen import Screen
from tests.e2e.runs import World, wait_for

RUN = f"run-{os.getpid()}"  # tests may run beside each other


class Bench:
    """A run directory, and attempts of one job in it that are run without a session."""

    def __init__(self, root: Path) -> None:
        self.cwd = root / "code"
        self.cwd.mkdir(parents=True)
        self.home = root / "home"
        self.home.mkdir(exist_ok=True)
        self.run_dir = RunDir(RunPaths.of(root / "run"))
        self.run_dir.prepare()
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(self.home)}
        self.n = 0

    def prepare(self, cmd: str, indices: tuple[int, ...] = (), cwd: Path | None = None, **fields: Any) -> AttemptPaths:
        """The files of the next attempt. `fields`: of the manifest; `env` is the job's, `manifest_env` the other."""
        self.n += 1
        spec = JobSpec("job", cmd, "main", env=fields.pop("env", {}))
        manifest = Manifest("p", (spec,), (Phase("main"),), env=fields.pop("manifest_env", {}), **fields)
        text = script.job_script(manifest, spec, RUN, self.n, [*map(str, indices)], str(cwd or self.cwd))
        return self.run_dir.prepare_attempt("job", self.n, text, ())

    def argv(self, shell: str = "bash -p") -> list[str]:
        files = self.run_dir.paths.attempt("job", self.n)
        return [*shell.split(), str(self.run_dir.paths.wrapper), str(files.root), tag(RUN, "job", self.n)]

    def wrapper(self, shell: str = "bash -p", environment: Mapping[str, str] = {}) -> subprocess.Popen[bytes]:
        """Start a wrapper on the newest attempt."""
        return subprocess.Popen(
            self.argv(shell),
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def code(self) -> int | None:
        record = self.run_dir.exit_record("job", self.n)
        return record.code if record else None

    def go(self, cmd: str, environment: Mapping[str, str] = {}, **fields: Any) -> tuple[int | None, str]:
        """Run one attempt to its end: the recorded exit code, and the output."""
        self.prepare(cmd, **fields)
        output, _ = self.wrapper(environment=environment).communicate(timeout=150)
        return self.code(), output.decode()

    def started(self) -> Proc:
        found: Proc = wait_for(lambda: self.run_dir.started("job", self.n), say="the job's process")
        return found

    def wait_file(self, name: str) -> None:
        wait_for((self.cwd / name).exists, say=name)

    def wait_command(self, name: str) -> None:
        """Wait until a command of this name runs below the job's bash."""
        bash = psutil.Process(self.started().pid)
        wait_for(lambda: any(child.name() == name for child in bash.children()), say=name)

    def send(self, number: signal.Signals) -> None:
        """Signal all of the attempt, as the manager does."""
        tagged = TagScan(RUN).tagged()
        assert isinstance(tagged, dict)
        processes.send(tagged[tag(RUN, "job", self.n)], number)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    scan = TagScan(RUN)
    scan.pass_over_present()
    yield Bench(tmp_path / "bench")
    tagged = scan.tagged()
    assert isinstance(tagged, dict)
    for procs in tagged.values():
        processes.send(procs, signal.SIGKILL)
    assert tagged == {}, "a test has left processes"


# -- the claim --------------------------------------------------------------------------------------------------------


def _wait_for_one_left(wrappers: list[subprocess.Popen[bytes]]) -> None:
    wait_for(lambda: sum(one.poll() is None for one in wrappers) == 1, say="the losers' end")


@pytest.mark.parametrize("shell", ["bash -p", "bash --posix"])
def test_one_of_many_wrappers_runs_the_job_and_is_known_by_name(bench: Bench, shell: str) -> None:
    for _ in range(5):
        bench.prepare("echo $PPID >> ran; read line < gate")
        if not (bench.cwd / "gate").exists():
            os.mkfifo(bench.cwd / "gate")
        (bench.cwd / "ran").unlink(missing_ok=True)
        wrappers = [bench.wrapper(shell) for _ in range(8)]
        bench.wait_file("ran")
        wrappers.append(bench.wrapper(shell))  # late, while the first one's job runs
        _wait_for_one_left(wrappers)
        claim = bench.run_dir.claim("job", bench.n)
        (bench.cwd / "gate").write_text("\n")
        for one in wrappers:
            one.communicate(timeout=150)
        ran = (bench.cwd / "ran").read_text().split()
        assert isinstance(claim, Claim)
        assert ran == [str(claim.wrapper.pid)]
        assert claim.leader.pid == os.getpid()
        assert bench.code() == 0


def test_wrapper_and_manager_race_for_the_claim(bench: Bench) -> None:
    rng, sides = random.Random(3), set()
    for turn in range(100):
        bench.prepare(f"echo {turn} >> ran")
        if turn == 0:
            bench.run_dir.revoke("job", bench.n, ())
        wrapper = bench.wrapper()
        if turn == 1:
            wait_for(lambda: isinstance(bench.run_dir.claim("job", bench.n), Claim), say="the claim")
        for _ in range(rng.randrange(200)):  # a moment that differs from turn to turn
            os.stat(bench.cwd)
        bench.run_dir.revoke("job", bench.n, ())
        now = bench.run_dir.claim("job", bench.n)
        wrapper.communicate(timeout=150)
        assert now == bench.run_dir.claim("job", bench.n)
        ran = (bench.cwd / "ran").read_text().split() if (bench.cwd / "ran").exists() else []
        assert isinstance(now, (Claim, Revoked))
        assert (str(turn) in ran) == isinstance(now, Claim)
        assert bench.code() == (0 if isinstance(now, Claim) else None)
        sides.add(type(now))
    assert sides == {Claim, Revoked}


def test_without_its_directory_a_wrapper_runs_nothing(bench: Bench) -> None:
    bench.prepare("echo ran > ran")
    bench.run_dir.forget("job", bench.n)
    assert bench.wrapper().wait(150) != 0
    assert not (bench.cwd / "ran").exists()


def test_a_directory_that_is_just_being_removed_runs_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.prepare("echo ran > ran")
    bench.run_dir.revoke("job", bench.n, ())

    def in_the_middle(root: Path, **_options: Any) -> None:
        (root / "claim").unlink()
        bench.wrapper().communicate(timeout=150)

    monkeypatch.setattr("shutil.rmtree", in_the_middle)
    bench.run_dir.forget("job", bench.n)
    assert not (bench.cwd / "ran").exists()


def test_the_wrapper_does_not_run_where_it_cannot_say_who_it_is(bench: Bench) -> None:
    bench.prepare("echo ran > ran")
    no_room = ["sh", "-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh", *bench.argv()]
    result = subprocess.run(no_room, env=bench.environment, capture_output=True, timeout=150, check=False)
    assert result.returncode == 1, result
    assert bench.run_dir.claim("job", bench.n) is None
    assert not (bench.cwd / "ran").exists()


# -- the exit record --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cmd", "code"),
    [
        ("true", 0),
        ("exit 3", 3),
        ("no-such-command-here", 127),
        ("kill -KILL $$", 137),
        ("ulimit -c 0; kill -SEGV $$", 139),
        ("bash -c 'kill -KILL $$'", 137),
        ("false; true", 0),
        ("false | tee out", 1),
        ("set -e\nfalse\necho on", 1),
        ("if then", 2),
    ],
)
def test_exit_code(bench: Bench, cmd: str, code: int) -> None:
    assert bench.go(cmd)[0] == code
    claim = bench.run_dir.claim("job", bench.n)
    assert isinstance(claim, Claim)
    assert {path.name for path in bench.run_dir.paths.attempt("job", bench.n).root.iterdir()} == {
        "job.sh", f"wrapper.{claim.wrapper.pid}", "claim", "started", "exit", "gate"
    }  # fmt: skip


def test_the_record_waits_while_the_disk_is_full(bench: Bench) -> None:
    files = bench.prepare("exit 5")
    files.exit.symlink_to("/dev/full")
    wrapper = bench.wrapper()
    me = psutil.Process(wrapper.pid)

    def waits() -> bool:
        with contextlib.suppress(psutil.Error):  # a child that has just ended
            return any(child.cmdline() == ["sleep", "1"] for child in me.children())
        return False

    wait_for(waits, say="the wrapper to wait")
    assert wrapper.poll() is None
    assert bench.code() is None
    files.exit.unlink()
    wrapper.communicate(timeout=150)
    assert bench.code() == 5


def test_a_job_does_not_end_by_the_hangup_of_its_terminal(bench: Bench) -> None:
    """It comes when the command ends, too, and would end what that left running without a word."""
    go = bench.home / "go"
    bench.prepare(f"until [ -e {shlex.quote(str(go))} ]; do sleep 0.05; done; exit 6")
    wrapper = bench.wrapper()
    bench.wait_command("sleep")
    os.killpg(wrapper.pid, signal.SIGHUP)
    go.touch()
    wrapper.communicate(timeout=150)
    assert bench.code() == 6


def _late(bench: Bench) -> tuple[str, Path]:
    """A command that leaves work behind in a group and with an environment of its own, and what that waits for."""
    go = bench.home / "go"
    late = f"until [ -e {shlex.quote(str(go))} ]; do sleep 0.05; done; echo late"
    return f'env -i PATH="$PATH" setsid bash -c {shlex.quote(late)} &\necho now', go


def test_the_wrapper_stays_for_what_the_job_leaves_running(bench: Bench) -> None:
    """Its verdict is there by then, the bell is rung, and what is left keeps its terminal and can be found."""
    cmd, go = _late(bench)
    files = bench.prepare(cmd)
    bell = os.open(bench.run_dir.paths.bell, os.O_RDWR | os.O_NONBLOCK)
    wrapper = bench.wrapper()
    wait_for(lambda: bench.code() == 0, say="the verdict")
    assert select.select([bell], [], [], 60)[0]
    os.close(bell)
    assert wrapper.poll() is None
    assert {proc.pid for proc in processes.holding(files.gate)} > {wrapper.pid}
    go.touch()
    assert wrapper.communicate(timeout=150)[0] == b"now\nlate\n"
    assert processes.holding(files.gate) == []


def test_where_there_are_no_fifos_the_wrapper_stays_for_nothing(bench: Bench) -> None:
    cmd, go = _late(bench)
    bench.prepare(cmd).gate.unlink()
    assert bench.wrapper().wait(150) == 0
    assert bench.code() == 0
    go.touch()
    # What it leaves may not have got its own environment yet.
    wait_for(lambda: TagScan(RUN).tagged() == {}, say="the end of what it left")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_signal_to_the_session_does_not_lose_the_record(bench: Bench, number: signal.Signals) -> None:
    bench.prepare("ulimit -c 0; sleep 1000")
    wrapper = bench.wrapper()
    bench.wait_command("sleep")
    os.killpg(wrapper.pid, number)
    wrapper.communicate(timeout=150)
    # bash holds SIGQUIT back for itself while a command runs; that one has died of it all the same.
    assert bench.code() == 128 + number


@pytest.mark.parametrize("number", ["HUP", "INT", "QUIT", "TERM"])
def test_a_signal_before_the_record_is_written_does_not_lose_it(bench: Bench, number: str) -> None:
    """In the moment that screen is given after a failure."""
    tools = bench.home / "tools"
    tools.mkdir()
    (tools / "sleep").write_text(f"#!/bin/sh\nkill -{number} $PPID $$\n")
    (tools / "sleep").chmod(0o755)
    code, _ = bench.go("exit 4", environment={"PATH": f"{tools}:{os.environ['PATH']}"})
    assert code == 4


def test_a_job_outlives_its_session_and_is_recorded(bench: Bench, world: World) -> None:
    screen = Screen(bench.run_dir.paths.screenrc, world.environment)
    files = bench.prepare("sleep 1000")
    log = bench.run_dir.paths.log("job")
    assert screen.start("wq.run.job.1", bench.argv(), log, files.complaint).wait(150) == 0
    bench.wait_command("sleep")
    claim = bench.run_dir.claim("job", bench.n)
    assert isinstance(claim, Claim)
    assert screen.sessions() == {"wq.run.job.1": claim.leader.pid}
    screen.close(claim.leader.pid, "wq.run.job.1")
    wait_for(lambda: processes.alive(claim.leader) is False, say="the session's end")
    assert screen.sessions() == {}
    assert processes.alive(claim.wrapper) is True
    assert processes.alive(bench.started()) is True
    bench.send(signal.SIGTERM)
    wait_for(lambda: bench.code() == 143, say="the record")
    wait_for(lambda: processes.alive(claim.wrapper) is False, say="the wrapper's end")


def test_term_lets_the_running_command_end_and_begins_no_other(bench: Bench) -> None:
    os.mkfifo(bench.cwd / "gate")
    save = "trap 'echo > saving; cat gate > saved; exit 0' TERM; echo > up; while :; do sleep 1000; done"
    bench.prepare(f"sh -c {shlex.quote(save)}\necho > next")
    wrapper = bench.wrapper()
    bench.wait_file("up")
    bench.wait_command("sh")
    bench.send(signal.SIGTERM)
    bench.wait_file("saving")
    assert wrapper.poll() is None
    assert bench.code() is None
    (bench.cwd / "gate").write_text("checkpoint")
    wrapper.communicate(timeout=150)
    assert bench.code() == 143
    assert (bench.cwd / "saved").read_text() == "checkpoint"
    assert not (bench.cwd / "next").exists()


def test_kill_of_all_that_is_tagged_leaves_the_wrapper_to_report(bench: Bench) -> None:
    bench.prepare("trap '' TERM; sleep 1000")
    wrapper = bench.wrapper()
    bench.wait_command("sleep")
    bench.send(signal.SIGKILL)
    wrapper.communicate(timeout=150)
    assert bench.code() == 137


def test_the_job_reports_its_own_process(bench: Bench) -> None:
    bench.prepare("echo $$ > pid; exec sleep 1000")
    wrapper = bench.wrapper()
    bench.wait_file("pid")
    started = bench.started()
    wait_for((bench.cwd / "pid").read_text, say="the pid")
    assert started.pid == int((bench.cwd / "pid").read_text())
    assert processes.alive(started) is True
    bench.send(signal.SIGKILL)
    wrapper.communicate(timeout=150)


# -- what a command finds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("indices", "cards"), [((), ""), ((3,), "3"), ((0, 2, 5), "0,2,5")])
def test_cards(bench: Bench, indices: tuple[int, ...], cards: str) -> None:
    cmd = 'echo "${GPU}" x${GPU}y "$CUDA_VISIBLE_DEVICES" "$CUDA_DEVICE_ORDER"; echo ${CUDA_VISIBLE_DEVICES-unset}'
    _, output = bench.go(cmd, indices=indices)
    assert output == f"{cards} x{cards}y {cards} PCI_BUS_ID\n{cards}\n"


def test_who_it_is(bench: Bench) -> None:
    _, output = bench.go('echo "$WAVEQUEUE_JOB_ID $WAVEQUEUE_RUN_ID $WAVEQUEUE_ATTEMPT $WAVEQUEUE_TAG"; pwd')
    assert output == f"job {RUN} 1 {RUN}/job/1\n{bench.cwd}\n"


def test_which_environment_wins(bench: Bench) -> None:
    mine = {"A": "job", "WAVEQUEUE_ATTEMPT": "mine", "CUDA_VISIBLE_DEVICES": "7", "CUDA_DEVICE_ORDER": "FASTEST_FIRST"}
    _, output = bench.go(
        'echo "$A $B $C $WAVEQUEUE_ATTEMPT $CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER"',
        environment={"A": "outer", "B": "outer", "C": "outer", "CUDA_VISIBLE_DEVICES": "9"},
        indices=(1,),
        manifest_env={"A": "manifest", "B": "manifest"},
        env=mine,
    )
    # Which cards are used is the queue's to say.
    assert output.split() == ["job", "manifest", "outer", "mine", "1", "PCI_BUS_ID"]


def test_a_card_that_a_job_without_cards_names_for_itself_is_not_hidden(bench: Bench) -> None:
    command = "echo ${CUDA_VISIBLE_DEVICES-unset}:$CUDA_DEVICE_ORDER"
    outer = {"CUDA_VISIBLE_DEVICES": "9"}
    assert bench.go(command, environment=outer, env={"CUDA_VISIBLE_DEVICES": "3"})[1] == "3:PCI_BUS_ID\n"
    assert bench.go(command, environment=outer, manifest_env={"CUDA_VISIBLE_DEVICES": "2"})[1] == "2:PCI_BUS_ID\n"
    assert bench.go(f"export CUDA_VISIBLE_DEVICES=1; {command}", environment=outer)[1] == "1:PCI_BUS_ID\n"
    assert bench.go(command, environment=outer)[1] == ":PCI_BUS_ID\n"


def test_a_command_behind_cd_sees_the_variables(bench: Bench) -> None:
    (bench.cwd / "d").mkdir()
    cmd = "VAR=x cd d && bash -c 'echo $CUDA_VISIBLE_DEVICES $SEED $WAVEQUEUE_JOB_ID ${PWD##*/}'"
    assert bench.go(cmd, indices=(2,), env={"SEED": "42"})[1].split() == ["2", "42", "job", "d"]


@pytest.mark.parametrize(
    ("cmd", "output"),
    [
        ("echo a\necho b", "a\nb\n"),
        ("echo a\n", "a\n"),
        ("echo a \\\n  b\n\n", "a b\n"),
        ("echo a # a remark", "a\n"),
        ("# nothing else", ""),
        ("cat <<'.'\nin $HERE\n.", "in $HERE\n"),
        ("echo ${X:-a}{1,2}", "a1 a2\n"),
        ("for i in 1 2; do echo $i; done | tee f; cat f", "1\n2\n1\n2\n"),
        ("echo 'it'\"'\"'s' ü", "it's ü\n"),
    ],
)
def test_commands_of_any_form(bench: Bench, cmd: str, output: str) -> None:
    assert bench.go(cmd) == (0, output)


_VALUE = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12) | st.text(
    "'\"$`\\\n\r\t !#&*;~{}()ab", max_size=12
)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A bench for all examples of a test."""
    return Bench(tmp_path_factory.mktemp("lasting"))


@settings(max_examples=30, deadline=None)
@given(values=st.lists(_VALUE, min_size=1, max_size=20), shared=_VALUE)
def test_values_arrive_byte_for_byte(lasting: Bench, values: list[str], shared: str) -> None:
    names = [f"V{n}" for n in range(len(values))]
    cmd = "printf '%s\\0' " + " ".join(f'"${name}"' for name in [*names, "SHARED"])
    files = lasting.prepare(cmd, env=dict(zip(names, values)), manifest_env={"SHARED": shared})
    done = subprocess.run(["bash", str(files.script)], cwd=files.root, capture_output=True, check=True)
    assert done.stdout.split(b"\0")[:-1] == [value.encode() for value in [*values, shared]]


@pytest.mark.parametrize("name", ["a b", "it's", "$HOME", "-d", "ü"])
def test_the_cwd_may_have_any_name(bench: Bench, name: str) -> None:
    (bench.cwd / name).mkdir()
    assert bench.go("pwd", cwd=bench.cwd / name) == (0, f"{bench.cwd / name}\n")


def test_cdpath_does_not_lead_elsewhere(bench: Bench) -> None:
    assert bench.go("pwd", environment={"CDPATH": "/"}) == (0, f"{bench.cwd}\n")


# -- what is missing --------------------------------------------------------------------------------------------------


def test_no_cwd(bench: Bench) -> None:
    code, output = bench.go("echo ran", cwd=bench.cwd / "it's gone")
    assert code == environments.CANNOT_START == 66
    assert f"wavequeue: the cwd does not exist: {bench.cwd}/it's gone" in output
    assert "ran" not in output.split()


def test_no_venv(bench: Bench) -> None:
    code, output = bench.go("echo ran", venv="no venv")
    assert code == 66
    assert "wavequeue: the venv does not exist: no venv" in output
    assert "ran" not in output.split()


def _venv(root: Path) -> None:
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "activate").write_text('export VIRTUAL_ENV=here A=venv PATH="/venv/bin:$PATH"\n')


@pytest.mark.parametrize("name", [".venv", "my venv/", "~/envs/a b", "absolute"])
def test_a_venv_is_active(bench: Bench, name: str) -> None:
    place = bench.home / name[2:] if name.startswith("~/") else bench.cwd / name
    _venv(place)
    venv = str(place) if name == "absolute" else name
    code, output = bench.go("echo $VIRTUAL_ENV $A ${PATH%%:*}", venv=venv, env={"A": "job"})
    assert (code, output.split()) == (0, ["here", "job", "/venv/bin"])


@pytest.fixture
def no_conda(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which conda is only where the test puts it."""
    below_home = tuple(base for base in environments.CONDA_BASES if base.startswith("$HOME/"))
    assert below_home
    monkeypatch.setattr(environments, "CONDA_BASES", below_home)


def _conda(base: Path) -> Path:
    """A conda with one environment, `known`."""
    hook = base / "etc" / "profile.d" / "conda.sh"
    hook.parent.mkdir(parents=True)
    hook.write_text(
        'conda() { [ "$1 $2" = "activate known" ] && export CONDA_PREFIX=$_BASE/envs/known; }\n_BASE=here\n'
    )
    return hook


@pytest.mark.parametrize(
    ("cmd", "code", "output"),
    [
        ("false; echo on", 1, ""),
        ("echo a\n(exit 7)\necho on", 7, "a\n"),
        ("false || echo other; echo on", 0, "other\non\n"),
        ("false && echo never; echo on", 0, "on\n"),
        ("if false; then echo never; fi; while false; do :; done; ! true; echo on", 0, "on\n"),
        ("(exit 3) | cat; echo on", 3, ""),
        ("( false; echo never ); echo on", 1, ""),
        ("f() { false; echo never; }; f; echo on", 1, ""),
        ("sleep 0 & wait; echo on", 0, "on\n"),
        ("echo ${GPU}:${GPU_INDEX}", 0, "4,6:0,1\n"),
    ],
)
def test_a_command_of_several_ends_at_the_first_that_fails(bench: Bench, cmd: str, code: int, output: str) -> None:
    assert bench.go(cmd, errexit=True, indices=(4, 6)) == (code, output)


def test_what_was_built_before_goes_on_after_a_failure_and_a_job_may_ask_for_either(bench: Bench) -> None:
    assert bench.go("false; echo on") == (0, "on\n")
    for whole, own, expected in ((True, False, 0), (False, True, 1), (True, None, 1), (False, None, 0)):
        spec = JobSpec("job", "false; true", "main", errexit=own)
        text = script.job_script(Manifest("p", (spec,), (Phase("main"),), errexit=whole), spec, RUN, 1, (), "/")
        done = subprocess.run(["bash", "-c", text], cwd=bench.cwd, check=False, timeout=150)
        assert done.returncode == expected, (whole, own)


@pytest.mark.usefixtures("no_conda")
def test_no_conda(bench: Bench) -> None:
    code, output = bench.go("echo ran", conda="known")
    assert code == 66
    assert "wavequeue: conda was not found" in output
    assert "conda_hook" in output
    assert "ran" not in output.split()


@pytest.mark.usefixtures("no_conda")
def test_without_conda_a_job_that_does_not_ask_for_it_runs(bench: Bench) -> None:
    assert bench.go("echo ran; exit 2") == (2, "ran\n")


@pytest.mark.usefixtures("no_conda")
@pytest.mark.parametrize("where", ["CONDA_EXE", "miniconda3", "miniforge3"])
def test_conda_is_found(bench: Bench, where: str) -> None:
    environment = {}
    if where == "CONDA_EXE":
        base = bench.home / "some where"
        environment["CONDA_EXE"] = f"{base}/bin/conda"
    else:
        base = bench.home / where
    _conda(base)
    code, output = bench.go("echo $CONDA_PREFIX", environment=environment, conda="known")
    assert (code, output) == (0, "here/envs/known\n")


@pytest.mark.usefixtures("no_conda")
@pytest.mark.parametrize("form", ["file", "directory", "snippet", "home"])
def test_conda_hook(bench: Bench, form: str) -> None:
    base = bench.home / "some where"
    hook = _conda(base)
    forms = {"file": str(hook), "directory": str(base), "snippet": f". '{hook}'", "home": "~/some where"}
    code, output = bench.go("echo $CONDA_PREFIX", conda="known", conda_hook=forms[form])
    assert (code, output) == (0, "here/envs/known\n")


@pytest.mark.usefixtures("no_conda")
@pytest.mark.parametrize(
    ("conda", "hook", "says"),
    [("other", None, "conda has no environment other"), ("known", "/no/such/conda.sh", "conda_hook cannot be read")],
)
def test_conda_that_fails(bench: Bench, conda: str, hook: str | None, says: str) -> None:
    _conda(bench.home / "miniconda3")
    code, output = bench.go("echo ran", conda=conda, conda_hook=hook)
    assert code == 66
    assert f"wavequeue: {says}" in output
    assert "ran" not in output.split()


def test_a_script_is_a_function_of_its_arguments() -> None:
    spec = JobSpec("a", "echo", "main", env={"B": "1", "A": "2"})
    manifest = Manifest("p", (spec,), (Phase("main"),), conda="x", venv=None)
    texts = {script.job_script(manifest, spec, RUN, n, ("0",), "/x") for n, _ in itertools.product((1, 2), range(3))}
    assert len(texts) == 2


@pytest.mark.parametrize(
    "given_to_it", [{"CUDA_VISIBLE_DEVICES": "GPU-1,GPU 2", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, {}]
)
def test_the_gpus_that_slurm_gives_outrank_those_of_the_shell_that_the_run_was_started_in(
    tmp_path: Path, given_to_it: dict[str, str]
) -> None:
    environment = tmp_path / "environment.sh"
    environment.write_text("export CUDA_VISIBLE_DEVICES=7\nexport CUDA_DEVICE_ORDER=FASTEST_FIRST\nexport KEY=kept\n")
    spec = JobSpec("job", "env", "main")
    given = script.Given(environment=str(environment))
    text = script.job_script(Manifest("p", (spec,), (Phase("main"),)), spec, RUN, 1, None, str(tmp_path), given)
    done = subprocess.run(
        ["bash", "-c", text], cwd=tmp_path, env=given_to_it, capture_output=True, text=True, timeout=60
    )
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    wanted = {"CUDA_VISIBLE_DEVICES": "7", "CUDA_DEVICE_ORDER": "FASTEST_FIRST", "KEY": "kept", **given_to_it}
    assert {name: found.get(name) for name in wanted} == wanted
    assert "_wq" not in found
