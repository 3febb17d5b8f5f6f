"""Fixtures that several test files share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.runs import World
from tests.laptop import Laptop

# Every command and manager that a test starts would compile all it imports, which takes longer than the rest.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A host of its own; whatever still runs on it is ended afterwards."""
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    """A person's machine with a project; its hosts are ended afterwards."""
    made = Laptop(tmp_path)
    yield made
    made.close()


LONG = ("tests/test_docs.py", "tests/e2e/test_survival.py", "tests/e2e/test_demo.py", "tests/e2e/test_vast_up.py")
"""Tests of about a minute: begun last, one worker would be at them alone while the others have nothing left."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))
