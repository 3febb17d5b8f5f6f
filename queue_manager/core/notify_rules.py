"""What a run's `notify` asks for, as its manifest has it: who gets messages, about what, and how often. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

KEYS = ("command", "webhook", "shape", "on", "every")
SHAPES = ("slack", "discord", "ntfy", "feishu", "json")
EVERY = 3600.0
"""Seconds after which an alert that still holds is sent again, where the spec does not say."""
ON = ("stuck", "unhealthy", "card", "disk", "finished")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Notify(NamedTuple):
    """`command`: bash that gets the alert as JSON on its stdin, `names`: variables that it takes from .env or the
    environment. `webhook`: a text, the name of a variable, a text and so on, that are put together to its URL; empty:
    none. `shape`: one of SHAPES, None: by the URL. `every` in seconds."""

    command: str | None = None
    names: tuple[str, ...] = ()
    webhook: tuple[str, ...] = ()
    shape: str | None = None
    on: frozenset[str] = frozenset(ON)
    every: float = EVERY

    @property
    def variables(self) -> tuple[str, ...]:
        """All that it takes from .env or the environment."""
        return tuple(dict.fromkeys((*self.webhook[1::2], *self.names)))

    @property
    def shown(self) -> str:
        """The webhook as the spec has it, without the values of variables."""
        return "".join(f"${{{part}}}" if n % 2 else part for n, part in enumerate(self.webhook))


def notify(value: Any) -> Notify | None:
    """The rules in a manifest's `notify`; None where it has none."""
    if not isinstance(value, Mapping):
        return None
    return Notify(
        value.get("command"),
        tuple(value.get("names", ())),
        tuple(value.get("webhook", ())),
        value.get("shape"),
        frozenset(value.get("on", ON)),
        value.get("every", EVERY),
    )


def is_notify(value: Any) -> bool:
    """Whether a manifest may have this as its `notify`."""
    return (
        isinstance(value, Mapping)
        and ("command" in value or "webhook" in value)
        and all(key in _FITS and _FITS[key](one) for key, one in value.items())
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and "\0" not in value


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) and _NAME.fullmatch(one) for one in value)


def _is_webhook(value: Any) -> bool:
    texts = isinstance(value, list) and len(value) % 2 == 1 and all(isinstance(one, str) for one in value)
    return texts and _are_names(value[1::2])


def _is_every(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")


_FITS: dict[str, Callable[[Any], bool]] = {
    "command": _is_text,
    "names": _are_names,
    "webhook": _is_webhook,
    "shape": lambda value: value in SHAPES,
    "on": lambda value: isinstance(value, list) and all(one in ON for one in value),
    "every": _is_every,
}
