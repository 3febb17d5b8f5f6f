"""Cards given to jobs by real NVML calls: the real pynvml loads a stand-in for NVIDIA's library."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

import build_manifest
from queue_manager.adapters.cards_lock import user
from queue_manager.core.layout import LOCK_DIR_VARIABLE
from queue_manager.core.manifest import OomRetry, Precondition
from queue_manager.core.requests import Request
from tests import nvml
from tests.e2e.runs import ROOT, Run, World, job, manifest, until, wait_for
from tests.nvml import Standin, alloc

HOLD = f"; {until('go_$WAVEQUEUE_JOB_ID')}"


class Cards(World):
    """A host with cards."""

    def __init__(self, root: Path) -> None:
        self.nvml = Standin(root, nvml.cards(2))
        super().__init__(root, self.nvml.env)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Cards]:
    made = Cards(tmp_path)
    yield made
    made.close()


def go(run: Run, *jobs: str) -> None:
    for name in jobs:
        (run.directory / f"go_{name}").touch()


def has_looked(run: Run) -> bool:
    """Whether a manager has read the cards, and tells why its job waits."""
    return bool(run.state().get("gpus")) and bool(run.jobs()["other"]["waiting"])


def test_a_run_whose_disk_is_full_keeps_no_other_from_gpus(host: Cards) -> None:
    """Its job's end frees a GPU, and cannot be journaled: it waits for room, and not in the lock of the GPUs."""
    held = job("b", "true", gpus=1, preconditions=(Precondition("file_exists", path="go_b"),))
    full = host.run(manifest(job("a", "true" + HOLD, gpus=1), held), name="full")
    manager = full.start()
    full.wait_running("a")
    resource.prlimit(manager.pid, resource.RLIMIT_FSIZE, (full.paths.journal.stat().st_size, resource.RLIM_INFINITY))
    go(full, "a")
    wait_for(lambda: "journal.jsonl" in str(full.alerts()), say="that the journal takes nothing")
    other = host.run(manifest(job("b", "true", gpus=1)), name="other")
    assert other.go(patience=60.0) == 0
    assert other.jobs()["b"]["gpu"] is not None
    assert full.statuses() == {"a": "running", "b": "pending"}
    go(full, "b")
    resource.prlimit(manager.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert full.finish() == 0


def test_each_job_has_a_card_to_itself_and_is_told_which(host: Cards) -> None:
    shows = "echo $CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER ${GPU}; "
    run = host.run(manifest(*[job(f"j{n}", shows + alloc(9000) + HOLD, gpus=1) for n in range(3)]))
    run.start()
    rows = [run.wait_running(name) for name in ("j0", "j1")]
    assert [row["gpu"] for row in rows] == [0, 1]
    waits = wait_for(lambda: run.jobs()["j2"]["waiting"])
    assert waits == "waits for a GPU to be free"
    go(run, "j1")
    assert run.wait_running("j2")["gpu"] == 1
    go(run, "j0", "j2")
    assert run.finish() == 0
    assert run.log("j0").strip() == "0 PCI_BUS_ID 0"
    assert run.log("j2").strip() == "1 PCI_BUS_ID 1"


def test_a_slow_loader_keeps_what_it_was_promised(host: Cards) -> None:
    """The first has 20 GiB promised and holds nothing yet; the second, of 10 GiB, must go elsewhere or wait."""
    host.nvml.set_cards(nvml.cards(1))
    slow = f"{until('load')}; " + alloc(20000) + HOLD
    run = host.run(
        manifest(
            job("slow", slow, gpus=1, gpu_mem_mib=20000),
            job("second", alloc(10000), gpus=1, gpu_mem_mib=10000),
            job("small", alloc(3000), gpus=1, gpu_mem_mib=3000),
        )
    )
    run.start()
    run.wait_running("slow")
    assert run.wait_status("small", "completed")["gpus"] == [0]
    assert run.jobs()["second"]["status"] == "pending"
    (run.directory / "load").touch()
    go(run, "slow")
    assert run.finish() == 0
    assert run.jobs()["second"]["oom_attempts"] == 0


def test_jobs_that_say_what_they_need_share_a_card(host: Cards) -> None:
    host.nvml.set_cards(nvml.cards(1))
    jobs = [job(f"j{n}", alloc(7000) + HOLD, gpus=1, gpu_mem_mib=8000) for n in range(4)]
    run = host.run(manifest(*jobs))
    run.start()
    for name in ("j0", "j1", "j2"):
        run.wait_running(name)
    assert run.jobs()["j3"]["status"] == "pending"
    go(run, "j0", "j1", "j2", "j3")
    assert run.finish() == 0


def test_a_slice_of_a_card_is_given_by_its_own_name(host: Cards) -> None:
    slices = [nvml.StandinCard(f"MIG-{name}", total_mib=9000, util=None) for name in "ab"]
    host.nvml.divide({0: slices}, nvml.cards(1))
    shows = "echo $CUDA_VISIBLE_DEVICES ${GPU}; "
    run = host.run(manifest(*[job(f"j{n}", shows + alloc(5000) + HOLD, gpus=1) for n in range(2)]))
    run.start()
    assert [run.wait_running(f"j{n}")["gpu"] for n in range(2)] == [100, 101]
    go(run, "j0", "j1")
    assert run.finish() == 0
    assert [run.paths.log(f"j{n}").read_text().split() for n in range(2)] == [["MIG-a"] * 2, ["MIG-b"] * 2]


def test_memory_that_lingers_keeps_the_card(host: Cards) -> None:
    """The first job's memory is given back 1.5 s after its end; the second would die of OOM before."""
    host.nvml.set_cards(nvml.cards(1))
    run = host.run(
        manifest(job("first", alloc(20000, 1500), gpus=1), job("second", alloc(20000), gpus=1), oom_retry=OomRetry(60))
    )
    assert run.go() == 0
    assert run.jobs()["second"]["oom_attempts"] == 0


def test_a_card_in_use_by_somebody_else_is_waited_for(host: Cards) -> None:
    host.nvml.set_cards([card._replace(base_mib=4000) for card in nvml.cards(1)])
    run = host.run(manifest(job("one", alloc(9000), gpus=1)))
    run.start()
    wait_for(lambda: run.state().get("gpus"))
    assert run.state()["gpus"][0]["note"] == "used by another process"
    held = "held by a process outside wavequeue: 4000 MiB used, threshold 500 (gpu_free_threshold_mib)"
    assert run.state()["gpus"][0]["holder"] == held
    assert run.jobs()["one"]["status"] == "pending"
    host.nvml.set_cards(nvml.cards(1))
    assert run.finish() == 0


def test_an_oom_is_retried_on_the_card_with_most_free_memory(host: Cards) -> None:
    small, large = nvml.cards(2)
    host.nvml.set_cards([small._replace(total_mib=8000), large._replace(total_mib=40000)])
    run = host.run(manifest(job("one", alloc(20000), gpus=1), oom_retry=OomRetry(0.2, 3)))
    assert run.go() == 0
    starts = [event["indices"] for event in run.events() if event["event"] == "AttemptStarting"]
    assert starts == [[0], [1]]


def test_nvml_that_fails_is_reported_and_nothing_is_placed_until_it_reads(host: Cards) -> None:
    host.nvml.fail(nvml.UNKNOWN)
    run = host.run(manifest(job("one", alloc(9000), gpus=1), job("cpu", "true")))
    run.start()
    run.wait_status("cpu", "completed")
    wait_for(lambda: any("NVML" in alert["text"] for alert in run.alerts()), say="the alert")
    wait_for(lambda: "NVML cannot be read" in (run.jobs()["one"]["waiting"] or ""), say="the reason")
    assert run.jobs()["one"]["attempts"] == 0
    host.nvml.heal()
    assert run.finish() == 0
    assert run.state()["meta"]["conditions"] == []


def test_a_job_whose_need_no_card_meets_lets_others_pass_and_says_so(host: Cards) -> None:
    run = host.run(
        manifest(
            job("wide", "true", gpus=3, priority=9),
            job("large", "true", gpus=1, gpu_mem_mib=99_000, priority=9),
            job("after", "true", depends_on=("wide",)),
            job("fits", alloc(100) + HOLD, gpus=1),
        )
    )
    run.start()
    run.wait_running("fits")
    assert run.jobs()["wide"]["waiting"] == "needs 3 GPUs; this host has 2 GPUs"
    assert "the largest GPU has 24576 MiB" in run.jobs()["large"]["waiting"]
    go(run, "fits")
    assert run.finish() == 3
    assert run.statuses() == {"wide": "stuck", "large": "stuck", "after": "blocked", "fits": "completed"}


def test_cards_that_the_spec_names_and_are_not_there(host: Cards) -> None:
    run = host.run(manifest(job("one", "true", gpus=1), gpus=(9,)))
    assert run.go() == 3
    assert run.jobs()["one"]["error"] == "needs 1 GPU; of the GPUs [9] this host has none"


def test_only_the_cards_that_the_host_shows_exist(host: Cards) -> None:
    run = host.run(manifest(job("one", "echo $CUDA_VISIBLE_DEVICES", gpus=1), job("two", "true", gpus=2)))
    run.start(CUDA_VISIBLE_DEVICES="1")
    assert run.finish() == 3
    assert run.log("one").strip() == "1"
    assert run.statuses() == {"one": "completed", "two": "stuck"}


def test_a_host_without_a_driver_says_so(world: World) -> None:
    run = world.run(manifest(job("one", "true", gpus=1), job("cpu", "true")))
    assert run.go() == 3
    assert run.statuses() == {"one": "stuck", "cpu": "completed"}
    assert "libnvidia-ml.so.1" in run.jobs()["one"]["error"]


def test_a_sick_card_is_put_aside_and_the_job_runs_elsewhere(host: Cards) -> None:
    sick = "[ $CUDA_VISIBLE_DEVICES = 1 ] || { echo 'CUDA error: uncorrectable ECC error encountered'; exit 1; }"
    run = host.run(manifest(*[job(f"j{n}", sick, gpus=1) for n in range(4)], max_parallel=1))
    assert run.go() == 0
    assert [row["attempts"] for row in run.jobs().values()] == [1, 1, 1, 1]
    assert sum(alert["kind"] == "quarantine" for alert in run.alerts()) == 1
    assert "in quarantine" in run.state()["gpus"][0]["note"]


def test_several_cards_for_one_job_come_before_many_small_ones(host: Cards) -> None:
    small = [job(f"s{n}", alloc(100) + HOLD, gpus=1) for n in range(2)]
    run = host.run(manifest(*small, job("wide", "echo $CUDA_VISIBLE_DEVICES", gpus=2), job("late", "true", gpus=1)))
    run.start()
    run.wait_running("s0")
    run.wait_running("s1")
    go(run, "s0")
    run.wait_status("s0", "completed")
    go(run, "s1")
    assert run.finish() == 0
    assert run.log("wide").strip() == "0,1"
    starts = [event["job"] for event in run.events() if event["event"] == "AttemptStarting"]
    assert starts.index("wide") < starts.index("late")


def test_a_barrier_waits_for_every_process_and_for_the_memory(host: Cards) -> None:
    cmds = {"j0": alloc(9000, 1000), "j1": alloc(9000) + HOLD, "j2": alloc(9000), "j3": alloc(9000)}
    run = host.run(manifest(*[job(name, cmd, gpus=1) for name, cmd in cmds.items()], wave="barrier"))
    run.start()
    run.wait_status("j0", "completed")
    assert run.jobs()["j2"]["status"] == "pending"
    go(run, "j1")
    assert run.finish() == 0
    assert [row["wave"] for row in run.jobs().values()] == [1, 1, 2, 2]
    events = [(event["event"], event.get("job")) for event in run.events()]
    second = events.index(("AttemptStarting", "j2"))
    assert {("AttemptEnded", "j0"), ("AttemptEnded", "j1")} <= set(events[:second])


def test_two_runs_never_share_a_card_they_did_not_agree_to_share(host: Cards) -> None:
    """Each job takes its card's lock for as long as it lives: a second one on the card would fail."""
    owns = 'mkdir "{root}/card$CUDA_VISIBLE_DEVICES" || exit 9; sleep 0.05; rmdir "{root}/card$CUDA_VISIBLE_DEVICES"'
    cmd = owns.format(root=host.root)
    runs = [
        host.run(manifest(*[job(f"j{n}", cmd, gpus=1) for n in range(12)]), name=name, poll=0.05)
        for name in ("first", "second", "third")
    ]
    for run in runs:
        run.start()
    assert [run.finish() for run in runs] == [0, 0, 0], [run.statuses() for run in runs]


@pytest.fixture
def other_home(host: Cards) -> Iterator[World]:
    """Another home on the same host."""
    root = host.root / "other"
    root.mkdir()
    made = World(root, {**host.nvml.env, LOCK_DIR_VARIABLE: host.environment[LOCK_DIR_VARIABLE]})
    yield made
    made.close()


def test_the_cards_of_a_dead_managers_jobs_stay_theirs(host: Cards, other_home: World) -> None:
    """Its manager is killed and its job loads slowly: only the leases on disk say that the card is taken."""
    host.nvml.set_cards(nvml.cards(1))
    first = host.run(manifest(job("mine", "true" + HOLD, gpus=1)), name="first")
    second = host.run(manifest(job("other", "true", gpus=1)), name="second", poll=0.05)
    third = other_home.run(manifest(job("other", "true", gpus=1)), poll=0.05)
    first.start()
    first.wait_running("mine")
    third.start()  # a home that its manager knows nothing of
    held = f"reserved by a run of {user(os.getuid())}"
    wait_for(lambda: [card["holder"] for card in third.state().get("gpus", [])] == [held], say=held)
    first.kill()
    second.start()
    for run in (second, third):
        wait_for(partial(has_looked, run), say="a look at the GPUs")
        assert run.jobs()["other"]["status"] == "pending"
    assert third.state()["meta"]["conditions"] == []
    go(first, "mine")
    assert [second.finish(), third.finish()] == [0, 0]
    assert first.go() == 0


def test_packed_runs_see_each_others_promises(host: Cards) -> None:
    host.nvml.set_cards(nvml.cards(1))
    runs = [
        host.run(manifest(job("one", "true" + HOLD, gpus=1, gpu_mem_mib=9000)), name=name, poll=0.05)
        for name in ("first", "second", "third")
    ]
    for run in runs:
        run.start()
    wait_for(lambda: sum(run.statuses().get("one") == "running" for run in runs) == 2, say="two to run")
    [waits] = wait_for(lambda: [run for run in runs if run.statuses().get("one") == "pending"], say="one to wait")
    assert waits.jobs()["one"]["waiting"] == "waits for a GPU with 9000 MiB available"
    for run in runs:
        go(run, "one")
    assert [run.finish() for run in runs] == [0, 0, 0]


def test_paused_runs_start_nothing_and_resumed_ones_do(host: Cards) -> None:
    run = host.run(manifest(job("one", alloc(100) + HOLD, gpus=1), job("two", "true", gpus=2)))
    run.start()
    run.wait_running("one")
    assert run.ask(Request("p", "pause")).ok
    go(run, "one")
    run.wait_status("one", "completed")
    wait_for(lambda: "paused" in (run.jobs()["two"]["waiting"] or ""), say="the reason")
    assert run.ask(Request("r", "resume")).ok
    assert run.finish() == 0


def test_a_barrier_lets_jobs_without_cards_follow_jobs_with_cards(host: Cards) -> None:
    run = host.run(
        manifest(job("gpu", alloc(9000, 500), gpus=1), job("cpu", "true", depends_on=("gpu",)), wave="barrier")
    )
    assert run.go() == 0
    assert [row["wave"] for row in run.jobs().values()] == [1, 2]


def test_the_documented_spec_runs_on_two_cards_teachers_first(host: Cards) -> None:
    code = host.root / "code"
    for folder in ("ckpt", "figures"):
        (code / folder).mkdir(parents=True)
    (code / "train.py").write_text(
        "import sys\nopen(f'ckpt/teacher_N{sys.argv[2]}.pt', 'w').write('weights of ' + sys.argv[2])\n"
    )
    (code / "distill.py").write_text(
        "import json, os, sys\nN, seed = sys.argv[2], sys.argv[4]\n"
        "teacher = open(f'ckpt/teacher_N{N}.pt').read()\n"
        "row = {'teacher': teacher, 'card': os.environ['CUDA_VISIBLE_DEVICES'], 'wandb': os.environ['WANDB_MODE']}\n"
        "json.dump(row, open(f'figures/distill_N{N}_seed{seed}.json', 'w'))\n"
    )
    hook = host.home / "miniconda3" / "etc" / "profile.d" / "conda.sh"
    hook.parent.mkdir(parents=True)
    hook.write_text('conda() { [ "$1 $2" = "activate dllm" ]; }\n')
    spec = (ROOT / "tests" / "data" / "specs" / "good" / "phases.yaml").read_text()
    made = build_manifest.build(spec, "phases.yaml").manifest
    run = host.run(made._replace(cwd=str(code)))
    assert run.go() == 0
    assert list(run.statuses().values()) == ["completed"] * 7
    found = {path.stem: json.loads(path.read_text()) for path in (code / "figures").iterdir()}
    assert sorted(found) == [
        f"distill_N{cell}" for cell in ("384_seed200", "384_seed201", "384_seed42", "512_seed200", "512_seed42")
    ]
    assert all(row["teacher"] == f"weights of {name.split('_')[1][1:]}" for name, row in found.items())
    assert {row["card"] for row in found.values()} <= {"0", "1"}
    assert {row["wandb"] for row in found.values()} == {"offline"}
