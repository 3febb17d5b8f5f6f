"""The texts of a campaign: its table of nodes, its summary, and the results.tsv of autoresearch. Pure, and the same for
the same journal."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

from queue_manager.core.times import iso
from skill.auto import context, narrate, noise, overview
from skill.auto.campaign import Ask, Campaign, Node
from skill.auto.pictures import best_path, number
from skill.common.units import count_text, usd

HEAD = (
    "node", "parent", "kind", "verdict", "value", "sd", "n", "effect", "bar", "against", "family", "settings", "commit",
    "added", "removed", "gpu", "seconds", "usd", "title", "reason",
)  # fmt: skip


def master(campaign: Campaign) -> str:
    """master_table.tsv: a row for each node, its numbers in full."""
    rows: list[Sequence[str]] = [HEAD]
    for node in campaign.nodes.values():
        jobs = [*node.earlier, *node.jobs.values()]
        prices = [job.usd for job in jobs]
        rows.append((
            node.id, node.parent or "", node.kind, node.verdict or node.status, _full(node.value), _full(node.sd),
            str(runs(campaign, node)), _full(node.effect), _full(node.bar),
            node.against or "", node.family, json.dumps(dict(node.settings), sort_keys=True), node.commit or "",
            str(node.added), str(node.removed), noise.model(node),
            f"{sum(job.seconds for job in jobs):.3f}",
            "" if not prices or None in prices else _full(sum(price or 0.0 for price in prices)),
            node.title, node.reason,
        ))  # fmt: skip
    return _tsv(rows)


def runs(campaign: Campaign, node: Node) -> int:
    """The number of runs that a node's value is the mean of; 1 for a screening run."""
    confirming = noise.values(node, campaign.config, node.period)
    return len(confirming) or (1 if node.value is not None else 0)


def results(campaign: Campaign) -> str:
    """results.tsv as autoresearch writes it: commit, metric, memory_gb, status (keep, discard, crash), description."""
    rows: list[Sequence[str]] = [("commit", campaign.config.objective.metric, "memory_gb", "status", "description")]
    for name in campaign.judged:
        node = campaign.nodes[name]
        if node.kind == "control" or node.verdict in ("refused", "duplicate", "killed"):
            continue
        crashed = node.verdict == "failed"
        peaks = [job.metrics["peak_vram_mb"] for job in node.jobs.values() if "peak_vram_mb" in job.metrics]
        rows.append((
            (node.commit or "")[:7], "0.000000" if crashed or node.value is None else f"{node.value:.6f}",
            f"{max(peaks, default=0.0) / 1024:.1f}",
            "crash" if crashed else "keep" if node.verdict in ("better", "baseline") else "discard", node.title,
        ))  # fmt: skip
    return _tsv(rows)


def summary(campaign: Campaign) -> str:
    """summary.md, which is also what `auto report` prints."""
    config, best, baseline = campaign.config, campaign.best, campaign.baseline
    metric = config.objective.metric
    lines = [f"# {config.name}", "", standing(campaign), ""]
    if best is not None and baseline is not None:
        gain = f"; the baseline {baseline.id} has {number(baseline)}" if best is not baseline else ""
        lines += [f"Best: **{best.id}** {_cell(best.title)}, {metric} {number(best)}{gain}.", ""]
    if campaign.gpu:
        since = f", since {iso(campaign.periods[-1][0])}: {_cell(campaign.periods[-1][1])}" if campaign.periods else ""
        lines += [f"Compared are runs on {_cell(campaign.gpu)}{since}.", ""]
    limits = [
        (row["limit"], "-" if row["used"] is None else f"{row['used']:g}", str(row["most"]))
        for row in overview.limits(campaign)
    ]
    lines += _table(("limit", "used", "most"), limits)
    lines += [f"Spent: {spent(campaign)}.", "", f"Agent: {agent(campaign)}.", ""]
    if prose := narration(campaign):
        note = "Every number names the node that has it; a number that no node has is struck out."
        lines += ["## In the agent's words", "", note, "", narrate.markdown(narrate.check(prose, campaign)), ""]
    lines += ["## The way to the best", ""]
    lines += _nodes(campaign, best_path(campaign))
    lines += ["## All nodes", ""]
    lines += _nodes(campaign, list(campaign.nodes.values()))
    near = context.near_misses(campaign)
    if near:
        lines += ["## Near-misses", "", "They looked better, and not beyond noise. Two of them may add up.", ""]
        lines += _nodes(campaign, near[:10])
    kinds = context.families(campaign)
    if kinds:
        rows = [
            (
                name,
                str(row["tried"]),
                str(row["kept"]),
                "-" if row["best_effect"] is None else f"{row['best_effect']:+.3g}",
            )
            for name, row in kinds.items()
        ]
        lines += ["## Families of ideas", "", *_table(("family", "tried", "kept", "best effect"), rows)]
    if campaign.findings:
        lines += ["## Findings", ""]
        lines += [f"- {one.id} ({', '.join(one.nodes)}): {_cell(one.text)}" for one in campaign.findings] + [""]
    refused = [(str(planned.round), *one) for planned in campaign.rounds for one in planned.refused]
    if refused:
        lines += ["## Proposals that were refused", "", *_table(("round", "proposal", "reason"), refused)]
    if campaign.alerts:
        lines += ["## Alerts", "", *(f"- {iso(at)} {_cell(text)}" for at, text in campaign.alerts), ""]
    return "\n".join(lines).rstrip() + "\n"


def narration(campaign: Campaign) -> str:
    """The prose that the agent wrote last; empty where it was never asked for."""
    reports: list[Ask] = [ask for ask in campaign.asks.values() if ask.role == "report" and ask.outcome == "answered"]
    return reports[-1].text if reports else ""


def standing(campaign: Campaign) -> str:
    """Describe the state of a campaign in a line."""
    judged, total = len(campaign.judged), len(campaign.nodes)
    state = f"Stopped ({campaign.stopped}): {campaign.stopped_text}." if campaign.stopped else "Not finished."
    return f"{state} {judged} of {count_text(total, 'node')} judged, as of {iso(campaign.updated)}."


def agent(campaign: Campaign) -> str:
    """The agent's command, and the digest of it and of the files that it names: a script cannot pass for a model."""
    command = shlex.join(campaign.config.agent.cmd)
    return f"`{command}`" + (f", SHA-256 {campaign.agent_digest}" if campaign.agent_digest else "")


def spent(campaign: Campaign) -> str:
    """What it cost, in a line."""
    words = []
    for name, money in (("GPUs", campaign.gpu_spent), ("agent", campaign.agent_spent)):
        unknown = f" and {money.unknown} of unknown cost" if money.unknown else ""
        words.append(f"{name} {usd(money.known)}{unknown}")
    return ", ".join(words)


def _nodes(campaign: Campaign, nodes: Sequence[Node]) -> list[str]:
    rows = [
        (
            node.id,
            node.parent or "-",
            overview.state(node, campaign),
            number(node),
            "-" if node.effect is None else f"{node.effect:+.3g}",
            "-" if node.bar is None else f"{node.bar:.2g}",
            node.title,
            node.reason,
        )
        for node in nodes
    ]
    return _table(
        ("node", "from", "verdict", campaign.config.objective.metric, "effect", "needs", "what", "reason"), rows
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(_cell(one) for one in line) + " |" for line in lines] + [""]


def _cell(text: str) -> str:
    """Escape a text for one line of Markdown."""
    plain = " ".join(text.split())
    for character in "\\`*_[]<>|#~":
        plain = plain.replace(character, "\\" + character) if character != "_" else plain
    return plain


def _tsv(rows: Sequence[Sequence[str]]) -> str:
    return "".join("\t".join(" ".join(cell.split()) for cell in row) + "\n" for row in rows)


def _full(value: float | None) -> str:
    """All digits, so that the number read back is the same."""
    return "" if value is None else repr(float(value))
