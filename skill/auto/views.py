"""The files that people look at. All of them are made of the journal: each can be deleted and comes back, and what is
written into them counts for nothing, but for engine/checkpoint.json (see skill/auto/checkpoint.py)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skill.auto import checkpoint, config_file, layouts, overview, page, pictures, png, tables
from skill.auto.campaign import Campaign, Node
from skill.auto.drawing import Drawing, svg
from skill.auto.layout import WorkDir
from skill.common import files
from skill.common.errors import FailedError
from skill.common.typed_json import pretty

Diff = Callable[[str, str], str]
"""The patch from one commit to another. Raises FailedError."""
SUMMARY, TABLE, REPORT = "summary.md", "master_table.tsv", "report.html"
CHECKPOINT = "engine/checkpoint.json"
PROGRESS, TREE = "progress", "hypothesis_tree"


class Views:
    """The views of one work directory. What has not changed is not written again."""

    def __init__(self, work: WorkDir, diff: Diff) -> None:
        self._work, self._diff = work, diff
        self._written: dict[Path, str] = {}

    def write(self, campaign: Campaign) -> None:
        """Write all views but the PNG pictures. Raises OSError."""
        found = overview.document(campaign)
        if not self._work.config.exists():
            config_file.write(self._work, campaign.config)
        self._put("state.json", pretty(found))
        self._put(TABLE, tables.master(campaign))
        self._put(SUMMARY, tables.summary(campaign))
        if campaign.config.layout == "karpathy":
            self._put(layouts.RESULTS, tables.results(campaign))
        self._put(f"{PROGRESS}.svg", svg(pictures.progress(campaign)))
        self._put(f"{TREE}.svg", svg(pictures.hypothesis_tree(campaign)))
        self._put(REPORT, page.page(campaign))
        self._engine(campaign, found)
        for node in campaign.nodes.values():
            self._node(node, overview.node_row(node))

    def draw(self, campaign: Campaign) -> list[Path]:
        """Draw the pictures as PNG, where matplotlib is installed. The files. Raises OSError."""
        if not png.is_possible():
            return []
        shown: dict[str, Drawing] = {
            PROGRESS: pictures.progress(campaign), TREE: pictures.hypothesis_tree(campaign)
        }  # fmt: skip
        written = []
        for name, drawing in shown.items():
            path = self._work.root / f"{name}.png"
            files.write_whole(path, png.png(drawing), mode=files.SHOWN, durable=False)
            written.append(path)
        return written

    def _engine(self, campaign: Campaign, found: dict[str, Any]) -> None:
        """Write the state of the loop, for people to read."""
        waits = [node for node in campaign.undecided if not node.jobs]
        measures = [node for node in campaign.undecided if node.jobs]
        children: dict[str, list[str]] = {name: [] for name in campaign.nodes}
        for node in campaign.nodes.values():
            if node.parent in children:
                children[node.parent].append(node.id)
        self._json(CHECKPOINT, checkpoint.document(campaign))
        keys = ("seq", "rounds", "best", "stopped", "stopped_text", "paused_until", "paused_reason", "limits", "spent")
        self._json("engine/engine_state.json", {key: found[key] for key in keys})
        self._json(
            "engine/tree.json",
            [
                {"id": node.id, "parent": node.parent, "children": children[node.id], "verdict": node.verdict}
                for node in campaign.nodes.values()
            ],
        )
        self._json("engine/queue.json", [{"id": node.id, "title": node.title, "status": node.status} for node in waits])
        active = [{"id": node.id, "jobs": [job.id for job in node.open_jobs]} for node in measures]
        self._json("engine/active.json", {"nodes": active, "asks": found["asks"]})

    def _node(self, node: Node, row: dict[str, Any]) -> None:
        spec = ("id", "kind", "round", "parent", "title", "hypothesis", "family", "settings", "edit", "commit", "files")
        result = ("verdict", "reason", "value", "sd", "effect", "bar", "against", "jobs")
        self._json(f"nodes/{node.id}/spec.json", {key: row[key] for key in spec})
        self._put(f"nodes/{node.id}/status.txt", (node.verdict or node.status) + "\n")
        if node.verdict is not None:
            self._json(f"nodes/{node.id}/result.json", {key: row[key] for key in result})
        if node.files and node.commit is not None:
            self._patch(f"nodes/{node.id}/change.patch", node.base, node.commit)
        if node.analysis:
            self._put(f"runs/{node.id}/analysis.md", node.analysis.rstrip() + "\n")
        for job in (*node.earlier, *node.jobs.values()):
            if job.metrics:
                self._json(f"runs/{node.id}/metrics/{job.id}.json", dict(job.metrics))

    def _patch(self, name: str, base: str, commit: str) -> None:
        path = self._work.root / name
        if self._written.get(path) != commit or not path.exists():
            with contextlib.suppress(FailedError):  # the repository is gone; all other views can be written
                text = self._diff(base, commit)
                self._put(name, text + "\n")
                self._written[path] = commit

    def _json(self, name: str, value: Any) -> None:
        self._put(name, json.dumps(value, indent=2, ensure_ascii=False, sort_keys=isinstance(value, dict)) + "\n")

    def _put(self, name: str, text: str) -> None:
        """Write a file that has other content, or was deleted."""
        path = self._work.root / name
        if self._written.get(path) == text and path.exists():
            return
        files.make_directory(path.parent)
        files.write_whole(path, text, mode=files.SHOWN, durable=False, errors="replace")
        self._written[path] = text
