"""Specs that mean harm, or are damaged: each is built or refused in words, soon and within bounds.

WAVEQUEUE_DEEP=N runs N specs of each of the three kinds instead of a few.
"""

from __future__ import annotations

import json
import os
import random
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from build_manifest import SpecErrors, build, builder
from build_manifest.expression_bounds import MAX_TEXT, Meter, TooMuch
from queue_manager.core.manifest import decode, encode
from tests.build.test_specs import BAD, GOOD

_ROUNDS = int(os.environ.get("WAVEQUEUE_DEEP", "60"))
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

TOO_MUCH = [
    "(n+8)**(9**9)", "2**(10**8)", "-(9**9)**9999", "'%1000000000d' % n", "'%*d' % (10**9, n)", "'a' * 10**9",
    "10**9 * 'a'", "[0] * 10**8", "range(10**9)", "range(0, 10**30)", "range(49000)|map('upper')|list",
    "'x'.center(10**9)", "'x'|center(10**9)", "'x'.zfill(10**9)", "'x'.ljust(10**9)", "'\t'.expandtabs(10**9)",
    "'{:1000000000}'.format(n)", "'{:{}}'.format(n, 10**9)", "'%1000000000d'|format(n)",
    "('a'*60000).replace('a', 'b'*60000)", "('a'*60000)|replace('a', 'b'*60000)", "('a'*60000)|replace('', 'b'*9)",
    "range(60000)|join('x'*60000)", "('x'*60000).join(range(90)|map('string'))", "[1, 2]|join('x'*60000)",
    "{'a': 1}|tojson(indent=10**9)", "1.5|round(10**8, 'ceil')", "[1]|batch(10**9, 'x')|list",
    "[1]|slice(10**9)|list", "('9'*4000)|int", "[range(60000)] * 60000", "[[1]*60000] * 60000",
    "('\n'*60000)|indent(1000)", "'a'|indent(10**9)", "~".join(["'a'*60000"] * 99), "'%(a)s' * 9000 % {'a': 'x'*60000}",
    "('{0}'*9000).format('x'*60000)",
]  # fmt: skip
REFUSED = [
    "1e308 * 10", "'\\ud800'", "'\\x00'", "n.__class__", "n.real", "'a'.encode('utf-8')", "(5).to_bytes(9, 'big')",
    "'a'.format_map({})", "self", "range", "(-8)**0.5", "1 // 0", "{'items': 3}.items", "n|random", "lipsum()",
    "(" * 400 + "n" + ")" * 400, "+".join("n" * 250), "n" * 5000,
]  # fmt: skip
GIVES = {
    "n * 2": "6", "2**0.5": "1.4142135623730951", "2**-3": "0.125", "'%05.1f' % n": "003.0",
    "'{:03d}'.format(n)": "003", "n|string|length": "1", "[3, 1]|sort|first": "1", "range(5)|sum": "10",
    "'a,b'.split(',')[1]": "b",
    "range(3)|map('string')|join('-')": "0-1-2", "dict(a=1)['a']": "1", "{'a': 1}|tojson|length": "8",
    "'%.3f'|format(n * 0.1)": "0.300", "n|round(1)": "3", "'a' if n in [3, 4] else 'b'": "a", "[n, 9]|max": "9",
    "(n * 1000) // 7 % 5": "3", "'x'|center(3)|trim": "x", "range(9)|select('divisibleby', 4)|list|length": "3",
}  # fmt: skip


def _of(expression: str) -> str:
    template = {"id": "j", "cmd": "echo {{ " + expression + " }}"}
    return json.dumps({"project": "p", "grid": {"n": [3]}, "template": template})


@pytest.mark.parametrize("expression", [*TOO_MUCH, *REFUSED], ids=lambda one: one[:40])
def test_an_expression_that_costs_too_much_is_refused_with_its_place(expression: str) -> None:
    text = _of(expression)
    tracemalloc.start()
    try:
        with pytest.raises(SpecErrors) as caught:
            build(text, "s.json")
        assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    finally:
        tracemalloc.stop()
    fault = caught.value.faults[0]
    assert (fault.line, fault.column > 1) == (1, True)
    assert "{{" in fault.what or "defines" in fault.what
    assert len(str(fault)) < 1000


@pytest.mark.parametrize("expression", GIVES)
def test_what_is_common_is_allowed(expression: str) -> None:
    assert build(_of(expression), "s.json").manifest.jobs[0].cmd == f"echo {GIVES[expression]}"


@pytest.mark.parametrize("key", ["cwd", "on_complete", "analyze_on_complete"])
def test_an_expression_that_fails_in_a_text_of_the_whole_spec_is_named(key: str) -> None:
    with pytest.raises(SpecErrors, match=r"^s\.yaml:2:\d+: \{\{ 1 // 0 \}\} fails"):
        build(f'project: p\n{key}: "{{{{ 1 // 0 }}}}"\njobs: [{{id: a, cmd: b}}]', "s.yaml")


def test_the_work_of_all_expressions_together_is_bounded() -> None:
    def work(meter: Meter, times: int) -> None:
        for _ in range(times):
            meter.begin()
            meter.take("x" * MAX_TEXT)

    meter = Meter()
    work(meter, 100)
    with pytest.raises(TooMuch, match="too many"):
        work(meter, 10_000)
    meter = Meter()
    meter.begin()
    with pytest.raises(TooMuch, match="takes too long to evaluate"):
        [meter.take("one of many operations of one expression") for _ in range(100_000)]
    meter = Meter()
    for _ in range(100_000):  # as many as a large grid has, of the usual size
        meter.begin()
        meter.take("usual")


@pytest.mark.parametrize("escape", [r"\ud800", r"\udc00x", r"\ud83d"])
def test_half_of_a_character_is_refused_with_its_place(escape: str) -> None:
    for text in (
        f'project: p\njobs: [{{id: a, cmd: "{escape}"}}]',
        f'{{"project": "p",\n"jobs": [{{"id": "{escape}"}}]}}',
    ):
        with pytest.raises(SpecErrors) as caught:
            build(text, "s.yaml")
        assert caught.value.faults[0].line == 2


@pytest.mark.parametrize("key", ["timeout", "priority", "gpus", "gpu_mem_mib", "retries", "est_minutes"])
@pytest.mark.parametrize("value", ["1e999", "1e300", "9" * 400, "9" * 5000, "9" * 400 + "d", "-1e999", ".inf", ".nan"])
def test_a_number_beyond_all_bounds_is_refused(key: str, value: str) -> None:
    with pytest.raises(SpecErrors) as caught:
        build(f"project: p\njobs:\n- id: a\n  cmd: b\n  {key}: {value}", "s.yaml")
    assert caught.value.faults[0].line == 5
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000, "a: " * 50_000, "- " * 50_000, "? " * 50_000])
def test_a_spec_that_is_nested_deep_is_refused(text: str) -> None:
    for spec in (text, f"project: p\njobs: {text}", f"project: p\njobs: [{{id: a, cmd: b, metrics: {text}"):
        with pytest.raises(SpecErrors):
            build(spec, "s.yaml")


def test_aliases_of_aliases_stop_soon() -> None:
    lines = ["x-a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"x-a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    for last in ("jobs: *a8", "jobs: [{id: a, cmd: b, metrics: *a8}]", "grid: {n: *a8}", "preconditions: *a8"):
        with pytest.raises(SpecErrors, match="use fewer aliases") as caught:
            build("\n".join(["project: p", *lines, last]), "s.yaml")
        assert caught.value.faults[0].line > 3
    jobs = "\n".join(f"- {{<<: *c, id: j{n}}}" for n in range(3000))  # many of one that is small are in order
    common = "x-c: &c {cmd: x, env: {A: 1, B: 2, C: 3}, gpus: 0, retries: 1}"
    assert len(build(f"project: p\n{common}\njobs:\n{jobs}", "s.yaml").manifest.jobs) == 3000


def test_a_file_that_is_too_large_is_no_spec(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(builder, "MAX_BYTES", 1 << 20)
    spec = tmp_path / "s.yaml"
    spec.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(SpecErrors, match="larger than 1 MiB"):
        builder.read(str(spec))


def test_a_control_character_of_the_spec_is_shown_escaped() -> None:
    text = 'project: p\njobs: [{id: a, cmd: b, "zz\\e[31m\\u202e\\x07": 1, depends_on: ["\\e]0;title\\x07"]}]'
    with pytest.raises(SpecErrors) as caught:
        build(text, "s.yaml")
    assert r"\x1b[31m\u202e\x07" in str(caught.value)
    assert not _UNSEEN.search(str(caught.value))


# -- specs by chance --------------------------------------------------------------------------------------------------

_SCALARS: list[Any] = [
    "", "a", "x${n}", "{{ n }}", "{{ n * 2 }}", "${GPU}", "$${HOME}", "~", "no", "[64,64]", "*", "a/b", "..",
    "\x1b[31m", "\u202e", "\x00", 0, 1, -1, 1e300, 10**30, True, None, "1e999", "0..4", "range(3)",
    "{{ 9**(9**9) }}", "-1e-3",
    "s3://b/k", "~/x", "$HOME/x", "{a,b}", "nohup x &", "x & wait", "a; b", "'", '"', "`", "$(", "<<E", "𝒳", "é",
]  # fmt: skip
_KEYS = [
    "project", "cwd", "hosts", "ssh", "conda", "venv", "env", "gpus", "max_parallel", "oom_retry", "wave", "jobs",
    "preconditions", "default_cmd", "phases", "grid", "zip", "include", "exclude", "template", "id", "cmd", "args",
    "expected_output", "output_check", "gpu_mem_mib", "timeout", "priority", "depends_on", "match", "retries",
    "metrics", "name", "type", "path", "command", "gib", "delay", "max_attempts", "n", "seed", "x-a", "<<", "pull",
    "when_done", "max_cost", "deadline", "shell", "errexit", "range", "linspace", "logspace", "optimizer.lr",
    "est_minutes",
]  # fmt: skip
_SOUP = [
    *"{}[]:,-&*!|>'\"#%@`$~?=", "\n", "\n  ", "\n    ", "- ", ": ", "${", "}}", "{{", "<<: *a", "&a ", "*a",
    "project: p", "jobs:", "grid:", "template:", "id:", "cmd:", "args:", "n", "0..4", "!!int", "\t", "---",
    "...", "\\ud800",
    "\u2028",
]  # fmt: skip


def _mutated(rng: random.Random) -> str:
    text = _TEXTS[rng.randrange(len(_TEXTS))]
    for _ in range(rng.randint(1, 2)):
        at = rng.randint(0, len(text))
        end = text.find("\n", at) + 1 or len(text)
        kind = rng.randrange(4)
        if kind == 0:
            text = text[:at] + rng.choice(_SOUP) + text[at:]
        elif kind == 1:
            text = text[:at] + text[end:]
        elif kind == 2:
            text = text[:at] + text[at:end] * rng.randint(2, 3) + text[end:]
        else:
            text = text[:at] + str(rng.choice(_SCALARS)) + text[end - 1 :]
    return text


def _grown(rng: random.Random) -> str:
    """A spec of the right shape with hostile values, and now and then a value of a wrong shape."""

    def value() -> Any:
        return rng.choice(
            _SCALARS if rng.random() < 0.2 else ["1", "2.50", "a", "x${n}", "{{ n }}", "-1", "b c", "[*]"]
        )

    def anything(depth: int = 0) -> Any:
        kind = rng.random()
        if depth > 3 or kind < 0.5:
            return value()
        if kind < 0.75:
            return [anything(depth + 1) for _ in range(rng.randint(0, 3))]
        return {rng.choice(_KEYS): anything(depth + 1) for _ in range(rng.randint(0, 3))}

    def text() -> str:
        return " ".join(str(value()) for _ in range(rng.randint(1, 3)))

    def job(name: str) -> dict[str, Any]:
        made: dict[str, Any] = {"id": f"{name}{{{{ n | string | length }}}}", "cmd": f"run {text()}"}
        maybe: dict[str, Any] = {
            "args": {rng.choice(["m", "opt.lr", "a-b"]): rng.choice([value(), [value(), value()]])},
            "expected_output": text(), "cwd": text(), "env": {"A": text()}, "metrics": {"a": {"log": f"({text()})"}},
            "preconditions": [{"type": "file_exists", "path": text()}, {"type": "command", "command": text()}],
            "gpus": rng.choice([0, 1, "{{ n }}"]), "timeout": rng.choice(["2h", 5, value()]),
            "priority": rng.choice([1, -1]),
            "shell": {"errexit": rng.choice([True, False])}, rng.choice(_KEYS): anything(),
        }  # fmt: skip
        made.update((key, maybe[key]) for key in rng.sample(sorted(maybe), rng.randint(0, 3)))
        return made

    values = rng.choice([["1", 2], [3], {"range": [1, 4]}, [[64, value()], value()], anything()])
    grid = {"n": values, rng.choice(["m", "seed", "opt.lr", "a-b"]): [1.5, "x"]}
    one = {"name": "p", "grid": {"n": [7]}, "template": job("p")}
    form: dict[str, Any] = rng.choice(
        [
            {"grid": grid, "template": job("g")},
            {"grid": {"n": values}, "exclude": {"n": value()}, "template": job("e")},
            {"jobs": [{**job("a"), "args": {"n": value()}}, {**job("bb"), "args": {"n": [1, 2]}}]},
            {"phases": [one, {"name": "q", "depends_on": "p", "grid": {"n": [1, 22]}, "template": job("q")}]},
        ]
    )
    return json.dumps({"project": "p", **form, **({rng.choice(_KEYS): anything()} if rng.random() < 0.1 else {})})


def _soup(rng: random.Random) -> str:
    head = rng.choice(
        ["", "project: p\njobs:\n- id: a\n  cmd: ", "project: p\ngrid: ", "project: p\ntemplate:\n  id: "]
    )
    return head + "".join(rng.choice(_SOUP) for _ in range(rng.randint(1, 40)))


_TEXTS = [path.read_text(encoding="utf-8") for path in (*GOOD, *GOOD, *BAD)]


@pytest.mark.parametrize("make", [_mutated, _grown, _soup])
def test_a_spec_by_chance_is_built_or_refused(make: Callable[[random.Random], str]) -> None:
    built = 0
    for seed in range(_ROUNDS):
        text = make(random.Random(seed))
        try:
            built += _fate(text)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {text!r}") from error
    print(f"{make.__name__}: {built} of {_ROUNDS} built")


def _fate(text: str) -> bool:
    """Whether a spec is built. Its manifest, or what is said of it, has to be in order."""
    try:
        manifest = build(text, "s.yaml").manifest
    except SpecErrors as refused:
        faults, message = refused.faults, str(refused)
    else:
        assert decode(encode(manifest)) == manifest
        encode(manifest).encode()
        return True
    lines = text.count("\n") + 2
    assert faults
    assert all(1 <= fault.line <= lines and fault.column >= 1 for fault in faults)
    assert not _UNSEEN.search(message.replace("\n", ""))
    return False


def test_a_regular_expression_with_a_repeat_inside_of_a_repeat_is_warned_of() -> None:
    spec = {"project": "p", "metrics": {"acc": {"log": "(?:acc *)+=(.*)"}}, "health": {"loss": r"loss (\d+(?:\.\d+)?)"}}
    (warning,) = build(json.dumps({**spec, "jobs": [{"id": "a", "cmd": "b"}]}), "s.json").warnings
    assert "log of metric 'acc' repeats what is itself repeated, which may take forever on some lines" in warning
