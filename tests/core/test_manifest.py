"""The manifest's codec, its errors, and the faults of its graph."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queue_manager.core.layout import id_fault
from queue_manager.core.manifest import (
    JobSpec,
    Manifest,
    ManifestError,
    OomRetry,
    Phase,
    Precondition,
    decode,
    encode,
    find_circle,
    graph_faults,
    sha256,
)

_names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._=+,@-]{0,8}", fullmatch=True)
_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
_maps = st.dictionaries(_text, _text, max_size=2)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _text,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_text, inner, max_size=2),
    max_leaves=4,
)
_preconditions = st.one_of(
    st.tuples(st.sampled_from(["checkpoint_exists", "file_exists"]), _text).map(lambda one: Precondition(*one)),
    _text.map(lambda command: Precondition("command", command=command)),
    st.tuples(st.none() | _text, st.floats(0.1, 1e6)).map(
        lambda one: Precondition("disk_free_gib", one[0], gib=one[1])
    ),
)


_fields: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "cmd": _text,
        "gpus": st.integers(0, 8),
        "gpu_mem_mib": st.none() | st.integers(1, 10**6),
        "expected_output": st.none() | _text,
        "cwd": st.none() | _text,
        "env": _maps,
        "timeout": st.none() | st.floats(0.001, 1e9),
        "priority": st.integers(),
        "retries": st.integers(0, 5),
        "preconditions": st.lists(_preconditions, max_size=2).map(tuple),
        "params": _maps,
        "metrics": _json,
    }
)
"""What a job has beside its ID and what it depends on."""
_settings: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "hosts": st.lists(_text, max_size=2).map(tuple),
        "env": _maps,
        "gpus": st.none() | st.lists(st.integers(0, 8), unique=True, max_size=3).map(tuple),
        "max_parallel": st.none() | st.integers(1, 9),
        "gpu_free_threshold_mib": st.integers(0, 9000),
        "oom_retry": st.builds(OomRetry, st.floats(0, 1e6), st.integers(1, 9)),
        "wave": st.sampled_from(["rolling", "barrier"]),
        "stale_after": st.floats(0.1, 1e6),
        "on_complete": st.none() | _text,
        "pull": st.lists(_text, max_size=2).map(tuple),
        "when_done": st.sampled_from(["keep", "stop", "destroy"]),
        "idle_after": st.none() | st.floats(0.1, 1e6),
        "max_cost": st.none() | st.floats(0.01, 1e6),
        "deadline": st.none() | st.floats(0.1, 1e6) | st.just("2026-12-24T18:00:00+01:00"),
        "results_to": st.none() | _text,
    }
)
"""What a manifest has beside its jobs, phases and groups."""
_phases, _ids = (st.lists(_names, min_size=1, max_size=most, unique=True) for most in (3, 5))


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    phases, ids = draw(_phases), draw(_ids)
    groups = {f"{phases[0]}[N=1]": tuple(ids[:1])} if draw(st.booleans()) else {}
    jobs = []
    for number, name in enumerate(ids):
        # A job waits only for earlier ones, so there is no circle.
        earlier = [*ids[:number], *(groups if number else ())]
        waits = draw(st.lists(st.sampled_from(earlier), unique=True, max_size=2)) if earlier else []
        jobs.append(JobSpec(id=name, phase=phases[0], depends_on=tuple(waits), **draw(_fields)))
    return Manifest(
        project="p",
        jobs=tuple(jobs),
        phases=tuple(Phase(name, tuple(phases[:number])) for number, name in enumerate(phases)),
        groups=groups,
        **draw(_settings),
    )


@settings(deadline=None)
@given(manifest=manifests())
def test_a_manifest_survives_the_way_through_its_text(manifest: Manifest) -> None:
    text = encode(manifest)
    assert decode(text) == manifest
    assert encode(decode(text)) == text
    assert sum(line.startswith('{"id"') for line in text.splitlines()) == len(manifest.jobs)


def test_the_hash_is_of_the_bytes() -> None:
    assert sha256(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def _document(**changes: Any) -> dict[str, Any]:
    jobs = [{"id": "a", "cmd": "x", "phase": "p"}, {"id": "b", "cmd": "x", "phase": "p", "depends_on": ["a"]}]
    base = {"format": "wavequeue-manifest", "version": 1, "project": "p", "phases": [{"name": "p"}], "jobs": jobs}
    return {**base, **changes}


def _job(**changes: Any) -> dict[str, Any]:
    return _document(jobs=[{"id": "a", "cmd": "x", "phase": "p", **changes}])


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "this is not a manifest"),
        ({"project": "p"}, "wavequeue build SPEC"),
        (_document(version=2), "manifest version 2 is not 1"),
        (_document(jbos=[], zzz=1), "unknown keys: jbos, zzz"),
        (_document(project=3), "the manifest: project is 3; it has to be a text"),
        (_document(project="../x"), "project '../x' may have letters"),
        (_document(gpus=[0, 0]), "gpus is [0, 0]; it has to be a list of GPU indices, each once"),
        (_document(when_done="burn"), 'when_done is "burn"; it has to be one of: keep, stop, destroy'),
        (_document(deadline="2026-12-24T18:00:00"), "a time in ISO 8601 with its zone"),
        (_document(max_cost=0), "max_cost is 0; it has to be a number above 0"),
        (_document(gpus=[True]), "gpus is [true]"),
        (_document(max_parallel=0), "max_parallel is 0; it has to be a whole number of 1 or more"),
        (_document(env={"A": 1}), 'env is {"A": 1}; it has to be an object whose values are texts'),
        (_document(wave="tidal"), 'wave is "tidal"; it has to be one of: rolling, barrier'),
        (_document(oom_retry={"delay": -1}), "oom_retry: delay is -1"),
        (_document(oom_retry={"delays": 1}), "oom_retry has the unknown key 'delays'"),
        (_document(groups={"g": "ab"}), "groups is"),
        (_document(groups={"g": ["zz"]}), "group 'g' names job 'zz', which does not exist"),
        (_document(phases=[{"name": "p"}, {"name": "p"}]), "two phases have the same name"),
        (_document(phases=[{"name": "p", "depends_on": ["q"]}]), "depends on phase 'q', which does not exist"),
        (_document(phases=["p"]), "a phase must be an object with a name"),
        (_document(jobs=["a"]), "a job must be an object with an id"),
        (_document(jobs=[{"id": "a", "cmd": "x"}]), "job 'a' has no \"phase\""),
        (_job(phase="q"), "job 'a' is of phase 'q', which does not exist"),
        (_job(id="../a"), "is not a safe file name"),
        (_job(depends_on=["z"]), "job 'a' depends on 'z', which does not exist"),
        (_job(depends_on=["a"]), "circular dependency: a -> a"),
        (_job(depends_on="a"), "job 'a': depends_on is \"a\"; it has to be a list of texts"),
        (_job(gpus=-1), "gpus is -1"),
        (_job(gpu_mem_mib=1.5), "gpu_mem_mib is 1.5"),
        (_job(timeout=0), "timeout is 0; it has to be a number above 0"),
        (_job(timeout=float("inf")), "timeout is Infinity"),
        (_job(retries=True), "retries is true"),
        (_job(preconditions=[{"type": "magic"}]), "a precondition needs a type, one of"),
        (_job(preconditions=[{"type": "command", "cmd": "x"}]), "unknown key 'cmd'"),
        (_job(command="x"), "job 'a' has the unknown key 'command'"),
    ],
)
def test_what_cannot_be_used_is_named(document: Any, message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        decode(json.dumps(document))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_that_is_no_json_is_named() -> None:
    with pytest.raises(ManifestError, match="not valid JSON"):
        decode("{")


@pytest.mark.parametrize("key", ["project", "jobs", "phases"])
def test_what_is_missing_is_named(key: str) -> None:
    document = _document()
    del document[key]
    with pytest.raises(ManifestError, match=f'no "{key}"'):
        decode(json.dumps(document))


def test_all_faults_of_the_graph_come_at_once() -> None:
    jobs = [JobSpec("a", "x", "p"), JobSpec("a", "x", "q"), JobSpec("b c", "x", "p", depends_on=("z",))]
    faults = graph_faults([Phase("p", ("r",))], {}, jobs)
    assert len(faults) == 5


_edges = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=12)


@given(edges=_edges, backwards=st.booleans())
def test_a_circle_is_found_where_there_is_one(edges: list[tuple[int, int]], backwards: bool) -> None:
    if backwards:
        edges = [(max(edge), min(edge)) for edge in edges if edge[0] != edge[1]]
    waits: dict[int, list[str]] = {}
    for job, need in edges:
        waits.setdefault(job, []).append(f"j{need}")
    jobs = [JobSpec(f"j{n}", "x", "p", depends_on=tuple(waits.get(n, ()))) for n in range(8)]
    circle = find_circle([Phase("p")], {}, jobs)
    reach = {n: {need for job, need in edges if job == n} for n in range(8)}
    for _ in range(8):
        reach = {n: found.union(*(reach[one] for one in found)) for n, found in reach.items()}
    assert bool(circle) == any(n in found for n, found in reach.items())
    if circle:
        assert circle[0] == circle[-1]
        needs = {job.id: job.depends_on for job in jobs}
        assert all(later in needs[earlier] for earlier, later in zip(circle, circle[1:]))


_circles: list[Callable[[], list[str]]] = [
    lambda: find_circle([Phase("a", ("b",)), Phase("b", ("a",))], {}, [JobSpec("x", "c", "a"), JobSpec("y", "c", "b")]),
    lambda: find_circle(
        [Phase("a"), Phase("b", ("a",))], {}, [JobSpec("x", "c", "a", depends_on=("y",)), JobSpec("y", "c", "b")]
    ),
    lambda: find_circle(
        [Phase("a"), Phase("b", ("a",), ("N",))],
        {"b[N=1]": ("y", "z")},
        [
            JobSpec("x", "c", "a", depends_on=("b[N=1]",)),
            JobSpec("y", "c", "b", depends_on=("x",)),
            JobSpec("z", "c", "b"),
        ],
    ),
]


@pytest.mark.parametrize("circle", _circles)
def test_circles_through_phases_and_groups_are_found(circle: Callable[[], list[str]]) -> None:
    assert set(circle()) == {"x", "y"}


def test_a_phase_with_match_leaves_its_phases_to_the_jobs() -> None:
    jobs = [JobSpec("x", "c", "a", depends_on=("y",)), JobSpec("y", "c", "b")]
    assert find_circle([Phase("a"), Phase("b", ("a",), ("N",))], {}, jobs) == []


@given(name=st.text(max_size=6))
def test_a_safe_id_is_one_plain_file_name(name: str) -> None:
    if id_fault(name) is None:
        assert name
        assert name.isascii()
        assert not name.startswith((".", "-"))
        assert not set(name) & set("/\\ \t\n'\"$;&|<>*?[]{}()!#~`")
