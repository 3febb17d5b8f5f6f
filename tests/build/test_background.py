"""Commands that leave their work behind are named; those that wait for it, or go on beside it, are not."""

from __future__ import annotations

import json

import pytest

from build_manifest import SpecErrors, build
from build_manifest.background import in_background
from build_manifest.command_line import check_job

LEAVES = [
    "nohup python train.py > log 2>&1 &", "python a.py &", "python a.py & # comment", "python a.py &\n\n# wait\n",
    "a && b &", "a | tee log &", "(python a.py &)", "{ python a.py & }", "for s in 1 2; do python a.py $s & done",
    "python a.py & disown", "python a.py & echo started", "python a.py &\nPID=$!\necho $PID > pid", "a &>> log &",
    "if x; then python a.py & fi", "setsid python a.py &", "setsid -f python a.py", "screen -dm python a.py",
    "screen -dmS name bash -c 'python a.py'", "screen -S name -d -m python a.py", "tmux new -d -s x 'python a.py'",
    "tmux new-session -ds x python a.py", "cd x && tmux send-keys -t x 'python a.py' Enter", "echo 'a' | at now",
    "sbatch job.sh", "cd x; sbatch --gres=gpu:1 job.sh", "A=1 nice -n 5 sbatch job.sh", "docker run -d image",
    "docker run -itd image", "podman run --detach image", "systemd-run --user python a.py", "qsub job.sh",
    "python a.py 2>&1 &", "echo 'wait' ; python a.py &", "python a.py & exit 0", "bsub < job.lsf",
]  # fmt: skip
STAYS = [
    "python a.py", "python a.py & wait", "python a.py & python b.py & wait", "python a.py &\nwait $!",
    "for s in 1 2; do python a.py $s & done; wait", "server & python client.py", "server & PID=$!; client; kill $PID",
    "a && b", "a > log 2>&1", "a >& log", "a &> log", "a |& tee log", "echo 'a &'", 'echo "x &"', "echo a \\&",
    "python a.py # nohup &", "cat <<END\na &\nEND\n", "echo $(a & wait)", "echo `a &`", "x=$(( 3 & 4 ))", "(( a & b ))",
    "[[ a && b ]]", "setsid python a.py", "setsid --wait python a.py", "screen -Dm python a.py", "screen -ls",
    "tmux ls", "sbatch --wait job.sh", "sbatch -W job.sh", "docker run --rm image -d", "docker run image", "at -l",
    "screen -dm server; python client.py", "nohup python a.py", "systemd-run --scope python a.py", "python at.py",
    "curl 'http://x/?a=1&b=2'", "python a.py --url=http://x/?a=1\\&b=2", "(a & wait)", "a & b; fg",
    "qsub -sync y job.sh", "diff <(a) <(b)", "trap 'kill $P' EXIT; a & P=$!; b", "case x in a) b & ;; esac; wait",
]  # fmt: skip


@pytest.mark.parametrize("command", LEAVES)
def test_what_leaves_its_work_behind_is_named_with_what_to_write(command: str) -> None:
    assert in_background(command) is not None
    for spec in ({"jobs": [{"id": "a", "cmd": command}]}, {"default_cmd": command, "jobs": [{"id": "a", "args": {}}]}):
        with pytest.raises(SpecErrors, match="continues in the background") as caught:
            build(json.dumps({"project": "p", **spec}), "s.json")
        assert [bool(fault.instead) for fault in caught.value.faults] == [True]


@pytest.mark.parametrize("command", LEAVES)
def test_a_command_that_is_given_by_hand_is_judged_alike(command: str) -> None:
    with pytest.raises(SpecErrors, match="continues in the background"):
        check_job(command, None, 1)


def test_all_that_is_odd_about_a_job_given_by_hand_is_named() -> None:
    assert check_job("python a.py", "out/*.pt", 1) == []
    (warning,) = check_job("CUDA_VISIBLE_DEVICES=1 python a.py", None, 1)
    assert warning.startswith("--cmd: warning: CUDA_VISIBLE_DEVICES is set in this command")
    with pytest.raises(SpecErrors) as caught:
        check_job("python a.py &", "s3://bucket/a.pt", 1)
    assert [fault.file for fault in caught.value.faults] == ["--cmd", "--expected-output"]


@pytest.mark.parametrize("command", STAYS)
def test_what_waits_is_not_named(command: str) -> None:
    assert in_background(command) is None


def test_a_list_of_commands_is_one_command() -> None:
    spec = {"project": "p", "jobs": [{"id": "a", "cmd": ["python a.py &", "python b.py &", "wait"]}]}
    assert build(json.dumps(spec), "s.json").warnings == []
