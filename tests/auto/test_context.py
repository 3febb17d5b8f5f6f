"""What the agent is told: bounded, the newest and the best kept, the same for the same journal; and its prompts."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from string import Template
from typing import get_args

import pytest

from skill.auto import context, prompt
from skill.auto.campaign import Campaign, Node
from skill.auto.config import Launch, Limits, Scope
from skill.auto.layout import WorkDir
from skill.auto.ports import Request
from skill.auto.replies import Proposal, Role
from skill.common.errors import UseError
from tests.auto.simulated import Simulation, config

WORDS = "a long sentence about the learning rate, " * 60
ROLES: tuple[Role, ...] = get_args(Role)


def measured(nodes: int, words: str = "", **changes: object) -> Campaign:
    """A campaign in which x = 7 is the best and its neighbours are nearly as good."""

    def propose(campaign: Campaign, want: int) -> list[Proposal]:
        first = sum(len(one.proposals) for one in campaign.rounds) + 1
        return [
            Proposal(f"x = {x} {words}", words, settings={"x": x}, family=f"family {x % 3} {words}")
            for x in range(first, first + want)
        ]

    def measure(node: Node, seed: int) -> float:
        x = node.settings["x"]
        assert isinstance(x, int)
        return -abs(x - 7) + 0.3 * ((seed * 7 + x) % 3)

    given = config(limits=Limits(max_nodes=nodes, no_novel=None), **changes)
    return Simulation(given, measure, propose).run()


def test_the_planner_sees_what_was_tried_and_how_it_ended() -> None:
    campaign = measured(12)
    known = context.plan(campaign, 3)
    rows = {row["id"]: row for row in known["nodes"]}
    assert list(rows) == sorted(node.id for node in campaign.nodes.values())
    assert campaign.best is not None
    assert known["best"] == campaign.best.id
    best = rows[known["best"]]
    assert best["settings"] == {"x": 7}
    assert best["verdict"] == "better"
    assert best["value"] == campaign.best.value
    assert best["effect"] > best["bar"] > 0
    assert (known["want"], known["objective"]) == (3, {"metric": "score", "goal": "max"})
    assert known["noise_sd"] > 0
    assert known["left"] == {"nodes": 0}
    assert {name: row["tried"] for name, row in known["families"].items()} == {
        "family 0 ": 4, "family 1 ": 4, "family 2 ": 4
    }  # fmt: skip
    assert sum(row["kept"] for row in known["families"].values()) == len(
        [node for node in campaign.nodes.values() if node.verdict == "better"]
    )


def test_the_same_journal_gives_the_same_document() -> None:
    assert context.text(context.plan(measured(30), 3)) == context.text(context.plan(measured(30), 3))


def test_many_long_nodes_are_bounded_and_the_best_and_newest_stay() -> None:
    campaign = measured(300, WORDS)
    for node in campaign.nodes.values():
        node.edit = node.reason = WORDS
    campaign.notes += [(1.0, WORDS)] * 60
    campaign.rounds[0].refused += [(WORDS, WORDS)] * 60
    known = context.plan(campaign, 3)
    assert len(context.text(known)) <= context.MOST
    shown = [row["id"] for row in known["nodes"]]
    assert campaign.best is not None
    assert {"n000", campaign.best.id, campaign.judged[-1], campaign.judged[-2]} <= set(shown)
    ranked = sorted(campaign.nodes.values(), key=lambda node: node.value or -1e9, reverse=True)
    assert {node.id for node in ranked[: len(shown) // 3]} <= set(shown)
    assert known["nodes_judged"] == 301, "it is told that there are more"
    assert 4 <= len(shown) < 40


def test_near_misses_are_told_the_largest_first() -> None:
    campaign = measured(12)
    for number, (effect, verdict) in enumerate([(0.5, "within_noise"), (0.9, "within_noise"), (2.0, "worse")], 1):
        node = campaign.nodes[f"n{number:03d}"]
        node.effect, node.verdict = effect, verdict  # type: ignore[assignment]
    assert context.plan(campaign, 1)["near_misses"][:2] == ["n002", "n001"]
    assert "n003" not in context.plan(campaign, 1)["near_misses"]


def test_what_runs_and_what_was_refused_is_told() -> None:
    campaign = measured(6)
    campaign.nodes["n006"].verdict = None
    campaign.rounds[0].refused.append(("x = 1 again", "n001 is the same"))
    campaign.notes.append((1.0, "try small x"))
    known = context.plan(campaign, 1)
    assert [one["id"] for one in known["running"]] == ["n006"]
    assert {"title": "x = 1 again", "reason": "n001 is the same"} in known["refused"]
    assert known["notes_of_the_user"] == ["try small x"]


@pytest.mark.parametrize("role", ROLES)
def test_a_prompt_says_everything(role: Role, tmp_path: Path) -> None:
    campaign = measured(
        6, scope=Scope(("train.py",), ("prepare.py",)), brief="It learns ${digits} from `a` file.",
        launch=Launch("train --x ${x}", {"x": 0}),
    )  # fmt: skip
    node = campaign.nodes["n003"]
    node.edit, node.refusals = "lower the rate", ["it was empty"]
    text = prompt.renderer(WorkDir(tmp_path))(Request(4, role, "n003", 2, "no JSON object"), campaign)
    assert "It learns ${digits} from `a` file." in text
    assert "What was wrong with your last attempt: no JSON object" in text
    assert '"$schema"' not in text
    assert not re.search(r"\$(brief|complaint|context|schema|want|workdir)\b", text)
    documents = re.findall(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    known = json.loads(documents[-1])
    assert known["objective"]["metric"] == "score"
    assert known["task"] == role
    if role in ("edit", "repair"):
        assert (known["edit"], known["refused_before"]) == ("lower the rate", ["it was empty"])
        assert (known["editable"], known["protected"]) == (["train.py"], ["prepare.py"])
    if role == "analyze":
        assert known["runs"][0]["metrics"].keys() == {"score"}
        assert known["node"]["id"] == "n003"


@pytest.mark.parametrize("role", ROLES)
def test_places_of_a_prompt_are_known(role: Role, tmp_path: Path) -> None:
    text = prompt.template(WorkDir(tmp_path), role)
    found = {match["named"] or match["braced"] for match in Template.pattern.finditer(text)}
    assert {"brief", "complaint", "context", "schema"} <= found <= set(prompt.PLACES)


def test_a_prompt_of_the_work_directory_goes_first(tmp_path: Path) -> None:
    work = WorkDir(tmp_path)
    prompt.check(work)
    own = prompt.override(work, "plan")
    own.parent.mkdir()
    own.write_text("Be bold. ${context} costs $5.")
    prompt.check(work)
    text = prompt.renderer(work)(Request(1, "plan", None, 1), measured(2))
    assert text.startswith('Be bold. {\n"campaign": "demo"')
    assert text.endswith("costs $5.")
    own.write_text("Be bold.")
    with pytest.raises(UseError, match=r"plan\.md has no \$context"):
        prompt.check(work)


def test_a_campaign_that_has_only_begun_can_be_planned() -> None:
    known = context.plan(replace(measured(1), nodes={}, judged=[], rounds=[]), 2)
    assert (known["best"], known["nodes"], known["noise_sd"]) == (None, [], None)
