"""Explain a job's status: what it waits for, back to the root cause, or how it ended, and what to do next. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

from build_manifest.faults import listed
from queue_manager.core import events as ev
from queue_manager.core import failure_advice, gpu_models
from queue_manager.core.events import Record
from queue_manager.core.launchers import DEFAULT, LAUNCHERS, SLURM
from queue_manager.core.manifest import JobSpec
from queue_manager.core.times import duration, iso
from skill.common.units import count_text
from skill.runs import activity, digest, health, recovery
from skill.runs.dependencies import Dependencies, Need
from skill.runs.digest import Row
from skill.runs.merge import CARRIED

MAX_LINES = 24
"""Lines of the tree of what a job waits for."""
_SHOWN = 4
_ROOTS = 8
_BEFORE, _AFTER = 8, 4
_WAITS_FOR_CARDS = re.compile(r"waits for (a GPU|\d+ GPUs|a card|\d+ cards|the next wave)")
_KINDS = frozenset({"unreachable", "unknown", "planned"})
"""Conditions of a host of which nothing newer is known."""


def attempts(records: Iterable[Record], job: str) -> list[dict[str, Any]]:
    """Return the attempts of a job, oldest first, from the journal's records about it and the code."""
    found: dict[int, dict[str, Any]] = {}
    code: str | None = None
    step: str | None = None
    chosen: dict[int, str] = {}
    for record in records:
        event = record.event
        if isinstance(event, ev.CodeSeen):
            code = event.code
            for row in found.values():
                if row["began"] > event.since:
                    row["code"] = code
        if getattr(event, "job", None) != job:
            continue
        if isinstance(event, ev.AttemptStarting):
            found[event.n] = {
                "attempt": event.n, "started": iso(record.at), "ended": None, "seconds": None, "node": None,
                "cards": list(event.indices), "status": "running", "exit_code": None, "error": None, "charged": True,
                "code": code, "environment": None, "recovery": step, "began": record.at,
            }  # fmt: skip
            if event.boot == SLURM:
                found[event.n].update(started=None, status=digest.QUEUED)
        elif isinstance(event, ev.AttemptStarted) and event.n in found:
            began = record.at if event.began is None else event.began
            found[event.n].update(started=iso(began), began=began, status="running", node=event.node or None)
            if event.indices:
                found[event.n]["cards"] = list(event.indices)
        elif isinstance(event, ev.AttemptEnded) and event.n in found:
            row, over = found[event.n], record.at if event.over is None else event.over
            row.update(
                ended=iso(over),
                seconds=None if row["started"] is None else round(over - row["began"], 3),
                status=event.status,
                exit_code=event.exit_code,
                error=event.error or event.warning,
                charged=event.charged,
                environment=event.environment,
            )
            step = chosen.pop(event.n, None) if event.charged else step
        elif isinstance(event, ev.RecoveryChosen):
            chosen[event.n] = event.action
    return [{name: value for name, value in found[n].items() if name != "began"} for n in sorted(found)]


def explain(
    document: Mapping[str, Any],
    dependencies: Dependencies,
    job: str,
    tries: Sequence[Mapping[str, Any]],
    log: Sequence[str],
    now: float,
) -> dict[str, Any]:
    """Return the story of one job, as `why --json` prints it.

    `tries`: see `attempts`. `log`: plain lines of its newest log. `roots`: the root causes of what it waits for. For a
    run on hosts also `host`, and `unknown`: what is unknown now of hosts in the story.
    """
    rows = {row["id"]: row for row in document["jobs"]}
    if "hosts" in document["meta"]:
        rows.update((name, _left_out(spec)) for name, spec in dependencies.jobs.items() if name not in rows)
    row = rows[job]
    walk = _Walk(rows, dependencies, now)
    waits = row["status"] in ("pending", "blocked")
    tree = walk.tree(job) if waits else []
    roots = walk.roots(job) if waits else []
    hosts = {rows[name]["host"]: None for name in (job, *roots) if rows[name].get("host")}
    on_hosts = {"host": row["host"], "unknown": _unknown(document, hosts)} if "host" in row else {}
    return {
        "run_id": document["meta"]["run_id"],
        "id": job,
        "phase": row["phase"],
        **on_hosts,
        "status": row["status"],
        "because": stands(row, now, document["gpus"]),
        "silent_s": activity.silent(row, now),
        "cpu": row.get("cpu"),
        "asks": activity.asks(row),
        "waits_for": tree,
        "cards": _cards(document, row),
        "roots": [_root(rows[name], now) for name in roots],
        "attempts": list(tries),
        "recovery": row.get("recovery"),
        "log": excerpt(log, row["error"] or "") if row["status"] not in ("pending", "blocked") else [],
        "next": advice(document, row, roots, rows),
    }


def _cards(document: Mapping[str, Any], row: Row) -> list[str]:
    """What keeps the cards from a job that waits for some: a line each, with who holds it and the threshold."""
    if row["status"] != "pending" or not _WAITS_FOR_CARDS.match(row["waiting"] or ""):
        return []
    lines = []
    for card in document["gpus"]:
        if card.get("host") != row.get("host") or "room_mib" not in card:  # older managers do not tell
            continue
        held, wanted, models = card["holder"], row.get("gpu_mem_mib"), row.get("gpu_model") or ()
        room = card["room_mib"]
        if wanted is not None and card["total_mib"] is not None and isinstance(room, int) and room < wanted:
            text = f"{room} of {card['total_mib']} MiB are available, and {wanted} are needed"
            held = f"{text}: {held}" if held else text
        elif wanted is not None:
            held = None  # no threshold counts for it
        name = digest.card(card)
        if not gpu_models.fits(models, card["name"] or ""):
            held = f"of another model than {gpu_models.words(models)}, which is needed"
        lines.append(f"{name}: {held}" if held else f"{name}: free; it will be assigned at the next check, by priority")
    return lines


def _left_out(spec: JobSpec) -> Row:
    """The row of a job about which its host reported nothing: only a short form of its state is known here."""
    return {
        "id": spec.id, "phase": spec.phase, "status": "pending", "gpus": [], "attempt": 0, "attempts": 0,
        "started": None, "completed": None, "exit_code": None, "error": None, "warning": None, "failure": None,
        "waiting": "its state on its host is unknown now", "retry_at": None, "host": None,
    }  # fmt: skip


def _unknown(document: Mapping[str, Any], hosts: Iterable[str]) -> list[str]:
    """Why it is not known how these hosts stand now, and how old what is shown of them is."""
    rows = [row for row in document["meta"]["conditions"] if row["kind"] in _KINDS]
    return [row["text"] for name in hosts for row in rows if row["host"] == name]


def _root(row: Row, now: float) -> dict[str, Any]:
    where = {"host": row["host"]} if "host" in row else {}
    return {"id": row["id"], **where, "status": row["status"], "because": stands(row, now)}


def stands(row: Row, now: float, cards: Sequence[Row] = ()) -> str:
    """Describe a job's status and its reason, in one line that begins with the status. `cards`: those of the state."""
    name, length, tried = row["status"], digest.took(row, now), row["attempts"]
    reason = digest.reason(row)
    if row.get("queued"):
        return f"queued for {length}, attempt {row['attempt']}: {reason}"
    if name == "running" and reason:  # by a state of an earlier version: handed over, and not begun
        return f"running, attempt {row['attempt']}: {reason}"
    if name == "running":
        where = f" on GPU {', '.join(map(str, row['gpus']))}" if row["gpus"] else ""
        where = f" on {digest.place(row)}" if row.get("node") else where
        does = "; ".join(filter(None, (activity.words(row, now, cards), health.summary(row))))
        return f"running for {length or '0.0 s'}{where}, attempt {row['attempt']}" + (f"; {does}" if does else "")
    if name == "completed":
        text = "completed" + (f" after {length}" if length else "")
        text += "" if row["exit_code"] is None else f" with exit code {row['exit_code']}"
    elif name == "stuck" and tried:
        text = f"stuck after {count_text(tried, 'attempt')}"
    else:
        text = name
    if name == "cancelled":
        return f"{text} {reason}" if reason else text
    return f"{text}: {reason}" if reason else text


def waits_for_carried(row: Row) -> bool:
    """Whether a job waits for outputs of another host, as far as its own host knows."""
    return row["status"] == "pending" and (row["waiting"] or "").startswith(CARRIED)


class _Walk:
    """Follows what is not completed yet."""

    def __init__(self, rows: Mapping[str, Row], dependencies: Dependencies, now: float) -> None:
        self._rows, self._dependencies, self._now = rows, dependencies, now

    def _unmet(self, ids: Iterable[str]) -> list[str]:
        return [name for name in ids if self._rows[name]["status"] != "completed"]

    def _elsewhere(self, job: str, other: str) -> str:
        host = self._rows[other].get("host")
        return f" on {host}" if host not in (None, self._rows[job].get("host")) else ""

    def _is_carried(self, job: str, need: Need) -> bool:
        """Whether a job still waits for what others, which have completed, wrote on another host."""
        return waits_for_carried(self._rows[job]) and any(self._elsewhere(job, other) for other in need.ids)

    def roots(self, job: str) -> list[str]:
        """Jobs that wait for no other, for which this one waits in the end; those that need a person first."""
        seen, found, todo = {job}, [], [job]
        unmet: dict[tuple[str, str], list[str]] = {}
        while todo:
            name = todo.pop()
            is_root = True
            for need in self._dependencies.needs(name):
                key = (need.kind, need.name)
                if key not in unmet:
                    unmet[key] = self._unmet(need.ids)
                    fresh = [one for one in unmet[key] if one not in seen]
                    seen.update(fresh)
                    todo += fresh
                is_root = is_root and not unmet[key]
            if is_root and name != job:
                found.append(name)
        rank = {"stuck": 0, "cancelled": 1, "blocked": 2, "running": 3}
        order = {name: n for n, name in enumerate(self._rows)}
        return sorted(found, key=lambda name: (rank.get(self._rows[name]["status"], 4), order[name]))

    def tree(self, job: str) -> list[str]:
        """What a job waits for, as indented lines; nothing twice."""
        lines: list[str] = []
        described: set[tuple[str, str]] = set()

        def add(name: str, depth: int) -> None:
            for need in self._dependencies.needs(name):
                left = self._unmet(need.ids)
                if not left and len(lines) < MAX_LINES and self._is_carried(name, need):
                    lines.append(f"{'  ' * depth}{need.kind} {need.name}: completed; copied from its host by a pull")
                if not left or len(lines) >= MAX_LINES:
                    continue
                again = (need.kind, need.name) in described
                described.add((need.kind, need.name))
                inner = depth
                if need.kind != "job":
                    done = f"{len(need.ids) - len(left)} of {len(need.ids)} completed"
                    lines.append(f"{'  ' * depth}{need.kind} {need.name}: {done}")
                    inner = depth + 1
                if again:
                    continue
                # What needs a person hides behind what goes on, where there are many.
                left.sort(key=lambda one: self._rows[one]["status"] not in digest.NEEDS_PERSON)
                for one in left[:_SHOWN]:
                    lines.append(
                        f"{'  ' * inner}{one}{self._elsewhere(job, one)}: {stands(self._rows[one], self._now)}"
                    )
                    add(one, inner + 1)
                if len(left) > _SHOWN:
                    lines.append(f"{'  ' * inner}and {len(left) - _SHOWN} more")

        add(job, 0)
        return lines[:MAX_LINES] + (["…"] if len(lines) > MAX_LINES else [])


def excerpt(lines: Sequence[str], error: str) -> list[str]:
    """Return the lines of a log that show what happened: around the one that `error` quotes, else the last ones."""
    lines = [line for line in lines if line.strip()]
    at = _quoted(lines, error)
    first = max(0, min(at - _BEFORE, len(lines) - _BEFORE - _AFTER))
    return list(lines[first : max(at + _AFTER, first + _BEFORE + _AFTER)])


def _quoted(lines: Sequence[str], error: str) -> int:
    """The place of the line that `error` quotes at its end, behind a colon; the last line where it quotes none."""
    quoted = error.removesuffix("...")
    while quoted:
        quoted = quoted.partition(": ")[2].strip()
        at = next((n for n in range(len(lines) - 1, -1, -1) if quoted and quoted in lines[n]), None)
        if at is not None:
            return at
    return len(lines) - 1


def advice(document: Mapping[str, Any], row: Row, roots: Sequence[str], rows: Mapping[str, Row]) -> list[str]:
    """Say what a person can do next, one line each."""
    meta = document["meta"]

    def command(verb: str, job: str, *more: str) -> str:
        return shlex.join(["wavequeue", verb, job, *more, "--run", meta["run_id"]])

    name, job = row["status"], row["id"]
    steps = []
    if name == "running":
        steps = [f"follow its log: {command('logs', job, '-f')}"]
        if LAUNCHERS.get(meta.get("launcher", DEFAULT), LAUNCHERS[DEFAULT]).has_terminal:
            steps.append(f"look at its terminal: {command('attach', job)}")
        elif meta.get("launcher") == SLURM:
            steps.append(f"open a shell beside it: {command('attach', job)}")
        if activity.asks(row) is not None:
            steps = [f"answer on its terminal: {command('attach', job)}", f"or end it: {command('cancel', job)}"]
    elif name in digest.RETRIES:
        steps = [f"it is retried automatically; to retry it now: {command('retry', job)}"]
    elif name == "stuck":
        hint = _hint(row, meta.get("launcher") == SLURM)
        steps = [hint] if hint else []
        if recovery.wants_host(row):
            where = "hosts" in meta
            steps = [
                shlex.join(["wavequeue", "rescue", meta["run_id"]]) + " moves it to another host of the run"
                if where
                else "submit the spec to a host that has more: wavequeue submit SPEC --host NAME"
            ]
        steps += [f"read its full log: {command('logs', job)}"] if row["attempt"] else []
        steps.append(f"then retry it: {command('retry', job)}")
    elif name == "cancelled":
        steps = [f"to run it anyway: {command('retry', job)}"]
    elif name == "blocked":
        bad = [one for one in roots if rows[one]["status"] in digest.NEEDS_PERSON]
        steps = [f"look into {one}: {command('why', one)}, then {command('retry', one)}" for one in bad[:3]]
        steps = steps or [f"retry it once the precondition holds: {command('retry', job)}"]
    elif name == "pending" and "hosts" in meta:
        steps = _advice_on_hosts(meta, row, roots, rows, command)
    elif name == "pending" and meta["manager"] != "running":
        steps = ["start the manager again: " + shlex.join(["wavequeue", "resume", "--run", meta["run_id"]])]
    elif row.get("queued") and not meta["paused"]:
        steps = ["it starts when Slurm gives it room; what Slurm expects: squeue --me --start"]
    elif name == "pending" and meta["paused"]:
        steps = ["resume the run: " + shlex.join(["wavequeue", "resume", "--run", meta["run_id"]])]
    elif name == "completed" and row["warning"]:
        steps = [f"read its log: {command('logs', job)}"]
    return steps


def _hint(row: Row, on_slurm: bool) -> str | None:
    """What a kind of failure asks for. For a job without GPUs none is named: those of Slurm are not in its row."""
    failure = row.get("failure") or ""
    if not row["gpus"] and not on_slurm and failure == "oom":
        return (
            "it needs more memory than was available: make it smaller, or let fewer jobs run at a time (max_parallel)"
        )
    if failure == "exit_code" and row["exit_code"] == 141:
        return (
            "the next command in a pipe, such as head, ended first; write `|| true` after a pipe where this is intended"
        )
    if not row["gpus"] and not on_slurm and failure == "sick_card":
        return None
    return failure_advice.of_failure(failure, row["error"] or "")


def _advice_on_hosts(
    meta: Mapping[str, Any],
    row: Row,
    roots: Sequence[str],
    rows: Mapping[str, Row],
    command: Callable[..., str],
) -> list[str]:
    """What to do about a pending job of a run on hosts: about its root causes, and about their hosts."""
    run = ["--run", meta["run_id"]]
    steps = [
        f"look into {one}: {command('why', one)}, then {command('retry', one)}"
        for one in [one for one in roots if rows[one]["status"] in digest.NEEDS_PERSON][:3]
    ]
    up_to = [rows[one] for one in roots] or [row]
    if any(waits_for_carried(one) for one in up_to):
        steps.append("copy what other hosts wrote: " + shlex.join(["wavequeue", "pull", *run]))
    names = {one["host"] for one in (row, *up_to)}
    hosts = [host for host in meta["hosts"] if host["name"] in names]
    away = [host["name"] for host in hosts if not host["reachable"]]
    steps += [f"check {name}: {shlex.join(['wavequeue', 'hosts', 'check', name])}" for name in away[:3]]
    if any(host["manager"] in ("died", "halted") for host in hosts):
        steps.append("start the manager again: " + shlex.join(["wavequeue", "resume", *run]))
    elif meta["paused"]:
        steps.append("resume the run: " + shlex.join(["wavequeue", "resume", *run]))
    return steps


def lines(story: Mapping[str, Any]) -> list[str]:
    """Return the story for people."""
    text = [f"{story['id']}{_on(story)}: {story['because']}", *(f"! {line}" for line in story.get("unknown", ()))]
    if story["waits_for"]:
        text += ["", "waits for", *(f"  {line}" for line in story["waits_for"])]
    if story["cards"]:
        text += ["", "the GPUs", *(f"  {line}" for line in story["cards"])]
    if story["roots"]:
        shown = [f"{root['id']} ({root['status']}{_on(root)})" for root in story["roots"]]
        text += ["", f"root cause: {listed(shown, _ROOTS)}"]
    if len(story["attempts"]) > 1 or any(row["error"] for row in story["attempts"]):
        tries = story["attempts"]
        mixed = frozenset(
            name for name in ("code", "environment") if len({row.get(name) for row in tries if row["ended"]}) > 1
        )
        text += ["", "attempts", *(f"  {_attempt(row, story, mixed)}" for row in tries[-20:])]
    steps = recovery.lines(story)
    if steps:
        text += ["", "recover", *(f"  {line}" for line in steps)]
    if story["log"]:
        text += ["", "its log says", *(f"  | {line}" for line in story["log"])]
    if story["next"]:
        text += ["", "what to do", *(f"  {line}" for line in story["next"])]
    return text


def _on(row: Mapping[str, Any]) -> str:
    return f" on {row['host']}" if row.get("host") else ""


def _attempt(row: Mapping[str, Any], story: Mapping[str, Any], mixed: Container[str]) -> str:
    """One attempt in a line; `mixed`: what was not the same for all. What the first line of the story says of the
    newest one is not repeated."""
    where = f" on GPU {', '.join(map(str, row['cards']))}" if row["cards"] else ""
    if row.get("node"):
        where = f" on {row['node']}" + (f" GPU {', '.join(map(str, row['cards']))}" if row["cards"] else "")
    length = f" after {duration(row['seconds'])}" if row["seconds"] is not None else ""
    is_known = row["error"] and story["because"].endswith(row["error"])
    error = f": {row['error']}" if row["error"] and not is_known else ""
    error += ": the same error" if is_known and row is not story["attempts"][-1] else ""
    free = "" if row["charged"] else " (not counted)"
    free += f" (recover: {row['recovery']})" if row.get("recovery") else ""
    code = "".join(f" ({name} {row.get(name) or 'unknown'})" for name in ("code", "environment") if name in mixed)
    return f"{row['attempt']}  {digest.clock(row['started'])}{where}  {row['status']}{length}{free}{code}{error}"
