"""How far a run has come, as a number that a later look is compared with: which jobs have changed since. Pure.

A manager numbers its events, and each job's row tells the last one that changed it. A run on several hosts has a
manager on each: its number is theirs in the order of `meta.hosts`, with dots between them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from skill.common.errors import UseError
from skill.runs.digest import Row

_FORM = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})*")


def newest(document: Mapping[str, Any]) -> int | str:
    """The number of a run now; text where several hosts have a part of it."""
    numbers = _numbers(document)
    return numbers[0] if len(numbers) == 1 else ".".join(map(str, numbers))


def changed_since(document: Mapping[str, Any], since: str) -> list[Row]:
    """The jobs that an event has changed after the run had that number. Of a manager that is older than these numbers
    every job is among them. Raises UseError where the run cannot have had it."""
    now = _numbers(document)
    if not _FORM.fullmatch(since):
        raise UseError(f"--since {since}: give the seq that an earlier `wavequeue status --json` of this run printed")
    before = [int(part) for part in since.split(".")]
    if len(before) > len(now) or any(one > other for one, other in zip(before, now)):
        raise UseError(
            f"--since {since}: run {document['meta']['run_id']} has only come to {newest(document)}; give the seq that "
            "`wavequeue status --json` printed for this run"
        )
    before += [0] * (len(now) - len(before))  # hosts that came later
    names = [row["name"] for row in document["meta"].get("hosts", ())]
    of_host = dict(zip(names, before))
    return [
        row
        for row in document["jobs"]
        if row.get("seq") is None or row["seq"] > (of_host[row["host"]] if names else before[0])
    ]


def _numbers(document: Mapping[str, Any]) -> list[int]:
    meta = document["meta"]
    return [row["seq"] for row in meta["hosts"]] if "hosts" in meta else [meta["seq"]]
