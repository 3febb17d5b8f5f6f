"""What is ours, one function decides, and nothing of an instance is changed without its proof."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from skill.providers.instances import Instance
from skill.providers.ownership import Claim, NotOurs, Ours, decide
from skill.providers.provider import Provider
from skill.providers.vast import client

SKILL = Path(inspect.getfile(client)).parents[2]
CHANGES = {"set_state", "label", "destroy", "attach_key"}
ASKED = CHANGES | {"start", "stop"}
"""As others call for them: the methods of the port, too."""


@pytest.mark.parametrize(
    ("claim", "live", "says"),
    [
        (Claim(7, "wq-a"), Instance(7, label="wq-a"), None),
        (Claim(7, None, named=True), Instance(7, label="anything"), None),
        (Claim(7, None, named=True), Instance(7), None),
        (Claim(7, "wq-a"), Instance(7, label="colleague"), "has the label 'colleague' instead of wq-a"),
        (Claim(7, "wq-a"), Instance(7), "has no label instead of wq-a"),
        (Claim(7, "wq-a"), Instance(7, label="WQ-A"), "not ours"),
        (Claim(7, "wq-a", named=True), Instance(7, label="colleague"), "not ours"),
        (Claim(7, ""), Instance(7), "not ours"),
        (Claim(7, None), Instance(7, label="wq-a"), "may belong to somebody else"),
        (Claim(7, "wq-a"), Instance(8, label="wq-a"), "is about instance 8, not 7"),
        (Claim(-1, "wq-a"), Instance(-1, label="wq-a"), "not -1"),
        (Claim(0, None, named=True), Instance(0), "not 0"),
    ],
)
def test_the_label_that_it_shows_now_decides(claim: Claim, live: Instance, says: str | None) -> None:
    found = decide(claim, live)
    if says is None:
        assert isinstance(found, Ours)
        assert found.number == claim.number
    else:
        assert isinstance(found, NotOurs)
        assert says in found.why


def test_nobody_else_makes_the_proof() -> None:
    with pytest.raises(TypeError, match=r"only ownership\.decide"):
        Ours(Claim(7, "wq-a"), object())
    makers = {file.name for file, call in calls("Ours")}
    assert makers == {"ownership.py"}
    uses_of_the_mint = [file for file in sources() if "_MINT" in file.read_text() and file.name != "ownership.py"]
    assert uses_of_the_mint == []


def test_every_method_of_the_client_that_changes_an_instance_takes_the_proof() -> None:
    for name in ("start", "stop", "destroy", "attach_key"):
        assert list(inspect.signature(getattr(Provider, name)).parameters.values())[1].annotation == "Ours", name
    tree = ast.parse(Path(inspect.getfile(client)).read_text())
    changing = set()
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call) and called(node) == "Request"):
            assert isinstance(call.args[0], ast.Constant), "the method stands where the request is made"
            if call.args[0].value != "GET" and function.name not in ("create", "search_request"):
                changing.add(function.name)
                first = function.args.args[1].annotation
                assert isinstance(first, ast.Name), function.name
                assert first.id == "Ours", function.name
    assert changing == CHANGES


def test_nothing_else_sends_a_change_to_vast_ai() -> None:
    for file, call in calls("Request"):
        if file.name != "client.py" and "from skill.common.http import" in file.read_text():
            method = call.args[0]
            assert isinstance(method, ast.Constant), file
            assert method.value == "GET" or (file.name, method.value) == ("check_keys.py", "POST"), file


def test_whoever_calls_for_a_change_hands_on_a_proof() -> None:
    """By name: what is handed on is the verdict, or what says that it is a proof. That it is one, mypy holds."""
    found = []
    for file, call in calls(*ASKED):
        if isinstance(call.func, ast.Attribute) and call.args:
            owner = ast.unparse(call.func.value)
            if owner.endswith("client") or owner in ("vast", "confirm"):
                given = call.args[1] if owner == "confirm" else call.args[0]
                found.append((file.name, ast.unparse(given)))
    assert {name for name, _ in found} >= {"confirm.py", "await_ready.py", "instances.py"}
    assert {given for _, given in found} <= {"ours", "verdict", "found.ours", "found.proof()"}, found


def sources() -> list[Path]:
    return sorted(SKILL.rglob("*.py"))


def calls(*names: str) -> Iterator[tuple[Path, ast.Call]]:
    """The calls of what has one of these names."""
    named = re.compile(rf"\b(?:{'|'.join(names)})\b")
    for file in sources():
        text = file.read_text()
        for node in ast.walk(ast.parse(text)) if named.search(text) else ():
            if isinstance(node, ast.Call) and called(node) in names:
                yield file, node


def called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
