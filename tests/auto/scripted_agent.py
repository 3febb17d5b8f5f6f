"""A coding agent that is a program: it climbs a hill by the JSON in its prompt, through the contract of any agent.

It reads the prompt on stdin, finds the JSON document in it, and writes its reply to WQ_REPLY. It can misbehave:
`--from N` lets the first N calls pass, `--times N` misbehaves so often, counted in the file of `--count`. `--random`
draws settings instead of climbing. It is no model, and a report shows its command and digest.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
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
    """Neighbours of the best node that were not tried yet, along the choices of each setting."""
    choices: dict[str, list[Any]] = args.choices
    nodes: list[dict[str, Any]] = known.get("nodes", [])
    best = next((node for node in nodes if node["id"] == known.get("best")), None)
    tried = [node["settings"] for node in [*nodes, *known.get("running", [])]]
    want = known.get("want", 1)
    if how == "duplicate":
        same = dict(best["settings"]) if best else {}
        return [{"title": "the same again", "hypothesis": "it may be better now", "settings": same}] * want
    start = {name: values[0] for name, values in choices.items()} | (dict(best["settings"]) if best else {})
    rng = random.Random(f"{args.rng} {len(nodes)}")
    everything = [start]
    for name, values in choices.items():
        everything = [{**one, name: value} for one in everything for value in values]
    fresh = [one for one in everything if one not in tried]
    rng.shuffle(fresh)
    if not args.random:  # which of equally good ones is tried first is left to chance
        last = next((node for node in nodes if best and node["id"] == best.get("parent")), None)
        ahead = moves(last["settings"], start, choices) if last else {}
        failed = sum(node.get("parent") == known.get("best") for node in nodes)
        fresh.sort(key=lambda one: promise(moves(start, one, choices), ahead, failed, choices))
    return [
        {
            "title": ", ".join(f"{name} {one[name]}" for name in choices),
            "hypothesis": "a neighbour of the best",
            "family": "-".join(name for name in choices if one[name] != start[name]) or "none",
            "settings": one,
            **({"edit": "append a line"} if args.edits else {}),
        }
        for one in fresh[:want]
    ]


def moves(start: dict[str, Any], one: dict[str, Any], choices: dict[str, list[Any]]) -> dict[str, int]:
    """By how many places each setting moves along its values, where it does."""
    found = {name: values.index(one[name]) - values.index(start[name]) for name, values in choices.items()}
    return {name: places for name, places in found.items() if places}


def promise(
    move: dict[str, int], ahead: dict[str, int], failed: int, choices: dict[str, list[Any]]
) -> tuple[bool, bool, int]:
    """The smaller, the sooner it is tried: one setting at a time; another one than that which has just helped; long
    strides first, and shorter ones the more of them have failed."""
    if not move:
        return False, False, -1
    name, places = next(iter(move.items()))
    stride = max(1, (len(choices[name]) // 2) >> (failed // len(choices)))
    return len(move) != 1, name in ahead, abs(abs(places) - stride)


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
