"""A coding agent that is a program: it searches settings by the JSON in its prompt, through the contract of any agent.

It reads the prompt on stdin, finds the JSON document in it, and writes its reply to WQ_REPLY. It can misbehave:
`--from N` lets the first N calls pass, `--times N` misbehaves so often, counted in the file of `--count`. `--random`
draws settings instead of climbing. It is no model, and a report shows its command and digest.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MISBEHAVIOURS = (
    "none", "exit", "hang", "half", "prose", "empty", "protected", "outside", "duplicate", "limit", "large", "orphan",
    "stop",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--misbehave", choices=MISBEHAVIOURS, default="none")
    parser.add_argument("--role", help="misbehave in this role only")
    parser.add_argument("--from", dest="before", type=int, default=0, help="calls that pass before")
    parser.add_argument("--times", type=int, default=1 << 30, help="calls that misbehave")
    parser.add_argument("--count", type=Path, help="file in which calls are counted, a line for each")
    parser.add_argument("--envelope", choices=("raw", "claude", "codex"), default="raw")
    parser.add_argument("--cost", type=float, help="USD that a call costs (envelope claude)")
    parser.add_argument("--choices", type=json.loads, default={}, help="JSON: the values of each setting, in order")
    parser.add_argument("--edits", action="store_true", help="propose an edit of the code with each")
    parser.add_argument("--random", action="store_true", help="draw settings, and do not climb")
    parser.add_argument("--rng", type=int, default=0)
    parser.add_argument("--orphan-pid", type=Path, help="file for the process id of the child that outlives the call")
    parser.add_argument("--append", default="# {node}\n", help="what an edit appends to each editable file")
    args = parser.parse_args()

    prompt = sys.stdin.read()
    role = os.environ["WQ_ROLE"]
    calls = 0
    if args.count is not None:
        with args.count.open("a+", encoding="utf-8") as file:
            file.write(f"{role} {os.environ['WQ_NODE']}\n")
            file.seek(0)
            calls = len([line for line in file if args.role in (None, line.split()[0])])
    wrong = args.role in (None, role) and args.before < (calls or 1) <= args.before + args.times
    how = args.misbehave if wrong else "none"

    if how == "exit":
        print("something inside broke", file=sys.stderr)
        return 1
    if how == "hang":
        subprocess.Popen(["sleep", "600"])
        time.sleep(600)
    if how == "limit":
        print(f"Claude AI usage limit reached|{int(time.time()) + 3600}")
        return 1
    if how == "orphan":
        orphan = subprocess.Popen(
            ["sleep", "600"], start_new_session=True, stdout=None if args.envelope == "raw" else subprocess.DEVNULL
        )
        if args.orphan_pid is not None:
            args.orphan_pid.write_text(str(orphan.pid), encoding="utf-8")

    reply = answer(role, facts(prompt), args, how)
    text = json.dumps(reply)
    if how == "half":
        text = text[: len(text) * 2 // 3]
    elif how == "prose":
        text = "I thought about it for a long time, and I would try a smaller learning rate."
    elif how == "large":
        text = "so it goes on, " * (5 << 16) + "\n" + text
    elif args.envelope == "raw":
        Path(os.environ["WQ_REPLY"]).write_text(text, encoding="utf-8")
        return 0
    print(enveloped(text, args.envelope, args.cost))
    return 0


def facts(prompt: str) -> dict[str, Any]:
    """The last JSON document of a prompt in a fence."""
    found = re.findall(r"^```json\n(.*?)^```$", prompt, re.MULTILINE | re.DOTALL)
    document: dict[str, Any] = json.loads(found[-1]) if found else {}
    return document


def answer(role: str, known: dict[str, Any], args: argparse.Namespace, how: str) -> dict[str, Any]:
    node = os.environ["WQ_NODE"]
    if role == "plan":
        if how == "stop":
            return {"proposals": [], "stop": True, "why": "no more ideas"}
        return {"proposals": proposals(known, args, how)}
    if role in ("edit", "repair", "instrument"):
        edit(known, args, how)
        reply: dict[str, Any] = {"summary": "appended a line"}
        if role == "instrument":
            metric = known["objective"]["metric"]
            reply["metrics"] = {metric: {"log": rf"{metric}=(\S+)"}}
        return reply
    if role == "analyze":
        return {"text": f"{node} was measured", "findings": [{"text": f"{node} is known now", "nodes": [node]}]}
    return {"text": "The best node is the last one in the table."}


def proposals(known: dict[str, Any], args: argparse.Namespace, how: str) -> list[dict[str, Any]]:
    """Settings that were not tried yet, from which most gain over the best can be expected after all results."""
    choices: dict[str, list[Any]] = args.choices
    nodes: list[dict[str, Any]] = known.get("nodes", [])
    best = next((node for node in nodes if node["id"] == known.get("best")), None)
    running = [node["settings"] for node in known.get("running", [])]
    tried = [*(node["settings"] for node in nodes), *running]
    want = known.get("want", 1)
    if how == "duplicate":
        same = dict(best["settings"]) if best else {}
        return [{"title": "the same again", "hypothesis": "it may be better now", "settings": same}] * want
    start = {name: values[0] for name, values in choices.items()} | (dict(best["settings"]) if best else {})
    everything = [start]
    for name, values in choices.items():
        everything = [{**one, name: value} for one in everything for value in values]
    fresh = [one for one in everything if one not in tried]
    random.Random(f"{args.rng} {len(nodes)}").shuffle(fresh)  # which of equally good ones comes first
    if not args.random:
        sign = 1.0 if known.get("objective", {}).get("goal", "max") == "max" else -1.0
        seen = [(place(node["settings"], choices), sign * node["value"]) for node in nodes if "value" in node]
        fresh = promising(fresh, seen, [place(one, choices) for one in running], choices, want)
    return [
        {
            "title": ", ".join(f"{name} {one[name]}" for name in choices),
            "hypothesis": "it lies where results are good, or where little is known",
            "family": "-".join(name for name in choices if one[name] != start[name]) or "none",
            "settings": one,
            **({"edit": "append a line"} if args.edits else {}),
        }
        for one in fresh[:want]
    ]


Place = tuple[float, ...]
HALF = 0.5
NEAR = 0.4
"""How far a result tells of others, as a share of the values of a setting."""
DOUBT = 0.2
"""The noise of a result, as a share of how much results differ."""


def place(settings: dict[str, Any], choices: dict[str, list[Any]]) -> Place:
    """Where settings lie among the choices: for each from 0, the first value, to 1, the last."""
    return tuple(values.index(settings[name]) / max(1, len(values) - 1) for name, values in choices.items())


def promising(
    fresh: list[dict[str, Any]],
    seen: list[tuple[Place, float]],
    running: list[Place],
    choices: dict[str, list[Any]],
    want: int,
) -> list[dict[str, Any]]:
    """The settings with the largest expected improvement, one after the other; what runs, and what was chosen, counts
    as if it had come out as expected. While too little is known, each setting by itself, half of its range away."""
    places = [place(one, choices) for one in fresh]
    if not seen:
        return sorted(fresh, key=lambda one: place(one, choices))
    if len(seen) <= len(choices):
        start = seen[0][0]
        used = {moved(at, start) for at in [*running, *(at for at, _ in seen)]}
        first: dict[tuple[int, ...], int] = {}
        for number in sorted(range(len(fresh)), key=lambda one: abs(math.dist(places[one], start) - HALF)):
            way = moved(places[number], start)
            if len(way) == 1 and way not in used:
                first.setdefault(way, number)
        order = [*first.values(), *(number for number in range(len(fresh)) if number not in first.values())]
        return [fresh[number] for number in order]
    middle, spread = statistics.fmean(value for _, value in seen), statistics.pstdev(value for _, value in seen)
    known = [(at, (value - middle) / (spread or 1.0)) for at, value in seen]
    best = max(value for _, value in known)
    for at in running:
        known.append((at, expected(known, [at])[0][0]))
    left = list(range(len(fresh)))
    chosen: list[dict[str, Any]] = []
    while left and len(chosen) < want:
        predicted = dict(zip(left, expected(known, [places[number] for number in left]), strict=True))
        number = max(left, key=lambda one: improvement(*predicted[one], best))
        left.remove(number)
        chosen.append(fresh[number])
        known.append((places[number], predicted[number][0]))
    return chosen


def moved(one: Place, start: Place) -> tuple[int, ...]:
    """In which settings two places differ."""
    return tuple(number for number, (here, there) in enumerate(zip(one, start, strict=True)) if here != there)


def improvement(mean: float, sd: float, best: float) -> float:
    """How much better than the best a value of this mean and spread is expected to be, where it is."""
    normal = statistics.NormalDist()
    score = (mean - best) / sd
    return sd * (score * normal.cdf(score) + normal.pdf(score))


def expected(known: list[tuple[Place, float]], places: list[Place]) -> list[tuple[float, float]]:
    """The mean and the spread of the value at each place, by a smooth surface through what is known (a Gaussian
    process)."""
    lower: list[list[float]] = []
    for row, (at, _) in enumerate(known):
        line: list[float] = []
        for column in range(row + 1):
            rest = alike(at, known[column][0]) + (DOUBT**2 if row == column else 0.0)
            rest -= sum(a * b for a, b in zip(line, lower[column] if column < row else line, strict=False))
            line.append(math.sqrt(rest) if row == column else rest / lower[column][column])
        lower.append(line)
    values = solved(lower, [value for _, value in known])
    found = []
    for one in places:
        near = solved(lower, [alike(one, at) for at, _ in known])
        mean = sum(a * b for a, b in zip(near, values, strict=True))
        found.append((mean, math.sqrt(max(1e-9, 1.0 - sum(a * a for a in near)))))
    return found


def alike(one: Place, other: Place) -> float:
    return math.exp(-0.5 * (math.dist(one, other) / NEAR) ** 2)


def solved(lower: list[list[float]], right: list[float]) -> list[float]:
    """x, where lower x = right."""
    found: list[float] = []
    for line, value in zip(lower, right, strict=True):
        found.append((value - sum(a * b for a, b in zip(line, found, strict=False))) / line[-1])
    return found


def edit(known: dict[str, Any], args: argparse.Namespace, how: str) -> None:
    if how == "empty":
        return
    globs: list[str] = known.get("protected" if how == "protected" else "editable", [])
    found = [Path("outside.txt")] if how == "outside" else [path for one in globs for path in Path().glob(one)]
    for path in found:
        if path.is_file():
            with path.open("a", encoding="utf-8") as file:
                file.write(args.append.format(node=os.environ["WQ_NODE"]))


def enveloped(text: str, envelope: str, cost: float | None) -> str:
    if envelope == "claude":
        result = {"type": "result", "subtype": "success", "is_error": False, "result": text}
        return json.dumps({**result, **({} if cost is None else {"total_cost_usd": cost})})
    if envelope == "codex":
        item = {"type": "item.completed", "item": {"id": "item_0", "type": "agent_message", "text": text}}
        lines = [
            {"type": "thread.started", "thread_id": "t"},
            {"type": "turn.started"},
            item,
            {"type": "turn.completed"},
        ]
        return "\n".join(json.dumps(line) for line in lines)
    return text


if __name__ == "__main__":
    raise SystemExit(main())
