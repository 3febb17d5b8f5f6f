"""Variables that are known at launch only: where their values come from, and what a spec says of them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from build_manifest import SpecErrors, build, secrets
from build_manifest.command_line import check_job
from queue_manager.adapters.named_values import NamedValues, parse_env, read_env
from queue_manager.core.manifest import JobSpec, decode, encode
from queue_manager.remote import preflight
from skill.planning.local_preflight import unset_words


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=1", "1"), ("export A=1", "1"), (" A = 1 # note", "1"), ("A='it'\"'\"'s # $x'", "it's # $x"), ("A=", ""),
        ('A="a\\"b c" # note', 'a"b c'), ("A=a#b", "a#b"), ("A=one two", "one two"), ("A='open", None),
        ("nothing", None), ("1A=2", None), ("B=1\nA=2", "2"), ("A=1\nA=2", "2"),
    ],
)  # fmt: skip
def test_a_line_of_a_file(line: str, value: str | None) -> None:
    assert parse_env(line).get("A") == value


def test_the_nearest_file_counts_before_the_environment(tmp_path: Path) -> None:
    inner = tmp_path / "code" / "deep"
    inner.mkdir(parents=True)
    (tmp_path / ".env").write_text("A=file\n")
    spec = JobSpec("j", "", "p", env_from={"X": ("<", "A", "-", "B", ">"), "Y": ("", "C", "")})
    found = NamedValues({"A": "environment", "B": "b"}, str(inner)).of(spec)
    assert found.known == {"X": "<file-b>"}
    assert found.missing == {"Y": "C"}
    assert (found.aliases, found.values) == ({"X": "WAVEQUEUE_FROM_0"}, {"WAVEQUEUE_FROM_0": "<file-b>"})
    (inner / ".env").mkdir()
    (tmp_path / "code" / ".env").write_text("B=inner\n")
    assert read_env(inner) == {"B": "inner"}


def test_a_fifo_and_another_user_s_file_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "code").mkdir()
    os.mkfifo(tmp_path / "code" / ".env")
    (tmp_path / ".env").write_text("A=1\n")
    assert read_env(tmp_path / "code") == {"A": "1"}
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert "A" not in read_env(tmp_path / "code")


def spec(env: Any, top: Any = None, cmd: str = "true") -> str:
    parts = {"project": "p", "grid": {"n": [1, 2]}, "template": {"id": "j${n}", "cmd": cmd, "env": env}}
    return json.dumps({**parts, **({} if top is None else {"env": top})})


def test_a_manifest_keeps_names_alone() -> None:
    env = {"KEY": {"from": "MY_KEY"}, "PLACE": "${env:SCRATCH}/out_${n}", "PLAIN": "x${n}", "HERE": "over"}
    found = build(spec(env, {"HERE": {"from": "A"}, "TOP": {"from": "B"}, "MODE": "offline"}), "s.json").manifest
    assert found.env == {"MODE": "offline"}
    assert found.jobs[1].env == {"PLAIN": "x2", "HERE": "over"}
    assert found.jobs[1].env_from == {
        "TOP": ("", "B", ""), "KEY": ("", "MY_KEY", ""), "PLACE": ("", "SCRATCH", "/out_2")
    }  # fmt: skip
    assert decode(encode(found)) == found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (spec({"A": {"from": "1x"}}), "env A is taken from '1x', which is not a valid variable name"),
        (spec({"A": {"form": "X"}}), "env A is a mapping that is not {from: NAME}"),
        (spec({"A": "${env:a b}"}), "'${env:a b}' names no variable"),
        (spec({}, cmd="echo ${env:KEY}"), "write env: {KEY: {from: KEY}}, and $${KEY} here"),
    ],
)
def test_a_spec_that_names_it_wrongly_gets_advice(text: str, says: str) -> None:
    with pytest.raises(SpecErrors) as error:
        build(text, "s.json")
    assert says in str(error.value)


def test_a_key_in_a_spec_is_named_and_not_shown() -> None:
    key = "hf_AbCdEfGhIjKlMnOpQrSt"
    (warning,) = build(spec({"MINE": key}), "s.json").warnings
    assert "write MINE: {from: MINE}" in str(warning)
    assert key not in str(warning)


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("X", "sk-ant-abcdefghijklmnop123456", True), ("X", "AKIAABCDEFGHIJKLMNOP", True),
        ("WANDB_API_KEY", "0123456789abcdef0123456789abcdef01234567", True),
        ("DB_PASSWORD", "correct-horse-battery", True), ("TOKENIZER", "0123456789abcdef0123456789abcdef", False),
        ("TOKEN", "short", False), ("KEY_FILE", "/home/me/keys/x1y2z3w4", False), ("WANDB_MODE", "offline", False),
        ("TOKEN", "aaaaaaaaaaaaaaaaaaaaaaaa", False), ("PATH_TO", "sk-tiny", False),
    ],
)  # fmt: skip
def test_what_looks_like_a_key(name: str, value: str, found: bool) -> None:
    assert secrets.is_secret(name, value) is found


HEX = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "variable"),
    [
        ("OPENAI_KEY=sk-abcdefghij0123456789abcd python a.py", "OPENAI_KEY"),
        ("python a.py --x sk-ant-abcdefghij0123456789", "ANTHROPIC_API_KEY"),
        ("git clone https://ghp_abcdefghij0123456789@host/x", "GITHUB_TOKEN"),
        ("huggingface-cli login --token hf_abcdefghij0123456789", "HF_TOKEN"),
        ("aws configure set id AKIAABCDEFGHIJKLMNOP", "AWS_ACCESS_KEY_ID"),
        (f"WANDB_API_KEY={HEX} python a.py", "WANDB_API_KEY"),
        (f"wandb login --relogin {HEX} && python a.py", "WANDB_API_KEY"),
        (f"python a.py --api-key '{HEX}'", "API_KEY"),
    ],
)
def test_a_key_in_a_command_is_named_with_what_to_write_and_not_shown(text: str, variable: str) -> None:
    lines = "jobs:\n- id: a\n  cmd: |\n    echo\n    %s\n"
    for made in (build(f"project: p\n{lines % text}", "s.yaml").warnings, check_job(text, None, 1)):
        (warning,) = made
        assert f'write env: {{{variable}: {{from: {variable}}}}}, "${variable}" in cmd' in warning
        assert "abcdef" not in warning
    assert build(f"project: p\n{lines % text}", "s.yaml").warnings[0].startswith("s.yaml:6:")


def test_a_key_is_named_wherever_it_stands_and_what_is_none_is_not() -> None:
    values = {"token": HEX, "key": "validation.top5_accuracy.mean", "name": "multitask-learn-0123456789-of-many"}
    made = {"project": "p", "default_cmd": "python a.py", "on_complete": "curl -H hf_abcdefghij0123456789 x"}
    text = json.dumps({**made, "jobs": [{"id": "a", "args": values}, {"id": "b", "cmd": "x --max-token 100000"}]})
    found = build(text, "s.json").warnings
    assert [re.findall(r"from: (\w+)", one) for one in found] == [["HF_TOKEN"], ["TOKEN"]]
    keys = ("--key checkpoint_of_the_best_model", "--public-key /home/me/keys/0123456789abcdef", 'TOKEN="$TOKEN" x')
    assert [check_job(f"python a.py {one}", None, 1) for one in keys] == [[], [], []]


def test_what_is_not_set_is_named_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET", "1")
    (tmp_path / ".env").write_text("ALSO=1\n")
    env = {"A": {"from": "SET"}, "B": {"from": "ALSO"}, "C": "${env:NOT_SET}/${env:NOT_SET}"}
    made = build(spec(env), "s.json").manifest._replace(cwd=str(tmp_path))
    document = preflight.examine(made)
    assert document["unset"] == {"NOT_SET": ["j1", "j2"]}
    (words,) = unset_words(document, {"j1", "j2"})
    assert words.startswith("NOT_SET is set neither in .env nor in the environment there, and 2 jobs take it (j1, j2)")


def test_what_notify_lacks_is_named_before(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ALSO=1\n")
    notify = {"command": "send ${ALSO} ${NOT_SET}", "webhook": "https://example.org/${NOT_SET}/${NOR_THIS}"}
    made = build(json.dumps({"project": "p", "notify": notify, "jobs": [{"id": "a", "cmd": "b"}]}), "s.json").manifest
    for ask in (preflight.examine, preflight.look):
        words = unset_words(ask(made._replace(cwd=str(tmp_path))), {"a"})
        assert [one.partition(" ")[0] for one in words] == ["NOT_SET", "NOR_THIS"]
        assert all("notify needs it: no alerts are sent" in one for one in words)


@pytest.mark.parametrize("rows", [None, [], {"A": 1}, {"A": [1, "other"]}, {"A\x1b[31m": ["j1"]}, {"": ["j1"]}])
def test_a_host_may_say_anything_about_it(rows: Any) -> None:
    assert unset_words({"unset": rows, "unset_notify": rows}, {"j1"}) == []
