"""Fixtures that several test files share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.runs import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A host of its own; whatever still runs on it is ended afterwards."""
    made = World(tmp_path)
    yield made
    made.close()
