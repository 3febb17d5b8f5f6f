"""What a host lacks for the jobs that it would get is named, with the jobs; what the run makes itself is no fault."""

from __future__ import annotations

from typing import Any

from queue_manager.core.manifest import JobSpec, Manifest, Precondition
from skill.planning import host_preflight
from skill.planning.host_needs import Way
from skill.planning.host_preflight import FAULT, MADE, OK, WARNING, Basics, Seen, Verdict
from tests.skill.story import job, manifest

CWD = "/home/me/wavequeue/demo"
BASICS = Basics("3.11.2 /usr/bin/python3", "", screen=True, disk_free_mib=50_000)


def found(*unmet: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """What the check on the host tells; all is there unless said otherwise."""
    return {
        "cwd": {"path": CWD, "there": True},
        "cwds_missing": [],
        "activation": {"kind": None, "name": None, "python": "/usr/bin/python3", "fault": None},
        "unmet": list(unmet),
        "untried": 0,
        "probe": {"cpus": 4, "gpus": [], "gpu_note": "no driver", "bash": "/bin/bash"},
        "needs": {"home": [], "shm_mib": 64_000},
        **fields,
    }


def cards(*used: int | None) -> dict[str, Any]:
    rows = [
        {"index": n, "uuid": f"GPU-{n}", "name": "A100", "total_mib": 80_000, "used_mib": mib}
        for n, mib in enumerate(used)
    ]
    return {"cpus": 4, "gpus": rows, "gpu_note": ""}


def wants(path: str, *jobs: str, kind: str = "checkpoint_exists") -> dict[str, Any]:
    return {"type": kind, "path": path, "cwd": CWD, "says": f"{path} does not exist", "jobs": list(jobs)}


def needing(name: str, path: str, **fields: Any) -> JobSpec:
    return job(name, preconditions=(Precondition("checkpoint_exists", path),), **fields)


def judge(made: Manifest, document: dict[str, Any] | None, brought: tuple[str, ...] = (), **fields: Any) -> Verdict:
    seen = Seen("gpu-a", **{"basics": BASICS, "found": document, **fields})
    return host_preflight.judge(made, [one.id for one in made.jobs], seen, lambda pattern, _where: pattern in brought)


def test_where_all_is_there_nothing_stops_it() -> None:
    verdict = judge(manifest(job("a")), found())
    assert (verdict.faults, verdict.warnings, verdict.blocked) == ((), (), ())
    assert {cell.state for cell in verdict.cells.values()} == {OK}
    assert not host_preflight.stops([verdict], {})


def test_what_every_run_needs_is_checked_with_the_rest() -> None:
    document = found(needs={"home": ["its home is mounted noexec"], "shm_mib": 64})
    document["cwd"]["there"] = False
    verdict = judge(manifest(job("a", gpus=1)), document | {"probe": cards(0)}, way=Way(code_mib=60_000, ahead_s=-600))
    assert verdict.faults[0] == "its home is mounted noexec"
    assert verdict.faults[1].startswith("the code has 60000 MiB, and 50000 MiB of its disk are free")
    assert [text.split(":")[0] for text in verdict.warnings] == [
        "its shared memory (/dev/shm) has 64 MiB", "its clock is 10 min 00 s behind",
    ]  # fmt: skip
    assert {name for name, cell in verdict.cells.items() if cell.state == FAULT} == {"home", "code"}


def test_an_unreachable_host_is_no_failed_one() -> None:
    verdict = judge(manifest(job("a")), None, basics=None, unreachable="1.2.3.4 did not answer within 10 s")
    assert verdict.faults == ("unreachable: 1.2.3.4 did not answer within 10 s",)
    assert verdict.cells["ssh"] == (FAULT, "unreachable")
    assert verdict.cells["python"].state == host_preflight.UNKNOWN


def test_what_the_host_itself_lacks_is_all_named_at_once() -> None:
    basics = Basics(None, "no python3 of 3.9 or newer was found", screen=False, disk_free_mib=3)
    verdict = judge(manifest(job("a")), None, basics=basics)
    assert len(verdict.faults) == 3
    assert verdict.faults[0].startswith("no python3 of 3.9 or newer was found; set it up with: wavequeue hosts setup")
    assert "screen is not installed" in verdict.faults[1]
    assert verdict.faults[2] == "only 3 MiB of its disk are free; 200 are needed"


def test_a_blocked_job_is_named_with_its_reason() -> None:
    made = manifest(needing("b", "ckpt/t.pt"), needing("c", "ckpt/t.pt"), job("free"))
    verdict = judge(made, found(wants("ckpt/t.pt", "b", "c")))
    assert verdict.blocked == ((("b", "c"), "ckpt/t.pt does not exist"),)
    assert verdict.faults == ("2 jobs blocked (b, c): ckpt/t.pt does not exist",)
    assert verdict.cells["preconditions"] == (FAULT, "2 jobs unmet")


def test_a_checkpoint_that_another_job_writes_does_not_stop_it() -> None:
    made = manifest(job("teacher", expected_output="ckpt/t*.pt"), needing("b", "ckpt/t1.pt"))
    verdict = judge(made, found(wants("ckpt/t1.pt", "b")))
    assert verdict.faults == ()
    assert verdict.cells["preconditions"] == (MADE, "made by teacher")


def test_a_glob_is_met_by_a_job_that_writes_one_such_file() -> None:
    made = manifest(job("teacher", cwd="sub", expected_output="t1.pt"), needing("b", "sub/t*.pt"))
    assert judge(made, found(wants("sub/t*.pt", "b"))).faults == ()


def test_a_job_that_waits_for_its_own_output_waits_forever() -> None:
    made = manifest(needing("b", "ckpt/t.pt", expected_output="ckpt/t.pt"))
    assert judge(made, found(wants("ckpt/t.pt", "b"))).faults == ("1 job blocked (b): ckpt/t.pt does not exist",)


def test_only_jobs_of_the_same_host_write_for_it() -> None:
    made = manifest(job("teacher", expected_output="t.pt"), needing("b", "t.pt"))
    seen = Seen("gpu-a", basics=BASICS, found=found(wants("t.pt", "b")))
    verdict = host_preflight.judge(made, ["b"], seen, lambda _pattern, _where: False)
    assert verdict.faults == ("1 job blocked (b): t.pt does not exist",)


def test_what_the_push_brings_does_not_stop_it_unless_nothing_is_pushed() -> None:
    made = manifest(needing("b", "data/x.npy"))
    document = found(wants("data/x.npy", "b"))
    assert judge(made, document, ("data/x.npy",)).cells["preconditions"] == (MADE, "made by the push")
    assert judge(made, document, ("data/x.npy",), way=Way(pushed=False)).faults


def test_a_cwd_that_the_push_makes_is_reported_and_another_stops_it() -> None:
    document = found(cwd={"path": CWD, "there": False})
    pushed = judge(manifest(job("a")), document)
    assert pushed.cells["cwd"] == (MADE, f"{CWD}, made by the push")
    assert pushed.faults == ()
    assert judge(manifest(job("a")), document, way=Way(pushed=False)).faults == (
        f"{CWD} does not exist, and code is not pushed to an absolute cwd",
    )


def test_commands_wait_for_the_code_and_count_once_it_is_there() -> None:
    made = manifest(job("a", preconditions=(Precondition("command", command="test -f x"),)))
    row = {"type": "command", "path": None, "cwd": CWD, "says": "`test -f x` ends with exit code 1", "jobs": ["a"]}
    before = judge(made, found(row, cwd={"path": CWD, "there": False}))
    assert before.faults == ()
    assert before.cells["preconditions"].state == WARNING
    assert judge(made, found(row)).faults == ("1 job blocked (a): `test -f x` ends with exit code 1",)


def test_a_missing_cwd_of_one_job_blocks_that_job_and_is_no_unmet_precondition() -> None:
    made = manifest(job("a", cwd="sub"), job("b"))
    verdict = judge(made, found(cwds_missing=[{"path": f"{CWD}/sub", "jobs": ["a"]}]))
    assert verdict.blocked == ((("a",), f"their cwd {CWD}/sub does not exist"),)
    assert verdict.cells["cwd"].state == FAULT
    assert verdict.cells["preconditions"].state == OK


def test_an_environment_that_is_missing_stops_it() -> None:
    activation = {"kind": "conda", "name": "dllm", "python": None, "fault": "conda has no environment dllm"}
    verdict = judge(manifest(job("a"), conda="dllm"), found(activation=activation))
    assert verdict.faults == ("conda dllm: conda has no environment dllm",)


def test_an_image_that_is_to_be_pulled_is_a_warning() -> None:
    activation = {"kind": "container", "name": "a/b", "python": None, "fault": None, "note": "the first job pulls it"}
    verdict = judge(manifest(job("a"), container="a/b"), found(activation=activation))
    assert (verdict.faults, verdict.warnings) == ((), ("the first job pulls it",))
    assert verdict.cells["environment"].state == host_preflight.WARNING
    entered = judge(manifest(job("a"), container="a/b"), found(activation={**activation, "note": None}))
    assert entered.cells["environment"] == (host_preflight.OK, "container a/b: no python")


def test_cards_are_counted_against_what_the_spec_allows() -> None:
    made = manifest(job("a", gpus=1), gpus=(0, 1, 2), max_parallel=8)
    verdict = judge(made, found(probe=cards(3, 70_000, None, 3)))
    assert verdict.cells["cards"] == (OK, "1 of 3 free for max_parallel 8")
    assert judge(made, found(probe=cards(70_000))).cells["cards"].state == WARNING
    assert judge(made, found()).faults == ("it has no GPU (no driver), and one is needed by 1 job",)


def test_the_table_has_a_row_for_each_check_and_a_column_for_each_host() -> None:
    made = manifest(job("a"), venv=".venv")
    lines = [line.plain for line in host_preflight.table(made, [judge(made, found()), judge(made, found())], 200)]
    assert lines[0].split() == ["check", "gpu-a", "gpu-a"]
    assert [line.split()[0] for line in lines[1:]] == [
        "ssh", "python", "screen", "bash", "home", "rsync", "shared", "clock",
        "disk", "code", "cwd", "venv", "preconditions", "GPUs", "jobs",
    ]  # fmt: skip


def test_a_job_that_no_host_can_serve_stops_it() -> None:
    document = host_preflight.document("demo", [judge(manifest(job("a")), found())], {"a": "needs 9 GPUs"})
    assert document["ok"] is False
    assert document["unplaced"] == {"a": "needs 9 GPUs"}
