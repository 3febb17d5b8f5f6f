"""Values reach a command's arguments byte for byte: run through the real bash."""

from __future__ import annotations

import json
import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from build_manifest import build

_SHOW = """show() { env printf '%s\\0' "$#" "$@"; }"""
"""A program gets the arguments, and prints how many there are, then each, with NUL after each."""
_hostile = st.text(
    st.one_of(st.sampled_from(" \t\n'\"\\$`;&|<>(){}[]*?!#~=%-"), st.characters(exclude_categories=["Cs", "Cc"])),
    max_size=12,
)
_PLACES = {
    "alone": ("show ${v}", "{}"),
    "within a word": ("show out_${v}.pt", "out_{}.pt"),
    "first of a word": ("show ${v}.pt", "{}.pt"),
    "after =": ("show --name=${v}", "--name={}"),
    'inside "…"': ('show "a ${v} b"', "a {} b"),
    "inside '…'": ("show 'a ${v} b'", "a {} b"),
    "inside $'…'": ("show $'a\\t${v}'", "a\t{}"),
    "after quotes that are closed": ("show \"it's\"'\"'${v}", "it's\"{}"),
    "in $(…)": ("show \"$(printf '%s.' ${v})\"", "{}."),
    'in "…" in $(…) in "…"': ('show "$(printf %s. "${v}")"', "{}."),
    "in `…`": ("show \"`printf '%s.' ${v}`\"", "{}."),
    'in "…" in `…`': ("show `printf '%s.' \"${v}\" | od -An -tx1 | tr -d ' \\n'`", None),
    "in a default": ("show $${UNSET:-${v}}", "{}"),
    'in a default in "…"': ('show "$${UNSET:-${v}}"', "{}"),
    "in an assignment": ('X=${v} && show "$X"', "{}"),
    "in [[ ]]": ('[[ -n x${v} ]] && X=${v}; show "$X"', "{}"),
    "after a comment with a quote": ("# it's here\nshow ${v}", "{}"),
    "in a comment": ("show a # ${v}\nshow b", None),
    "in a here-document": ('show "$(cat <<END\na ${v} b\nEND\n)"', None),
    "after a here-document": ("cat > /dev/null <<'END'\nit's\nEND\nshow ${v}", "{}"),
    "after arithmetic": ('show "$((1<<2))" ${v}', None),
    "as an expression": ("show {{ v }}", "{}"),
    "as an expression within a word": ("show 'x'{{ v }}.pt", "x{}.pt"),
}


def _bash(cmd: str) -> list[list[str]]:
    """The arguments of each call of `show`."""
    done = subprocess.run(["bash", "-c", f"{_SHOW}\n{cmd}\n"], capture_output=True, check=True, timeout=150)
    fields = iter(done.stdout.decode().split("\0")[:-1])
    return [[next(fields) for _ in range(int(count))] for count in fields]


def _command(template: str, value: str) -> str:
    spec = {"project": "p", "grid": {"v": [value]}, "template": {"id": "j", "cmd": template}}
    return build(json.dumps(spec), "s.json").manifest.jobs[0].cmd


@pytest.mark.parametrize("place", _PLACES)
@settings(max_examples=25, deadline=None)
@given(value=_hostile)
@example("$(touch gone); `id` \"x\" 'y' \\ \n z")
@example("")
@example("-")
@example("}")
@example("\\")
@example("a'b\"c`d$e\\f")
@example("{{ v }} ${v}")
def test_a_value_is_one_literal_argument(place: str, value: str) -> None:
    template, expected = _PLACES[place]
    shown = _bash(_command(template, value))
    if place == 'in "…" in `…`':
        assert bytes.fromhex(shown[0][0]).decode() == f"{value}."
    elif place == "in a comment":
        assert shown == [["a"], ["b"]]
    elif place == "in a here-document":
        if "END" not in value.splitlines():
            assert shown == [[f"a {value} b".rstrip("\n")]]
    elif place == "after arithmetic":
        assert shown == [["4", value]]
    else:
        assert expected is not None
        assert shown == [[expected.format(value) if "{}" in expected else expected]]


@settings(max_examples=60, deadline=None)
@given(values=st.lists(_hostile, min_size=1, max_size=3), key=st.sampled_from(["name", "model.lr", "n-hidden"]))
def test_args_are_literal_arguments(values: list[str], key: str) -> None:
    literal = [value.replace("${", "$${").replace("{{", "{{ '{{' }}") for value in values]
    spec = {"project": "p", "default_cmd": "show run", "jobs": [{"id": "j", "args": {key: literal}}]}
    expected = [f"--{key}", *values]
    if len(values) == 1 and values[0].startswith("-"):  # else argparse would take it for an option
        expected = [f"--{key}={values[0]}"]
    assert _bash(build(json.dumps(spec), "s.json").manifest.jobs[0].cmd) == [["run", *expected]]


@given(value=_hostile)
@settings(max_examples=60, deadline=None)
def test_a_safe_looking_value_keeps_its_command_readable(value: str) -> None:
    cmd = _command("show ${v}", value)
    if value and all(char.isascii() and (char.isalnum() or char in "._/-+=:,@%") for char in value):
        assert cmd == f"show {value}"


@pytest.mark.parametrize("template", ["show \\${v}", 'show "\\${v}"', "show \\{{ v }}"])
def test_a_backslash_before_a_name_is_an_error(template: str) -> None:
    with pytest.raises(ValueError, match="a backslash before"):
        _command(template, "x")


def test_raw_leaves_several_arguments() -> None:
    assert _bash(_command("show {{ v | raw }}", "--lr 1e-4 --wd 0")) == [["--lr", "1e-4", "--wd", "0"]]


@pytest.mark.parametrize("template", ["show ${v}", "show '${v}'", 'show "${v}"', "show $'${v}'"])
def test_a_value_that_reads_gpu_survives_the_launch(template: str) -> None:
    """At launch `${GPU}` is replaced wherever it stands; a value is not meant."""
    assert _bash(_command(template, "x${GPU}y").replace("${GPU}", "0")) == [["x${GPU}y"]]


def test_gpu_is_left_for_launch() -> None:
    assert _command("show ${GPU} ${v}", "a b") == "show ${GPU} 'a b'"
    spec = {"project": "p", "default_cmd": "show", "jobs": [{"id": "j", "args": {"device": "cuda:${GPU}", "n": 1}}]}
    cmd = build(json.dumps(spec), "s.json").manifest.jobs[0].cmd
    assert cmd == "show --device cuda:${GPU} --n 1"
