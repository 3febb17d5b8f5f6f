"""Grids against their definition: product, zip, exclude, include; and values that stay as they were written."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from build_manifest import SpecErrors, build
from queue_manager.core.outputs import escape

_values = st.lists(st.sampled_from(["1", "2", "03", "1e-4", "x"]), min_size=1, max_size=3, unique=True)
_grids = st.dictionaries(st.sampled_from(["a", "b", "c"]), _values, min_size=1, max_size=3)


def _spec(**parts: Any) -> str:
    return json.dumps({"project": "p", **parts})


def _cells(**parts: Any) -> list[dict[str, str]]:
    names = sorted({*parts.get("grid", {}), *parts.get("zip", {})} or parts["include"][0])
    ident = "j" + "".join(f"_{name}${{{name}}}" for name in names)
    spec = _spec(template={"id": ident, "cmd": "x"}, **parts)
    return [dict(job.params) for job in build(spec, "s.json").manifest.jobs]


@given(grid=_grids)
def test_the_product_runs_in_the_order_written_last_key_fastest(grid: dict[str, list[str]]) -> None:
    expected = [dict(zip(grid, cell)) for cell in itertools.product(*grid.values())]
    assert _cells(grid=grid) == expected


@given(grid=_grids, rows=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=3, unique=True))
def test_zipped_lists_walk_together(grid: dict[str, list[str]], rows: list[tuple[int, int]]) -> None:
    zipped = {"y": [str(y) for y, _ in rows], "z": [str(z) for _, z in rows]}
    expected = [
        {**dict(zip(grid, cell)), "y": str(y), "z": str(z)}
        for cell in itertools.product(*grid.values())
        for y, z in rows
    ]
    assert _cells(grid=grid, zip=zipped) == expected


@given(grid=_grids, data=st.data())
def test_exclude_takes_out_what_agrees_with_all_its_keys(grid: dict[str, list[str]], data: st.DataObject) -> None:
    entry = st.dictionaries(st.sampled_from(sorted(grid)), st.sampled_from(["1", "2", "03", "1e-4", "x"]), min_size=1)
    excludes = data.draw(st.lists(entry, max_size=3))
    cells = [dict(zip(grid, cell)) for cell in itertools.product(*grid.values())]
    left = [cell for cell in cells if not any(all(cell[k] == v for k, v in one.items()) for one in excludes)]
    assume(left)
    assert _cells(grid=grid, exclude=excludes) == left


def test_a_list_in_an_exclude_means_any_of_its_values() -> None:
    cells = _cells(grid={"N": [1, 2], "s": [1, 2, 3]}, exclude=[{"N": 2, "s": [2, 3]}])
    assert [(cell["N"], cell["s"]) for cell in cells] == [("1", "1"), ("1", "2"), ("1", "3"), ("2", "1")]


def test_included_cells_come_last_and_are_never_excluded() -> None:
    cells = _cells(grid={"N": [1], "s": [1]}, include=[{"s": [2, 3], "N": 9}], exclude=[{"N": 9}])
    assert [(cell["N"], cell["s"]) for cell in cells] == [("1", "1"), ("9", "2"), ("9", "3")]


def test_a_scalar_is_a_list_of_one() -> None:
    assert _cells(grid={"opt": "adam", "seed": 42}) == [{"opt": "adam", "seed": "42"}]


@pytest.mark.parametrize(
    "value",
    ["010", "0.10", "1e-4", "no", "off", "on", "~", "null", "1_000", "0x1F", "12:30", "2024-01-02", "+1", ".5", "1.",
     "1E5", "True", "NaN", ".inf", "-0", "=", "0o17"],
)  # fmt: skip
def test_yaml_changes_no_value(value: str) -> None:
    spec = f"""
project: p
grid: {{v: [{value}]}}
template:
  id: j
  cmd: run '${{v}}' '{{{{ v }}}}'
  expected_output: "${{v}}.pt"
  env: {{A: "${{v}}", B: {value if value not in ("~", "null") else '""'}}}
"""
    job = build(spec, "s.yaml").manifest.jobs[0]
    assert job.cmd == f"run '{value}' '{value}'"
    assert job.expected_output == f"{escape(value)}.pt"  # `~` as a value is no home directory
    assert job.params == {"v": value}
    assert job.env["A"] == value
    assert job.env["B"] == ("" if value in ("~", "null") else value)


@given(number=st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False)), zeros=st.integers(0, 3))
def test_numbers_count_in_expressions_and_print_as_written(number: float, zeros: int) -> None:
    text = "0" * zeros + repr(abs(number))
    cmd = f"{{{{ v }}}} {{{{ v * 1 == {abs(number)!r} }}}}"
    spec = f'{{"project": "p", "grid": {{"v": [{text}]}}, "template": {{"id": "j", "cmd": "{cmd}"}}}}'
    assert build(spec, "s.json").manifest.jobs[0].cmd == f"{text} True"


@pytest.mark.parametrize(("values", "keys"), [(1001, 2), (10, 9)])
def test_a_grid_that_is_too_large_is_refused_before_it_is_expanded(values: int, keys: int) -> None:
    grid = {f"k{n}": list(range(values)) for n in range(keys)}
    with pytest.raises(SpecErrors) as caught:
        build(_spec(grid=grid, template={"id": "${k0}", "cmd": "x"}), "s.json")
    assert f"this grid makes {values**keys:,} jobs" in str(caught.value)


def test_the_same_spec_gives_the_same_warnings_and_order() -> None:
    spec = _spec(
        phases=[
            {
                "name": name,
                "grid": {"s": [1, 2]},
                "template": {"id": name + "${s}", "cmd": "x", "expected_output": "out/*"},
            }
            for name in ("b", "a", "c")
        ]
    )
    built = build(spec, "s.json")
    assert [job.id for job in built.manifest.jobs] == ["b1", "b2", "a1", "a2", "c1", "c2"]
    assert built == build(spec, "s.json")
    assert 1 <= len(built.warnings) <= 10
