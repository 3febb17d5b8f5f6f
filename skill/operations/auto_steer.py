"""Steer a campaign while it runs, or before it is run again: a request in its inbox, which counts once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from build_manifest.faults import listed, nearest
from skill.auto import requests, store
from skill.auto.config import COUNTS
from skill.auto.layout import WorkDir
from skill.auto.requests import Asked
from skill.common import files
from skill.common.errors import UseError


def note(root: Path, text: str) -> None:
    """Tell the planner something. Raises UseError."""
    work = WorkDir.at(root)
    store.load(work)
    if not text.strip():
        raise UseError("the note is empty; write what the planner is to know")
    _send(work, "note", text=text.strip())


def steer_node(root: Path, verb: Literal["pin", "kill", "boost"], node: str) -> None:
    """Have proposals start from a node (pin), end it (kill), or have it measured first (boost). Raises UseError."""
    work = WorkDir.at(root)
    campaign, _ = store.load(work)
    if node not in campaign.nodes:
        close = nearest(node, list(campaign.nodes))
        hint = f"did you mean {close}?" if close else f"there are: {listed(list(campaign.nodes), 10)}"
        raise UseError(f"there is no node {node}; {hint}")
    found = campaign.nodes[node]
    if verb == "kill" and found.verdict is not None:
        raise UseError(f"{node} has ended already ({found.verdict.replace('_', ' ')})")
    if verb == "pin" and found.commit is None:
        raise UseError(f"{node} has no code yet; pin it once its edit was accepted")
    _send(work, verb, node)


def stop_campaign(root: Path) -> None:
    """End a campaign that is being worked on: nothing new is begun, and what runs is awaited. Raises UseError."""
    work = WorkDir.at(root)
    campaign, _ = store.load(work)
    if campaign.stopped is not None:
        raise UseError(f"it has stopped already: {campaign.stopped_text}")
    if not is_running(work):
        raise UseError(f"it is not running; continue with: wavequeue auto run {work.root}")
    _send(work, "stop")


def extend(root: Path, changes: Mapping[str, float | None]) -> None:
    """Set limits anew; a campaign that a limit had stopped can be run again. Raises UseError."""
    work = WorkDir.at(root)
    store.load(work)
    if not changes:
        raise UseError("say which limit, such as --max-nodes 40 or --max-usd 25")
    for name, value in changes.items():
        if value is not None and name in COUNTS and value != int(value):
            raise UseError(f"{name} is a whole number, and {value} is not")
    whole = {name: int(value) if name in COUNTS and value is not None else value for name, value in changes.items()}
    _send(work, "extend", changes=whole)


def is_running(work: WorkDir) -> bool:
    """Whether a loop works on a campaign at this moment."""
    try:
        with work.lock.open("rb") as file:
            return not files.try_lock(file, shared=True)
    except FileNotFoundError:
        return False


def _send(
    work: WorkDir,
    verb: Literal["note", "pin", "kill", "boost", "stop", "extend"],
    node: str | None = None,
    text: str = "",
    changes: Mapping[str, float | None] | None = None,
) -> None:
    requests.send(work, Asked(requests.new_id(time.time()), verb, node, text, changes or {}))
