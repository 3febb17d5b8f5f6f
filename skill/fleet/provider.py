"""The table of providers of rented machines: what skill.fleet rents from. The port is skill.providers.provider."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from skill.providers.provider import Provider


def _vast() -> Provider:
    from skill.providers.vast import client

    return client.connect()


PROVIDERS: Mapping[str, Callable[[], Provider]] = MappingProxyType({"vast": _vast})
"""How to connect to each provider with the configured key. Each raises UseError where there is none."""
DEFAULT = "vast"


def connect(name: str = DEFAULT) -> Provider:
    """Connect to a provider; `close` it. Raises UseError where there is no key for it."""
    return PROVIDERS[name]()


@contextmanager
def connected(name: str = DEFAULT) -> Iterator[Provider]:
    """Connect to a provider until the end of the block."""
    provider = connect(name)
    try:
        yield provider
    finally:
        provider.close()
