"""Recognise how people lay out programs that an agent improves, so that nothing has to be asked. Pure.

`karpathy`: the layout of karpathy/autoresearch and its many copies: program.md tells the agent what to do, train.py is
edited, prepare.py is not, a training takes a fixed time, and prints its numbers at the end as `NAME: NUMBER`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

KARPATHY = ("program.md", "prepare.py", "train.py")
RESULTS = "results.tsv"
_PRINTED = re.compile(r"^([A-Za-z_]\w*):[ \t]+-?\d[\d.,]*(?:[eE][+-]?\d+)?[ \t]*$", re.MULTILINE)
_BLOCK = re.compile(r"^```[^\n]*\n---\n(.*?)^```", re.MULTILINE | re.DOTALL)
_GOAL = re.compile(r"get the (lowest|highest|smallest|largest|best) `?(\w+)`?", re.IGNORECASE)
_LAUNCH = re.compile(r"`((?:uv run|python3?) train\.py)`")
_MINUTES = re.compile(r"time budget of (\d+(?:\.\d+)?) minutes?", re.IGNORECASE)
_KILL = re.compile(r"exceeds (\d+(?:\.\d+)?) minutes?", re.IGNORECASE)


@dataclass(frozen=True)
class Recognised:
    """What a layout says. `minutes`: of one run, with what comes before and after the training; `timeout`: seconds."""

    layout: Literal["karpathy"]
    command: str
    metric: str
    goal: Literal["min", "max"]
    metrics: dict[str, dict[str, Any]]
    editable: tuple[str, ...]
    protected: tuple[str, ...]
    minutes: float | None
    timeout: float | None
    brief: str


def recognise(names: Collection[str], program: str) -> Recognised | None:
    """The layout of a directory. `names`: its files; `program`: the text of program.md, empty where there is none."""
    if not all(name in names for name in KARPATHY):
        return None
    block = _BLOCK.search(program)
    printed = _PRINTED.findall(block[1]) if block else []
    goal = _GOAL.search(program)
    metric = printed[0] if printed else "val_bpb"
    if goal and goal[2] in printed:
        metric = goal[2]
    launch = _LAUNCH.search(program)
    budget, kill = _MINUTES.search(program), _KILL.search(program)
    names_read = dict.fromkeys([metric, *printed])
    return Recognised(
        "karpathy",
        launch[1] if launch else "uv run train.py",
        metric,
        "max" if goal and goal[1].lower() in ("highest", "largest") else "min",
        {name: {"log": rf"^{name}:\s+(\S+)", "take": "last"} for name in names_read},
        ("train.py",),
        ("prepare.py", "program.md"),
        float(budget[1]) * 1.5 if budget else None,
        float(kill[1]) * 60 if kill else None,
        _brief(program),
    )


def _brief(program: str) -> str:
    """What program.md says about the program; how to run the loop is decided by code here."""
    parts = re.split(r"^## ", program, flags=re.MULTILINE)
    kept = [
        part
        for part in parts
        if not re.match(r"(setup|logging results|the experiment loop|output format)\b", part, re.I)
    ]
    return "## ".join(kept).strip()
