"""What args and lists of words become on the command line, run through the real bash."""

from __future__ import annotations

import pytest

from build_manifest import build
from tests.build.test_quoting import _bash


def _argv(spec: str) -> list[list[str]]:
    return [_bash(job.cmd)[0] for job in build(f"project: p\ndefault_cmd: show\n{spec}", "s.yaml").manifest.jobs]


@pytest.mark.parametrize(
    ("grid", "args", "argv"),
    [
        ("amp: [true, false]", "amp: ${amp}", [["--amp"], []]),
        ("amp: [yes, 'true']", "amp: ${amp}", [["--amp", "yes"], ["--amp", "true"]]),
        ("n: [1, 9]", "big: '{{ n > 3 }}'", [[], ["--big"]]),
        ("n: [1, 9]", "note: \"{{ 'x y' if n > 3 else '' }}\"", [[], ["--note", "x y"]]),
        ("n: [null, a]", "from: ${n}", [[], ["--from", "a"]]),
        ("n: ['', a]", "from: ${n}", [["--from", ""], ["--from", "a"]]),
        ("l: [[64, 'a b'], [8]]", "layers: ${l}", [["--layers", "64", "a b"], ["--layers", "8"]]),
        ("l: [[64, 32]]", "layers: 'x${l}'", [["--layers", "x64 32"]]),
        ("lr: [-1e-3, 1]", "lr: ${lr}", [["--lr=-1e-3"], ["--lr", "1"]]),
        ("a.b: [1]", "a.b: ${a.b}, c-d: '{{ a.b + 1 }}'", [["--a.b", "1", "--c-d", "2"]]),
        ("s: 3..1", "s: ${s}", [["--s", "3"], ["--s", "2"], ["--s", "1"]]),
        ("s: [range(1), 5]", "s: ${s}", [["--s", "0"], ["--s", "5"]]),
        ("s: '0..4'", "s: ${s}", [["--s", "0..4"]]),
        (
            "s: [../a, a..b, v1..v2, '...']",
            "s: ${s}",
            [["--s", "../a"], ["--s", "a..b"], ["--s", "v1..v2"], ["--s", "..."]],
        ),
    ],
)
def test_args(grid: str, args: str, argv: list[list[str]]) -> None:
    spec = f"grid: {{{grid}}}\ntemplate: {{args: {{{args}}}}}"
    assert _argv(spec) == argv


@pytest.mark.parametrize(
    ("cmd", "argv"),
    [
        ("show ${l} end", ["64", "a b", "end"]),
        ("show --l=${l}", ["--l=64", "a b"]),
        ('show "${l}"', ["64 a b"]),
        ('show {{ l[1] }} {{ l | join("+") }}', ["a b", "64+a b"]),
        ('show {{ "" }} {{ "--x" if l | length > 1 else "" }} y{{ "" }}', ["--x", "y"]),
        ('show "$(printf %s. ${l})"', ["64.a b."]),
    ],
)
def test_a_list_is_several_words_and_an_empty_expression_none(cmd: str, argv: list[str]) -> None:
    assert _argv(f"grid: {{l: [[64, 'a b']]}}\ntemplate:\n  cmd: '{cmd}'") == [argv]


def test_default_ids_that_are_one_are_named() -> None:
    with pytest.raises(ValueError, match=r"two jobs have the id 'jobs_va-b'.*write an id that differs between them"):
        build("project: p\ngrid: {v: [a/b, a-b]}\ntemplate: {cmd: 'x ${v}'}", "s.yaml")


def test_a_name_in_braces_may_stand_in_a_flow_mapping_and_faults_keep_their_places() -> None:
    text = "project: p\ngrid: {N: [1]}\ntemplate: {args: {n: ${N}, m: [${N}, x${N}]}, cmd: a ${N} ${M}, zzz: 1}\n"
    with pytest.raises(ValueError, match=r"3:\d+") as caught:
        build(text, "s.yaml")
    columns = [text.splitlines()[2].index(what) + 1 for what in ("${M}", "zzz")]
    places = [line.split(": ")[0] for line in str(caught.value).splitlines()]
    assert places == [f"s.yaml:3:{column}" for column in columns]


def test_cards_that_are_chosen_past_the_queue_are_named() -> None:
    for cmd, warns in {
        "CUDA_VISIBLE_DEVICES=0 x": 1, "export CUDA_VISIBLE_DEVICES=1,2; x": 1, "CUDA_VISIBLE_DEVICES=${GPU} x": 0,
        "CUDA_VISIBLE_DEVICES= x": 0, "CUDA_VISIBLE_DEVICES='' x": 0, "CUDA_VISIBLE_DEVICES=-1 x": 0,
        "x --device cuda:${GPU}": 1, "x --device cuda:${GPU_INDEX}": 0, "x --gpu ${GPU}": 0,
        "echo $CUDA_VISIBLE_DEVICES": 0,
    }.items():  # fmt: skip
        built = build(f"project: p\njobs:\n- id: a\n  cmd: {cmd}", "s.yaml")
        assert len(built.warnings) == warns, (cmd, built.warnings)
        assert not build(f"project: p\njobs:\n- id: a\n  gpus: 0\n  cmd: {cmd}", "s.yaml").warnings
    for env in ("env: {CUDA_VISIBLE_DEVICES: 0}\njobs:\n- id: a", "jobs:\n- id: a\n  env: {CUDA_VISIBLE_DEVICES: 0}"):
        warnings = build(f"project: p\n{env}\n  cmd: x", "s.yaml").warnings
        assert len(warnings) == 1
        assert "in env has no effect" in warnings[0]
    values = "default_cmd: x\njobs:\n- {id: a, args: {device: 'cuda:${GPU}'}}"
    assert "write cuda:0 or cuda:${GPU_INDEX}" in build(f"project: p\n{values}", "s.yaml").warnings[0]
