"""The command by which a person runs a job once more."""

from __future__ import annotations

from skill.reports import reproduce
from tests.skill.story import job, manifest


def test_the_command_of_a_job_has_no_value_of_a_secret() -> None:
    spec = job("a", env={"TOKEN": "value-1"}, env_from={"HF_TOKEN": ("HF_TOKEN",)}, cwd="sub dir")
    key = "hf_" + "abcdEFGH1234" * 2
    spec = spec._replace(cmd=f"run --gpu ${{GPU}} --of ${{GPU_INDEX}} && upload --token {key}\n")
    made = manifest(spec, conda="dllm", venv="v", env={"MODE": "value-2"})
    assert reproduce.before(made, spec, "/code").splitlines() == [
        "cd '/code/sub dir'",
        "conda activate dllm",
        "source v/bin/activate",
        "# set as in the spec: MODE, TOKEN, HF_TOKEN",
    ]
    assert reproduce.command(spec, "2,3") == "run --gpu 2,3 --of 0,1 && upload --token $HF_TOKEN"
    assert reproduce.command(job("b"), "") == "run b"


def test_what_a_job_was_given_is_shown_but_for_keys() -> None:
    key = "hf_" + "abcdEFGH1234" * 2
    given = {"lr": "1e-4", "api_key": "k9Q2m4Xw7Zr1Tb8Yc3Vd", "where": key, "keys": "16"}
    assert reproduce.without_keys(given) == {
        "lr": "1e-4", "api_key": reproduce.HIDDEN, "where": reproduce.HIDDEN, "keys": "16",
    }  # fmt: skip
