"""`~` and `$NAME` in a job's paths, against bash itself; what was built before keeps its meaning."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

import pytest

from queue_manager.core.manifest import JobSpec, Manifest, Phase, Precondition
from queue_manager.core.outputs import pattern_matches
from queue_manager.core.shell_paths import expanded, needs_host, on_host, whole

_ENV = {"HOME": "/h me", "DATA": "/d", "ODD": "/x[1]"}


def _job(path: str, **fields: Mapping[str, str]) -> tuple[Manifest, JobSpec]:
    asked = (Precondition("file_exists", path), Precondition("command", command="ls ~ $DATA"))
    spec = JobSpec("a", "x", "main", expected_output=path, preconditions=asked, **fields)  # type: ignore[arg-type]
    return Manifest("p", (spec,), (Phase("main"),), shell_paths=True, env={"WHERE": "spec"}), spec


@pytest.mark.parametrize(
    "path",
    [
        "~",
        "~/a",
        "$DATA/a",
        "${DATA}/a/$DATA",
        "a/~/b",
        "a~",
        "~x",
        "$DATA$DATA",
        "out/$WHERE.pt",
        "$OWN/x",
        "a$",
        "$1x",
    ],
)
def test_as_bash_expands_it(path: str) -> None:
    manifest, spec = _job(path, env={"OWN": "job", "WHERE": "job"})
    made = expanded(manifest, spec, _ENV)
    environment = {**_ENV, "OWN": "job", "WHERE": "job"}
    if "$1" not in path:
        result = subprocess.run(
            ["bash", "-c", f'x={path}; printf %s "$x"'],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=150,
        )
        assert made.expected_output == result.stdout
    assert made.preconditions[0].path == made.expected_output
    assert made.preconditions[1].command == "ls ~ $DATA"
    assert needs_host(spec) == (made != spec)
    assert expanded(manifest._replace(shell_paths=False), spec, _ENV) == spec
    assert whole(manifest, _ENV).jobs == (expanded(manifest, spec, _ENV),)


def test_what_is_escaped_or_unknown_stays_and_values_are_no_patterns() -> None:
    for path in ("[~]/a", "[$]DATA/a", "$UNKNOWN/a", "a/b"):
        manifest, spec = _job(path)
        assert expanded(manifest, spec, _ENV) == spec
        assert on_host(path) == path.startswith("$UNKNOWN")
    manifest, spec = _job("$ODD/*.pt")
    assert pattern_matches(expanded(manifest, spec, _ENV).expected_output or "", "/x[1]/m.pt")
