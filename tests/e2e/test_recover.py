"""Jobs that are killed, stall, lose their loss or run out of memory, taken up their ladders with nobody there."""

from __future__ import annotations

from build_manifest import build
from tests.e2e.runs import World

SPEC = """
project: ladder
cwd: .
oom_retry: {delay: 0.1s, max_attempts: 2}
grace: 1s
max_parallel: 4
health: {stall: 1s, then: recover}
recover:
  - {run: "echo fixes >> fixed; false"}
  - {args: {bs: "{{ bs // 2 }}"}}
phases:
  - name: unhealthy
    grid: {kind: [stalled, nan]}
    recover: [{args: {bs: 16}}]
    template: &job
      id: ${kind}
      gpus: 0
      args: {bs: 32}
      cmd: bash job.sh ${kind} ${bs}
      expected_output: out.${kind}
  - name: crashes
    grid: {kind: [killed, oom]}
    template: *job
"""
JOB = """
echo step 1/4 loss 0.5
case $1 in
killed) [ -e fixed ] || kill -9 $$ ;;
stalled) [ $2 = 16 ] || while :; do sleep 0.1; done ;;
nan) [ $2 = 16 ] || while :; do echo step 2/4 loss nan; sleep 0.1; done ;;
oom) echo "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate $2.00 GiB."; exit 1 ;;
esac
echo $2 > out.$1
"""


def test_each_is_found_and_ends_completed_or_with_its_root_cause(world: World) -> None:
    run = world.run(build(SPEC, "spec.yaml").manifest)
    (run.directory / "job.sh").write_text(JOB)
    assert run.go() == 3
    rows = run.jobs()
    steps = {name: [(one["failure"], one["action"]) for one in row["recovery"]["steps"]] for name, row in rows.items()}
    fixes, half = "run: echo fixes >> fixed; false", "bs 16 instead of 32"
    assert steps == {
        "killed": [("killed", fixes)],
        "stalled": [("stalled", half)],
        "nan": [("nan", half)],
        "oom": [("oom", fixes), ("oom", half)],
    }
    assert {name: row["outcome"] for name, row in rows.items()} == {
        "killed": "recovered", "stalled": "recovered", "nan": "recovered", "oom": None,
    }  # fmt: skip
    outputs = {name: (run.directory / f"out.{name}").read_text() for name in ("killed", "stalled", "nan")}
    assert outputs == {"killed": "32\n", "stalled": "16\n", "nan": "16\n"}
    assert rows["stalled"]["warning"] == "recovered with bs 16 instead of 32"
    assert rows["killed"]["recovery"]["steps"][0]["effect"] == (
        "its command failed with exit code 1; attempt 2 completed"
    )
    oom = rows["oom"]
    assert (oom["status"], oom["attempts"]) == ("stuck", 4)
    assert oom["error"].startswith(f"recover could not help (tried {fixes}, {half}): out of GPU memory")
    assert oom["error"].endswith("Tried to allocate 16.00 GiB.")
    assert (
        "wavequeue: recover: that failed, but the job starts anyway" in run.paths.earlier_log("oom", 3, ()).read_text()
    )
    stuck = next(one for one in run.alerts() if one["kind"] == "stuck")
    assert stuck["next"].startswith("it needs more memory")
