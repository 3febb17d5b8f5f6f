"""The client against Vast.ai itself, with a key of one's own; only reads. Off by default: pytest -m live."""

from __future__ import annotations

from collections.abc import Iterator

import jsonschema
import pytest

from skill.common.http import Request
from skill.fleet import offers
from skill.fleet.profiles import BUILT_IN
from skill.providers.outcomes import Unknown
from skill.providers.vast import client, responses
from skill.providers.vast.client import Client, list_request, search_request
from tests.vast_double import SHAPES

pytestmark = pytest.mark.live


@pytest.fixture
def vast() -> Iterator[Client]:
    made = client.connect()
    yield made
    made.close()


def test_it_answers_what_is_read(vast: Client) -> None:
    profile = BUILT_IN["pytorch"]
    need = offers.need(profile, offers.plain_work(profile), ())
    for found in (vast.user(), vast.instances(), vast.search(need)):
        assert not isinstance(found, Unknown), found.reason


@pytest.mark.parametrize(
    ("shape", "request_"),
    [
        ("user", Request("GET", "/api/v0/users/current/")),
        ("list", list_request(None)),
        ("search", search_request({"verified": {"eq": True}}, 40, None)),
    ],
)
def test_its_answers_have_the_shapes_that_the_double_is_held_against(
    vast: Client, shape: str, request_: Request
) -> None:
    found = responses.document(vast._ask(request_))
    assert not isinstance(found, Unknown), found.reason
    faults = jsonschema.Draft202012Validator(SHAPES[shape]["answer"]).iter_errors(found)
    assert [f"{fault.json_path}: {fault.message[:200]}" for fault in faults] == []
