"""The document of queue_manager.remote.preflight, in which a host describes itself and what a manifest would meet
there. Pure.

Fields that the types do not name may be anything: a newer version may have written them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

from skill.common.typed_json import Bounds, decode, fits

MOST = 64 << 20
"""Bytes that such a document may have."""
Text = Annotated[str, Bounds(max_length=1 << 16)]
Whole = Annotated[int, Bounds(ge=-(1 << 53), le=1 << 53)]


class Cwd(TypedDict):
    """Where jobs would run, and whether that is there."""

    path: Text
    there: bool


class MissingCwd(TypedDict):
    """A directory that jobs want, and that is not there."""

    path: Text
    jobs: list[Text]


class _Unmet(TypedDict):
    says: Text
    cwd: Text
    jobs: list[Text]


class UnmetPath(_Unmet):
    """A precondition that is about a file, and does not hold."""

    path: Text


class UnmetOther(_Unmet):
    """A precondition that is about no file, and does not hold."""

    type: Literal["command", "disk_free_gib"]
    path: None


class _Activation(TypedDict):
    """The environment that jobs run in, and what is wrong with it."""

    kind: Text | None
    name: Text | None
    python: Text | None
    fault: Text | None


class Activation(_Activation, total=False):
    """The same, with what a person may want to know; earlier versions have no `note`."""

    note: Text | None


class Gpu(TypedDict):
    """One GPU; what could not be read is None."""

    index: Whole
    uuid: Text
    name: Text
    total_mib: Whole | None
    used_mib: Whole | None


class Probe(TypedDict):
    """What the machine is."""

    cpus: Whole
    gpus: list[Gpu]


class Refused(TypedDict):
    """Jobs of equal needs that Slurm can never run."""

    options: list[Text]
    jobs: list[Text]
    count: Whole
    says: Text


class _Start(TypedDict):
    options: list[Text]
    count: Whole
    says: Text


class Start(_Start, total=False):
    """When Slurm would start the first of some jobs, in its words; `max_time`: what they may ask for, in seconds."""

    max_time: float | None


class TriedTask(TypedDict):
    """How a task ended that was to claim an attempt."""

    state: Literal["ran", "waits", "failed", "unknown"]
    says: Text
    node: Text
    seconds: float | None


class _Slurm(TypedDict):
    version: Text | None
    fault: Text | None
    refused: list[Refused]
    untried: Whole


class Slurm(_Slurm, total=False):
    """What Slurm said; earlier versions say less."""

    max_array: Whole | None
    most_running: Whole | None
    most_submitted: Whole | None
    starts: list[Start]
    notes: list[Text]
    task: TriedTask | None


class Preflight(TypedDict):
    """The document."""

    cwd: Cwd
    untried: Whole
    cwds_missing: list[MissingCwd]
    unmet: list[dict[str, Any]]
    activation: Activation
    probe: Probe


def read(data: bytes) -> dict[str, Any] | None:
    """Parse the document that a host sent; None if it is invalid: nothing that a host sends is used unchecked."""
    try:
        found = decode(data, MOST)
    except ValueError:
        return None
    if fits(found, Preflight) is not None:
        return None
    if any(fits(row, UnmetPath) is not None and fits(row, UnmetOther) is not None for row in found["unmet"]):
        return None
    document: dict[str, Any] = found
    return document
